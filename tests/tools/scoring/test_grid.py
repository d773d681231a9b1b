"""The grid's figures against result files, packed and scored for each combination."""

import os

import pytest

from evaluation.script import score_archives
from inference.folder import images_by_stem
from inference.postprocess import find_boxes
from inference.results import prepare_output, write_archive, write_result
from inference.thresholds import Thresholds
from tests.tools.scoring.conftest import Blots
from tools.scoring import grid as grid_module
from tools.scoring.grid import Grid, Levels, Row, Task, best_of, score_grid, store_maps
from tools.scoring.validation import open_validation
from utils.errors import PSENetError
from utils.image_io import read_image

GRID = Grid([0.45, 0.55, 0.7], [0, 3, 9], [0, 14])


@pytest.fixture(scope='module')
def task(data, tmp_path_factory):
    validation = open_validation(str(data / 'images'), str(data / 'gt.zip'))
    maps = store_maps(Blots(), validation.images, Levels(GRID.seg_map_threshs),
                      str(tmp_path_factory.mktemp('maps')), read_image)
    return Task(GRID, maps, validation.ground_truth)


@pytest.fixture(scope='module')
def rows(task):
    return score_grid(task, workers=1)


def score_of_files(data, thresholds, output):
    """The long way round."""
    network = Blots()
    prepare_output(str(output))
    for stem, path in images_by_stem(str(data / 'images')).items():
        image = read_image(path)
        image_rgb, geometry = network.prepare(image)
        boxes = find_boxes(network.score_maps(image_rgb), geometry, thresholds)
        write_result(str(output), stem, boxes)
    return score_archives(str(data / 'gt.zip'), write_archive(str(output))).score


def test_every_combination_scores_as_its_result_files_do(data, rows, tmp_path):
    assert len(rows) == 3 * 3 * 2
    assert len({row.score.hmean for row in rows}) > 6
    for row in rows:
        assert row.score == score_of_files(data, row.thresholds, tmp_path / 'output')


def test_processes_find_the_same(task, rows):
    assert score_grid(task, workers=2) == rows


def test_rows_stand_in_the_order_of_the_grid(rows):
    assert [row.thresholds for row in rows] == [
        Thresholds(score, area, side) for score in GRID.seg_map_threshs
        for area in GRID.min_area_threshs for side in GRID.min_box_sides]


def test_the_best_is_what_the_ground_truth_was_made_with(rows):
    best = best_of(rows)
    assert best.thresholds == Thresholds(0.55, 0, 0)  # no seed has fewer than 3 pixels
    assert best.score.hmean == 1


def test_of_equal_rows_the_first_is_best(rows):
    twin = Row(Thresholds(0.99, 99, 99), best_of(rows).score)
    assert best_of([*rows, twin]).thresholds == Thresholds(0.55, 0, 0)


def test_a_process_that_is_gone_ends_the_sweep_with_a_sentence(task, monkeypatch):
    monkeypatch.setattr(grid_module._Worker, 'score', leave)
    with pytest.raises(PSENetError, match='--workers'):
        score_grid(task, workers=2)


def leave(_):
    os._exit(9)


def test_maps_are_small_on_the_disk(task):
    for maps in task.maps.values():
        assert os.path.getsize(maps.path) < maps.shape[0] * maps.shape[1] * 6

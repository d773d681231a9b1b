"""The benchmark: how cases are measured and worded, what they work on, and the command."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tools import benchmarks
from tools.benchmarks import find_case, samples
from tools.benchmarks.measure import Case, Sample, Target, describe, measure, timed_pass
from tools.demo_data import DatasetSpec, ensure_dataset
from utils.errors import PSENetError

FIGURES = ('median_ms', 'p10_ms', 'p90_ms', 'per_second')


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """Two images of the demo and their ground truth."""
    path = tmp_path_factory.mktemp('samples')
    ensure_dataset(str(path), DatasetSpec(train_images=1, test_images=2, size=96))
    return path


@pytest.fixture(scope='module')
def lines(directory, project_root):
    """What the command says of every case that needs no network."""
    result = run(project_root, '--passes=2', '--json', f'--samples={directory}',
                 '--case=pse,detect,scoring')
    assert result.returncode == 0, result.stderr
    return {line['case']: line for line in map(json.loads, result.stdout.splitlines())}


def run(project_root, *arguments):
    return subprocess.run([sys.executable, '-m', 'tools.benchmark', *arguments],
                          cwd=str(project_root), capture_output=True, text=True, check=False)


def case_of(*samples_made, **fields):
    """A case whose passes take what is given, in seconds."""
    made = iter(samples_made)
    return Case('3 things', 'thing', lambda: next(made), len(samples_made), warm_up=0, **fields)


def test_times_are_those_of_a_unit():
    result = measure('counting', case_of(*(Sample(0.001 * i) for i in range(1, 12))))
    assert [getattr(result, name) for name in FIGURES] == pytest.approx([6, 2, 10, 1000 / 6])
    assert result.passes == 11
    assert result.baseline is result.baseline_ms is result.ratio is None


def test_passes_before_the_first_do_not_count():
    case = case_of(Sample(9), Sample(8), Sample(1))._replace(warm_up=2)
    assert measure('counting', case, passes=1).median_ms == 1000


def test_ratio_is_the_median_of_the_passes_and_not_that_of_the_medians():
    case = case_of(Sample(1, 1), Sample(4, 2), Sample(9, 3), baseline='a stick')
    result = measure('counting', case)
    assert result.ratio == 2
    assert result.baseline_ms == 2000
    assert measure('counting', case_of(Sample(1, 4), baseline='a stick', by_rate=True)).ratio == 4


@pytest.mark.parametrize(('target', 'met'), [
    (Target('ratio', 2), True), (Target('ratio', 1.9), False), (Target('median_ms', 4000), True),
    (Target('ratio', 2, at_least=True), True), (Target('ratio', 2.1, at_least=True), False),
    (Target('size_mb', 13), True), (Target('size_mb', 12), False)])
def test_targets_bound_any_figure(target, met):
    case = case_of(Sample(4, 2), baseline='a stick', targets=(target,),
                   figures=lambda: {'size_mb': 12.5})
    result = measure('counting', case)
    assert [each['met'] for each in result.targets] == [met]
    assert result.figures == {'size_mb': 12.5}


def test_a_line_for_people():
    case = case_of(Sample(0.0125, 0.01), baseline='a stick', figures=lambda: {'size_mb': 12.5},
                   targets=(Target('ratio', 1.5), Target('size_mb', 13, at_least=True)))
    assert describe(measure('counting', case)) == (
        'counting 12.5 ms/thing (12.5 to 12.5), 80 things/s, 1.25x a stick (10 ms), size_mb 12.5, '
        'target ratio at most 1.5: met, target size_mb at least 13: MISSED [3 things]')


def test_every_input_is_worked_on_once_in_a_pass():
    seen = []
    assert timed_pass(seen.append, [1, 2], prepare=lambda each: each * 10) > 0
    assert seen == [10, 20]


def test_a_pass_takes_what_its_clock_says_without_the_preparation():
    ticks = iter([10, 11, 20, 23])
    assert timed_pass(str, [1, 2], clock=lambda: next(ticks)) == 2


def test_every_case_of_the_list_can_be_opened():
    assert all(callable(benchmarks.find_case(name)) for name in benchmarks.CASES)


def test_kernels_are_the_targets_of_the_ground_truth(directory):
    with samples.open_samples(str(directory)) as found:
        kernels = samples.draw_kernels(found)
    assert list(kernels) == ['1', '2']
    for kernel in kernels.values():
        assert kernel.shape == (6, 24, 24)
        assert 0 < kernel[0].sum() < kernel[5].sum()
        assert (np.diff(kernel.astype(int), axis=0) >= 0).all()


def test_score_maps_are_uneven_and_the_same_every_time(directory):
    with samples.open_samples(str(directory)) as found:
        kernels, drawn = samples.draw_kernels(found), samples.draw_scores(found)
        samples.draw_scores.cache_clear()
        again = samples.draw_scores(found)
    for image_id, quantised in drawn.items():
        scores = samples.as_scores(quantised)
        assert scores.dtype == np.float32
        assert scores.shape == (24, 24, 6)
        assert len(np.unique(scores)) > 50
        inside = kernels[image_id].transpose(1, 2, 0) == 1
        assert scores[inside].mean() > 0.8
        assert scores[~inside].mean() < 0.2
        np.testing.assert_array_equal(quantised, again[image_id])


def test_real_samples_are_taken_where_they_are(icdar_dir, monkeypatch):
    monkeypatch.setattr(samples, 'ICDAR_FOLDER', str(icdar_dir))
    with samples.open_samples() as found:
        assert found.name == 'ICDAR2015'
        assert found.image_size == (1280, 720)
        assert samples.input_size(found) == (1280, 736)
        with find_case('pse')(found) as case:
            assert case.targets == (Target('ratio', 1.5),)


def test_samples_are_drawn_where_there_are_no_real_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, 'ICDAR_FOLDER', str(tmp_path))
    monkeypatch.setattr(samples, '_DEMO', DatasetSpec(train_images=1, test_images=1, size=96))
    with samples.open_samples() as found:
        assert found.name == 'the demo'
        assert len(samples.draw_kernels(found)) == 1
        with find_case('detect')(found) as case:
            assert case.targets == ()


def test_a_folder_without_samples_is_refused(tmp_path):
    with pytest.raises(PSENetError, match='train does not exist; --samples'), \
            samples.open_samples(str(tmp_path)):
        pass


@pytest.mark.parametrize(('name', 'data', 'figures'), [
    ('pse', '2 maps', []), ('detect', '2 maps', []), ('scoring', '2 images', ['median_ms'])])
def test_measures_every_case(lines, directory, name, data, figures):
    line = lines[name]
    assert 0 < line['p10_ms'] <= line['median_ms'] <= line['p90_ms']
    assert line['data'] == f'{data} of {directory}'
    assert line['passes'] == 2
    assert (line['baseline'] or line['unit']) in ('cv2.connectedComponents', 'image')
    assert [target['figure'] for target in line['targets']] == figures


def test_unknown_case_is_an_error(project_root):
    result = run(project_root, '--case=nonsense')
    assert result.returncode == 1
    assert '--case=nonsense is unknown; there are pse, detect' in result.stderr


def test_help_lists_the_cases(project_root):
    printed = run(project_root, '--help').stdout
    assert '--case=comma separated list' in printed
    assert 'pse,detect' in printed

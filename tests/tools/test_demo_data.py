"""The synthetic data set: its form on disk, its geometry, and whose files it may replace."""

import json
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest
from shapely.geometry import Polygon

from tools import demo_data, demo_scene
from utils.data_provider.annotation import read_icdar

SPEC = demo_data.DatasetSpec(train_images=12, test_images=4, size=128, seed=5)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A data set of SPEC."""
    directory = tmp_path_factory.mktemp('demo_data')
    assert demo_data.ensure_dataset(str(directory), SPEC)
    return directory


@pytest.fixture(scope='module')
def scenes():
    """Forty scenes, enough to meet every kind of word."""
    return [demo_scene.draw_scene(np.random.RandomState([9, index]), 192) for index in range(40)]


def _contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(directory.rglob('*')) if path.is_file()}


class TestForm:
    def test_names_are_the_official_ones(self, made):
        for number in range(1, 13):
            assert (made / 'train' / f'img_{number}.jpg').is_file()
            assert (made / 'train' / f'gt_img_{number}.txt').is_file()
        assert sorted(path.name for path in (made / 'test').iterdir()) == [
            f'img_{number}.jpg' for number in range(1, 5)]

    def test_labels_open_with_a_bom_and_end_lines_in_crlf(self, made):
        for path in (made / 'train').glob('*.txt'):
            data = path.read_bytes()
            assert data.startswith(b'\xef\xbb\xbf')
            assert data.endswith(b'\r\n')
            assert data.count(b'\n') == data.count(b'\r\n')

    def test_line_has_eight_integers_and_the_transcription(self):
        word = demo_scene.Word(np.arange(8, dtype=np.int32).reshape(4, 2), '12,500')
        assert demo_data.format_annotation([word]) == '\ufeff0,1,2,3,4,5,6,7,12,500\r\n'

    def test_images_have_the_size(self, made):
        for path in made.rglob('*.jpg'):
            assert cv2.imread(str(path)).shape == (128, 128, 3)

    def test_zip_holds_the_test_labels(self, made):
        with zipfile.ZipFile(str(made / 'gt.zip')) as archive:
            assert sorted(archive.namelist()) == [f'gt_img_{number}.txt' for number in range(1, 5)]

    def test_manifest_lists_every_file(self, made):
        manifest = json.loads((made / demo_data.MANIFEST).read_text())
        assert manifest['complete'] is True
        assert set(manifest['files']) | {demo_data.MANIFEST} == set(_contents(made))


class TestUse:
    def test_own_parser_reads_the_labels(self, made):
        ignored = 0
        for path in (made / 'train').glob('*.txt'):
            annotation = read_icdar(str(path))
            assert annotation.polygons
            ignored += sum(annotation.ignore_tags)
        assert ignored

    def test_scorer_gives_the_truth_full_marks(self, made, project_root, tmp_path):
        results = tmp_path / 'results.zip'
        with zipfile.ZipFile(str(results), 'w') as archive:
            for path in (made / 'test_gt').glob('*.txt'):
                lines = path.read_text('utf-8-sig').splitlines()
                boxes = [','.join(line.split(',')[:8]) for line in lines if not line.endswith('#')]
                archive.writestr(f'res_{path.name[3:]}', '\r\n'.join(boxes) + '\r\n')
        printed = subprocess.run(
            [sys.executable, str(project_root / 'evaluation' / 'script.py'),
             f'-g={made / "gt.zip"}', f'-s={results}'],
            stdout=subprocess.PIPE, text=True, check=True).stdout
        score = json.loads(printed.splitlines()[-1])
        assert (score['precision'], score['recall'], score['hmean']) == (1.0, 1.0, 1.0)


class TestDeterminism:
    def test_same_seed_gives_the_same_bytes(self, made, tmp_path):
        demo_data.ensure_dataset(str(tmp_path), SPEC)
        assert _contents(tmp_path) == _contents(made)

    def test_picture_does_not_depend_on_the_number_of_pictures(self, made, tmp_path):
        demo_data.ensure_dataset(str(tmp_path), SPEC._replace(train_images=2, test_images=1))
        for name, data in _contents(tmp_path).items():
            if name.endswith(('.jpg', '.txt')):
                assert (made / name).read_bytes() == data

    def test_other_seed_gives_other_pictures(self, made, tmp_path):
        demo_data.ensure_dataset(str(tmp_path),
                                 SPEC._replace(train_images=1, test_images=1, seed=6))
        assert (tmp_path / 'train' / 'img_1.jpg').read_bytes() != \
            (made / 'train' / 'img_1.jpg').read_bytes()

    def test_training_and_test_pictures_differ(self, made):
        assert (made / 'train' / 'img_1.jpg').read_bytes() != \
            (made / 'test' / 'img_1.jpg').read_bytes()


class TestScene:
    def test_quads_lie_inside_and_run_clockwise(self, scenes):
        for drawn in scenes:
            for word in drawn.words:
                assert word.polygon.dtype == np.int32
                assert word.polygon.min() >= 0
                assert word.polygon.max() <= 191
                x, y = word.polygon.T
                assert np.sum((np.roll(x, -1) - x) * (np.roll(y, -1) + y)) < 0

    def test_first_point_is_the_top_left_of_the_text(self, scenes):
        for drawn in scenes:
            for word in drawn.words:
                along, down = word.polygon[1] - word.polygon[0], word.polygon[3] - word.polygon[0]
                assert abs(np.degrees(np.arctan2(along[1], along[0]))) <= 33
                assert down[1] > 0

    def test_words_are_turned_up_to_30_degrees(self, scenes):
        sides = [word.polygon[1] - word.polygon[0] for drawn in scenes for word in drawn.words
                 if word.transcription != demo_scene.DO_NOT_CARE]
        angles = [np.degrees(np.arctan2(y, x)) for x, y in sides]
        assert min(angles) < -20
        assert max(angles) > 20

    def test_words_do_not_overlap(self, scenes):
        for drawn in scenes:
            count = np.zeros((192, 192), np.uint8)
            for word in drawn.words:
                mask = np.zeros_like(count)
                count += cv2.fillConvexPoly(mask, word.polygon, 1)
            assert count.max() == 1

    def test_every_picture_has_a_readable_word(self, scenes):
        for drawn in scenes:
            assert any(word.transcription != demo_scene.DO_NOT_CARE for word in drawn.words)

    def test_some_regions_are_not_to_be_cared_for_and_some_texts_have_commas(self, scenes):
        texts = [word.transcription for drawn in scenes for word in drawn.words]
        assert 0.02 < texts.count(demo_scene.DO_NOT_CARE) / len(texts) < 0.3
        assert any(',' in text for text in texts)

    def test_quad_is_tight_on_the_glyphs(self):
        glyphs = np.full((60, 240), 255, np.uint8)
        painter = demo_scene._Painter(np.random.RandomState(3), 128)
        corners, _ = painter._find_room(demo_scene._Strip(80, 20, 0), gap=3)
        ink = demo_scene._warp(glyphs, corners, 128) > 0.5
        quad = corners.round().astype(np.int32)
        filled = cv2.fillConvexPoly(np.zeros((128, 128), np.uint8), quad, 1).astype(bool)
        assert (ink & filled).sum() / (ink | filled).sum() > 0.9

    @pytest.mark.parametrize('bend', [-2, 0.7])
    def test_outline_is_tight_on_bent_glyphs(self, bend):
        glyphs = np.full((60, 240), 255, np.uint8)
        strip = demo_scene._Strip(80, 20, bend)
        corners, angle = demo_scene._Painter(np.random.RandomState(3), 128)._find_room(strip, 3)
        ink = demo_scene._warp_bent(glyphs, strip, corners, angle, 128) > 0.5
        outline = corners.round().astype(np.int32)
        filled = cv2.fillPoly(np.zeros((128, 128), np.uint8), [outline], 1).astype(bool)
        assert (ink & filled).sum() / (ink | filled).sum() > 0.85
        np.testing.assert_allclose(strip.straightened(strip.outline())[[0, 7]],
                                   [[0, 0], [80, 20]], atol=1e-3)

    def test_curved_words_have_fourteen_points_and_are_simple(self):
        drawn = [demo_scene.draw_scene(np.random.RandomState([4, index]), 192, curved=True)
                 for index in range(10)]
        for word in (word for scene in drawn for word in scene.words):
            assert word.polygon.shape == (14, 2)
            assert Polygon(word.polygon).is_valid
            assert word.polygon.min() >= 0
            assert word.polygon.max() <= 191

    def test_edges_are_smooth(self):
        glyphs = demo_scene.glyph_mask('Wave', demo_scene.draw_font(np.random.RandomState(1)), 90)
        corners = demo_scene._turned(demo_scene._Strip(
            glyphs.shape[1] / 3, glyphs.shape[0] / 3, 0).outline(), 20)
        corners -= corners.min(axis=0)
        opacity = demo_scene._warp(glyphs, corners, 128)
        assert ((opacity > 0.1) & (opacity < 0.9)).sum() > 100


class TestWords:
    def test_glyph_mask_touches_all_four_borders(self):
        mask = demo_scene.glyph_mask('hotel', demo_scene.draw_font(np.random.RandomState(0)), 40)
        for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
            assert border.any()

    def test_blank_is_refused(self):
        with pytest.raises(ValueError, match='nothing to draw'):
            demo_scene.glyph_mask(' ', demo_scene.draw_font(np.random.RandomState(0)), 40)

    def test_transcriptions_hold_no_blanks(self):
        random_state = np.random.RandomState(0)
        drawn = [demo_scene.draw_transcription(random_state) for _ in range(300)]
        assert not any(' ' in text for text in drawn)
        assert len(set(drawn)) > 50


class TestColour:
    @pytest.mark.parametrize('level', [0, 60, 127, 200, 255])
    def test_contrast_is_kept(self, level):
        behind = np.full((50, 3), level, np.float32)
        for seed in range(20):
            colour = demo_scene.contrasting_colour(np.random.RandomState(seed), behind, 80)
            assert abs(demo_scene.luma(colour) - level) >= 80


class TestOwnership:
    def test_complete_data_set_is_left_alone(self, made):
        before = {path: path.stat().st_mtime_ns for path in made.rglob('*')}
        assert not demo_data.ensure_dataset(str(made), SPEC)
        assert {path: path.stat().st_mtime_ns for path in made.rglob('*')} == before

    def test_interrupted_run_is_redone(self, made, tmp_path, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(demo_data, 'write_archive', interrupt)
            with pytest.raises(KeyboardInterrupt):
                demo_data.ensure_dataset(str(tmp_path), SPEC)
        (tmp_path / 'train' / 'img_2.jpg').write_bytes(b'half')
        assert demo_data.ensure_dataset(str(tmp_path), SPEC)
        assert _contents(tmp_path) == _contents(made)

    def test_missing_file_is_noticed(self, tmp_path):
        small = SPEC._replace(train_images=1, test_images=1)
        demo_data.ensure_dataset(str(tmp_path), small)
        (tmp_path / 'test' / 'img_1.jpg').unlink()
        assert demo_data.ensure_dataset(str(tmp_path), small)

    def test_smaller_data_set_replaces_a_larger_one(self, tmp_path):
        demo_data.ensure_dataset(str(tmp_path), SPEC._replace(train_images=3, test_images=2))
        demo_data.ensure_dataset(str(tmp_path), SPEC._replace(train_images=1, test_images=1))
        assert len(list(tmp_path.rglob('*.jpg'))) == 2

    @pytest.mark.parametrize('name', ['photo.jpg', 'train/img_1.jpg', demo_data.MANIFEST])
    def test_foreign_file_stops_it(self, tmp_path, name):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('mine')
        with pytest.raises(demo_data.DatasetError, match=f'contains {name}'):
            demo_data.ensure_dataset(str(tmp_path), SPEC)
        assert _contents(tmp_path) == {name: b'mine'}

    def test_file_added_to_our_data_set_stops_a_rewrite(self, tmp_path):
        small = SPEC._replace(train_images=1, test_images=1)
        demo_data.ensure_dataset(str(tmp_path), small)
        (tmp_path / 'train' / 'notes.txt').write_text('mine')
        before = _contents(tmp_path)
        with pytest.raises(demo_data.DatasetError, match=r'train/notes\.txt'):
            demo_data.ensure_dataset(str(tmp_path), small._replace(seed=1))
        assert _contents(tmp_path) == before


class TestSpec:
    @pytest.mark.parametrize(('change', 'message'), [
        ({'size': 64}, 'at least 96'), ({'train_images': 0}, 'at least 1'),
        ({'test_images': 0}, 'at least 1'), ({'seed': -1}, 'not between')])
    def test_impossible_spec_is_refused(self, tmp_path, change, message):
        with pytest.raises(demo_data.DatasetError, match=message):
            demo_data.ensure_dataset(str(tmp_path), SPEC._replace(**change))
        assert not list(tmp_path.iterdir())


def test_command_writes_the_data_set(project_root, tmp_path, made):
    command = [sys.executable, '-m', 'tools.demo_data', f'--out={tmp_path}',
               '--train_images=12', '--test_images=4', '--size=128', '--seed=5']
    messages = subprocess.run(command, stderr=subprocess.PIPE, text=True,
                              check=True, cwd=str(tmp_path.parent)).stderr
    assert '12 training and 4 test images written' in messages
    assert _contents(tmp_path) == _contents(made)

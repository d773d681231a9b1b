"""Labels of every data set: the exact polygons of small files, and the counts of real ones."""

import json

import cv2
import numpy as np
import pytest

from utils.data_provider import formats
from utils.data_provider.annotation import AnnotationError
from utils.data_provider.data_provider import get_batch
from utils.data_provider.datasets import inspect_dataset, load_dataset
from utils.errors import PSENetError


def write(path, text):
    path.write_text(text, encoding='utf-8')
    return str(path)


def points(annotation):
    return [polygon.tolist() for polygon in annotation.polygons]


def test_mlt_ignores_by_the_text_behind_the_script(tmp_path):
    path = write(tmp_path / 'gt_img_1.txt', '\ufeff0,0,9,0,9,5,0,5,Latin,###\r\n'
                                            '1,1,9,1,9,5,1,5,Arabic,a,b\n')
    found = formats.read_mlt(path)
    assert points(found)[0] == [[0, 0], [9, 0], [9, 5], [0, 5]]
    assert found.ignore_tags.tolist() == [True, False]
    assert found.lines == [1, 2]


def test_ctw1500_offsets_count_from_the_corner_of_the_box(tmp_path):
    offsets = [(0, 17), (14, 11), (29, 5), (44, 0), (59, 4), (74, 11), (90, 17), (85, 28), (71, 23),
               (57, 18), (43, 12), (30, 17), (16, 23), (3, 28)]
    line = ','.join(map(str, [45, 56, 135, 84, *np.ravel(offsets)]))
    found = formats.read_ctw1500(write(tmp_path / '1001.txt', line + '\n'))
    assert points(found) == [[[45 + x, 56 + y] for x, y in offsets]]
    assert not found.ignore_tags.any()


def test_ctw1500_of_2020_has_absolute_points_and_a_text(tmp_path):
    numbers = ','.join(map(str, range(28)))
    path = write(tmp_path / '0001001.txt', f'{numbers},####A word\n{numbers},#######\n')
    found = formats.read_ctw1500(path)
    assert points(found)[0][:2] == [[0, 1], [2, 3]]
    assert found.ignore_tags.tolist() == [False, True]
    xml = write(tmp_path / '0200.xml', '<Annotations><image file="0200.jpg">'
                f'<box height="1" left="2" top="3" width="4"><label>###</label><segs>{numbers}'
                '</segs><pts x="1" y="2"/></box></image></Annotations>')
    assert points(formats.read_ctw1500(xml)) == points(found)[:1]
    assert formats.read_ctw1500(xml).ignore_tags.tolist() == [True]


def test_total_text_in_matlab_s_form(tmp_path):
    from scipy.io import savemat
    rows = np.empty((3, 6), object)
    for row, (x, y, text, mark) in enumerate((([1, 9, 5], [2, 2, 8], 'word', 'c'),
                                              ([7], [7], '#', '#'),
                                              ([0, 4, 4, 0], [0, 0, 4, 4], 'NIW', '#'))):
        rows[row] = ['x:', np.array([x], np.int16), 'y:', np.array([y], np.int16), text, mark]
    rows[0, 5] = np.zeros(0)
    path = str(tmp_path / 'poly_gt_img1.mat')
    savemat(path, {'polygt': rows})
    found = formats.read_total_text(path)
    assert points(found) == [[[1, 2], [9, 2], [5, 8]], [[7, 7]], [[0, 0], [4, 0], [4, 4], [0, 4]]]
    assert found.ignore_tags.tolist() == [False, True, True]


def test_total_text_records_may_take_several_lines(tmp_path):
    path = write(tmp_path / 'poly_gt_img1.txt', (
        "x: [[ 206  251\n  386]], y: [[633 811 931]], ornt: [u'c'], transcriptions: [u'A,B']\n"
        "x: [[1 2 3]], y: [[4 5 -6]], ornt: [u'#'], transcriptions: [u'#']\n"
        'x: [[1 2 3]], y: [[4 5 6]], ornt: [], transcriptions: [u"o\'clock"]'))
    found = formats.read_total_text(path)
    assert points(found)[0] == [[206, 633], [251, 811], [386, 931]]
    assert points(found)[1][2] == [3, -6]
    assert found.ignore_tags.tolist() == [False, True, False]


def test_polygon_lines_end_with_the_text_even_where_it_is_a_number(tmp_path):
    path = write(tmp_path / 'img1.jpg.txt', '1,2,3,4,5,6,2462\n1,2,3,4,5,6,7,8,Lunch,Bar\n'
                                            '1,2,3,4,5,6,7,8,9,10,###\n')
    found = formats.read_total_text(path)
    assert [len(polygon) for polygon in found.polygons] == [3, 4, 5]
    assert found.ignore_tags.tolist() == [False, False, True]


def test_msra_td500_turns_the_box_clockwise_around_its_centre(tmp_path):
    path = write(tmp_path / 'IMG_1.gt', '1 0 747 731 172 39 0.308053\r\n'
                                        '0 1 615 556 372 59 -0.749840 and a text\r\n')
    found = formats.read_msra_td500(path)
    np.testing.assert_allclose(found.polygons[0], [
        (756.96, 705.84), (920.86, 757.99), (909.04, 795.16), (745.14, 743.01)], atol=0.01)
    np.testing.assert_allclose(found.polygons[1][0], (644.78, 690.67), atol=0.01)
    assert found.ignore_tags.tolist() == [False, True]


def test_labelme_shapes(tmp_path):
    shapes = [{'label': 'a', 'points': [[5, 6], [1, 2]], 'shape_type': 'rectangle'},
              {'label': '###', 'points': [[0, 0], [4, 0], [2, 3.5]]},
              {'label': 'c', 'points': [[0, 0], [4, 0]], 'shape_type': 'line'}]
    found = formats.read_labelme(write(tmp_path / 'a.json', json.dumps({'shapes': shapes})))
    assert points(found) == [[[1, 2], [5, 2], [5, 6], [1, 6]], [[0, 0], [4, 0], [2, 3.5]]]
    assert found.ignore_tags.tolist() == [False, True]


def test_coco_in_its_three_forms(tmp_path):
    box = {'image_id': 7, 'bbox': [1, 2, 3, 4]}
    text = {'imgs': {'7': {'id': 7, 'file_name': 'train/a.jpg'}}, 'anns': {
        '1': {**box, 'mask': [0, 0, 4, 0, 4, 4], 'legibility': 'illegible'},
        '2': {**box, 'points': [0, 0, 4, 0, 4, 4, 0, 4], 'utf8_string': '.'}, '3': box}}
    found = formats.read_coco(write(tmp_path / 'a.json', json.dumps(text)))['train/a.jpg']
    assert [len(polygon) for polygon in found.polygons] == [3, 4, 4]
    assert points(found)[2] == [[1, 2], [4, 2], [4, 6], [1, 6]]
    assert found.ignore_tags.tolist() == [True, True, False]
    instances = {'images': [{'id': 0, 'file_name': 'b.jpg'}, {'id': 1, 'file_name': 'c.jpg'}],
                 'annotations': [{'image_id': 1, 'iscrowd': 1, 'bbox': [0, 0, 1, 1],
                                  'segmentation': [[0, 0, 4, 0, 4, 4]]}]}
    found = formats.read_coco(write(tmp_path / 'b.json', json.dumps(instances)))
    assert (len(found['b.jpg'].polygons), found['c.jpg'].ignore_tags.tolist()) == (0, [True])


def test_art_and_ppocrlabel(tmp_path):
    region = {'points': [[0, 0], [4, 0], [4, 4]], 'transcription': 'a'}
    art = {'gt_0': [region, {**region, 'illegibility': True}, {**region, 'transcription': '###'}]}
    found = formats.read_art(write(tmp_path / 'a.json', json.dumps(art)))
    assert found['gt_0'].ignore_tags.tolist() == [False, True, True]
    line = json.dumps([{**region, 'difficult': True}, {**region, 'transcription': '*'}, region])
    found = formats.read_ppocrlabel(write(tmp_path / 'Label.txt', f'10/a (1).jpg\t{line}\r\n'))
    assert found['10/a (1).jpg'].ignore_tags.tolist() == [True, True, False]


@pytest.mark.parametrize(('read', 'name', 'text', 'words'), [
    (formats.read_mlt, 'a.txt', '0,0,9,0,9,5,0,5,word', ['a.txt:1', 'script']),
    (formats.read_ctw1500, 'a.txt', '1,2,3', ['a.txt:1', '3 numbers']),
    (formats.read_ctw1500, 'a.xml', '<a', ['a.xml', 'not XML']),
    (formats.read_ctw1500, 'a.xml', '<!DOCTYPE a [<!ENTITY b "c">]><a/>', ['document type']),
    (formats.read_total_text, 'a.txt', 'x: [[1 2]], y: [[1]]', ['2 x but 1 y']),
    (formats.read_total_text, 'a.txt', 'word,1,2', ['a.txt:1', 'no points']),
    (formats.read_total_text, 'a.mat', 'no matlab', ['a.mat', 'MATLAB']),
    (formats.read_msra_td500, 'a.gt', '0 0 1 2 3', ['a.gt:1', '5 numbers']),
    (formats.read_msra_td500, 'a.gt', '0 0 1 2 3 4 nan', ['a.gt:1', 'finite']),
    (formats.read_labelme, 'a.json', '{"shapes": [{}]}', ['a.json', 'structure']),
    (formats.read_labelme, 'a.json', '[', ['a.json', 'not JSON']),
    (formats.read_coco, 'a.json', '{"images": []}', ['a.json', 'structure']),
    (formats.read_coco, 'a.json', '{"images": [{"id": 1, "file_name": "a"}], "annotations": '
     '[{"image_id": 1, "segmentation": {"counts": 1}}]}', ['run-length']),
    (formats.read_art, 'a.json', '{"gt_0": [{}]}', ['a.json', 'structure']),
    (formats.read_ppocrlabel, 'Label.txt', 'a.jpg [', ['Label.txt:1', 'no tab']),
    (formats.read_ppocrlabel, 'Label.txt', 'a.jpg\t[', ['Label.txt:1', 'structure']),
])
def test_what_cannot_be_read_names_the_file_and_the_place(tmp_path, read, name, text, words):
    with pytest.raises(AnnotationError) as caught:
        read(write(tmp_path / name, text))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_damaged_matlab_file_is_named_whatever_scipy_raises(tmp_path):
    # A file of MATLAB 4 that says it is enormous: SciPy raises a MemoryError without words.
    path = tmp_path / 'a.mat'
    path.write_bytes(bytes.fromhex('010000001020 41544d000000 10') + b'\xff' * 79 + b' AA')
    with pytest.raises(AnnotationError, match=r'a\.mat: is not a MATLAB file .*\(\w'):
        formats.read_total_text(str(path))


def test_polygons_that_cross_themselves_are_repaired_where_it_is_clear():
    square = np.float32([(0, 0), (10, 0), (10, 10), (0, 10)])
    assert formats.repair_polygon(square)[0] is square
    # A spike of no area beside a square, and a bow-tie of two equal halves.
    spike = np.float32([(0, 0), (10, 0), (10, 10), (10, 30), (10, 10), (0, 10)])
    made, usable = formats.repair_polygon(spike)
    assert usable
    assert cv2.contourArea(made) == 100
    bow_tie = np.float32([(0, 0), (20, 10), (20, 0), (0, 10)])
    assert not formats.repair_polygon(bow_tie)[1]


@pytest.fixture
def image_at():
    """image_at(path): writes an image of 200 x 100 pixels there."""
    def write_image_at(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((100, 200, 3), np.uint8))
    return write_image_at


QUAD = '10,10,60,12,58,40,12,38'
REGION = {'points': [[10, 10], [60, 12], [58, 40]], 'transcription': 'a'}
FORMS = {
    'icdar': {'gt_img_1.txt': f'{QUAD},word\n'},
    'mlt': {'img_1.txt': f'{QUAD},Latin,word\n'},
    'ctw1500': {'img_1.txt': ','.join(map(str, [10, 10, 60, 40, *np.ravel(
        [(5 * x, 0) for x in range(7)] + [(5 * x, 30) for x in range(6, -1, -1)])]))},
    'total_text': {'img_1.png.txt': '10,10,60,12,70,20,58,40,12,38,word\n'},
    'msra_td500': {'img_1.gt': '0 0 10 10 50 20 0.1\n'},
    'labelme': {'img_1.json': json.dumps({'shapes': [{**REGION, 'label': 'a'}]})},
    'coco': {'labels.json': json.dumps({
        'images': [{'id': 1, 'file_name': 'img_1.png'}],
        'annotations': [{'image_id': 1, 'bbox': [10, 10, 50, 20]}]})},
    'art': {'train_labels.json': json.dumps({'img_1': [REGION]})},
    'ppocrlabel': {'Label.txt': f'anything/img_1.png\t{json.dumps([REGION])}\n'},
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('layout', ['together', 'apart', 'given'])
def test_every_form_is_found_and_read(tmp_path, image_at, messages, form, layout):
    images = tmp_path / 'images' if layout == 'apart' else tmp_path
    labels = {'together': tmp_path, 'apart': tmp_path / 'gt', 'given': tmp_path / 'mine'}[layout]
    image_at(images / 'img_1.png')
    labels.mkdir(exist_ok=True)
    for name, text in FORMS[form].items():
        write(labels / name, text)
    given = str(labels) if layout == 'given' else ''
    samples, counts = load_dataset(str(tmp_path), label_folder=given)
    assert (counts.pairs, counts.usable_regions) == (1, 1), counts
    assert samples[0].image_path == str(images / 'img_1.png')
    if form != 'icdar':
        assert f'--dataset={form}: ' in messages()[0]
    assert load_dataset(str(tmp_path), form, label_folder=given)[1] == counts


@pytest.fixture
def messages(caplog, monkeypatch):
    monkeypatch.setattr('utils.utils_tool.logger.propagate', True)
    caplog.set_level('INFO', 'psenet')
    return lambda: [record.getMessage() for record in caplog.records]


def test_labels_that_fit_two_sets_are_refused(tmp_path, image_at):
    image_at(tmp_path / 'img_1.png')
    for form in ('labelme', 'coco'):
        for name, text in FORMS[form].items():
            write(tmp_path / name, text)
    with pytest.raises(PSENetError, match=r'labelme \(img_1.json .* and coco \(labels.json .*'
                                          '--dataset'):
        load_dataset(str(tmp_path))
    assert load_dataset(str(tmp_path), 'coco')[1].usable_regions == 1


def test_numbers_as_texts_make_no_polygons_of_quads(tmp_path, image_at, messages):
    image_at(tmp_path / 'img_1.png')
    write(tmp_path / 'img_1.txt', f'{QUAD},word\n' * 9 + f'{QUAD},100,000\n')
    assert load_dataset(str(tmp_path))[1].usable_regions == 10
    assert messages() == []


@pytest.mark.parametrize(('place', 'form', 'expected'), [
    ('msra_td500/train', 'msra_td500', (38, 141, 13)),
    ('msra_td500/test', 'msra_td500', (20, 45, 1)),
    ('ppocrlabel/screens', 'ppocrlabel', (5, 19, 0)),
    ('ppocrlabel/one', 'ppocrlabel', (1, 45, 2)),
    ('labelme', 'labelme', (10, 82, 61)), ('labelme', 'coco', (10, 82, 61)),
])
def test_real_sets(shared_dir, place, form, expected):
    directory = shared_dir / 'data' / place
    if not directory.is_dir():
        pytest.skip(f'needs {directory}')
    counts = inspect_dataset(str(directory), form).counts
    assert (counts.usable_images, counts.boxes, counts.ignored_boxes) == expected


def test_real_files_of_total_text_and_ctw1500(shared_dir):
    directory = shared_dir / 'data'
    if not (directory / 'total_text' / 'mat').is_dir():
        pytest.skip(f'needs {directory}/total_text')
    for path in sorted((directory / 'total_text' / 'mat').glob('*.mat')):
        of_matlab = formats.read_total_text(str(path))
        text = directory / 'total_text' / 'txt' / (path.stem.replace('poly_gt_', '') + '.jpg.txt')
        if text.exists():
            assert points(formats.read_total_text(str(text))) == points(of_matlab)
    regions = [formats.read_ctw1500(str(path)) for name in ('labels', 'train_labels')
               for path in sorted((directory / 'ctw1500' / name).glob('*.txt'))]
    assert len(regions) == 34
    assert all(len(polygon) == 14 for each in regions for polygon in each.polygons)


@pytest.fixture
def synthtext(tmp_path, image_at):
    """A gt.mat as SynthText's: of two images one has a single word, the third is not there."""
    from scipy.io import savemat
    cells = {name: np.empty((1, 3), object) for name in ('imnames', 'wordBB', 'charBB', 'txt')}
    word = np.array(points_of(QUAD)).T
    for place, boxes in enumerate((word, np.stack([word, word + 5], axis=2), word)):
        name = f'{place}/img_{place}.png'
        cells['imnames'][0, place] = np.array([name])
        cells['wordBB'][0, place] = boxes.astype(np.float32)
        cells['charBB'][0, place] = np.zeros((2, 4, 9))
        cells['txt'][0, place] = np.array(['one      ', 'two\nwords'][:1 + (place == 2)])
        if place < 2:
            image_at(tmp_path / name)
    cells['txt'][0, 1] = np.array(['one\ntwo   '])
    savemat(str(tmp_path / 'gt.mat'), cells)
    return tmp_path


def points_of(line):
    return np.array(line.split(','), float).reshape(-1, 2)


def test_synthtext_is_found_and_not_opened(synthtext, messages):
    samples, counts = load_dataset(str(synthtext))
    assert '--dataset=synthtext: gt.mat exists' in messages()[0]
    assert (counts.usable_images, counts.boxes) == (3, 4)
    assert '3 images were not opened' in str(counts)
    assert [sample.size for sample in samples] == [None] * 3
    np.testing.assert_array_equal(samples[1].polygons[1], points_of(QUAD) + 5)
    index = formats.SynthTextIndex(str(synthtext / 'gt.mat'), with_texts=True)
    # Three words for one box: the box is kept, and nobody knows its text.
    assert [index.read(place).texts for place in range(3)] == [['one'], ['one', 'two'], ['']]


def test_synthtext_trains_and_names_what_is_missing(synthtext, messages):
    with get_batch(str(synthtext), 1, 32, 2, seed=1) as batches:
        paths = {path for _ in range(4) for path in next(batches)[1]}
        assert paths == {str(synthtext / '0' / 'img_0.png'), str(synthtext / '1' / 'img_1.png')}
        assert batches.counts.unreadable == 1
    assert sum('img_2.png' in message for message in messages()) == 1


@pytest.mark.parametrize(('cells', 'words'), [
    ({'imnames': [['a.jpg']]}, 'wordBB'),
    ({'imnames': np.array([['a.jpg', 'b.jpg']], object), 'wordBB': np.array([[1.0]])}, '2 names'),
    ({'imnames': [['a.jpg']], 'wordBB': np.ones((1, 1))}, 'boxes of shape'),
])
def test_another_gt_mat_is_refused_in_a_sentence(tmp_path, cells, words):
    from scipy.io import savemat
    savemat(str(tmp_path / 'gt.mat'), cells)
    with pytest.raises(AnnotationError, match=f'gt.mat: is not the gt.mat of SynthText .*{words}'):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize('form', FORMS)
def test_labels_are_read_without_images(tmp_path, form):
    (tmp_path / 'labels').mkdir()
    for name, text in FORMS[form].items():
        write(tmp_path / 'labels' / name, text)
    counts = inspect_dataset(str(tmp_path), labels_only=True).counts
    assert (counts.images, counts.labels, counts.usable_regions) == (0, 1, 1), counts


@pytest.mark.parametrize(('place', 'expected'), [
    ('icdar2013', (30, 168, 0)), ('total_text/mat', (85, 725, 76)),
    ('total_text/txt', (85, 725, 76)), ('ctw1500/labels', (30, 183, 0)),
    ('ctw1500/train_labels', (4, 32, 0)),
])
def test_real_labels_without_images(shared_dir, place, expected):
    directory = shared_dir / 'data' / place
    if not directory.is_dir():
        pytest.skip(f'needs {directory}')
    counts = inspect_dataset(str(directory), labels_only=True).counts
    assert (counts.usable_images, counts.boxes, counts.ignored_boxes) == expected

"""The polygon protocols: the cases that tell them apart, published figures, and the command."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from evaluation.polygon_script import (
    Region,
    score,
    score_ctw1500,
    score_iou,
    score_msra_td500,
    score_total_text,
)


def box(left, right, top=0, bottom=10):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def truths(*points, ignored=False):
    return [Region(np.asarray(each, float), ignored) for each in points]


def shares(counts):
    """Recall and precision."""
    return (counts.recall_sum / counts.regions if counts.regions else 0,
            counts.precision_sum / counts.detections if counts.detections else 0)


L_SHAPE = np.array([(0, 0), (40, 0), (40, 10), (10, 10), (10, 40), (0, 40)])
WIDER = np.array([(0, 0), (40, 0), (40, 12), (12, 12), (12, 40), (0, 40)])
BOW_TIE = np.array([(0, 0), (20, 10), (20, 0), (0, 10)])


@pytest.mark.parametrize(('regions', 'found', 'expected'), [
    (truths(L_SHAPE), [box(0, 40, 0, 40)], (0, 0)),
    (truths(L_SHAPE), [WIDER], (1, 1)),
    (truths(L_SHAPE), [WIDER[::-1]], (1, 1)),
    (truths(box(0, 20)), [box(0, 10)], (0, 0)),     # exactly 0.5
    (truths(box(0, 20), box(6, 26)), [box(5, 25), box(6, 26)], (1, 1)),
    (truths(box(0, 20), ignored=True), [box(0, 30), box(0, 40)], (0, 0)),
    (truths(box(0, 20), box(20, 40), ignored=True), [box(0, 40)], (0, 0)),
])
def test_iou(regions, found, expected):
    assert shares(score_iou(regions, found)) == expected


def test_iou_leaves_out_what_an_ignored_region_has():
    counts = score_iou(truths(box(0, 20), ignored=True), [box(0, 30), box(0, 40)])
    assert (counts.regions, counts.detections) == (0, 1)
    counts = score_iou(truths(box(0, 20), box(20, 40), ignored=True), [box(0, 40)])
    assert counts.detections == 1


@pytest.mark.parametrize(('found', 'expected'), [
    ([box(5, 25), box(6, 26)], (0.5, 0.5)), ([box(0, 20), box(6, 26)], (1, 1))])
def test_ctw1500_takes_the_best_truth_alone(found, expected):
    assert shares(score_ctw1500(truths(box(0, 20), box(6, 26)), found)) == expected


def test_ctw1500_counts_a_second_detection_and_no_crossing_one():
    truth = truths(box(0, 20))
    assert shares(score_ctw1500(truth, [box(0, 20), box(0, 20)])) == (1, 0.5)
    assert shares(score_ctw1500(truth, [BOW_TIE])) == (0, 0)
    assert shares(score_ctw1500(truth, [BOW_TIE, box(0, 20)])) == (1, 1)
    assert shares(score_ctw1500(truth, [box(0, 10)])) == (0, 0)


def strip(left, right, top=0, bottom=20):
    return box(left, right, top, bottom)


@pytest.mark.parametrize(('regions', 'found', 'expected'), [
    (truths(strip(0, 100)), [strip(0, 80)], (1, 1)),
    (truths(strip(0, 100)), [strip(0, 70)], (0, 0)),
    (truths(strip(0, 100)), [strip(0, 48), strip(52, 100)], (0.8, 0.8)),
    (truths(strip(0, 48), strip(52, 100)), [strip(0, 100)], (0.8, 0.8)),
    (truths(strip(0, 100)), [strip(0, 70), strip(70, 190)], (1, 0.5)),
    (truths(strip(0, 100), strip(100, 200)), [strip(36, 164)], (0.8, 0.8)),
    (truths(strip(0, 1000)), [strip(0, 704)], (0, 0)),
    (truths(strip(0, 1000)), [strip(0, 706)], (1, 1)),
    (truths(strip(0, 100)), [strip(0, 100, 0, 60), strip(40, 60)], (1, 0.5)),
])
def test_total_text(regions, found, expected):
    assert shares(score_total_text(regions, found)) == pytest.approx(expected)


@pytest.mark.parametrize(('found', 'left'), [
    (strip(0, 100), 0), (strip(0, 199), 0), (strip(0, 200), 1), (strip(10, 11, 5, 6), 1)])
def test_total_text_removes_what_lies_in_a_region_to_be_ignored(found, left):
    assert score_total_text(truths(strip(0, 100), ignored=True), [found]).detections == left


def turned(angle, shift=(0, 0)):
    """A box of 100 x 20 around (50, 10), turned clockwise on the screen."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (box(0, 100, 0, 20) - (50, 10)) @ turn + (50, 10) + shift


@pytest.mark.parametrize(('found', 'hits'), [
    (turned(0.3), 1), (turned(0.4), 0), (turned(0, (30, 0)), 1), (turned(0, (34, 0)), 0),
    (turned(0.2, (0, 6)), 1), (box(0, 100, 0, 20)[[1, 2, 3, 0]], 1), (turned(np.pi), 1)])
def test_msra_td500(found, hits):
    assert score_msra_td500(truths(turned(0)), [found]).recall_sum == hits


def test_msra_td500_counts_a_difficult_region_that_is_found():
    normal, difficult = turned(0), turned(0, (0, 100))
    regions = truths(normal) + truths(difficult, ignored=True)
    assert shares(score_msra_td500(regions, [normal])) == (1, 1)
    assert shares(score_msra_td500(regions, [normal, difficult])) == (1, 1)
    assert shares(score_msra_td500(regions, [difficult])) == (0.5, 1)
    assert shares(score_msra_td500(truths(normal), [normal, normal])) == (1, 0.5)


@pytest.mark.parametrize('protocol', ['iou', 'ctw1500'])
def test_the_published_figures_of_ctw1500(shared_dir, protocol):
    directory = shared_dir / 'data' / 'ctw1500'
    if not directory.is_dir():
        pytest.skip(f'needs {directory}')
    found = score(str(directory / 'ctw1500-gt.zip'), str(directory / 'det_ctw1500.zip'), protocol)
    assert {name: round(value, 6) for name, value in found.items()} == {
        'recall': 0.816167, 'precision': 0.749701, 'hmean': 0.781523}


def write(directory, **files):
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace('__', '.')).write_text(text, encoding='utf-8')
    return str(directory)


def test_names_and_forms_of_files(tmp_path):
    offsets = ','.join(map(str, np.ravel([(x, 0) for x in range(7)]
                                         + [(x, 9) for x in range(6, -1, -1)])))
    gt = write(tmp_path / 'gt', gt_img_1__txt='0,0,20,0,20,10,0,10,a word\n',
               img_2__txt=f'5,5,11,14,{offsets}\n', IMG_3__gt='0 0 0 0 100 20 0.0\n')
    found = write(tmp_path / 'found', res_img_1__txt='0,0,20,0,20,10,0,10\n',
                  img_2__txt='5,5,11,5,11,14,5,14\n')
    assert score(gt, found) == {'recall': pytest.approx(2 / 3), 'precision': 1,
                                'hmean': pytest.approx(0.8)}


@pytest.mark.parametrize('text', ['$8,888', '100,000', 'a,b', '5', ''])
def test_a_text_may_hold_commas_and_numbers(tmp_path, text):
    gt = write(tmp_path / 'gt', gt_img_1__txt=f'0,0,40,0,40,20,0,20,{text}\n')
    found = write(tmp_path / 'found', res_img_1__txt='0,0,40,0,40,20,0,20\n')
    assert score(gt, found)['hmean'] == 1


def test_ground_truth_in_matlab_s_form(tmp_path):
    from scipy.io import savemat
    rows = np.empty((2, 6), object)
    for row, (x, y, mark) in enumerate((([0, 40, 40, 0], [0, 0, 20, 20], 'c'), ([7], [7], '#'))):
        rows[row] = ['x:', np.array([x], np.int16), 'y:', np.array([y], np.int16), 'text', mark]
    (tmp_path / 'gt').mkdir()
    savemat(str(tmp_path / 'gt' / 'poly_gt_img1.mat'), {'polygt': rows})
    found = write(tmp_path / 'found', res_img1__txt='0,0,40,0,40,20,0,20\n')
    assert score(str(tmp_path / 'gt'), found, 'total_text')['hmean'] == 1


@pytest.mark.parametrize(('gt', 'found', 'words'), [
    ('0,0,1,word', '0,0,9,0,9,9', ['img_1.txt:1', 'three or more points']),
    ('0,0,9,0,9,9,word', '0,0,9,0', ['res_img_1.txt:1', 'three or more points']),
    ('0,0,9,0,9,9,word', '0,0,9,0,9,nan', ['res_img_1.txt:1']),
])
def test_a_mistake_is_one_sentence(tmp_path, project_root, gt, found, words):
    gt, found = (write(tmp_path / 'gt', img_1__txt=gt),
                 write(tmp_path / 'found', res_img_1__txt=found))
    ended = run(project_root, tmp_path, gt, found)
    assert (ended.returncode, ended.stderr.count('\n')) == (1, 1)
    assert all(word in ended.stderr for word in words), ended.stderr


def run(root, cwd, gt, found, *arguments):
    return subprocess.run([sys.executable, str(root / 'evaluation' / 'polygon_script.py'),
                           f'-g={gt}', f'-s={found}', *arguments], cwd=str(cwd), check=False,
                          capture_output=True, text=True)


def test_the_command(tmp_path, project_root):
    with zipfile.ZipFile(str(tmp_path / 'gt.zip'), 'w') as archive:
        archive.writestr('gt_img_1.txt', '\ufeff0,0,20,0,20,10,word\r\n')
    found = write(tmp_path / 'found', res_img_1__txt='0,0,20,0,20,10\n')
    ended = run(project_root, tmp_path, 'gt.zip', found, '--protocol=iou')
    assert ended.stdout.splitlines()[0] == 'Calculated!'
    assert json.loads(ended.stdout.splitlines()[1]) == {'precision': 1, 'recall': 1, 'hmean': 1}
    (tmp_path / 'found' / 'res_img_9.txt').write_text('0,0,20,0,20,10\n')
    assert 'no ground truth' in run(project_root, tmp_path, 'gt.zip', found).stderr
    assert 'none.zip' in run(project_root, tmp_path, 'none.zip', found).stderr

"""The real command: what it prints, writes and refuses."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile

import pytest

from evaluation import report as report_module
from evaluation.parameters import DEFAULT_PARAMETERS, ProtocolError
from evaluation.script import main, score_archives

BOX = '0,0,10,0,10,10,0,10'
AWAY = '90,90,99,90,99,99,90,99'
OVER = '5,0,15,0,15,10,5,10'


@pytest.fixture
def archives(make_zip):
    """Two samples: one match, one miss, one ignored detection, one region not found."""
    gt = make_zip('gt.zip', {'gt_img_1.txt': f'\ufeff{BOX},a,b\r\n{AWAY},###\r\n',
                             'gt_img_2.txt': f'{BOX},c\r\n'})
    results = make_zip('res.zip', {'res_img_1.txt': f'{AWAY}\r\n{BOX}\r\n{OVER}\r\n'})
    return gt, results


EXPECTED = {'precision': 0.5, 'recall': 0.5, 'hmean': 0.5, 'AP': 0}


@pytest.fixture(scope='module')
def script(project_root):
    return str(project_root / 'evaluation' / 'script.py')


def run(script, *arguments, **options):
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True,
                          timeout=60, check=False, **options)


def refused(result):
    """The one sentence of a run that must fail."""
    assert result.returncode == 1
    assert result.stdout == ''
    assert 'Traceback' not in result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
    return result.stderr


@pytest.mark.parametrize('form', ['-g={}|-s={}', '-g|{}|-s|{}', '-s={1}|-g={0}', '--gt={}|-s={}'])
def test_every_form_of_arguments(script, archives, form):
    result = run(script, *form.format(*archives).split('|'))
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout == ('Calculated!\n'
                             '{"precision": 0.5, "recall": 0.5, "hmean": 0.5, "AP": 0}\n')


def test_it_runs_alone_from_any_folder(script, archives, tmp_path):
    """A copy of the directory, an empty environment, no other package on the path, locale C."""
    directory = tmp_path / '复制 of it' / 'evaluation'
    shutil.copytree(os.path.dirname(script), str(directory))
    workplace = tmp_path / 'elsewhere'
    workplace.mkdir()
    (workplace / 'evaluation.py').write_text('raise SystemExit("the wrong one")')
    shutil.copy(archives[0], str(workplace / '真 值.zip'))
    result = run(str(directory / 'script.py'), '-g=真 值.zip', f'-s={archives[1]}',
                 cwd=str(workplace), env={'LC_ALL': 'C'})
    assert (result.returncode, result.stderr) == (0, '')
    assert json.loads(result.stdout.splitlines()[1]) == EXPECTED


def test_help(script):
    result = run(script, '--help')
    assert result.returncode == 0
    assert '-p' in result.stdout
    assert 'IOU_CONSTRAINT (0.5)' in result.stdout


def test_parameters(script, archives):
    result = run(script, '-g', archives[0], '-s', archives[1], '-p={"IOU_CONSTRAINT":0.3}')
    assert json.loads(result.stdout.splitlines()[1]) == EXPECTED  # matched already, OVER is late
    result = run(script, '-g', archives[0], '-s', archives[1], '-p', '{"IOU_CONSTRAINT":1}')
    assert json.loads(result.stdout.splitlines()[1])['hmean'] == 0


def test_confidences(script, archives, make_zip):
    results = make_zip('conf.zip', {'res_img_1.txt': f'{OVER},0.9\n{BOX},0.8\n',
                                    'res_img_2.txt': f'{BOX},1\n'})
    result = run(script, f'-g={archives[0]}', f'-s={results}', '-p={"CONFIDENCES":true}')
    assert json.loads(result.stdout.splitlines()[1]) == {
        'precision': 2 / 3, 'recall': 1.0, 'hmean': 2 * (2 / 3) / (2 / 3 + 1),
        'AP': (1 + 2 / 3) / 2}


def test_ltrb(script, make_zip):
    gt = make_zip('gt.zip', {'gt_img_1.txt': '0,0,10,10,word'})
    results = make_zip('res.zip', {'res_img_1.txt': '0,0,10,9'})
    result = run(script, f'-g={gt}', f'-s={results}', '-p={"LTRB":true}')
    assert json.loads(result.stdout.splitlines()[1])['hmean'] == 1


def report(directory):
    with zipfile.ZipFile(os.path.join(directory, 'results.zip')) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def test_report(script, archives, tmp_path):
    directory = str(tmp_path / 'new' / 'report')
    result = run(script, f'-g={archives[0]}', f'-s={archives[1]}', f'-o={directory}')
    assert json.loads(result.stdout.splitlines()[1]) == EXPECTED
    files = report(directory)
    assert list(files) == ['method.json', '1.json', '2.json']
    assert files['method.json'] == {'calculated': True, 'Message': '', 'method': EXPECTED}
    assert files['1.json'] == {
        'precision': 0.5, 'recall': 1.0, 'hmean': 2 / 3, 'AP': 0,
        'pairs': [{'gt': 0, 'det': 1}],
        'iouMat': [[0.0, 1.0, pytest.approx(1 / 3)], [1.0, 0.0, 0.0]],
        'gtPolPoints': [[int(value) for value in line.split(',')] for line in (BOX, AWAY)],
        'detPolPoints': [[int(value) for value in line.split(',')] for line in (AWAY, BOX, OVER)],
        'gtDontCare': [1], 'detDontCare': [0],
        'evaluationParams': DEFAULT_PARAMETERS._asdict(),
        'evaluationLog': 'GT polygons: 2 (1 ignored)\nDET polygons: 3 (1 ignored)\n'
                         'Match GT #0 with Det #1\n'}
    assert files['2.json']['recall'] == 0
    assert files['2.json']['iouMat'] == [[]]
    assert files['2.json']['pairs'] == []


def test_report_without_samples_replaces_an_earlier_one(archives, tmp_path, capsys):
    common = [f'-g={archives[0]}', f'-s={archives[1]}', f'-o={tmp_path}']
    assert main(common) == 0
    assert main(common + ['-p={"PER_SAMPLE_RESULTS":false}']) == 0
    assert list(report(str(tmp_path))) == ['method.json']
    assert capsys.readouterr().out.count('Calculated!') == 2


def test_report_of_ltrb_boxes_has_their_four_numbers(make_zip, tmp_path):
    gt = make_zip('gt.zip', {'gt_img_1.txt': '1,2,30,40,word'})
    results = make_zip('res.zip', {'res_img_1.txt': '1,2,30,41'})
    assert main([f'-g={gt}', f'-s={results}', f'-o={tmp_path}', '-p={"LTRB":true}']) == 0
    sample = report(str(tmp_path))['1.json']
    assert (sample['gtPolPoints'], sample['detPolPoints']) == ([[1, 2, 30, 40]], [[1, 2, 30, 41]])


def test_report_leaves_out_the_iou_matrix_of_many_detections(make_zip, archives, tmp_path):
    results = make_zip('many.zip', {'res_img_1.txt': f'{BOX}\n' * 101})
    assert main([f'-g={archives[0]}', f'-s={results}', f'-o={tmp_path}']) == 0
    assert report(str(tmp_path))['1.json']['iouMat'] == []


def test_report_leaves_out_the_iou_matrix_of_very_many_regions(make_zip, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, 'MAX_IOU_CELLS', 3)
    gt = make_zip('gt.zip', {'gt_img_1.txt': f'{BOX},a\n' * 2, 'gt_img_2.txt': f'{BOX},a\n' * 3})
    results = make_zip('res.zip', {'res_img_1.txt': f'{BOX}\n' * 2, 'res_img_2.txt': f'{BOX}\n'})
    assert main([f'-g={gt}', f'-s={results}', f'-o={tmp_path}']) == 0
    samples = report(str(tmp_path))
    assert (samples['1.json']['iouMat'], samples['2.json']['iouMat']) == ([], [[1.0]] * 3)


def test_report_does_not_replace_what_is_scored(script, archives, tmp_path):
    shutil.move(archives[1], str(tmp_path / 'results.zip'))
    before = (tmp_path / 'results.zip').read_bytes()
    sentence = refused(run(script, f'-g={archives[0]}', '-s=results.zip', '-o=.',
                           cwd=str(tmp_path)))
    assert 'would overwrite' in sentence
    assert (tmp_path / 'results.zip').read_bytes() == before


def test_report_that_cannot_be_written(script, archives, tmp_path):
    (tmp_path / 'taken').write_text('a file')
    sentence = refused(run(script, f'-g={archives[0]}', f'-s={archives[1]}',
                           f'-o={tmp_path}/taken'))
    assert 'cannot write the report' in sentence


@pytest.mark.parametrize('arguments, message', [
    ([], 'required: -g/--gt, -s/--submission'),
    (['-g={gt}'], 'required: -s/--submission'),
    (['-g={gt}', '-s={res}', '-x=1'], 'unrecognized arguments: -x=1'),
    (['-g={gt}', '-s={res}', '-p'], 'expected one argument'),
    (['-g={gt}', '-s={res}', '-p=nonsense'], "-p='nonsense' is not valid JSON"),
    (['-g={gt}', '-s={res}', '-p={{"IOU":1}}'], "-p has no parameter 'IOU'"),
    (['-g=missing.zip', '-s={res}'], 'the archive missing.zip does not exist'),
    (['-g={gt}', '-s=missing.zip'], 'the archive missing.zip does not exist'),
    (['-g=.', '-s={res}'], 'the archive . is not a file'),
    (['-g={res}', '-s={res}'], 'res.zip has no ground truth'),
    (['-g={gt}', '-s={gt}'], "gt.zip, entry 'gt_img_1.txt': the name does not match"),
])
def test_wrong_usage(script, archives, arguments, message):
    filled = [argument.format(gt=archives[0], res=archives[1]) for argument in arguments]
    assert message in refused(run(script, *filled))


def test_not_a_zip(script, archives, tmp_path):
    (tmp_path / 'a.zip').write_text('no archive')
    assert 'is not a valid zip archive' in refused(
        run(script, f'-g={archives[0]}', f'-s={tmp_path}/a.zip'))


@pytest.mark.parametrize('entries, message', [
    ({'res_img_1.txt': f'{BOX}\n1,2,3'}, "res.zip, entry 'res_img_1.txt', line 2: expected"),
    ({'res_img_1.txt': '0,10,10,10,10,0,0,0'}, 'line 1: the points are counter-clockwise'),
    ({'res_img_1.txt': '0.5,0,10,0,10,10,0,10'}, 'line 1: expected'),
    ({'res_img_1.txt': b'\xff\xfe1'}, "entry 'res_img_1.txt', line 1: not UTF-8"),
    ({'res_img_3.txt': BOX}, 'has no sample 3'),
    ({'../res_img_1.txt': BOX}, "entry '../res_img_1.txt': the name does not match"),
    ({'\x1b[2J.txt': BOX}, r"entry '\x1b[2J.txt'"),
])
def test_bad_results(archives, make_zip, capsys, entries, message):
    assert main([f'-g={archives[0]}', '-s=' + make_zip('res.zip', entries)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ''
    assert message in printed.err


def test_empty_results(archives, make_zip):
    assert score_archives(archives[0], make_zip('empty.zip', {})).score == (0, 0, 0, 0)


def test_the_reference_submission_scores_what_it_should_to_the_last_digit(
        script, icdar_dir, shared_dir):
    fixtures = shared_dir / 'fixtures'
    result = run(script, f'-g={icdar_dir}/gt.zip', f'-s={fixtures}/score_submission.zip')
    assert result.stdout.splitlines()[1] == (fixtures / 'score_expected.json').read_text().strip()


def test_official_ground_truth_against_itself(icdar_dir, tmp_path):
    as_results = str(tmp_path / 'results.zip')
    with zipfile.ZipFile(str(icdar_dir / 'gt.zip')) as gt, zipfile.ZipFile(as_results, 'w') as out:
        for name in gt.namelist():
            lines = gt.read(name).decode('utf-8-sig').splitlines()
            out.writestr(name.replace('gt_', 'res_'),
                         '\n'.join(','.join(line.split(',')[:8]) for line in lines))
    assert score_archives(str(icdar_dir / 'gt.zip'), as_results).score == (1, 1, 1, 0)


def test_official_images_of_another_part_are_refused(icdar_dir, shared_dir):
    with pytest.raises(ProtocolError, match='the ground truth has no sample 101'):
        score_archives(str(icdar_dir / 'gt_first100.zip'),
                       str(shared_dir / 'fixtures' / 'score_submission.zip'))


def page(count, form):
    """A page of words side by side, a line each."""
    return '\n'.join(form.format(x, y, x + 18, y + 8) for x, y in (
        (20 * (word % 100), 10 * (word // 100)) for word in range(count)))


def test_pages_of_many_words(make_zip):
    """600 pages of 150 words each, and one page of 3,600 words."""
    pages = {**{f'img_{number}': 150 for number in range(1, 601)}, 'img_601': 3600}
    gt = make_zip('gt.zip', {f'gt_{name}.txt': page(count, '{0},{1},{2},{1},{2},{3},{0},{3},word')
                             for name, count in pages.items()})
    results = make_zip('res.zip', {f'res_{name}.txt': page(count, '{0},{1},{2},{1},{2},{3},{0},{3}')
                                   for name, count in pages.items()})
    assert score_archives(gt, results).score == (1, 1, 1, 0)


def test_images_of_any_name(make_zip):
    gt = make_zip('gt.zip', {'gt_holiday.txt': f'{BOX},word', 'gt_menu.txt': f'{BOX},word'})
    results = make_zip('res.zip', {'res_holiday.txt': BOX})
    assert score_archives(gt, results).score[:2] == (1, 0.5)


def test_rectangles_against_quads(make_zip):
    gt = make_zip('gt.zip', {'gt_img_1.txt': '0, 0, 10, 10, "word"'})
    assert score_archives(gt, make_zip('res.zip', {'res_img_1.txt': BOX})).score.hmean == 1


def test_the_script_column_of_mlt(make_zip):
    gt = make_zip('gt.zip', {'gt_img_1.txt': f'{BOX},Latin,word\n50,0,60,0,60,10,50,10,Latin,###'})
    assert score_archives(gt, make_zip('res.zip', {'res_img_1.txt': BOX})).score.recall == 1


def test_a_hundred_thousand_boxes_take_seconds(make_zip):
    boxes = (f'{x},{y},{x + 50},{y},{x + 50},{y + 20},{x},{y + 20}'
             for x in range(0, 2000, 5) for y in range(0, 1000, 4))
    results = make_zip('many.zip', {'res_img_1.txt': '\n'.join(boxes)})
    gt = make_zip('gt.zip', {'gt_img_1.txt': ''.join(
        f'{x},0,{x + 50},0,{x + 50},20,{x},20,word\n' for x in range(0, 2000, 50))})
    start = time.process_time()
    score = score_archives(gt, results).score
    assert (score.recall, score.precision) == (1.0, 40 / 100000)
    assert time.process_time() - start < 30

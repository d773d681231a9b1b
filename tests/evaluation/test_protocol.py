"""Lines of ground truth and results: what is read, what is refused and how the error names it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import protocol
from evaluation.parameters import DEFAULT_PARAMETERS, ProtocolError
from evaluation.protocol import (
    parse_detections,
    parse_ground_truth,
    read_detections,
    read_ground_truth,
    with_names_of,
)
from utils.data_provider.annotation import MLT_SCRIPTS

BOX = '0,0,10,0,10,5,0,5'
QUAD = [[0, 0], [10, 0], [10, 5], [0, 5]]


def regions(text, **parameters):
    return parse_ground_truth(text, 'gt', DEFAULT_PARAMETERS._replace(**parameters))


def found(text, **parameters):
    return parse_detections(text, 'res', DEFAULT_PARAMETERS._replace(**parameters))


def test_a_line_of_ground_truth():
    sample = regions('1,2,30,4,50,60,7,80,word')
    assert sample.quads.dtype == np.int64
    assert sample.quads.tolist() == [[[1, 2], [30, 4], [50, 60], [7, 80]]]
    assert sample.ignore_tags.tolist() == [False]


@pytest.mark.parametrize('transcription, ignored', [
    ('###', True), ('"###"', True), ('####', False), ('#', False), (' ###', False), ('*', False),
    ('', False), ('a,b,###', False), ('###,', False), ('"', False), ('字,1,2', False),
    ('Latin,###', True), ('None,###', True), ('Latin,word', False), ('Symbols,?', False),
    ('1,"###"', True), ('0,"###"', True), ('1,"word"', True), ('0,"word"', False)])
def test_do_not_care(transcription, ignored):
    assert regions(f'{BOX},{transcription}').ignore_tags.tolist() == [ignored]


def test_columns_of_a_text_that_look_like_rctws_by_chance():
    assert regions(f'{BOX},1,"word"\n{BOX},word').ignore_tags.tolist() == [False, False]


def test_polygons_are_refused_and_numbers_are_a_text():
    assert len(regions(f'{BOX},105,100,000').quads) == 1
    with pytest.raises(ProtocolError, match=r'^gt, line 2: a polygon of more than four points'):
        regions(f'{BOX},word\n{BOX},7,7,0,7,word\n')


def test_the_scripts_of_mlt_are_those_of_training():
    for script in MLT_SCRIPTS:
        assert regions(f'{BOX},{script},###').ignore_tags.all()


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('last_end', [True, False])
def test_line_ends_and_empty_lines(end, last_end):
    text = end.join([f'{BOX},a', '', f'{BOX},###', '']) if last_end else end.join(
        ['', f'{BOX},a', f'{BOX},###'])
    assert regions(text).ignore_tags.tolist() == [False, True]
    boxes = text.replace(',a', '').replace(',###', '')
    assert len(found(boxes).quads) == 2


@pytest.mark.parametrize('text', ['', '\n', '\r\n\r\n'])
def test_nothing(text):
    assert regions(text).quads.shape == (0, 4, 2)
    assert regions(text).ignore_tags.shape == (0,)
    assert found(text).quads.shape == (0, 4, 2)
    assert found(text, CONFIDENCES=True).confidences.shape == (0,)
    assert found(text, LTRB=True).quads.shape == (0, 4, 2)


def test_spaces_and_signs():
    assert found(' -1 ,\t-2, 30 ,4,50,60,-7,80 ').quads[0].tolist() == [
        [-1, -2], [30, 4], [50, 60], [-7, 80]]


@pytest.mark.parametrize('line', [
    '1,2,3', f'{BOX},word', f'{BOX},', f'{BOX},1', '0.0,0,10,0,10,5,0,5', '1e3,0,10,0,10,5,0,5',
    'nan,0,10,0,10,5,0,5', '0 0 10 0 10 5 0 5', 'x', ' ', '\t', '0,0,10,0,10,5,0,',
    '+1,0,9,0,9,9,0,9',
    '1_0,0,10,0,10,5,0,5', '\u0661,0,10,0,10,5,0,5', '0,0,12345678,0,12345678,5,0,5',
    '0,0,10,0\r,10,5,0,5', '\0', '\ufeff' + BOX, '0;0;10;0;10;5;0;5'])
def test_result_lines_of_another_form(line):
    with pytest.raises(ProtocolError) as error:
        found(f'{BOX}\n\n{line}\n{BOX}\n')
    assert str(error.value).startswith('res, line 3: expected x1,y1,x2,y2,x3,y3,x4,y4 with integer')
    assert repr(line.rstrip())[1:-1] in str(error.value)


@pytest.mark.parametrize('line', [BOX, '0,0,10,5,word', '0,0,10,0,10,5.5,0,5,word', 'word'])
def test_ground_truth_lines_of_another_form(line):
    with pytest.raises(ProtocolError, match=r'^gt, line 2: expected x1,.*,y4,transcription with'):
        regions(f'{BOX},ok\r\n{line}\r\n')


def test_a_long_line_is_not_repeated_in_full():
    with pytest.raises(ProtocolError) as error:
        found('1' * 10000000)
    assert len(str(error.value)) < 300


def test_counter_clockwise_points_are_refused_with_their_line():
    reverse = '0,5,10,5,10,0,0,0'
    with pytest.raises(ProtocolError, match=rf"^res, line 3: .*counter-clockwise.*'{reverse}'"):
        found(f'{BOX}\r\n\r\n{reverse}\r\n{reverse}\r\n')
    with pytest.raises(ProtocolError, match=r'^gt, line 1: .*counter-clockwise'):
        regions(f'{reverse},word')


@pytest.mark.parametrize('line', [
    '5,5,5,5,5,5,5,5', '0,0,10,10,5,5,2,2', '0,0,10,10,10,0,0,10', BOX])
def test_points_without_direction_are_accepted(line):
    assert len(found(line).quads) == 1


def test_ltrb():
    assert found('1,2,30,40', LTRB=True).quads.tolist() == [[[1, 2], [30, 2], [30, 40], [1, 40]]]
    sample = regions('1,2,30,40,a,b\n5,5,5,5,###', LTRB=True)
    assert sample.quads[0].tolist() == [[1, 2], [30, 2], [30, 40], [1, 40]]
    assert sample.ignore_tags.tolist() == [False, True]


@pytest.mark.parametrize('text', [
    '1, 2, 30, 40, "word"\n5, 5, 6, 6, "###"', '1,2,30,40,word\r\n5,5,6,6,###\r\n',
    '1 2 30 40 "a, b"\n5 5 6 6 "###"', '1, 2, 30, 40, "1,000"\n5, 5, 6, 6, ###'])
def test_rectangles_of_icdar2013_as_ground_truth(text):
    sample = regions(text)
    assert sample.quads.tolist()[0] == [[1, 2], [30, 2], [30, 40], [1, 40]]
    assert sample.ignore_tags.tolist() == [False, True]


@pytest.mark.parametrize('text', [
    '1,2,30,40,word\n0,0,10,0,10,5,0,5,word', '0,0,10,0,10.5,5,0,5,word', '0,0,10,0,10,5,0,word'])
def test_faulty_points_are_no_rectangles(text):
    with pytest.raises(ProtocolError, match='expected x1'):
        regions(text)


def test_rectangles_in_the_wrong_order():
    with pytest.raises(ProtocolError, match=r'^gt, line 1: left must not exceed right'):
        regions('30, 2, 1, 40, "word"')


@pytest.mark.parametrize(('names', 'pattern'), [
    (['gt_img_1.txt', 'gt_img_2.txt', 'readme.txt'], r'gt_img_([0-9]+)\.txt'),
    (['gt_holiday.txt'], r'gt_(.+)\.txt'), (['gt_img_1.txt', 'gt_holiday.txt'], r'gt_(.+)\.txt')])
def test_patterns_follow_from_the_names_of_the_ground_truth(make_zip, names, pattern):
    path = make_zip('gt.zip', dict.fromkeys(names, ''))
    parameters = with_names_of(path, DEFAULT_PARAMETERS)
    assert pattern == parameters.GT_SAMPLE_NAME_2_ID
    assert pattern.replace('gt_', 'res_') == parameters.DET_SAMPLE_NAME_2_ID
    given = DEFAULT_PARAMETERS._replace(GT_SAMPLE_NAME_2_ID='(.+)')
    assert with_names_of(path, given) == given


@pytest.mark.parametrize('line', ['30,2,1,40', '1,40,30,2'])
def test_ltrb_in_the_wrong_order(line):
    with pytest.raises(ProtocolError, match=r'^res, line 2: left must not exceed right'):
        found(f'0,0,1,1\n{line}', LTRB=True)


def test_ltrb_does_not_take_quads():
    with pytest.raises(ProtocolError, match='expected left,top,right,bottom with integer'):
        found(BOX, LTRB=True)


def test_crlf_can_be_demanded():
    assert len(found(f'{BOX}\r\n{BOX}\r\n', CRLF=True).quads) == 2
    assert len(found(f'{BOX}\r\n{BOX}', CRLF=True).quads) == 2
    with pytest.raises(ProtocolError, match=r'^res, line 2: .*ending in CRLF'):
        found(f'{BOX}\r\n{BOX}\n{BOX}\r\n', CRLF=True)
    with pytest.raises(ProtocolError, match=r'^gt, line 1: .*ending in CRLF'):
        regions(f'{BOX},a\n{BOX},b\n', CRLF=True)


@pytest.mark.parametrize('text, value', [
    ('0', 0), ('1', 1), ('0.5', 0.5), ('.25', 0.25), ('1.', 1), ('1e-05', 1e-5), (' 0.75 ', 0.75),
    ('1.000', 1), ('0.1234567890123', 0.1234567890123)])
def test_confidences(text, value):
    sample = found(f'{BOX},{text}', CONFIDENCES=True)
    assert sample.confidences.dtype == np.float64
    assert sample.confidences.tolist() == [value]
    assert sample.quads.tolist() == [QUAD]


@pytest.mark.parametrize('text', ['', 'x', '-0.1', 'nan', 'inf', '0,5', '1e', '.'])
def test_what_is_no_confidence(text):
    with pytest.raises(ProtocolError, match=r'^res, line 1: expected .*,y4,confidence with'):
        found(f'{BOX},{text}', CONFIDENCES=True)


@pytest.mark.parametrize('text', ['1.01', '2', '1e300', '9e999'])
def test_confidences_above_1(text):
    with pytest.raises(ProtocolError, match=r'^res, line 2: the confidence must be from 0 to 1'):
        found(f'{BOX},1\n{BOX},{text}', CONFIDENCES=True)


def test_confidences_are_1_without_the_parameter():
    assert found(BOX).confidences.tolist() == [1]
    with pytest.raises(ProtocolError, match='expected'):
        found(f'{BOX},0.5')


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='0123456789-,.eE \t\r\n#"a\0\ufeff', max_size=80),
       st.booleans(), st.booleans(), st.booleans())
def test_any_text_is_read_or_refused(text, ltrb, crlf, confidences):
    parameters = {'LTRB': ltrb, 'CRLF': crlf, 'CONFIDENCES': confidences}
    for parse in (regions, found):
        try:
            sample = parse(text, **parameters)
        except ProtocolError:
            continue
        assert len(sample.quads) == sum(bool(line.strip('\r')) for line in text.split('\n'))


def test_archives(make_zip):
    gt = make_zip('gt.zip', {'gt_img_1.txt': f'{BOX},a', 'gt_img_2.txt': '', 'notes.md': 'x'})
    results = make_zip('res.zip', {'res_img_1.txt': f'{BOX}\n{BOX}'})
    ground_truth = read_ground_truth(gt, DEFAULT_PARAMETERS)
    assert {key: len(value.quads) for key, value in ground_truth.items()} == {'1': 1, '2': 0}
    detections = read_detections(results, DEFAULT_PARAMETERS, ground_truth)
    assert {key: len(value.quads) for key, value in detections.items()} == {'1': 2}


def test_names_of_samples_can_be_changed(make_zip):
    gt = make_zip('gt.zip', {'a.gt': f'{BOX},a'})
    parameters = DEFAULT_PARAMETERS._replace(GT_SAMPLE_NAME_2_ID=r'(.*)\.gt',
                                             DET_SAMPLE_NAME_2_ID=r'(.*)\.res')
    ground_truth = read_ground_truth(gt, parameters)
    assert list(ground_truth) == ['a']
    results = make_zip('res.zip', {'a.res': BOX})
    assert list(read_detections(results, parameters, ground_truth)) == ['a']


def test_errors_name_archive_entry_and_line(make_zip):
    gt = make_zip('gt.zip', {'gt_img_1.txt': f'{BOX},a\n1,2,3\n'})
    with pytest.raises(ProtocolError, match=r"gt\.zip, entry 'gt_img_1\.txt', line 2: expected"):
        read_ground_truth(gt, DEFAULT_PARAMETERS)


def test_ground_truth_without_samples(make_zip):
    with pytest.raises(ProtocolError, match='has no ground truth'):
        read_ground_truth(make_zip('gt.zip', {'gt.txt': ''}), DEFAULT_PARAMETERS)


def test_results_of_an_unknown_sample(make_zip):
    results = make_zip('res.zip', {'res_img_7.txt': ''})
    with pytest.raises(ProtocolError, match=r"'res_img_7\.txt': the ground truth has no sample 7"):
        read_detections(results, DEFAULT_PARAMETERS, {'1': regions('')})


def test_results_that_would_take_for_ever(make_zip, monkeypatch):
    monkeypatch.setattr(protocol, 'MAX_PAIRS', 5)  # of each sample
    ground_truth = {'1': regions(f'{BOX},a\n{BOX},b'), '2': regions(f'{BOX},a')}
    fine = {'res_img_1.txt': f'{BOX}\n{BOX}', 'res_img_2.txt': '\n'.join([BOX] * 5)}
    assert len(read_detections(make_zip('a.zip', fine), DEFAULT_PARAMETERS, ground_truth)) == 2
    more = dict(fine, **{'res_img_1.txt': '\n'.join([BOX] * 3)})
    with pytest.raises(ProtocolError, match=r"'res_img_1\.txt': 3 boxes are too many for 2 reg"):
        read_detections(make_zip('b.zip', more), DEFAULT_PARAMETERS, ground_truth)

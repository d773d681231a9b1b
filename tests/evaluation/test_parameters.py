"""What -p takes, and what it says to everything else."""

import pytest

from evaluation.parameters import DEFAULT_PARAMETERS, ProtocolError, parse_parameters, shown


def test_defaults_are_those_of_the_protocol():
    assert parse_parameters(None)._asdict() == {
        'IOU_CONSTRAINT': 0.5, 'AREA_PRECISION_CONSTRAINT': 0.5,
        'GT_SAMPLE_NAME_2_ID': r'gt_img_([0-9]+)\.txt',
        'DET_SAMPLE_NAME_2_ID': r'res_img_([0-9]+)\.txt',
        'LTRB': False, 'CRLF': False, 'CONFIDENCES': False, 'PER_SAMPLE_RESULTS': True}


def test_named_parameters_replace_defaults():
    parameters = parse_parameters('{"IOU_CONSTRAINT": 0.7, "LTRB": true}')
    assert parameters == DEFAULT_PARAMETERS._replace(IOU_CONSTRAINT=0.7, LTRB=True)
    assert parse_parameters('{}') == DEFAULT_PARAMETERS
    assert parse_parameters('{"IOU_CONSTRAINT": 1}').IOU_CONSTRAINT == 1


@pytest.mark.parametrize('text, message', [
    ('', 'not valid JSON'),
    ('{"IOU_CONSTRAINT": 0.5', 'not valid JSON'),
    ('IOU_CONSTRAINT=0.5', 'not valid JSON'),
    ('[' * 100000, 'not valid JSON'),
    ('[0.5]', 'not a JSON object'),
    ('0.5', 'not a JSON object'),
    ('null', 'not a JSON object'),
    ('{"IOU": 0.5}', "no parameter 'IOU'"),
    ('{"iou_constraint": 0.5}', 'available are IOU_CONSTRAINT'),
    ('{"IOU_CONSTRAINT": "0.5"}', 'IOU_CONSTRAINT must be a number from 0 to 1'),
    ('{"IOU_CONSTRAINT": 1.5}', 'from 0 to 1'),
    ('{"IOU_CONSTRAINT": -0.1}', 'from 0 to 1'),
    ('{"IOU_CONSTRAINT": NaN}', 'from 0 to 1'),
    ('{"IOU_CONSTRAINT": true}', 'from 0 to 1'),
    ('{"AREA_PRECISION_CONSTRAINT": null}', 'AREA_PRECISION_CONSTRAINT must be a number'),
    ('{"LTRB": 1}', 'LTRB must be true or false'),
    ('{"CRLF": "yes"}', 'CRLF must be true or false'),
    ('{"GT_SAMPLE_NAME_2_ID": "gt_[0-9]+"}', 'GT_SAMPLE_NAME_2_ID must be a regular expression'),
    ('{"DET_SAMPLE_NAME_2_ID": "res_("}', 'DET_SAMPLE_NAME_2_ID must be a regular expression'),
    ('{"DET_SAMPLE_NAME_2_ID": 7}', 'be a regular expression whose first group is the sample id'),
])
def test_everything_else_is_refused_by_name(text, message):
    with pytest.raises(ProtocolError) as error:
        parse_parameters(text)
    assert message in str(error.value)
    assert '\n' not in str(error.value)
    assert len(str(error.value)) < 400


def test_shown_text_is_escaped_and_cut():
    assert shown('a\x1b[2J') == r"'a\x1b[2J'"
    assert shown('字') == "'字'"
    assert shown('x' * 500) == "'" + 'x' * 80 + "'..."

"""Lines of every kind that is found in the wild, and an AnnotationError for every other."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from utils.data_provider.annotation import (
    Annotation,
    AnnotationError,
    read_icdar,
    read_icdar2013,
    read_icdar2015,
)

RECTANGLE = [[10, 20], [50, 20], [50, 40], [10, 40]]


@pytest.fixture
def read(tmp_path):
    """read(content, reader=read_icdar): the annotation in a file of this text, or these bytes."""
    path = tmp_path / 'gt_img_1.txt'

    def read_content(content, reader=read_icdar):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return reader(str(path))
    return read_content


def test_a_quadrilateral(read):
    annotation = read('377,117,463,117,465,130,378,130,Genaxis Theatre\n')
    polygon, = annotation.polygons
    np.testing.assert_array_equal(polygon, [[377, 117], [463, 117], [465, 130], [378, 130]])
    assert polygon.dtype == np.float32
    assert annotation.ignore_tags.tolist() == [False]
    assert annotation.ignore_tags.dtype == np.bool_


def test_byte_order_mark_and_line_ends(read):
    line = b'1,1,9,1,9,5,1,5,a'
    for content in (b'\xef\xbb\xbf' + line + b'\r\n\r\n' + line,
                    line + b'\r' + line,
                    b'\xef\xbb\xbf' + line + b'\n\xef\xbb\xbf' + line + b'\n\n'):
        assert len(read(content).polygons) == 2


def test_lines_are_counted_as_an_editor_does(read):
    annotation = read('1,1,9,1,9,5,1,5,a\n\n1,1,9,1,9,5,1,5,b\u2028c\x0bd\n1,1,9,1,9,5,1,5,e\n')
    assert annotation.lines == [1, 3, 4]


def test_an_empty_file_has_no_regions(read):
    annotation = read(b'\xef\xbb\xbf')
    assert annotation.polygons == []
    assert annotation.ignore_tags.shape == (0,)


@pytest.mark.parametrize(('text', 'ignored'), [
    ('###', True), ('*', True), ('?', True), (' ### ', True), ('"###"', True), ('"*"', True),
    ('####', False), ('', False), ('###,', False), ('a,###', False), ('Latin, a', False),
    ('100,000', False), ('Latin,###', True), ('None,###', True), ('Symbols,?', False),
    ('Latin', False), ('Greek,###', False), ('#05-11', False),
])
def test_what_is_ignored(read, text, ignored):
    assert read(f'1,1,9,1,9,5,1,5,{text}').ignore_tags.tolist() == [ignored]
    assert read(f'1,1,9,5,{text}', read_icdar2013).ignore_tags.tolist() == [ignored]


def test_a_quadrilateral_without_a_text_counts(read):
    assert read('1,1,9,1,9,5,1,5').ignore_tags.tolist() == [False]


def test_a_file_of_rctw(read):
    quad = '1,1,9,1,9,5,1,5'
    lines = [f'{quad},0,"word"', f'{quad},1,"word"', f'{quad},0,"###"', f'{quad},1,"###"']
    assert read('\n'.join(lines)).ignore_tags.tolist() == [False, True, True, True]
    # By chance, in a file of another form.
    assert not read(f'{quad},1,"word"\n{quad},word').ignore_tags.any()


def test_numbers_that_are_a_text(read):
    lines = ['1,1,9,1,9,5,1,5,105,100,000', '1,1,9,1,9,5,1,5,1']
    np.testing.assert_array_equal(read('\n'.join(lines)).polygons,
                                  [[[1, 1], [9, 1], [9, 5], [1, 5]]] * 2)


@pytest.mark.parametrize('line', [
    '10,20,50,40', '10,20,50,40,text', '10, 20, 50, 40, "a, b"', '10 20 50 40 "Footpath"',
    '10,20,50,40,1984', '10,20,50,40,', '10.0,20,5e1,40,###',
])
def test_a_rectangle(read, line):
    np.testing.assert_array_equal(read(line).polygons, [RECTANGLE])


def test_a_numeric_text_is_understood_from_the_rest_of_the_file(read):
    annotation = read('10,20,50,40,text\n10,20,50,40,100,000\n10,20,50,40,1,2,3\n')
    np.testing.assert_array_equal(annotation.polygons, [RECTANGLE] * 3)


def test_rectangles_and_quadrilaterals_in_one_file(read):
    annotation = read('10,20,50,40,text\n1,1,9,1,9,5,1,5,a\n')
    np.testing.assert_array_equal(annotation.polygons,
                                  [RECTANGLE, [[1, 1], [9, 1], [9, 5], [1, 5]]])


def test_a_format_that_is_given_is_not_guessed(read):
    line = '10,20,50,40,1,2,3,4'
    np.testing.assert_array_equal(read(line, read_icdar2013).polygons, [RECTANGLE])
    assert len(read(line, read_icdar2015).polygons) == 1
    with pytest.raises(AnnotationError, match='begins with 4 numbers'):
        read('10,20,50,40,text', read_icdar2015)


@pytest.mark.parametrize(('content', 'line', 'message'), [
    ('1,1,9,1,9,5,text', 1, 'begins with 6 numbers'),
    ('1,1,9,1,9,5', 1, 'begins with 6 numbers'),
    ('1,1,9,1,9,5,1', 1, 'begins with 7 numbers'),
    ('1,1,9,1,9,5,1,5,a\n1,1,9,1,9,text', 2, 'begins with 5 numbers'),
    ('\n1,2,3', 2, 'begins with 3 numbers'),
    ('1,1,9,5,a\nhello', 2, 'begins with 0 numbers'),
    ('x1,y1,x2,y2', 1, 'begins with 0 numbers'),
    ('1_0,1,9,5', 1, 'begins with 0 numbers'),
    ('1' * 10 ** 6, 1, 'begins with 0 numbers'),
    ('1,1,9,1,9,5,1,5,1,1,9,1', 1, 'begins with 12 numbers, a polygon of 6 points'),
    ('1,1,9,1,9,5,1,5,a\n' + '7,' * 14 + 'text', 2, 'with 14 numbers, a polygon of 7 points'),
    ('7,' * 31 + '7', 1, 'begins with 32 numbers, the format of CTW1500'),
    ('7,' * 12 + '7', 1, 'begins with 13 numbers, a polygon and a number'),
    ('1,1,nan,1,9,5,1,5,a', 1, 'not finite'),
    ('1,1,9,1,9,5,1,-inf,a', 1, 'not finite'),
    ('1,1e300,9,1,9,5,1,5,a', 1, 'exceeds'),
    ('1,1,9,-1e7', 1, 'exceeds'),
    (b'1,1,9,1,9,5,1,5,a\n1,1,9,1,9,5,1,5,\xd6\xd0', 2, 'not UTF-8'),
    ('1,1,9,5\n'.encode('utf-16'), 1, 'not UTF-8'),
    ('1,1,9,5\n'.encode('utf-16-le'), 1, 'NUL'),
    (b'1,1,9,5\n1,1,9\0,5', 2, 'NUL'),
], ids=repr)
def test_errors_name_the_file_and_the_line(read, content, line, message):
    with pytest.raises(AnnotationError, match=rf'gt_img_1\.txt:{line}: .*{message}') as error:
        read(content)
    assert len(str(error.value)) < 400


def test_files_that_are_none(tmp_path):
    (tmp_path / 'directory.txt').mkdir()
    with pytest.raises(AnnotationError, match=r'directory\.txt: .*Is a directory'):
        read_icdar(str(tmp_path / 'directory.txt'))
    with pytest.raises(AnnotationError, match=r'none\.txt: .*No such file'):
        read_icdar(str(tmp_path / 'none.txt'))
    huge = tmp_path / 'huge.txt'
    huge.touch()
    os.truncate(str(huge), 2 ** 23)
    with pytest.raises(AnnotationError, match=r'huge\.txt: larger'):
        read_icdar(str(huge))


FIELDS = st.one_of(st.integers(-5, 2000).map(str), st.floats().map(str),
                   st.text(max_size=4), st.sampled_from(['###', '*', '\ufeff', '\0', '1e300']))
LINES = st.lists(FIELDS, max_size=11).map(','.join)
CONTENTS = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode),
                     st.lists(LINES, max_size=5).map(lambda lines: '\n'.join(lines).encode()))


@settings(max_examples=400, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONTENTS, st.sampled_from([read_icdar, read_icdar2013, read_icdar2015]))
@example(b'1,2,3,4,\xed\xa0\x80', read_icdar)
def test_any_content_is_read_or_refused(read, content, reader):
    try:
        annotation = read(content, reader)
    except AnnotationError as refused:
        annotation = refused
    if isinstance(annotation, AnnotationError):
        assert 'gt_img_1.txt' in str(annotation)
        return
    assert isinstance(annotation, Annotation)
    assert (len(annotation.polygons) == len(annotation.ignore_tags) == len(annotation.lines))
    for polygon in annotation.polygons:
        assert polygon.shape == (4, 2)
        assert np.isfinite(polygon).all()


def test_the_real_files(icdar_dir):
    annotations = [read_icdar(str(path)) for path in (icdar_dir / 'train').glob('*.txt')]
    assert len(annotations) == 1000
    assert sum(len(annotation.polygons) for annotation in annotations) == 11886
    assert sum(annotation.ignore_tags.sum() for annotation in annotations) == 7418

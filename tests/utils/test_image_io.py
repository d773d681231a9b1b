"""Images come back as stored, and every failure names its file."""

import contextlib
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from utils.errors import PSENetError
from utils.image_io import (
    ImageError,
    ImageTooLargeError,
    check_image,
    decode_image,
    list_images,
    read_image,
    read_image_header,
    read_image_size,
    write_image,
)
from utils.utils_tool import logger

_JPEG = cv2.imencode('.jpg', np.random.RandomState(1).randint(0, 256, (16, 24, 3)))[1].tobytes()


@pytest.fixture
def picture():
    """uint8 (20, 30, 3): every channel different."""
    return np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)


def test_png_round_trip_is_exact_whatever_the_path(tmp_path, picture):
    path = str(tmp_path / '文件 夹' / '图 é.PNG')
    os.mkdir(os.path.dirname(path))
    write_image(path, picture)
    np.testing.assert_array_equal(read_image(path), picture)


@pytest.mark.parametrize('stored', [
    np.full((4, 6), 7, np.uint8),
    np.dstack([np.full((4, 6, 3), 7, np.uint8), np.full((4, 6), 255, np.uint8)]),
    np.full((4, 6, 3), 7 * 257, np.uint16),
], ids=['grey', 'alpha', '16 bit'])
def test_every_depth_becomes_three_bytes(tmp_path, stored):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, stored)
    image = read_image(path)
    assert (image.dtype, image.shape) == (np.uint8, (4, 6, 3))
    assert (image == 7).all()
    half = read_image(path, halved=True)
    assert (half.dtype, half.shape) == (np.uint8, (2, 3, 3))
    assert (half == 7).all()


def with_orientation(jpeg, orientation):
    """A JPEG with an EXIF orientation."""
    # A TIFF directory with one entry: orientation (0x112), SHORT, one value.
    tiff = b'MM\0*' + struct.pack('>LHHHLHHL', 8, 1, 0x112, 3, 1, orientation, 0, 0)
    app1 = b'Exif\0\0' + tiff
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(app1) + 2) + app1 + jpeg[2:]


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied_on_demand(tmp_path, picture, orientation):
    path = tmp_path / 'turned.jpg'
    path.write_bytes(with_orientation(cv2.imencode('.jpg', picture)[1].tobytes(), orientation))
    by_opencv = cv2.imread(str(path), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_image(str(path), apply_exif_orientation=True), by_opencv)
    header = read_image_header(str(path))
    assert header.orientation == orientation
    assert header.size_as_read(apply_exif_orientation=True) == by_opencv.shape[:2]
    assert header.size_as_read(apply_exif_orientation=False) == header.size == (20, 30)
    half = read_image(str(path), halved=True, apply_exif_orientation=True)
    assert half.shape[:2] == tuple(side // 2 for side in by_opencv.shape[:2])


def test_exif_orientation_is_ignored(tmp_path, picture):
    turned = with_orientation(cv2.imencode('.jpg', picture)[1].tobytes(), 6)
    path = tmp_path / 'turned.jpg'
    path.write_bytes(turned)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (30, 20, 3)
    assert read_image(str(path)).shape == (20, 30, 3)
    assert read_image(str(path), halved=True).shape == (10, 15, 3)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
@pytest.mark.parametrize('extension', ['.png', '.webp', '.gif'])
def test_transparent_pixels_are_composed_onto_white(tmp_path, mode, extension):
    image = Image.new('RGBA', (8, 6), (200, 200, 200, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 6))
    path = tmp_path / f'image{extension}'
    if mode == 'P':
        image = image.convert('RGB').quantize(2)
        image.info['transparency'] = image.getpixel((0, 0))
        image.save(path, **({'lossless': True} if extension == '.webp' else {}),
                   transparency=image.info['transparency'])
    elif extension == '.webp':
        image.save(path, lossless=True)
    else:
        image.convert('RGBA' if extension == '.gif' else mode).save(path)
    read = read_image(str(path))
    assert (read[:, :4] == 255).all()
    assert (read[:, 4:] == 200).all()
    np.testing.assert_array_equal(decode_image(path.read_bytes(), 'one'), read)
    half = read_image(str(path), halved=True)
    assert half.shape == (3, 4, 3)
    assert (half[:, :2] == 255).all()


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.full((2, 2, 4), (0, 100, 200, 51), np.uint8))
    assert read_image(path)[0, 0].tolist() == [204, 224, 244]


@pytest.mark.parametrize('extension', ['.bmp', '.webp', '.tif', '.gif', '.jp2', '.ppm'])
def test_other_formats(tmp_path, extension):
    path = str(tmp_path / f'image{extension}')
    Image.new('RGB', (30, 20), (10, 200, 30)).save(path)
    assert list_images(str(tmp_path)) == [path]
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert (abs(image.astype(int) - (30, 200, 10)) < 8).all()


@pytest.mark.parametrize('content', [b'', b'not an image', b'\xff\xd8\xff\xe0\0\x10JFIF'],
                         ids=['empty', 'text', 'truncated'])
def test_undecodable_files_are_named(tmp_path, content):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r'broken\.jpg') as error:
        read_image(str(path))
    assert isinstance(error.value, PSENetError)


def huge(extension):
    """A file whose header speaks of 60000 x 60000 pixels."""
    data = bytearray(cv2.imencode(extension, np.zeros((16, 16), np.uint8))[1].tobytes())
    if extension == '.png':
        data[16:24] = struct.pack('>LL', 60000, 60000)
        data[29:33] = struct.pack('>L', zlib.crc32(data[12:29]))
    elif extension == '.bmp':
        data[18:26] = struct.pack('<ll', 60000, 60000)
    else:
        place = data.index(b'\xff\xc0') + 5
        data[place:place + 4] = struct.pack('>HH', 60000, 60000)
    return bytes(data)


@pytest.mark.parametrize('read', [read_image, read_image_size])
@pytest.mark.parametrize('content', [
    huge('.png'), huge('.jpg'), huge('.jpg').replace(b'\xff\xdb', b'\xff\xff\xdb', 1),
    huge('.bmp')],
    ids=['png', 'jpg', 'jpg with fill byte', 'bmp'])
def test_a_header_of_absurd_size_is_refused_before_anything_is_decoded(
        tmp_path, monkeypatch, content, read):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('was to be decoded'))
    path = tmp_path / 'huge.png'
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r'huge\.png has (60000 x 60000|more) pixels'):
        read(str(path))


def test_the_limit_of_pixels_is_the_caller_s(tmp_path, picture):
    path = str(tmp_path / 'image.png')
    write_image(path, picture)
    assert read_image(path, max_pixels=600).shape == (20, 30, 3)
    assert read_image_size(path, 600) == (20, 30)
    for read in (lambda: read_image(path, max_pixels=599), lambda: read_image_size(path, 599)):
        with pytest.raises(ImageError, match='30 x 20 pixels, more than the maximum of 599'):
            read()


def test_a_file_with_too_much_behind_its_header_is_refused(tmp_path, picture):
    path = str(tmp_path / 'image.png')
    write_image(path, picture)
    os.truncate(path, 2 ** 33)  # of holes
    with pytest.raises(ImageError, match='has 8589934592 bytes, more than any image of'):
        read_image(path)


def test_an_image_in_memory_is_decoded_as_one_in_a_file(tmp_path, picture):
    path = tmp_path / 'image.jpg'
    write_image(str(path), picture)
    data = path.read_bytes()
    np.testing.assert_array_equal(decode_image(data, 'one'), read_image(str(path)))
    assert check_image(data, 'one') == (20, 30)


@pytest.mark.parametrize('data, words', [
    (b'', 'the image that was sent is empty'), (b'text', 'cannot decode the image that was sent'),
    (_JPEG[:4], 'cannot decode the image that was sent'),
    (huge('.png'), 'that was sent has 60000 x 60000')])
def test_an_image_in_memory_is_refused_by_the_name_that_it_is_given(data, words):
    for look in (decode_image, check_image):
        with pytest.raises(ImageError, match=words) as error:
            look(data, 'that was sent')
        assert isinstance(error.value, ImageTooLargeError) == ('60000' in words)


def test_four_inks_become_three_colours(tmp_path):
    path = str(tmp_path / 'inks.jpg')
    Image.new('CMYK', (30, 20), (0, 255, 255, 0)).save(path)  # magenta and yellow make red
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert (abs(image.astype(int) - (0, 0, 255)) < 60).all()


def test_missing_files_and_directories_are_named(tmp_path):
    (tmp_path / 'directory.jpg').mkdir()
    with pytest.raises(ImageError, match=r'directory\.jpg: Is a directory'):
        read_image(str(tmp_path / 'directory.jpg'))
    with pytest.raises(ImageError, match=r'none\.jpg: No such file'):
        read_image(str(tmp_path / 'none.jpg'))


def test_writing_where_it_cannot_be_done(tmp_path, picture):
    with pytest.raises(ImageError, match='no encoder of'):
        write_image(str(tmp_path / 'image.xyz'), picture)
    with pytest.raises(ImageError, match='No such file'):
        write_image(str(tmp_path / 'none' / 'image.png'), picture)


def test_listing_is_sorted_and_takes_any_case(tmp_path):
    for name in ('b.JPG', 'a.jpeg', 'c.Png', 'a.txt', 'noext'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'sub.jpg').mkdir()
    assert list_images(str(tmp_path)) == [
        str(tmp_path / name) for name in ('a.jpeg', 'b.JPG', 'c.Png')]


def test_hidden_files_are_no_images_and_dangling_links_are(tmp_path):
    for name in ('._img_1.jpg', '.img_2.png', 'img_3.jpg'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'img_4.jpg').symlink_to('nowhere')
    found = list_images(str(tmp_path))
    assert found == [str(tmp_path / name) for name in ('img_3.jpg', 'img_4.jpg')]
    with pytest.raises(ImageError, match=r'img_4\.jpg: No such file'):
        read_image(found[1])


def test_one_image_may_be_named(tmp_path):
    (tmp_path / 'photo').write_bytes(b'')
    assert list_images(str(tmp_path / 'photo')) == [str(tmp_path / 'photo')]


def test_images_that_cannot_be_read_are_named(tmp_path, caplog):
    logger.addHandler(caplog.handler)
    for name in ('a.heic', 'b.AVIF', 'c.jpg', 'd.txt'):
        (tmp_path / name).write_bytes(b'')
    try:
        assert list_images(str(tmp_path)) == [str(tmp_path / 'c.jpg')]
    finally:
        logger.removeHandler(caplog.handler)
    assert 'unsupported image formats and are ignored: a.heic, b.AVIF' in caplog.text


def test_listing_nothing_is_one_sentence(tmp_path):
    with pytest.raises(ImageError, match='contains no image'):
        list_images(str(tmp_path))
    with pytest.raises(ImageError, match='No such file or directory'):
        list_images(str(tmp_path / 'missing'))


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.bmp'])
def test_size_without_decoding(tmp_path, picture, extension):
    path = str(tmp_path / ('image' + extension))
    write_image(path, picture)
    assert read_image_size(path) == (20, 30)


def test_size_of_a_jpeg_with_a_thumbnail_before_its_header(tmp_path, picture):
    jpeg, thumbnail = (cv2.imencode('.jpg', image)[1].tobytes() for image in (picture, picture[:8]))
    segment = b'\xff\xe2' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    path = tmp_path / 'thumbnail.jpg'
    path.write_bytes(jpeg[:2] + segment + jpeg[2:])
    assert read_image_size(str(path)) == read_image(str(path)).shape[:2] == (20, 30)


def test_size_of_a_progressive_jpeg(tmp_path, picture):
    path = tmp_path / 'progressive.jpg'
    path.write_bytes(cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    assert read_image_size(str(path)) == (20, 30)


def test_size_from_an_unusual_header(tmp_path, picture):
    jpeg = cv2.imencode('.jpg', picture)[1].tobytes()
    # A fill byte before the first marker is allowed (ITU-T T.81, B.1.1.2) and rare.
    path = tmp_path / 'filled.jpg'
    path.write_bytes(jpeg[:2] + b'\xff' + jpeg[2:])
    assert read_image_size(str(path)) == (20, 30)


@pytest.mark.parametrize('content', [
    b'', b'\x89PNG\r\n\x1a\n', b'\xff\xd8', b'\xff\xd8\xff\xc0\0\x11\x08'])
def test_size_of_what_has_none(tmp_path, content):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r'broken\.jpg'):
        read_image_size(str(path))
    with pytest.raises(ImageError, match=r'none\.jpg'):
        read_image_size(str(tmp_path / 'none.jpg'))


@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10 ** 6), st.integers(0, 255), st.integers(0, 10 ** 6))
def test_damaged_files_are_read_or_refused(tmp_path, place, byte, length):
    jpeg = bytearray(_JPEG)
    jpeg[place % len(jpeg)] = byte
    path = tmp_path / 'damaged.jpg'
    path.write_bytes(bytes(jpeg[:length % len(jpeg) + 1]))
    for read in (read_image, read_image_size):
        with contextlib.suppress(ImageError):
            read(str(path))

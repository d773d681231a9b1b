"""What exported models are tried on."""

import numpy as np
import pytest

from tools.exporting.comparison import find_images
from utils.errors import PSENetError
from utils.image_io import write_image

MANY = 10 ** 6


def test_without_a_folder_two_pictures_are_drawn_lying_and_standing():
    images, description = find_images('', 9, MANY)
    assert [image.shape for image in images] == [(448, 640, 3), (640, 448, 3)]
    assert all(image.dtype == np.uint8 and image.std() > 5 for image in images)
    assert description == '2 synthetic images'


def test_of_a_folder_the_first_images_are_taken(tmp_path):
    for number in (1, 2, 3):
        write_image(str(tmp_path / f'img_{number}.png'), np.full((8, 9, 3), number, np.uint8))
    images, description = find_images(str(tmp_path), 2, MANY)
    assert [image[0, 0, 0] for image in images] == [1, 2]
    assert description == f'2 images of {tmp_path}'


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / 'img_1.jpg').write_bytes(b'no image')
    with pytest.raises(PSENetError, match=r'img_1\.jpg'):
        find_images(str(tmp_path), 2, MANY)

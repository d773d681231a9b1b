"""Progressive scale expansion: kernels -> labels (PSENet, section 3.2).

The algorithm is in ``pse.cpp``, built for one Python with ``make -C pse PYTHON=...``. This module
checks the arguments, so that the C++ code receives only contiguous arrays of the right type. The
functions release the GIL.
"""

import operator
import os
import shlex
import sys
from typing import Tuple

import numpy as np

from utils.errors import PSENetError


class NotBuiltError(PSENetError, ImportError):
    """The extension module is missing or was built for another Python."""


try:
    from pse import _pse
except ImportError as _error:
    _FOLDER = shlex.quote(os.path.dirname(os.path.abspath(__file__)))
    raise NotBuiltError(
        f'the expansion is not built for this Python ({_error}); '
        f'build it with: make -C {_FOLDER} PYTHON={shlex.quote(sys.executable)}'
    ) from None

__all__ = ['pse', 'pse_from_scores', 'row_extents']


def pse(kernels: np.ndarray, min_area: int) -> Tuple[np.ndarray, np.ndarray]:
    """Expands the connected components of the smallest kernel through the larger ones.

    Seeds are the 4-connected components of the smallest kernel. They grow breadth-first over
    4-neighbours; a pixel gets the label that reaches it first, so touching texts stay separate.

    Args:
        kernels: uint8 or bool (K, H, W), K >= 1, largest kernel first; nonzero pixels belong to
            the kernel. Unchanged.
        min_area: seeds with fewer pixels are dropped; 0 and 1 keep all.

    Returns:
        labels: int32 (H, W); 0 is background.
        label_values: int32 (n,), 1..n, in row-major order of the seeds' first pixels.

    Raises:
        ValueError: kernels has another dtype or shape, or min_area is not an integer >= 0.
    """
    kernels = np.asarray(kernels)
    if kernels.dtype not in (np.uint8, np.bool_):
        raise ValueError(f'kernels must be uint8 or bool, not {kernels.dtype}')
    if kernels.ndim != 3 or kernels.shape[0] == 0:
        raise ValueError(f'kernels must have shape (K, H, W) with K >= 1, not {kernels.shape}')
    contiguous = np.ascontiguousarray(kernels).view(np.uint8)
    labels, count = _pse.expand_kernels(contiguous, _check_area(min_area))
    return labels, _label_values(count)


def pse_from_scores(
    score_maps: np.ndarray, threshold: float, min_area: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Thresholds score maps and expands the kernels, without an intermediate array.

    Equivalent to ``pse`` with the channels of ``score_maps > threshold`` as kernels.

    Args:
        score_maps: float32 (H, W, K), K >= 1, 0..1, smallest kernel first as predicted by the
            network. Unchanged.
        threshold: pixels with a higher score belong to a kernel; compared as float32.
        min_area: as in ``pse``.

    Returns:
        labels and label_values, as ``pse``.

    Raises:
        ValueError: score_maps has another dtype or shape, or min_area is not an integer >= 0.
    """
    score_maps = np.asarray(score_maps)
    if score_maps.dtype != np.float32:
        raise ValueError(f'score_maps must be float32, not {score_maps.dtype}')
    if score_maps.ndim != 3 or score_maps.shape[2] == 0:
        raise ValueError(
            f'score_maps must have shape (H, W, K) with K >= 1, not {score_maps.shape}'
        )
    contiguous = np.ascontiguousarray(score_maps)
    labels, count = _pse.expand_scores(contiguous, float(threshold), _check_area(min_area))
    return labels, _label_values(count)


def row_extents(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Lists the first and last column of each label in each of its rows.

    These few pixels have the same convex hull as all pixels of the label.

    Args:
        labels: int32 (H, W), values 0..num_labels; 0 is background.
        num_labels: the largest label.

    Returns:
        int32 (M, 4): label, row, first column, last column; sorted by label, then row.

    Raises:
        ValueError: labels has another dtype or shape, or a label outside 0..num_labels.
    """
    labels = np.asarray(labels)
    if labels.dtype != np.int32 or labels.ndim != 2:
        raise ValueError(f'labels must be int32 (H, W), not {labels.dtype} {labels.shape}')
    return _pse.row_extents(np.ascontiguousarray(labels), num_labels)


def _label_values(count: int) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.int32)


def _check_area(min_area: int) -> int:
    try:
        area = operator.index(min_area)
    except TypeError:
        raise ValueError(f'min_area must be an integer, not {min_area!r}') from None
    if area < 0:
        raise ValueError(f'min_area must be 0 or more, not {area}')
    # C++ counts in int64; no map has more pixels.
    return min(area, np.iinfo(np.int64).max)

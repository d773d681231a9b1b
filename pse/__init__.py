"""Progressive scale expansion: kernels -> labels (PSENet, section 3.2).

The algorithm is C++ in ``pse.cpp``, built for one Python with ``make -C pse PYTHON=...``. Here
the arguments are checked, so that the C++ sees nothing but contiguous arrays of the right type. The
functions release the interpreter's lock while they work.
"""

import operator
import os
import shlex
import sys
from typing import Tuple

import numpy as np

from utils.errors import PSENetError


class NotBuiltError(PSENetError, ImportError):
    """The extension module is missing, or was built for another Python."""


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
    """Grows the connected components of the smallest kernel through the larger ones.

    Seeds are the 4-connected components of the smallest kernel. Growth is breadth-first over
    4-neighbours; a pixel belongs to the label that reaches it first, so touching texts stay apart.

    Args:
        kernels: uint8 or bool (K, H, W), K >= 1, largest kernel first; a pixel that is not 0
            belongs to the kernel. Unchanged.
        min_area: seeds with fewer pixels are dropped; 0 and 1 keep all.

    Returns:
        labels: int32 (H, W); 0 is background.
        label_values: int32 (n,), ascending: 1..n, in row-major order of the seeds' first pixels.

    Raises:
        ValueError: for another type or shape of kernels, or a min_area that is not an integer >= 0.
    """
    kernels = np.asarray(kernels)
    if kernels.dtype not in (np.uint8, np.bool_):
        raise ValueError(f'kernels must be uint8 or bool, not {kernels.dtype}')
    if kernels.ndim != 3 or kernels.shape[0] == 0:
        raise ValueError(f'kernels must have shape (K, H, W) with K >= 1, not {kernels.shape}')
    contiguous = np.ascontiguousarray(kernels).view(np.uint8)
    labels, count = _pse.expand_kernels(contiguous, _checked_area(min_area))
    return labels, _label_values(count)


def pse_from_scores(
    score_maps: np.ndarray, threshold: float, min_area: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Thresholds score maps and expands the kernels without an array of kernels in between.

    Equal to ``pse`` on ``score_maps > threshold``, its channels taken as kernels.

    Args:
        score_maps: float32 (H, W, K), K >= 1, smallest kernel first (the network's order), 0..1.
            Unchanged.
        threshold: a pixel belongs to a kernel where its score is above this, compared as float32.
        min_area: as in ``pse``.

    Returns:
        labels and label_values, as ``pse`` does.

    Raises:
        ValueError: for another type or shape of score_maps, or a min_area that is not an
            integer >= 0.
    """
    score_maps = np.asarray(score_maps)
    if score_maps.dtype != np.float32:
        raise ValueError(f'score_maps must be float32, not {score_maps.dtype}')
    if score_maps.ndim != 3 or score_maps.shape[2] == 0:
        raise ValueError(
            f'score_maps must have shape (H, W, K) with K >= 1, not {score_maps.shape}'
        )
    contiguous = np.ascontiguousarray(score_maps)
    labels, count = _pse.expand_scores(contiguous, float(threshold), _checked_area(min_area))
    return labels, _label_values(count)


def row_extents(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Lists the first and last column of every label in every row that it touches.

    These pixels have the same convex hull as the whole label, and there are few of them.

    Args:
        labels: int32 (H, W), values 0..num_labels; 0 is background.
        num_labels: the largest label.

    Returns:
        int32 (M, 4): label, row, first column, last column; sorted by label, then row.

    Raises:
        ValueError: for another type or shape of labels, or a label outside 0..num_labels.
    """
    labels = np.asarray(labels)
    if labels.dtype != np.int32 or labels.ndim != 2:
        raise ValueError(f'labels must be int32 (H, W), not {labels.dtype} {labels.shape}')
    return _pse.row_extents(np.ascontiguousarray(labels), num_labels)


def _label_values(count: int) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.int32)


def _checked_area(min_area: int) -> int:
    try:
        area = operator.index(min_area)
    except TypeError:
        raise ValueError(f'min_area must be an integer, not {min_area!r}') from None
    if area < 0:
        raise ValueError(f'min_area must be 0 or more, not {area}')
    # The C++ side counts in int64; no map holds more pixels than that.
    return min(area, np.iinfo(np.int64).max)

"""Progressive scale expansion as the paper writes it: slow, plain Python, one pixel at a time."""

import collections

import numpy as np

NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (1, 0))


def expand(kernels: np.ndarray, min_area: int) -> np.ndarray:
    """Labels kernels (K, H, W), largest first, with the reference's order of growth.

    Returns:
        int32 (H, W), labels in row-major order of the seeds' first pixels.
    """
    labels = _seeds(kernels[-1], min_area)
    queue = collections.deque((int(y), int(x)) for y, x in np.argwhere(labels))
    for kernel in kernels[-2::-1]:
        queue = _grow(labels, kernel, queue)
    return labels


def _neighbours(shape, y, x):
    for step_y, step_x in NEIGHBOURS:
        if 0 <= y + step_y < shape[0] and 0 <= x + step_x < shape[1]:
            yield y + step_y, x + step_x


def _seeds(kernel, min_area):
    labels = np.zeros(kernel.shape, np.int32)
    seen = np.zeros(kernel.shape, bool)
    for y, x in np.argwhere(kernel):
        component = _component(kernel, seen, int(y), int(x))
        if component and len(component) >= min_area:
            labels[tuple(zip(*component))] = labels.max() + 1
    return labels


def _component(kernel, seen, y, x):
    stack, component = [(y, x)], []
    while stack:
        pixel = stack.pop()
        if kernel[pixel] and not seen[pixel]:
            seen[pixel] = True
            component.append(pixel)
            stack.extend(_neighbours(kernel.shape, *pixel))
    return component


def _grow(labels, kernel, queue):
    idle = collections.deque()
    while queue:
        y, x = queue.popleft()
        grew = False
        for neighbour in _neighbours(labels.shape, y, x):
            if kernel[neighbour] and not labels[neighbour]:
                labels[neighbour] = labels[y, x]
                queue.append(neighbour)
                grew = True
        if not grew:
            idle.append((y, x))
    return idle

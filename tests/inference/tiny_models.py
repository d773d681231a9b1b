"""Models with the ends of the network and next to nothing between them, in every exported form.

The score maps are the colours of the image, each averaged over a pixel of the maps, twice.
"""

import numpy as np
import tensorflow as tf

from utils.utils_tool import cfg


def expected_score_maps(image_rgb: np.ndarray) -> np.ndarray:
    """What every tiny model answers: float32 (H/4, W/4, 6) of a uint8 (H, W, 3)."""
    height, width = (side // cfg.STRIDE for side in image_rgb.shape[:2])
    cells = image_rgb.reshape(height, cfg.STRIDE, width, cfg.STRIDE, 3).astype(np.float32)
    return np.tile(cells.mean(axis=(1, 3)) / 255, 2)


def _build(dtype: tf.DType, copies: int):
    images = tf.placeholder(dtype, [None, None, None, 3], name='images')
    cells = tf.nn.avg_pool2d(tf.to_float(images) / 255, cfg.STRIDE, cfg.STRIDE, 'VALID')
    return images, tf.concat([cells] * copies, axis=-1, name='score_maps')


def write_frozen_graph(path: str, copies: int = 2) -> str:
    """Writes a frozen graph; with other ``copies`` of the colours it is another network's."""
    with tf.Graph().as_default() as graph:
        _build(tf.float32, copies)
        with open(path, 'wb') as file:
            file.write(graph.as_graph_def().SerializeToString())
    return path


def write_saved_model(directory: str) -> str:
    """Writes a SavedModel that takes uint8 images."""
    with tf.Graph().as_default(), tf.Session() as session:
        images, score_maps = _build(tf.uint8, 2)
        tf.saved_model.simple_save(session, directory, {'images': images},
                                   {'score_maps': score_maps})
    return directory


def write_onnx(path: str, copies: int = 2) -> str:
    """Writes an ONNX model; with other ``copies`` of the colours it is another network's."""
    from onnx import TensorProto, helper, save
    names = ['turned', 'cells', 'divided', 'cell_rows']
    nodes = [
        helper.make_node('Transpose', ['images'], [names[0]], perm=[0, 3, 1, 2]),
        helper.make_node('AveragePool', [names[0]], [names[1]], kernel_shape=[4, 4],
                         strides=[4, 4]),
        helper.make_node('Div', [names[1], 'white'], [names[2]]),
        helper.make_node('Transpose', [names[2]], [names[3]], perm=[0, 2, 3, 1]),
        helper.make_node('Concat', [names[3]] * copies, ['score_maps'], axis=3)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ['n', rows, columns, depth])
            for name, rows, columns, depth in (
                ('images', 'height', 'width', 3), ('score_maps', 'rows', 'columns', 3 * copies))]
    white = helper.make_tensor('white', TensorProto.FLOAT, [], [255.0])
    graph = helper.make_graph(nodes, 'tiny', ends[:1], ends[1:], [white])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=7), path)
    return path

"""Checkpoint -> one graph that holds its weights: the common source of all exported forms."""

import tensorflow as tf

from inference.networks import INPUT_NAME, OUTPUT_NAME
from nets.model import model
from tools.exporting.folding import fold_batch_norm
from training.checkpoints import restore_for_inference


def freeze(prefix: str) -> tf.GraphDef:
    """Builds the network for inference with the weights of a checkpoint as constants.

    Args:
        prefix: of the checkpoint; its moving averages are taken, as by eval.py.

    Returns:
        A graph from the placeholder ``images``, float32 [N, H, W, 3], RGB, 0..255, any N, H and W
        multiples of 32, to ``score_maps``, float32 [N, H/4, W/4, 6]; without batch norm.

    Raises:
        CheckpointError: it is damaged or of another network.
    """
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3], name=INPUT_NAME)
        score_maps = model(images, is_training=False, enlarge_last=True)
        tf.identity(score_maps, name=OUTPUT_NAME)
        restore_for_inference(session, prefix)
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [OUTPUT_NAME])
    return fold_batch_norm(frozen, OUTPUT_NAME)

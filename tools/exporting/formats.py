"""The forms that a network is exported in, and how each is written."""

from typing import Any, Callable, Dict, NamedTuple

import tensorflow as tf

from inference.networks import INPUT_NAME, OUTPUT_NAME
from tools.exporting.onnx_format import convert_to_onnx, onnx_facts

SAVED_MODEL = 'saved_model'
DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
FLOAT_SIGNATURE = 'serving_float'


class Format(NamedTuple):
    """A form.

    file: name of the model in the output folder.
    engine: of eval.py.
    dtype: of the images that the model takes.
    write: takes the frozen graph and a path that is free; raises OSError or tf.errors.OpError.
    facts: what a program has to know besides, for the manifest; raises PSENetError where a package
        that the form needs is not installed.
    """

    file: str
    engine: str
    dtype: str
    write: Callable[[tf.GraphDef, str], None]
    facts: Callable[[], Dict[str, Any]]


def write_frozen_graph(graph_def: tf.GraphDef, path: str) -> None:
    """Writes the graph as it is."""
    with open(path, 'wb') as file:
        file.write(graph_def.SerializeToString())


def write_saved_model(graph_def: tf.GraphDef, folder: str) -> None:
    """Writes a SavedModel with a signature for uint8 images, and one for float32 ones."""
    with tf.Graph().as_default(), tf.Session() as session:
        pixels = tf.placeholder(tf.uint8, [None, None, None, 3], name=INPUT_NAME)
        # Whoever feeds this feeds float32: the two signatures share one copy of the weights.
        images = tf.to_float(pixels, name=f'{INPUT_NAME}_float')
        score_maps, = tf.import_graph_def(
            graph_def, {INPUT_NAME: images}, [f'{OUTPUT_NAME}:0'], name='network')
        signatures = {
            name: tf.saved_model.predict_signature_def({INPUT_NAME: tensor},
                                                       {OUTPUT_NAME: score_maps})
            for name, tensor in ((DEFAULT_SIGNATURE, pixels), (FLOAT_SIGNATURE, images))}
        builder = tf.saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.tag_constants.SERVING], signatures)
        builder.save()


def _facts_of_tensorflow() -> Dict[str, Any]:
    return {'versions': {'tensorflow': tf.__version__}}


def _facts_of_saved_model() -> Dict[str, Any]:
    return {'signatures': {DEFAULT_SIGNATURE: 'uint8', FLOAT_SIGNATURE: 'float32'},
            **_facts_of_tensorflow()}


def _write_onnx(graph_def: tf.GraphDef, path: str) -> None:
    with open(path, 'wb') as file:
        file.write(convert_to_onnx(graph_def))


FORMATS: Dict[str, Format] = {
    'frozen_graph': Format('psenet.pb', 'tensorflow', 'float32', write_frozen_graph,
                           _facts_of_tensorflow),
    SAVED_MODEL: Format('saved_model', 'tensorflow', 'uint8', write_saved_model,
                        _facts_of_saved_model),
    'onnx': Format('psenet.onnx', 'onnx', 'float32', _write_onnx, onnx_facts),
}

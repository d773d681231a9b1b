"""Models that tools/export.py writes: names, and how one is found again."""

import os

from utils.errors import PSENetError

# The tensors that every exported model is run by.
INPUT_NAME = 'images'
OUTPUT_NAME = 'score_maps'
# TensorFlow's name for the graph in the folder of a SavedModel.
SAVED_MODEL_GRAPH = 'saved_model.pb'


def graph_file(model: str) -> str:
    """The file that holds the graph of an exported model, and its weights.

    Args:
        model: an .onnx file, a frozen graph, or the folder of a SavedModel.

    Returns:
        The path.

    Raises:
        PSENetError: there is none.
    """
    if not os.path.exists(model):
        raise PSENetError(f'there is no model at --model={model}; tools/export.py makes one of a '
                          'checkpoint')
    path = os.path.join(model, SAVED_MODEL_GRAPH) if os.path.isdir(model) else model
    if not os.path.isfile(path):
        raise PSENetError(f'the folder --model={model} holds no {SAVED_MODEL_GRAPH}; give the '
                          'folder of a SavedModel, a frozen graph (.pb) or an .onnx file')
    return path


def other_model(model: str, lacking: str) -> PSENetError:
    """The error of a model that loads but is not this network."""
    return PSENetError(f'--model={model} is no model of PSENet as tools/export.py writes them: it '
                       f'has no {lacking}')


def damaged_model(model: str, kind: str, detail: str) -> PSENetError:
    """The error of a model that does not load."""
    return PSENetError(f'--model={model} is damaged, or no {kind} ({detail}); export it anew with '
                       'tools/export.py')

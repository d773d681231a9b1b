"""Export of a checkpoint: models are written to a working directory, compared, and put in place."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from inference.config import SHAPES, DetectConfig, Size
from inference.networks import INPUT_NAME, OUTPUT_NAME, SAVED_MODEL_GRAPH, open_network
from inference.results import make_folder
from inference.thresholds import Thresholds, give_thresholds, read_thresholds
from tools.exporting.comparison import Outputs, compare, outputs_of, sizes_of
from tools.exporting.formats import FORMATS, SAVED_MODEL, freeze
from tools.exporting.quantization import ONNX_INT8, Quantization, quantize_file
from training.checkpoints import Checkpoint, open_checkpoint
from training.run_folder import fingerprint
from utils.errors import PSENetError, first_line
from utils.files import replacing
from utils.utils_tool import cfg, logger

MANIFEST = 'model.json'
_NETWORK = {
    'network': 'PSENet',
    'input': {'name': INPUT_NAME, 'shape': ['N', 'H', 'W', 3], 'range': [0, 255],
              'channels': 'RGB', 'side_multiple': cfg.SIDE_MULTIPLE},
    'output': {'name': OUTPUT_NAME, 'shape': ['N', 'H/4', 'W/4', cfg.NUM_KERNELS],
               'dtype': 'float32', 'range': [0, 1], 'stride': cfg.STRIDE,
               'kernel_scales': list(cfg.KERNEL_SCALES)},
    'preprocessing': [
        f'resize the image so that both sides are multiples of {cfg.SIDE_MULTIPLE}',
        'order the channels as RGB',
        'keep the values 0..255: the model subtracts the mean colour itself'],
    'regions': {'function': 'inference.postprocess.find_regions', 'output_shapes': list(SHAPES),
                'score': 'mean of the last map over the region',
                'thresholds': list(Thresholds._fields)},
}


def read_manifest(output_dir: str) -> Dict[str, Any]:
    """Reads the manifest of earlier exports into a directory.

    Args:
        output_dir: the directory.

    Returns:
        Format name -> description of the model, for the models that exist.

    Raises:
        PSENetError: the file was not written by this tool.
    """
    path = os.path.join(output_dir, MANIFEST)
    if not os.path.lexists(path):
        return {}
    try:
        with open(path, encoding='utf-8') as file:
            models = json.load(file)['models']
        return {name: model for name, model in models.items() if name in FORMATS
                and os.path.exists(os.path.join(output_dir, FORMATS[name].file))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PSENetError(f'{path} was not written by tools.export; move it away or choose '
                          'another --output_dir') from None


def write_manifest(output_dir: str, models: Dict[str, Any]) -> None:
    """Writes the manifest.

    Args:
        output_dir: the directory with the models.
        models: format name -> description of the model.

    Raises:
        PSENetError: it cannot be written.
    """
    path = os.path.join(output_dir, MANIFEST)
    with replacing(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        json.dump({**_NETWORK, 'models': models}, file, indent=1)
        file.write('\n')


# UnicodeEncodeError: TensorFlow rejects names that are not UTF-8.
_DISK_ERRORS = (OSError, tf.errors.OpError, UnicodeEncodeError)
_PREFIX = '.export-'


@contextlib.contextmanager
def working_folder(output_dir: str) -> Iterator[str]:
    """Creates a temporary directory inside the output directory, which is created if missing.

    Directories that a killed process left behind are removed.

    Args:
        output_dir: output directory of the models.

    Yields:
        Path of the empty directory.

    Raises:
        PSENetError: it cannot be created.
    """
    make_folder(output_dir)
    with contextlib.ExitStack() as stack:
        with disk_errors_named(output_dir):
            _remove_abandoned(output_dir)
            directory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=_PREFIX, dir=output_dir))
            # On a file system without locks, other directories are not removed either.
            with contextlib.suppress(OSError):
                stack.enter_context(_locked(directory))
        yield directory


def _remove_abandoned(output_dir: str) -> None:
    for name in os.listdir(output_dir):
        directory = os.path.join(output_dir, name)
        if name.startswith(_PREFIX):
            with contextlib.suppress(OSError), _locked(directory):
                shutil.rmtree(directory)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Locks a directory; raises OSError if a running process holds the lock."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors_named(path: str) -> Iterator[None]:
    """Turns disk errors in the body into a message about ``path``.

    Raises:
        PSENetError: a disk error occurred.
    """
    try:
        yield
    except _DISK_ERRORS as error:
        # TensorFlow's message names a file in the working directory before the reason.
        reason = getattr(error, 'strerror', None) or first_line(error).split('; ')[-1]
        raise PSENetError(f'cannot write {path}: {reason}') from None


def check_replaceable(path: str, is_folder: bool) -> None:
    """Checks that only an earlier export would be replaced.

    Args:
        path: path of a model.
        is_folder: whether it is the directory of a SavedModel.

    Raises:
        PSENetError: the path exists and is not an exported model.
    """
    if not os.path.lexists(path):
        return
    ours = (os.path.isfile(os.path.join(path, SAVED_MODEL_GRAPH)) if is_folder
            else os.path.isfile(path))
    if not ours:
        raise PSENetError(f'{path} exists and is not an exported model; move it away or choose '
                          'another --output_dir')


def put_in_place(model: str, path: str) -> None:
    """Moves a finished model to its destination, replacing an earlier one.

    Args:
        model: file or directory in a working directory on the same disk.
        path: destination.

    Raises:
        PSENetError: it cannot be moved; the earlier one is kept.
    """
    with disk_errors_named(path):
        if not os.path.isdir(path):
            os.replace(model, path)
            return
        # A directory cannot be replaced in one step.
        earlier = f'{model}.earlier'
        os.rename(path, earlier)
        try:
            os.rename(model, path)
        except BaseException:
            os.rename(earlier, path)
            raise


_MEGABYTE = 10 ** 6


class Export(NamedTuple):
    """Settings of an export.

    checkpoint_path: as for ``resolve_checkpoint``.
    output_dir: directory for the models, created if missing.
    formats: names in FORMATS.
    inputs: images to compare the models on, from ``inputs_at_two_sizes``.
    max_difference: largest acceptable difference of two scores, 0..1.
    input_size: fixed (width, height) of the models' input; None for any size.
    quantization: settings of the int8 model; None without one.
    """

    checkpoint_path: str
    output_dir: str
    formats: Sequence[str]
    inputs: Sequence[np.ndarray]
    max_difference: float
    input_size: Optional[Size] = None
    quantization: Optional[Quantization] = None


class Exported(NamedTuple):
    """An exported model and the result of its comparison.

    format, path, size: format name, destination, and size in bytes.
    found: result of the comparison, as text.
    facts: the same for the manifest.
    kept: whether the model is kept.
    """

    format: str
    path: str
    size: int
    found: str
    facts: Dict[str, Any]
    kept: bool

    def line(self) -> str:
        """Formats the report."""
        return (f'{self.format:12} {self.path}: {self.size / _MEGABYTE:.1f} MB, {self.found}'
                f'{"" if self.kept else ": NOT KEPT"}')


def export_models(export: Export) -> Iterator[Exported]:
    """Writes the models, loads each in its own engine, and keeps those that pass the comparison.

    If a model does not pass, the one from an earlier export is kept.

    Args:
        export: settings.

    Yields:
        The result for each format, in order.

    Raises:
        PSENetError: the checkpoint cannot be used, a model cannot be written, or a package is not
            installed.
    """
    _check(export)
    checkpoint = open_checkpoint(export.checkpoint_path)
    thresholds = read_thresholds(checkpoint.prefix)
    models = read_manifest(export.output_dir)
    expected = _outputs(DetectConfig(checkpoint_path=checkpoint.prefix), export.inputs,
                        'the checkpoint')
    logger.info('the scores of the checkpoint range from %.3f to %.3f',
                min(maps.min() for maps in expected.score_maps),
                max(maps.max() for maps in expected.score_maps))
    logger.info('freezing the network')
    graph_def = freeze(checkpoint.prefix, export.input_size)
    with working_folder(export.output_dir) as directory:
        for name in export.formats:
            form = FORMATS[name]
            place, written = (os.path.join(each, form.file)
                              for each in (export.output_dir, directory))
            logger.info('writing %s', place)
            with disk_errors_named(place):
                form.write(graph_def, written)
            if name == ONNX_INT8:
                proof = quantize_file(written, export.quantization)
                trial = proof.line(), proof.facts(), proof.holds
            else:
                trial = _compare(written, name, export, expected)
            exported = Exported(name, place, _size(written), *trial)
            if exported.kept:
                put_in_place(written, place)
                give_thresholds(place, thresholds)
                models[name] = _describe(exported, export, checkpoint)
                write_manifest(export.output_dir, models)
            yield exported


def _check(export: Export) -> None:
    """Checks packages and destinations before the work, which takes minutes."""
    for name in export.formats:
        FORMATS[name].facts()
        check_replaceable(os.path.join(export.output_dir, FORMATS[name].file),
                          is_folder=name == SAVED_MODEL)


def _compare(model: str, name: str, export: Export, expected: Outputs,
             ) -> Tuple[str, Dict[str, Any], bool]:
    """Compares a model with the checkpoint; returns the last three fields of ``Exported``."""
    difference = compare(_outputs(DetectConfig(engine=FORMATS[name].engine, model=model),
                                  export.inputs, name), expected)
    found = (f'largest difference {difference.maximum:.1e}, {difference.milliseconds:.0f} ms per '
             f'image (checkpoint {difference.of_checkpoint:.0f} ms)')
    facts = {'compared_with_checkpoint': {
        'input_sizes': sizes_of(export.inputs),
        'max_difference': difference.maximum,
        'milliseconds': round(difference.milliseconds),
        'milliseconds_of_checkpoint': round(difference.of_checkpoint)}}
    return found, facts, difference.maximum <= export.max_difference


def _outputs(config: DetectConfig, inputs: Sequence[np.ndarray], name: str) -> Outputs:
    with contextlib.closing(open_network(config)) as network:
        return outputs_of(network, inputs, name)


def _size(model: str) -> int:
    """Returns the size in bytes of a file, or of all files below a directory."""
    if not os.path.isdir(model):
        return os.path.getsize(model)
    return sum(os.path.getsize(os.path.join(directory, name))
               for directory, _, names in os.walk(model) for name in names)


def _describe(exported: Exported, export: Export, checkpoint: Checkpoint) -> Dict[str, Any]:
    """Returns the model's entry in the manifest."""
    form = FORMATS[exported.format]
    return {
        'file': form.file, 'bytes': exported.size, 'engine': form.engine,
        'input_dtype': form.dtype, 'input_size': export.input_size, **form.facts(),
        'checkpoint': {'name': os.path.basename(checkpoint.prefix),
                       'step': checkpoint.global_step(),
                       'fingerprint': fingerprint(checkpoint.prefix)},
        **exported.facts}

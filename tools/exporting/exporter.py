"""Checkpoint -> exported models, each checked against it before it takes its place."""

import os
from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

import numpy as np

from inference.config import DetectConfig
from inference.networks import open_network
from inference.thresholds import give_thresholds, read_thresholds
from tools.exporting.comparison import Answers, Difference, answers_of, compare, sizes_of
from tools.exporting.formats import FORMATS, SAVED_MODEL
from tools.exporting.freezing import freeze
from tools.exporting.manifest import read_manifest, write_manifest
from tools.exporting.staging import (
    check_replaceable,
    disk_errors_named,
    put_in_place,
    working_folder,
)
from training.checkpoints import Checkpoint, fingerprint, open_checkpoint
from utils.utils_tool import logger

_MEGABYTE = 10 ** 6


class Export(NamedTuple):
    """What is to be done.

    checkpoint_path: as for ``resolve_checkpoint``.
    output_dir: folder for the models; made where there is none.
    formats: names in FORMATS.
    inputs: of ``inputs_at_two_sizes``, to compare the models on.
    max_difference: largest difference of two scores, 0..1, that a model may show.
    """

    checkpoint_path: str
    output_dir: str
    formats: Sequence[str]
    inputs: Sequence[np.ndarray]
    max_difference: float


class Exported(NamedTuple):
    """A model that was tried: its place, its bytes, what the trial gave, and whether it is kept."""

    format: str
    path: str
    size: int
    difference: Difference
    kept: bool

    def line(self) -> str:
        """The report for people."""
        difference = self.difference
        return (f'{self.format:12} {self.path}: {self.size / _MEGABYTE:.1f} MB, largest difference '
                f'{difference.maximum:.1e}, {difference.milliseconds:.0f} ms an image (checkpoint '
                f'{difference.of_checkpoint:.0f} ms){"" if self.kept else ": NOT KEPT"}')


def export_models(export: Export) -> Iterator[Exported]:
    """Writes the models, loads each in its own engine, and keeps those that are true.

    A model that is not leaves what an earlier export has put in its place.

    Args:
        export: what is to be done.

    Yields:
        What became of each format, in their order.

    Raises:
        PSENetError: the checkpoint cannot be used, a model cannot be written, or a package is not
            installed.
    """
    _check(export)
    checkpoint = open_checkpoint(export.checkpoint_path)
    thresholds = read_thresholds(checkpoint.prefix)
    models = read_manifest(export.output_dir)
    expected = _answers(DetectConfig(checkpoint_path=checkpoint.prefix), export.inputs,
                        'the checkpoint')
    logger.info('the scores of the checkpoint reach from %.3f to %.3f', *_range(expected))
    logger.info('freezing the network')
    graph_def = freeze(checkpoint.prefix)
    with working_folder(export.output_dir) as folder:
        for name in export.formats:
            form = FORMATS[name]
            place, written = (os.path.join(each, form.file)
                              for each in (export.output_dir, folder))
            logger.info('writing %s', place)
            with disk_errors_named(place):
                form.write(graph_def, written)
            difference = compare(_answers(DetectConfig(engine=form.engine, model=written),
                                          export.inputs, name), expected)
            exported = Exported(name, place, _size(written), difference,
                                kept=difference.maximum <= export.max_difference)
            if exported.kept:
                put_in_place(written, place)
                give_thresholds(place, thresholds)
                models[name] = _describe(exported, export, checkpoint)
                write_manifest(export.output_dir, models)
            yield exported


def _check(export: Export) -> None:
    """Refuses, before the minutes of work, what cannot be written in the end."""
    for name in export.formats:
        FORMATS[name].facts()
        check_replaceable(os.path.join(export.output_dir, FORMATS[name].file),
                          is_folder=name == SAVED_MODEL)


def _answers(config: DetectConfig, inputs: Sequence[np.ndarray], name: str) -> Answers:
    network = open_network(config)
    try:
        return answers_of(network, inputs, name)
    finally:
        network.close()


def _range(answers: Answers) -> Tuple[float, float]:
    return (min(maps.min() for maps in answers.score_maps),
            max(maps.max() for maps in answers.score_maps))


def _size(model: str) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not os.path.isdir(model):
        return os.path.getsize(model)
    return sum(os.path.getsize(os.path.join(folder, name))
               for folder, _, names in os.walk(model) for name in names)


def _describe(exported: Exported, export: Export, checkpoint: Checkpoint) -> Dict[str, Any]:
    """The model's part of the manifest."""
    form, difference = FORMATS[exported.format], exported.difference
    return {
        'file': form.file, 'bytes': exported.size, 'engine': form.engine,
        'input_dtype': form.dtype, **form.facts(),
        'checkpoint': {'name': os.path.basename(checkpoint.prefix),
                       'step': checkpoint.global_step(),
                       'fingerprint': fingerprint(checkpoint.prefix)},
        'compared_with_checkpoint': {
            'input_sizes': sizes_of(export.inputs),
            'max_difference': difference.maximum,
            'milliseconds': round(difference.milliseconds),
            'milliseconds_of_checkpoint': round(difference.of_checkpoint)}}

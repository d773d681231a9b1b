"""Runs the whole pipeline on a small scale: draws data, trains, detects and scores.

    make demo                        takes some minutes on two cores
    DEMO_STEPS=20 make demo          a shorter run, with a low score
    make demo-curved                 words along arcs, detected as polygons and, for comparison,
                                     as rectangles

All files go below one directory. A second run reuses the data and trains again.
"""

import json
import os
from typing import Dict, List, NamedTuple

from absl import flags

from inference.results import write_archive
from tools.curves import TAGS, plot_loss, read_scalars
from tools.demo_data import DatasetSpec, ensure_dataset
from tools.phases import Clock, interrupt_on_termination, run_child, script
from utils import cli

TARGET_HMEAN = 0.80
DEFAULT_STEPS = 100
# For curved words: Hmean of the polygons, and their gain over rectangles.
CURVED_TARGET_HMEAN = 0.70
CURVED_TARGET_GAIN = 0.10
# Minimum number of points of the loss curve, if there are as many steps.
_CURVE_POINTS = 50


class DemoConfig(NamedTuple):
    """Settings of a demo: its directory, training steps, side of the crops in pixels, and data.

    Crops are smaller than the images and are scaled up in training, so that words have about the
    same size in training and at test time.
    """

    directory: str
    steps: int
    input_size: int
    spec: DatasetSpec

    def path(self, *names: str) -> str:
        """Joins names to the demo's directory."""
        return os.path.join(self.directory, *names)


def run_demo(config: DemoConfig) -> Dict[str, float]:
    """Runs every phase and prints a report.

    Args:
        config: settings of the demo.

    Returns:
        precision, recall and hmean; for curved words also gain, the Hmean of polygons minus that of
        rectangles.

    Raises:
        PSENetError: a phase failed; the results of earlier phases are kept.
    """
    clock = Clock()
    spec = config.spec
    with clock.phase('data', f'{spec.train_images} training and {spec.test_images} test images of '
                             f'{spec.size}x{spec.size} in {config.path("data")}'):
        if not ensure_dataset(config.path('data'), spec):
            print('exists already')
    with clock.phase('training', f'{config.steps} steps from scratch on the CPU'):
        run_child(train_command(config))
        plot_loss(read_scalars(config.path('run'), TAGS), config.path('loss_curve.png'))
    shapes = {'polygon': 'output', 'quad': 'output_quads'} if spec.curved else {'quad': 'output'}
    with clock.phase('detection', 'test images at the default thresholds'):
        for shape, output in shapes.items():
            run_child(script('eval.py', gpu_list='', test_data_path=config.path('data', 'test'),
                             checkpoint_path=config.path('run'), output_dir=config.path(output),
                             output_shape=shape))
    scorer = 'evaluation/polygon_script.py' if spec.curved else 'evaluation/script.py'
    with clock.phase('scoring', 'polygons by IoU' if spec.curved else 'ICDAR2015 protocol'):
        score, *others = [_score(config, scorer, output) for output in shapes.values()]
    if others:
        score['gain'] = score['hmean'] - others[0]['hmean']
    _report(config, score, clock.seconds)
    return score


def train_command(config: DemoConfig, **changed: object) -> List[str]:
    """Returns the command line of the demo's training.

    Args:
        config: settings of the demo.
        changed: flags of train.py with other values.
    """
    # The published batch-norm decay averages over a thousand steps; this run has a hundred.
    values = {
        'gpu_list': '', 'training_data_path': config.path('data', 'train'),
        'checkpoint_path': config.path('run'), 'overwrite': 'true',
        'input_size': config.input_size, 'batch_size_per_gpu': 4, 'num_readers': 1, 'seed': 0,
        'learning_rate': 1e-3, 'batch_norm_decay': 0.9, 'max_steps': config.steps, **changed}
    steps = max(1, values['max_steps'] // _CURVE_POINTS)
    return script('train.py', save_summary_steps=steps, **values)


def _score(config: DemoConfig, scorer: str, output: str) -> Dict[str, float]:
    """Packs and scores result files, and prints the scorer's output."""
    printed = run_child(script(scorer) + [
        f'-g={config.path("data", "gt.zip")}', f'-s={write_archive(config.path(output))}'],
        capture=True)
    print(printed, end='')
    return json.loads(printed.strip().splitlines()[-1])


def _report(config: DemoConfig, score: Dict[str, float], seconds: Dict[str, float]) -> None:
    times = ', '.join(f'{name} {value:.0f} s' for name, value in seconds.items())
    print(f'\n{verdict(config.steps, score)}\n'
          f'Hmean {score["hmean"]:.3f} (precision {score["precision"]:.3f}, recall '
          f'{score["recall"]:.3f}) on {config.spec.test_images} held-out images after '
          f'{config.steps} training steps\n'
          + (f'Polygons are {score["gain"]:.3f} above rectangles.\n' if 'gain' in score else '') +
          f'Time:         {times}; {sum(seconds.values()):.0f} s in all\n'
          f'Loss curve:   {config.path("loss_curve.png")}\n'
          f'Detections:   {config.path("output")} (test images with boxes drawn)', flush=True)


def verdict(steps: int, score: Dict[str, float]) -> str:
    """Compares the score with the demo's target.

    Args:
        steps: training steps of the run.
        score: as returned by ``run_demo``.

    Returns:
        A line that begins with ``PASS`` or ``BELOW TARGET``.
    """
    curved = 'gain' in score
    target = CURVED_TARGET_HMEAN if curved else TARGET_HMEAN
    if reached(score):
        return f'PASS: Hmean reached the target of {target:.2f}.'
    if steps < DEFAULT_STEPS:
        return (f'BELOW TARGET, as expected: {steps} steps are too few for an Hmean of '
                f'{target:.2f}; the default of {DEFAULT_STEPS} reaches it.')
    gain = f', {CURVED_TARGET_GAIN:.2f} above that of rectangles' if curved else ''
    return f'BELOW TARGET: Hmean should be at least {target:.2f}{gain}.'


def reached(score: Dict[str, float]) -> bool:
    """Returns True if a score reaches the demo's target."""
    if 'gain' in score:
        return score['hmean'] >= CURVED_TARGET_HMEAN and score['gain'] >= CURVED_TARGET_GAIN
    return score['hmean'] >= TARGET_HMEAN


def define_demo_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('demo')
    default = DatasetSpec()
    cli.define_path('folder', './demo', 'Directory for all files of the demo.', **group)
    flags.DEFINE_boolean('curved', False, 'Draw the words along arcs.', **group)
    flags.DEFINE_integer('steps', DEFAULT_STEPS, 'Training steps.', 1, **group)
    flags.DEFINE_integer('train_images', default.train_images, 'Images to train on.', **group)
    flags.DEFINE_integer('test_images', default.test_images, 'Held-out images.', **group)
    flags.DEFINE_integer('size', default.size, 'Side in pixels of the square images.', **group)
    flags.DEFINE_integer('input_size', 256, 'Side in pixels of the training crops; a multiple of '
                         '32.', **group)


def demo_config_from_flags(values: flags.FlagValues) -> DemoConfig:
    """Reads the flags of ``define_demo_flags``."""
    spec = DatasetSpec(values.train_images, values.test_images, values.size,
                       curved=values.curved)
    return DemoConfig(values.folder, values.steps, values.input_size, spec)


def main(_: List[str]) -> int:
    """Runs the demo that the flags describe; returns the exit code."""
    interrupt_on_termination()
    config = demo_config_from_flags(flags.FLAGS)
    score = run_demo(config)
    return int(not reached(score) and config.steps >= DEFAULT_STEPS)


if __name__ == '__main__':
    define_demo_flags()
    cli.run(main, __doc__)

"""Runs the main job on a small scale: makes data, trains, detects, scores, and shows where to look.

    make demo                        the whole job, some minutes on two cores
    DEMO_STEPS=20 make demo          the same, cut short; the score is low then
    make demo-curved                 with words along arcs, found as polygons and, for comparison,
                                     as rectangles

Everything is written below one folder. A second run uses the data again and trains anew.
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
from utils.errors import PSENetError

TARGET_HMEAN = 0.80
DEFAULT_STEPS = 100
# Of curved words: by polygons, and how much better these are than rectangles.
CURVED_TARGET_HMEAN = 0.70
CURVED_TARGET_GAIN = 0.10
# Points that the loss curve has at least, where there are as many steps.
_CURVE_POINTS = 50


class DemoConfig(NamedTuple):
    """The settings of a demo: ``folder`` holds all of it, ``steps`` are training steps.

    ``input_size`` is the side in pixels of the training crops. They are smaller than the pictures,
    and enlarge what they show: at test time words have about the size that they had in training.
    """

    folder: str
    steps: int
    input_size: int
    spec: DatasetSpec

    def path(self, *names: str) -> str:
        """Joins names to the demo's folder."""
        return os.path.join(self.folder, *names)


def run_demo(config: DemoConfig) -> Dict[str, float]:
    """Runs every phase and reports on the screen.

    Args:
        config: what to run.

    Returns:
        The score: precision, recall, hmean; of curved words also gain, by which the Hmean of
        polygons exceeds that of rectangles.

    Raises:
        PSENetError: a phase failed; what came before it is kept.
    """
    clock = Clock()
    spec = config.spec
    with clock.phase('data', f'{spec.train_images} training and {spec.test_images} test images of '
                             f'{spec.size}x{spec.size} in {config.path("data")}'):
        if not ensure_dataset(config.path('data'), spec):
            print('there already')
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
    """The demo's training.

    Args:
        config: of the demo.
        changed: flags of train.py that are to have other values.
    """
    # Batch norm's published decay averages over a thousand steps; this run has a hundred.
    values = {
        'gpu_list': '', 'training_data_path': config.path('data', 'train'),
        'checkpoint_path': config.path('run'), 'overwrite': 'true',
        'input_size': config.input_size, 'batch_size_per_gpu': 4, 'num_readers': 1, 'seed': 0,
        'learning_rate': 1e-3, 'batch_norm_decay': 0.9, 'max_steps': config.steps, **changed}
    steps = max(1, values['max_steps'] // _CURVE_POINTS)
    return script('train.py', save_summary_steps=steps, **values)


def _score(config: DemoConfig, scorer: str, output: str) -> Dict[str, float]:
    """Packs and scores result files; prints what the scorer prints."""
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
    """Reports whether the score is what this demo promises.

    Args:
        steps: training steps that led to it.
        score: has ``hmean``, 0..1.

    Returns:
        A line that opens with ``PASS`` or ``BELOW TARGET``.
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
    """Whether a score is what the demo promises."""
    if 'gain' in score:
        return score['hmean'] >= CURVED_TARGET_HMEAN and score['gain'] >= CURVED_TARGET_GAIN
    return score['hmean'] >= TARGET_HMEAN


def define_demo_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('demo')
    default = DatasetSpec()
    cli.define_path('folder', './demo', 'Folder for everything that the demo writes.', **group)
    flags.DEFINE_boolean('curved', False, 'Lay the words along arcs.', **group)
    flags.DEFINE_integer('steps', None, 'Training steps; the variable DEMO_STEPS where not given, '
                         f'or {DEFAULT_STEPS}.', **group)
    flags.DEFINE_integer('train_images', default.train_images, 'Pictures to train on.', **group)
    flags.DEFINE_integer('test_images', default.test_images, 'Held-out pictures.', **group)
    flags.DEFINE_integer('size', default.size, 'Side in pixels of the square pictures.', **group)
    flags.DEFINE_integer('input_size', 256, 'Side in pixels of the training crops; a multiple of '
                         '32.', **group)


def demo_config_from_flags(values: flags.FlagValues) -> DemoConfig:
    """Reads what `define_demo_flags` defined; PSENetError where the steps are too few."""
    steps = values.steps if values.steps is not None else _steps_from_environment()
    if steps < 1:
        raise PSENetError(f'{steps} training steps are too few; --steps and DEMO_STEPS must be at '
                          'least 1')
    spec = DatasetSpec(values.train_images, values.test_images, values.size,
                       curved=values.curved)
    return DemoConfig(values.folder, steps, values.input_size, spec)


def _steps_from_environment() -> int:
    text = os.environ.get('DEMO_STEPS') or str(DEFAULT_STEPS)
    try:
        return int(text)
    except ValueError:
        raise PSENetError(f'DEMO_STEPS={text} is not a whole number of training steps') from None


def main(_: List[str]) -> int:
    """Runs the demo that the flags and the environment describe."""
    interrupt_on_termination()
    config = demo_config_from_flags(flags.FLAGS)
    score = run_demo(config)
    return int(not reached(score) and config.steps >= DEFAULT_STEPS)


if __name__ == '__main__':
    define_demo_flags()
    cli.run(main, __doc__)

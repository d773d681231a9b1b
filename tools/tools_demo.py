"""Runs every tool on the data and the checkpoint of the demo, and leaves their pictures and files.

    make tools-demo        all of them, some minutes on two cores; before that the demo, if it is
                           not there

The pictures are in the folder tools of the demo's folder.
"""

import os
from typing import Callable, Dict, List, NamedTuple

from absl import flags

from inference.results import make_folder
from tools.demo import (
    DEFAULT_STEPS,
    DemoConfig,
    define_demo_flags,
    demo_config_from_flags,
    run_demo,
    train_command,
)
from tools.phases import Clock, demo_server, interrupt_on_termination, run_child, script
from tools.serving.screenshot import MISSING, has_browser, screenshot
from utils import cli
from utils.errors import PSENetError

# Of the demo's steps, those of the second run that is compared with it.
_SHARE_OF_STEPS = 0.4
_SECOND_RATE = 3e-4
# 454 MB each.
_SECOND_CHECKPOINTS = 4


class Step(NamedTuple):
    """A tool, what it shows, and the files that it leaves below the output folder."""

    name: str
    shows: str
    run: Callable[[], object]
    leaves: List[str]


class _Places(NamedTuple):
    """Paths that the commands share."""

    train: str
    test: str
    gt: str
    run: str        # of the demo
    output: str
    second_run: str

    def out(self, *names: str) -> str:
        """Joins names to the output folder."""
        return os.path.join(self.output, *names)


def plan_steps(config: DemoConfig) -> List[Step]:
    """The tools in the order in which a user meets them.

    Args:
        config: of the demo whose data and checkpoint they work on.
    """
    places = _Places(*(config.path('data', name) for name in ('train', 'test', 'gt.zip')),
                     config.path('run'), config.path('tools'), config.path('tools', 'second_run'))
    return [*_steps_on_data(config, places), *_steps_on_runs(config, places),
            *_steps_on_checkpoints(places), *_steps_on_models(config, places)]


def _steps_on_data(config: DemoConfig, places: _Places) -> List[Step]:
    return [
        Step('check_data', 'what the training folder holds, and how much of it can be learnt',
             _tool('check_data', training_data_path=places.train,
                   input_sizes='64,128,192,256', out=places.out('check_data.png')),
             ['check_data.png']),
        Step('browse_dataset', 'training samples as the network sees them',
             _tool('browse_dataset', training_data_path=places.train, count=4, seed=0,
                   input_size=config.input_size, out=places.out('browse_dataset.png')),
             ['browse_dataset.png']),
    ]


def _steps_on_runs(config: DemoConfig, places: _Places) -> List[Step]:
    steps = max(2, int(config.steps * _SHARE_OF_STEPS))
    training = train_command(
        config, checkpoint_path=places.second_run, learning_rate=_SECOND_RATE, max_steps=steps,
        save_checkpoint_steps=max(1, steps // _SECOND_CHECKPOINTS))
    return [
        Step('train', f'{steps} steps at a lower learning rate, a run to compare with',
             lambda: run_child(training), []),
        Step('loss_curve', "the losses of the demo's run",
             _tool('curves', run=places.run, out=places.out('loss_curve.png')),
             ['loss_curve.png']),
        Step('compare_runs', 'both runs side by side',
             _tool('curves', run=[f'first={places.run}', f'second={places.second_run}'],
                   out=places.out('compare_runs.png'), csv=places.out('compare_runs.csv')),
             ['compare_runs.png', 'compare_runs.csv']),
    ]


def _steps_on_checkpoints(places: _Places) -> List[Step]:
    common = {'gpu_list': '', 'test_data_path': places.test, 'gt': places.gt}
    return [
        Step('sweep', 'which thresholds score best',
             _tool('sweep', checkpoint_path=places.run, output_dir=places.output, **common),
             ['sweep.png', 'sweep.csv']),
        Step('best_checkpoint', 'which checkpoint of the second run scores best',
             _tool('best_checkpoint', checkpoint_path=places.second_run, once='true', keep=1,
                   best_path=places.out('best'), **common),
             ['best/scores.png', 'best/scores.csv']),
    ]


def _steps_on_models(config: DemoConfig, places: _Places) -> List[Step]:
    models = places.out('models')
    # After a few steps batch norm's statistics are far from the data's, and rounding errors grow.
    limit = {} if config.steps >= DEFAULT_STEPS else {'max_difference': 0.01}
    detection = script('eval.py', engine='onnx', model=os.path.join(models, 'psenet.onnx'),
                       test_data_path=places.test, output_dir=places.out('onnx_output'))
    return [
        Step('export', 'frozen graph, SavedModel and ONNX, each compared with the checkpoint',
             _tool('export', checkpoint_path=places.run, test_data_path=places.test,
                   output_dir=models, **limit),
             [f'models/{name}' for name in ('psenet.pb', 'saved_model', 'psenet.onnx',
                                            'model.json')]),
        Step('eval', 'the ONNX model in ONNX Runtime', lambda: run_child(detection),
             ['onnx_output']),
        Step('demo_server', 'its page with a test image', lambda: _photograph_server(places),
             ['demo_server.png']),
    ]


def _tool(name: str, **flag_values: object) -> Callable[[], str]:
    return lambda: run_child(script(f'tools.{name}', **flag_values))


def _photograph_server(places: _Places) -> None:
    with demo_server(gpu_list='', checkpoint_path=places.run) as url:
        screenshot(url, os.path.join(places.test, 'img_1.jpg'), places.out('demo_server.png'))


def run_steps(steps: List[Step], folder: str) -> Dict[str, float]:
    """Runs the commands one after the other.

    Args:
        steps: of ``plan_steps``.
        folder: that their files are in.

    Returns:
        Seconds by name.

    Raises:
        PSENetError: a command failed, or left one of its files out.
    """
    clock = Clock()
    for step in steps:
        with clock.phase(step.name, step.shows):
            step.run()
        missing = [name for name in step.leaves if not os.path.exists(os.path.join(folder, name))]
        if missing:
            raise PSENetError(f'{step.name} ended well, and yet {", ".join(missing)} is not in '
                              f'{folder}')
    return clock.seconds


def without_browser(steps: List[Step]) -> List[Step]:
    """Skips, with a message, what needs a browser if there is none."""
    if has_browser():
        return steps
    print(f'The page of demo_server is left out: {MISSING}', flush=True)
    return [step for step in steps if step.name != 'demo_server']


def _report(steps: List[Step], folder: str, seconds: Dict[str, float]) -> None:
    print(f'\nAll tools ran, in {sum(seconds.values()):.0f} s. What they left is in {folder}:')
    for step in steps:
        for name in step.leaves:
            print(f'{step.name:16s}{name}')


def main(_: List[str]) -> None:
    """Runs the tools on the demo that the flags describe."""
    interrupt_on_termination()
    config = demo_config_from_flags(flags.FLAGS)
    if not os.path.exists(config.path('run', 'checkpoint')):
        run_demo(config)
    folder = config.path('tools')
    make_folder(folder)
    steps = without_browser(plan_steps(config))
    _report(steps, folder, run_steps(steps, folder))


if __name__ == '__main__':
    define_demo_flags()
    cli.run(main, __doc__)

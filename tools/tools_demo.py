"""Runs every tool on the demo's data and checkpoint, and keeps their images and files.

    make tools-demo        takes some minutes on two cores; runs the demo first if necessary

The output is in the directory ``tools`` of the demo's directory.
"""

import os
from typing import Callable, Dict, List, NamedTuple, Sequence

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

# Length of the second run, which is compared with the demo's, as a share of its steps.
_SHARE_OF_STEPS = 0.4
_SECOND_RATE = 3e-4
# 454 MB each.
_SECOND_CHECKPOINTS = 4


class Step(NamedTuple):
    """A tool, what it shows, and the files that it writes below the output directory."""

    name: str
    shows: str
    run: Callable[[], object]
    files: Sequence[str]


def plan_steps(config: DemoConfig) -> List[Step]:
    """Lists the tools in the order in which a user meets them, for the data of a demo."""
    train, test, gt = (config.path('data', name) for name in ('train', 'test', 'gt.zip'))
    run, second_run = config.path('run'), config.path('tools', 'second_run')
    labelled = {'gpu_list': '', 'test_data_path': test, 'gt': gt}

    def out(*names: str) -> str:
        return config.path('tools', *names)

    def tool(name: str, **flag_values: object) -> Callable[[], str]:
        return lambda: run_child(script(f'tools.{name}', **flag_values))

    def photograph_server() -> None:
        with demo_server(gpu_list='', checkpoint_path=run) as url:
            screenshot(url, os.path.join(test, 'img_1.jpg'), out('demo_server.png'))

    steps = max(2, int(config.steps * _SHARE_OF_STEPS))
    training = train_command(config, checkpoint_path=second_run, learning_rate=_SECOND_RATE,
                             max_steps=steps,
                             save_checkpoint_steps=max(1, steps // _SECOND_CHECKPOINTS))
    detection = script('eval.py', engine='onnx', model=out('models', 'psenet.onnx'),
                       test_data_path=test, output_dir=out('onnx_output'))
    # After a few steps batch-norm statistics are far from the data's, and rounding errors grow.
    limit = {} if config.steps >= DEFAULT_STEPS else {'max_difference': 0.01}
    return [
        Step('check_data', 'contents of the training directory, and how much of it can be learnt',
             tool('check_data', training_data_path=train, input_sizes='64,128,192,256',
                  out=out('check_data.png')), ['check_data.png']),
        Step('browse_dataset', 'training samples as the network sees them',
             tool('browse_dataset', training_data_path=train, count=4, seed=0,
                  input_size=config.input_size, out=out('browse_dataset.png')),
             ['browse_dataset.png']),
        Step('train', f'{steps} steps at a lower learning rate, for comparison',
             lambda: run_child(training), []),
        Step('loss_curve', "losses of the demo's run",
             tool('curves', run=run, out=out('loss_curve.png')), ['loss_curve.png']),
        Step('compare_runs', 'both runs side by side',
             tool('curves', run=[f'first={run}', f'second={second_run}'],
                  out=out('compare_runs.png'), csv=out('compare_runs.csv')),
             ['compare_runs.png', 'compare_runs.csv']),
        Step('sweep', 'the thresholds that score best',
             tool('sweep', checkpoint_path=run, output_dir=out(), **labelled),
             ['sweep.png', 'sweep.csv']),
        Step('best_checkpoint', 'the checkpoint of the second run that scores best',
             tool('best_checkpoint', checkpoint_path=second_run, once='true', keep=1,
                  best_path=out('best'), **labelled), ['best/scores.png', 'best/scores.csv']),
        Step('export', 'frozen graph, SavedModel and ONNX, each compared with the checkpoint',
             tool('export', checkpoint_path=run, test_data_path=test, output_dir=out('models'),
                  **limit),
             [f'models/{name}' for name in ('psenet.pb', 'saved_model', 'psenet.onnx',
                                            'model.json')]),
        Step('eval', 'the ONNX model in ONNX Runtime', lambda: run_child(detection),
             ['onnx_output']),
        Step('demo_server', 'its page with a test image', photograph_server, ['demo_server.png']),
    ]


def run_steps(steps: List[Step], directory: str) -> Dict[str, float]:
    """Runs the tools one after the other.

    Args:
        steps: as returned by ``plan_steps``.
        directory: output directory.

    Returns:
        Step name -> seconds.

    Raises:
        PSENetError: a tool failed, or did not write one of its files.
    """
    clock = Clock()
    for step in steps:
        with clock.phase(step.name, step.shows):
            step.run()
        missing = [name for name in step.files if not os.path.exists(os.path.join(directory, name))]
        if missing:
            raise PSENetError(f'{step.name} succeeded, but {", ".join(missing)} is missing in '
                              f'{directory}')
    return clock.seconds


def main(_: List[str]) -> None:
    """Runs the tools on the demo that the flags describe."""
    interrupt_on_termination()
    config = demo_config_from_flags(flags.FLAGS)
    if not os.path.exists(config.path('run', 'checkpoint')):
        run_demo(config)
    directory = config.path('tools')
    make_folder(directory)
    steps = plan_steps(config)
    if not has_browser():
        print(f'skipping the page of demo_server: {MISSING}', flush=True)
        steps = [step for step in steps if step.name != 'demo_server']
    seconds = run_steps(steps, directory)
    print(f'\nAll tools ran, in {sum(seconds.values()):.0f} s. Their output in {directory}:')
    for step in steps:
        for name in step.files:
            print(f'{step.name:16s}{name}')


if __name__ == '__main__':
    define_demo_flags()
    cli.run(main, __doc__)

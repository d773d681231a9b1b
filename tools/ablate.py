"""Ablation study on the demo's data: one change at a time, over several seeds.

    python -m tools.ablate --seeds=3 --steps=100
    python -m tools.ablate --changes='--crop=scaled|--loss=hard_negatives|--recipe=modern'

The baseline and every change are trained with each of the seeds 0, 1, ... The table shows the mean
Hmean on held-out images, its standard deviation over the seeds, and the difference from the
baseline, marked if it exceeds twice its standard error. The score of every run is stored in
ablation.csv in --folder; runs that have a score are not repeated.
"""

import csv
import json
import os
import shutil
from typing import Dict, List, NamedTuple

import numpy as np
from absl import flags

from inference.results import write_archive
from tools.demo_data import DatasetSpec, ensure_dataset
from tools.phases import interrupt_on_termination, run_child, script
from utils import cli
from utils.errors import PSENetError
from utils.files import replacing

BASELINE = 'baseline'
_CHANGES = '|'.join([
    '--crop=scaled', '--crop=scaled --flip --max_rotation=10', '--colour_jitter', '--soft_labels',
    '--loss=hard_negatives', '--optimizer=adamw', '--schedule=cosine --warmup_steps=10',
    '--clip_norm=5', '--recipe=modern --warmup_steps=10 --measured_batches=20'])
_DATA = DatasetSpec(train_images=300, test_images=60)


class Ablation(NamedTuple):
    """Settings of an ablation study."""

    directory: str
    changes: List[str]
    seeds: int
    steps: int
    input_size: int
    learning_rate: float


def train_and_score(ablation: Ablation, change: str, seed: int) -> float:
    """Trains with a change, detects at the default thresholds, and scores.

    Args:
        ablation: settings that all runs share.
        change: flags of train.py, or BASELINE.
        seed: seed of the run.

    Returns:
        Hmean on the held-out images, 0..1.

    Raises:
        PSENetError: training, detection or scoring failed.
    """
    run, output = (os.path.join(ablation.directory, name) for name in ('run', 'output'))
    data = os.path.join(ablation.directory, 'data')
    given = [] if change == BASELINE else change.split()
    names = {flag.lstrip('-').split('=')[0] for flag in given}
    # --recipe=modern has its own learning rate, which is tuned for runs of ten thousand steps.
    common = {'gpu_list': '', 'training_data_path': os.path.join(data, 'train'),
              'checkpoint_path': run, 'overwrite': 'true', 'input_size': ablation.input_size,
              'batch_size_per_gpu': 4, 'num_readers': 1, 'seed': seed,
              'learning_rate': ablation.learning_rate, 'batch_norm_decay': 0.9,
              'max_steps': ablation.steps}
    run_child(script('train.py', **{name: value for name, value in common.items()
                                    if name not in names}) + given)
    run_child(script('eval.py', gpu_list='', test_data_path=os.path.join(data, 'test'),
                     checkpoint_path=run, output_dir=output, no_write_images='true'))
    printed = run_child(script('evaluation/script.py') + [
        f'-g={os.path.join(data, "gt.zip")}', f'-s={write_archive(output)}'], capture=True)
    shutil.rmtree(run)      # 454 MB
    return json.loads(printed.strip().splitlines()[-1])['hmean']


def format_table(scores: Dict[str, List[float]]) -> str:
    """Formats the results as a table with one line per change.

    Args:
        scores: Hmean of each seed, by change; includes BASELINE.
    """
    base = np.array(scores[BASELINE])
    lines = [f'{"Hmean":>7} {"spread":>7} {"change":>8}     flags of train.py']
    for change, found in scores.items():
        values = np.array(found)
        difference = values.mean() - base.mean()
        error = np.sqrt(_variance(values) / len(values) + _variance(base) / len(base))
        mark = ' *' if change != BASELINE and abs(difference) > 2 * error > 0 else '  '
        lines.append(f'{values.mean():7.3f} {np.sqrt(_variance(values)):7.3f} '
                     f'{difference:+8.3f}{mark}   {change}')
    return '\n'.join([*lines, '* more than twice the standard error of the difference'])


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def run_ablation(ablation: Ablation) -> Dict[str, List[float]]:
    """Trains every run that has no score yet and returns the Hmeans by change.

    Raises:
        PSENetError: a run failed; earlier scores are kept.
    """
    ensure_dataset(os.path.join(ablation.directory, 'data'), _DATA)
    table = os.path.join(ablation.directory, 'ablation.csv')
    fixed = [str(value) for value in ablation[3:]]
    rows = _read(table)
    scores: Dict[str, List[float]] = {}
    for seed in range(ablation.seeds):
        for change in [BASELINE, *ablation.changes]:
            key = [change, str(seed), *fixed]
            known = [row[-1] for row in rows if row[:-1] == key]
            if not known:
                print(f'\n== {change}, seed {seed}', flush=True)
                known = [str(train_and_score(ablation, change, seed))]
                rows.append([*key, *known])
                _write(table, rows)
            scores.setdefault(change, []).append(float(known[0]))
        print('\n' + format_table(scores), flush=True)
    return scores


def _read(path: str) -> List[List[str]]:
    if not os.path.exists(path):
        return []
    try:
        with open(path, newline='', encoding='utf-8') as file:
            return list(csv.reader(file))[1:]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PSENetError(f'{path} cannot be read ({error}); repair or remove it') from None


def _write(path: str, rows: List[List[str]]) -> None:
    with replacing(path) as temporary, open(temporary, 'w', newline='',
                                            encoding='utf-8') as file:
        csv.writer(file).writerows([['change', 'seed', *Ablation._fields[3:], 'hmean'], *rows])


def define_ablation_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('ablation')
    cli.define_path('folder', './demo/ablation', 'Directory for data, runs and ablation.csv.',
                    **group)
    flags.DEFINE_string('changes', _CHANGES, 'Changes, separated by |; each is flags of train.py, '
                        'separated by blanks.', **group)
    flags.DEFINE_integer('seeds', 3, 'Runs of each change.', 1, **group)
    flags.DEFINE_integer('steps', 100, 'Training steps of a run.', 1, **group)
    flags.DEFINE_integer('input_size', 256, 'Side in pixels of the training crops.', 32, **group)
    flags.DEFINE_float('learning_rate', 1e-3, 'Learning rate of all runs whose change does not set '
                       'it.', 0, **group)


def main(_: List[str]) -> None:
    """Runs the ablation that the flags describe."""
    interrupt_on_termination()
    values = flags.FLAGS
    changes = [change.strip() for change in values.changes.split('|') if change.strip()]
    wrong = [change for change in changes if not all(
        part.startswith('--') for part in change.split())]
    if wrong or not changes:
        raise PSENetError(f'--changes={values.changes} must be flags of train.py, such as '
                          '"--crop=scaled|--loss=hard_negatives"')
    os.makedirs(values.folder, exist_ok=True)
    run_ablation(Ablation(values.folder, changes, values.seeds, values.steps, values.input_size,
                          values.learning_rate))


if __name__ == '__main__':
    define_ablation_flags()
    cli.run(main, __doc__)

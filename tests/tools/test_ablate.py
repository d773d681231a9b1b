"""ablate: the table's arithmetic, runs that are not done again, and mistakes."""

import subprocess
import sys

import pytest

from tools import ablate
from tools.ablate import BASELINE, Ablation, format_table, run_ablation


def test_a_difference_is_marked_where_it_exceeds_the_spread():
    table = format_table({BASELINE: [0.5, 0.52, 0.54], '--a': [0.6, 0.62, 0.61],
                          '--b': [0.4, 0.7, 0.55]})
    _, base, clear, noisy, legend = table.splitlines()
    assert base.split() == ['0.520', '0.020', '+0.000', BASELINE]
    assert clear.split() == ['0.610', '0.010', '+0.090', '*', '--a']
    assert noisy.split() == ['0.550', '0.150', '+0.030', '--b']
    assert legend.startswith('* more than twice')


def test_one_seed_has_no_spread_and_no_marks():
    assert '*   ' not in format_table({BASELINE: [0.5], '--a': [0.9]})


def test_runs_that_are_there_are_not_done_again(tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(ablate, 'ensure_dataset', lambda *_: False)
    monkeypatch.setattr(ablate, 'train_and_score', lambda _, change, seed: (
        done.append((change, seed)) or 0.5 + 0.01 * seed))
    plan = Ablation(str(tmp_path), ['--flip, really'], 2, 5, 64, 1e-3)
    scores = run_ablation(plan)
    assert scores == {BASELINE: [0.5, 0.51], '--flip, really': [0.5, 0.51]}
    assert len(done) == 4
    assert run_ablation(plan._replace(seeds=3))['--flip, really'] == [0.5, 0.51, 0.52]
    assert done[4:] == [(BASELINE, 2), ('--flip, really', 2)]
    # Other steps are other runs.
    run_ablation(plan._replace(steps=6))
    assert len(done) == 10
    assert 'Hmean' in capsys.readouterr().out


@pytest.mark.parametrize('changes', ['', 'flip', '--a b'])
def test_changes_that_are_no_flags_are_refused(tmp_path, changes):
    ended = subprocess.run([sys.executable, '-m', 'tools.ablate', f'--changes={changes}'],
                           cwd=str(tmp_path), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'must be flags of train.py' in ended.stderr

"""A short version of `make fuzz`, on the same inputs every time, and what becomes of findings."""

import json
import random

import numpy as np
import pytest

from tests.fuzz import __main__ as command
from tests.fuzz import guided, targets
from tests.fuzz.expansion import special_maps, try_map
from tests.fuzz.images import try_damaged_images
from tests.fuzz.targets import TARGETS, Target

_INPUTS = 500


@pytest.mark.filterwarnings('ignore::FutureWarning')  # of the regular expressions that are tried
@pytest.mark.parametrize('name', sorted(TARGETS))
def test_seeds_and_what_is_made_of_them(name, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, '_SCRATCH', str(tmp_path / 'input'))
    target, rng = TARGETS[name], random.Random(1)
    for data in target.seeds:
        target.try_input(data)
    for _ in range(_INPUTS):
        target.try_input(guided.mutated(rng.choice(target.seeds), rng))


def test_damaged_images(capfd):
    decoded = try_damaged_images(40)
    assert 0 < decoded < 40


def test_special_maps():
    for kernels in special_maps():
        try_map(kernels, 3)


def test_a_map_of_8192_by_8192():
    try_map(np.ones((2, 8192, 8192), np.uint8), 3)


def test_a_finding_is_kept(monkeypatch, tmp_path):
    def refuse(data):
        if len(data) > 4:
            raise RuntimeError('too long')
    monkeypatch.setitem(TARGETS, 'parameters', Target(refuse, [b'abcd']))
    monkeypatch.setattr(guided, 'atheris', None)
    with pytest.raises(RuntimeError, match='too long'):
        guided.main(['parameters', '60', str(tmp_path)])
    with pytest.raises(RuntimeError, match='too long'):
        guided.main(['parameters', str(tmp_path / 'crash-parameters')])


def test_without_atheris_it_is_said_how_inputs_were_found(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(guided, 'atheris', None)
    guided.main(['result lines', '0.1', str(tmp_path)])
    told = json.loads(capsys.readouterr().out)
    assert told['inputs'] > 0
    assert told['how'] == 'changed at random'


def test_a_program_that_fails_is_a_finding(capsys):
    outcome = command.run(['tests.fuzz.guided', 'no such target', __file__], {})
    assert (outcome.found, outcome.inputs) == (True, 0)
    assert 'KeyError' in capsys.readouterr().out


def test_every_target_gets_its_share_of_the_time():
    planned = command.commands(100)
    assert set(planned) == {*TARGETS, 'images', 'expansion'}
    assert sum(int(words[2]) for words, _ in planned.values() if words[0].endswith('guided')) == 65
    assert 'libasan' in planned['expansion'][1]['LD_PRELOAD']

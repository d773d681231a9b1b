"""Tries inputs on one target of ``targets``, found by Atheris from the code that they reach.

    python -m tests.fuzz.guided TARGET SECONDS [DIR]     findings go into the directory
    python -m tests.fuzz.guided TARGET FILE                 tries a finding again

Where Atheris is not installed, known inputs are changed at random, with nothing to guide it.
"""

import json
import os
import random
import sys
import tempfile
import time
from typing import List

try:
    import atheris
except ImportError:  # it has wheels for few machines
    atheris = None

# Changes that make an input of another kind, beside those of single bytes.
_SPLICES = (b'', b'\0', b'\n', b',', b'nan', b'1e300', b'-', b'9' * 40, b'\xff\xfe',
            b'\xef\xbb\xbf')


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Changes bytes at up to eight places, and cuts the end off now and then.

    Args:
        data: what to change.
        rng: chooses.

    Returns:
        The changed bytes.
    """
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = rng.randint(0, len(changed))
        if rng.random() < 0.5:
            changed[place:place + 1] = bytes([rng.randrange(256)])
        else:
            changed[place:place + rng.randint(0, 3)] = rng.choice(_SPLICES)
    return bytes(changed[:rng.randint(0, len(changed))] if rng.random() < 0.1 else changed)


def _fuzz_plainly(name: str, seconds: float, directory: str) -> None:
    from tests.fuzz.targets import TARGETS
    target, rng, tried = TARGETS[name], random.Random(0), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(rng.choice(target.seeds), rng)
        try:
            target.try_input(data)
        except BaseException:
            with open(os.path.join(directory, f'crash-{name}'), 'wb') as file:
                file.write(data)
            raise
        tried += 1
    print(json.dumps({'inputs': tried, 'how': 'changed at random'}))


def _fuzz_guided(name: str, seconds: int, directory: str) -> None:
    with atheris.instrument_imports(include=['evaluation', 'utils.data_provider.annotation']):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            with open(os.path.join(corpus, str(number)), 'wb') as file:
                file.write(seed)
        prefix = os.path.join(directory, f'{name}-'.replace(' ', '-'))
        atheris.Setup([sys.argv[0], corpus, f'-max_total_time={seconds}', '-max_len=2000',
                       '-timeout=20', f'-artifact_prefix={prefix}', '-print_final_stats=1'],
                      target.try_input)
        atheris.Fuzz()


def _try_again(name: str, path: str) -> None:
    from tests.fuzz.targets import TARGETS
    with open(path, 'rb') as file:
        TARGETS[name].try_input(file.read())


def main(arguments: List[str]) -> None:
    """Runs what the arguments say; ends with an exception, or as Atheris does, at a finding."""
    name, what, *directory = arguments
    if os.path.isfile(what):
        _try_again(name, what)
    elif atheris is None:
        _fuzz_plainly(name, float(what), *directory or ['.'])
    else:
        _fuzz_guided(name, int(what), *directory or ['.'])


if __name__ == '__main__':
    main(sys.argv[1:])

"""Steps of the real network on given batches, by one process or by two that train together.

    python -m tests.horovod_steps DIR                         alone.npz
    horovodrun -np 2 python -m tests.horovod_steps DIR        rank_0.npz, rank_1.npz

Each file holds, by scenario, ``<scenario>/digests``: a JSON text of all variables' names and the
SHA-256 of their values. That of rank 0 also holds ``<scenario>/<variable>``, Adam's first moment of
each trainable one: after one step from zero, it is 0.1 times the gradient that was applied.
"""

import hashlib
import json
import os
import sys

import numpy as np
import tensorflow as tf

from training.config import TrainConfig
from training.devices.gpu import GpuDevice
from training.devices.horovod import HorovodDevice
from training.devices.launcher import find_rank
from training.graph import build_train_graph
from utils.tf_env import configure_tensorflow

CONFIG = TrainConfig(input_size=64, batch_size_per_gpu=2)


def make_batch(seed):
    """A random batch in the form of the graph's inputs."""
    random = np.random.RandomState(seed)
    return [random.randint(0, 256, [2, 64, 64, 3]), random.randint(0, 2, [2, 16, 16, 6]),
            random.randint(0, 2, [2, 16, 16, 1])]


class Steps:
    """The graph of a device, and runs of it from the same first values."""

    def __init__(self, device, seed):
        self._device = device
        tf.set_random_seed(seed)
        self._graph = build_train_graph(CONFIG, device)
        self._initialise = tf.global_variables_initializer()
        self._seen = {}

    def run(self, scenario, seeds):
        """Takes a step on the batch of each seed; processes then share their statistics."""
        # A new session draws the same initial values.
        with tf.Session(config=self._device.session_config()) as session:
            session.run(self._initialise)
            if self._graph.share_all is not None:
                session.run(self._graph.share_all)
            for seed in seeds:
                feed = dict(zip(self._graph.inputs, make_batch(seed)))
                session.run(self._graph.fetches, {**feed, self._graph.stop_votes: [0, 0]})
            self._keep(scenario, session)
            if self._graph.share_statistics is not None:
                session.run(self._graph.share_statistics)
                self._keep(scenario + ', shared', session)

    def _keep(self, scenario, session):
        values = session.run({one.op.name: one for one in tf.global_variables()})
        digests = {name: hashlib.sha256(value.tobytes()).hexdigest()
                   for name, value in values.items()}
        self._seen[f'{scenario}/digests'] = json.dumps(digests)
        if self._device.rank == 0 and 'shared' not in scenario:
            self._seen.update({f'{scenario}/{one.op.name}': values[one.op.name + '/Adam']
                               for one in tf.trainable_variables()})

    def write(self, path):
        """Writes what was kept."""
        np.savez(path, **self._seen)


def main(directory):
    """Runs the scenarios of this process."""
    configure_tensorflow('')
    place = find_rank(os.environ, distributed=True)
    together = place.world_size > 1
    device = HorovodDevice('', place) if together else GpuDevice('')
    device.prepare()
    # Rank 1 starts from other values, so what both have afterwards is rank 0's.
    steps = Steps(device, seed=place.rank)
    steps.run('same', [10, 11, 12])
    if together:
        steps.run('different', [20 + place.rank])
    else:
        steps.run('first', [20])
        steps.run('second', [21])
    steps.write(os.path.join(directory, f'rank_{place.rank}.npz' if together else 'alone.npz'))


if __name__ == '__main__':
    main(sys.argv[1])

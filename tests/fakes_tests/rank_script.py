"""One of two ranks that try the fake's collectives in a session; prints what came out, as JSON."""

import json
import os
import sys

import numpy as np
import tensorflow as tf
from hccl.manage import api
from npu_bridge.estimator.npu.npu_hook import broadcast_global_variables
from npu_bridge.estimator.npu.npu_loss_scale_manager import FixedLossScaleManager
from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer
from npu_bridge.hccl import hccl_ops

from tests.fakes_tests.conftest import npu_config

RANK = int(os.environ['RANK_ID'])
# More than there are threads: an op that waited for the other rank would keep the rest from it.
MANY = 40


def session():
    """A session with all variables initialised."""
    made = tf.Session(config=npu_config())
    made.run(tf.global_variables_initializer())
    return made


def reductions():
    own = tf.constant([[1.0 + RANK, 2.0], [3.0, -4.0 * RANK]])
    total = hccl_ops.allreduce(own, 'sum')
    # Each rank's loss is its own; a gradient is the sum over the ranks of what comes from above.
    gradient, = tf.gradients(total * (1.0 + RANK), own)
    gathered = hccl_ops.allgather(own, 2)
    share = hccl_ops.reduce_scatter(gathered, 'max', 2)
    at_one = hccl_ops.reduce(own, 'prod', 1)
    one_way = hccl_ops.receive([2], tf.int32, 3, 1) if RANK == 0 else hccl_ops.send(
        tf.constant([5, 6]), 3, 0)
    with session() as made:
        fetched = made.run([total, gradient, gathered, share, at_one, one_way])
        return [None if value is None else value.tolist() for value in fetched]


def many_at_once():
    """Independent collectives, more than there are threads, and one that needs all of them."""
    values = [hccl_ops.broadcast([tf.constant([1.0 + number + RANK])], 0)[0]
              for number in range(MANY)]
    total = hccl_ops.allreduce(tf.add_n(values), 'sum')
    with session() as made:
        return made.run(total).tolist()


def broadcast():
    weight = tf.get_variable('weight', initializer=1.0 + RANK)
    statistic = tf.get_variable('statistic', initializer=3.0 + RANK, trainable=False)
    op = broadcast_global_variables(0, RANK)
    with session() as made:
        made.run(op)
        return made.run([weight, statistic])


def training(is_distributed):
    """A weight whose gradient is 1 on rank 0 and 3 on rank 1; rank 1 overflows once."""
    weight = tf.get_variable('weight', initializer=10.0)
    optimizer = NPULossScaleOptimizer(
        NPUDistributedOptimizer(tf.train.GradientDescentOptimizer(1.0)),
        FixedLossScaleManager(1024.0), is_distributed)
    update = optimizer.minimize(weight * (1.0 + 2 * RANK))
    with session() as made:
        return [made.run(update) or made.run(weight) for _ in range(2)]


def ranks():
    with session() as made:
        made.run(hccl_ops.allreduce(tf.ones([1]), 'sum'))
        return [api.get_rank_size(), api.get_rank_id(), api.get_local_rank_size(),
                api.get_local_rank_id()]


def disagreement():
    """A reduction that the ranks do not agree on."""
    total = hccl_ops.allreduce(tf.ones([2]), 'max' if RANK else 'sum')
    with session() as made:
        try:
            return made.run(total).tolist()
        except tf.errors.OpError as error:
            return [type(error).__name__, error.message]


def main():
    # Overflows are counted in runs of an update, over the whole process.
    answers = {}
    for name, trial in {
            'reductions': reductions, 'many': many_at_once, 'broadcast': broadcast,
            'together': lambda: training(True), 'apart': lambda: training(False), 'ranks': ranks,
            'disagreement': disagreement}.items():
        with tf.Graph().as_default():
            answers[name] = trial()
    json.dump(answers, sys.stdout, default=np.generic.tolist)


if __name__ == '__main__':
    main()

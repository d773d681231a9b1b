"""Loops on the device, and initialisation on the host; NPU.md, section 8."""

from typing import List, NoReturn

import tensorflow as tf
from fake_npu.release import not_established
from fake_npu.run_rules import ITERATIONS

_VARIABLES = ('iterations_per_loop', 'loop_cond', 'zero', 'one')


class IterationPerLoop:
    """Several steps a session.run, in two halves: before the graph is final, and with a session."""

    def __init__(self):
        self._variables: List[tf.Variable] = []
        self._loop: list = []

    def create_iteration_per_loop_var(self, train_op: tf.Operation) -> tf.Operation:
        """Wraps the training op as a group named IterationOp, which the device looks for.

        Raises:
            ValueError: train_op is no Operation.
        """
        if not isinstance(train_op, tf.Operation):
            raise ValueError(f'train_op must be an Operation, not {train_op!r}')
        with tf.variable_scope('npu_runconfig'):
            self._variables = [tf.get_variable(
                name, [], tf.int64, tf.zeros_initializer(), trainable=False,
                collections=[tf.GraphKeys.LOCAL_VARIABLES]) for name in _VARIABLES]
        op = tf.group(train_op, name='IterationOp')
        self._loop = [op, 0]
        tf.add_to_collection(ITERATIONS, self._loop)
        return op

    def load_iteration_per_loop_var(self, sess: tf.Session, iterations_per_loop: int) -> None:
        """Tells the device how many steps a run takes."""
        for variable, value in zip(self._variables, (iterations_per_loop, 0, 0, 1)):
            variable.load(value, sess)
        self._loop[1] = iterations_per_loop


def set_iteration_per_loop(sess: tf.Session, train_op: tf.Operation, iterations_per_loop: int = 1
                           ) -> tf.Operation:
    """Both halves at once; the training op unchanged for 1."""
    if not isinstance(train_op, tf.Operation):
        raise ValueError(f'train_op must be an Operation, not {train_op!r}')
    if iterations_per_loop == 1:
        return train_op
    loop = IterationPerLoop()
    op = loop.create_iteration_per_loop_var(train_op)
    loop.load_iteration_per_loop_var(sess, iterations_per_loop)
    return op


def variable_initializer_in_host(var_list: List[tf.Variable]) -> tf.Operation:
    """Initialises variables without the device."""
    return tf.group(*[variable.initializer for variable in var_list], name='var_in_host')


def set_graph_exec_config(fetch, dynamic_input, dynamic_graph_execute_mode,
                          dynamic_inputs_shape_range) -> NoReturn:
    """Exists; what it does to a run is not known here."""
    not_established('util.set_graph_exec_config')


def npu_compile(sess: tf.Session, *fetches) -> NoReturn:
    """Exists; what it does is not known here."""
    not_established('util.npu_compile')

"""Averages over towers, with numbers that can be checked by hand."""

import pytest
import tensorflow as tf

from training.towers import average_gradients, combine_update_ops, mean


@pytest.fixture
def variables(session):
    """Two variables, initialised: a = [10, 20], b = 5."""
    pair = [tf.get_variable('a', initializer=[10.0, 20.0]), tf.get_variable('b', initializer=5.0)]
    session.run(tf.global_variables_initializer())
    return pair


def test_gradients_are_averaged_variable_by_variable(session, variables):
    a, b = variables
    towers = [[(tf.constant([1.0, 2.0]), a), (tf.constant(3.0), b)],
              [(tf.constant([4.0, 8.0]), a), (tf.constant(4.0), b)],
              [(tf.constant([-2.0, 2.0]), a), (tf.constant(2.0), b)]]
    averaged = average_gradients(towers)
    assert [variable for _, variable in averaged] == [a, b]
    values = session.run([gradient for gradient, _ in averaged])
    assert values[0].tolist() == [1.0, 4.0]
    assert values[1] == 3.0


def test_one_tower_passes_its_gradients_through(variables):
    gradient = tf.constant([1.0, 2.0])
    assert average_gradients([[(gradient, variables[0])]]) == [(gradient, variables[0])]


def test_variable_without_any_gradient_is_left_out(variables):
    a, b = variables
    towers = [[(None, a), (tf.constant(3.0), b)], [(None, a), (tf.constant(4.0), b)]]
    assert [variable for _, variable in average_gradients(towers)] == [b]


def test_gradient_that_one_tower_lacks_counts_as_zero(session, variables):
    towers = [[(None, variables[0])], [(tf.constant([4.0, 8.0]), variables[0])]]
    (gradient, _), = average_gradients(towers)
    assert session.run(gradient).tolist() == [2.0, 4.0]


def test_mean_of_one_tensor_is_that_tensor(session):
    tensor = tf.constant(1.0)
    assert mean([tensor]) is tensor


def test_two_towers_updates_become_one_with_the_mean(session, variables):
    a, b = variables
    towers = [[tf.assign_sub(a, [1.0, 2.0]), tf.assign_sub(b, 1.0).op],
              [tf.assign_sub(a, [3.0, 6.0]), tf.assign_sub(b, 3.0).op]]
    combined = combine_update_ops(towers)
    assert [op.type for op in combined] == ['AssignSub', 'AssignSub']
    session.run(combined)
    assert session.run(a).tolist() == [8.0, 16.0]
    assert session.run(b) == 3.0


def test_moving_average_moves_once_towards_the_mean_of_the_batches(session, variables):
    b = variables[1]
    towers = [[tf.assign_sub(b, (b - batch) * (1 - 0.75))] for batch in (1.0, 3.0)]
    session.run(combine_update_ops(towers))
    assert session.run(b) == 5 * 0.75 + 2 * 0.25


def test_one_towers_updates_are_passed_through_whatever_they_are(variables):
    ops = [tf.assign(variables[0], [0.0, 0.0]).op]
    assert combine_update_ops([ops]) == ops


def test_no_update_ops_at_all():
    assert combine_update_ops([[], []]) == []


def test_update_of_another_kind_is_refused(variables):
    towers = [[tf.assign_add(variables[1], 1.0)], [tf.assign_add(variables[1], 2.0)]]
    with pytest.raises(ValueError, match=r'cannot combine the update ops .*AssignAdd'):
        combine_update_ops(towers)


def test_updates_of_different_variables_are_refused(variables):
    towers = [[tf.assign_sub(variables[0], [1.0, 1.0])], [tf.assign_sub(variables[1], 1.0)]]
    with pytest.raises(ValueError, match='cannot combine the update ops'):
        combine_update_ops(towers)


def test_different_numbers_of_updates_are_refused(variables):
    towers = [[tf.assign_sub(variables[1], 1.0)], []]
    with pytest.raises(ValueError, match=r'\[1, 0\] update ops'):
        combine_update_ops(towers)

"""Steps that the device leaves out, seen by the hooks and by the loop."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.training.test_hooks import Recorder, clock, result_of
from tests.training.test_loop import fail, run, saved, tiny_graph
from training import loop
from training.devices.device import Limits
from training.devices.gpu import GpuDevice
from training.hooks import DivergenceError, DivergenceGuard, LogHook, StepResult, tell
from utils.errors import PSENetError

__all__ = ['clock', 'run']  # fixtures


def skipped(step, scale=1024.0, **scalars):
    """A step after ``step`` that was left out, and the loss scale after it."""
    result = result_of(step, **scalars)
    return StepResult(step, result.values._replace(device_scalars={'loss_scale': scale}),
                      result.batch, 0.5, taken=0, skipped=1)


def test_guard_counts_steps_in_a_row():
    guard = DivergenceGuard(Limits(max_skipped_steps=2))
    for step in range(3):
        guard.after_skip(None, skipped(step))
        guard.after_skip(None, skipped(step))
        guard.after_step(None, result_of(step + 1))


def test_guard_tells_the_history_of_the_scale_and_the_files():
    guard = DivergenceGuard(Limits(max_skipped_steps=4))
    for scale in (4096.0, 2048.0, 2048.0, 1024.0):
        guard.after_skip(None, skipped(37, scale))
    with pytest.raises(DivergenceError) as caught:
        guard.after_skip(None, skipped(37, 1024.0))
    for part in ('after step 37', '5 consecutive steps', '--max_skipped_steps=4',
                 '4096 -> 2048 -> 1024', 'a/img_1.jpg, a/img_2.jpg', '--restore'):
        assert part in str(caught.value)


def test_an_applied_step_begins_a_new_history():
    guard = DivergenceGuard(Limits(max_skipped_steps=1))
    guard.after_skip(None, skipped(1, 4096.0))
    guard.after_step(None, result_of(2))
    guard.after_skip(None, skipped(2, 512.0))
    with pytest.raises(DivergenceError, match='loss scale at 512 -> 256,'):
        guard.after_skip(None, skipped(2, 256.0))


def test_what_overflowed_in_a_step_that_was_left_out_is_no_divergence():
    DivergenceGuard(Limits(max_skipped_steps=1)).after_skip(
        None, skipped(1, gradient_norm=float('inf'), total_loss=float('nan')))


def test_guard_watches_a_bound_on_the_loss():
    guard = DivergenceGuard(Limits(max_loss=100.0))
    guard.after_step(None, result_of(1, total_loss=100.0))
    with pytest.raises(DivergenceError, match=r'step 2 .*total_loss is 65504, above --max_loss'):
        guard.after_step(None, result_of(2, total_loss=65504.0))


def test_log_line_tells_of_them_and_counts_their_time(clock, messages):
    hook = LogHook(batch_size=2, max_steps=10)
    clock.now += 20
    for step in range(1, 11):
        hook.after_skip(None, skipped(step - 1))
        hook.after_step(None, result_of(step, data_seconds=0.5))
    line, = messages()
    assert re.search(r'2\.00 seconds/step, 1\.00 examples/second, data wait 50\.0%', line)
    assert line.endswith(', skipped 10')


@pytest.fixture
def skipping(run, monkeypatch):
    """run() on a device that leaves out a step whose images are negative; run.told is the log."""
    told = []

    class Spy(loop.Hook):
        def after_step(self, session, result):
            told.append(result.step)

        def after_skip(self, session, result):
            told.append('skip')

    def graph(config, device):
        built = tiny_graph(config, device)
        step, weight = (variable for variable in tf.global_variables()
                        if variable.op.name in ('global_step', 'weight'))
        clean = tf.reduce_min(built.inputs.images) >= 0
        update = tf.cond(clean, lambda: tf.group(
            tf.assign_add(step, 1.0), tf.assign_add(weight, tf.reduce_mean(built.inputs.images))),
            tf.no_op)
        with tf.control_dependencies([update]):
            fetches = built.fetches._replace(
                update=update, global_step=step.read_value(),
                score_maps=tf.identity(built.inputs.seg_maps[0]),
                scalars=type(built.fetches.scalars)(*[tf.constant(0.5)] * 6),
                device_scalars={'loss_scale': tf.constant(8.0)})
        return built._replace(fetches=fetches)

    train = loop.train
    monkeypatch.setattr(loop, 'train', lambda config, device: train(config, device, [Spy()]))
    monkeypatch.setattr(loop, 'build_train_graph', graph)
    monkeypatch.setattr(GpuDevice, 'limits', Limits(max_skipped_steps=2))
    run.told = told
    return run


def overflow():
    return -1.0


def test_a_step_left_out_is_no_step(skipping, monkeypatch):
    saves = []
    save = loop.CheckpointWriter.save
    monkeypatch.setattr(loop.CheckpointWriter, 'save', lambda self, session, step: (
        saves.append(step), save(self, session, step)))
    assert skipping({2: overflow, 3: overflow}, save_checkpoint_steps=2) == 0
    assert skipping.told == [1, 2, 'skip', 'skip', 3, 4, 5]
    assert saves == [2, 4, 5]
    assert saved(skipping.directory)[5] == 0 + 1 + 4 + 5 + 6
    assert skipping.batches.next_batch == 7


def test_restore_goes_on_with_the_batch_of_its_step(skipping):
    skipping({1: overflow}, max_steps=3)
    assert skipping(restore=True) == 0
    # Batch 3 was seen before the end of the first run, whose step 3 it was; it comes again.
    assert saved(skipping.directory)[5] == 0 + 2 + 3 + 3 + 4


def test_too_many_in_a_row_end_the_run_and_save_nothing(skipping):
    with pytest.raises(DivergenceError, match='after step 3: the gradients of 3 consecutive steps'):
        skipping(dict.fromkeys([3, 4, 5], overflow), save_checkpoint_steps=2)
    assert sorted(saved(skipping.directory)) == [2]


def test_an_error_after_a_skipped_first_step_saves_nothing(skipping):
    with pytest.raises(PSENetError):
        skipping({0: overflow, 1: fail(PSENetError('no'))})
    assert saved(skipping.directory) == {}


def test_summaries_hold_the_loss_scale():
    writer = Recorder()
    hook = loop.SummaryHook(writer, 1)
    hook.after_skip(None, skipped(1))
    hook.after_step(None, skipped(2, np.float32(256.0))._replace(taken=1))
    assert [call[1] for call in writer.calls] == [2, 2]
    assert writer.calls[0][2]['loss_scale'] == 256.0


def test_several_steps_at_once_are_counted_and_reported_by_their_last(clock, messages):
    """The device takes 4 by itself; two of the third time are left out."""
    hooks = [DivergenceGuard(Limits(max_skipped_steps=1)), LogHook(batch_size=2, max_steps=20)]
    scale = {'loss_scale': 512.0}
    for step, taken in ((4, 4), (8, 4), (10, 2), (14, 4), (18, 4), (20, 2)):
        clock.now += 4
        result = result_of(step, data_seconds=None)
        result = result._replace(values=result.values._replace(device_scalars=scale), taken=taken,
                                 skipped=4 - taken)
        tell(hooks, None, result)
    skips, lines = messages()[::2], messages()[1::2]
    assert skips == [f'up to step {step}: the gradients overflowed, 2 updates skipped; loss '
                     'scale 512' for step in (10, 20)]
    assert [line[:11] for line in lines] == ['Step 000010', 'Step 000020']
    assert lines[0].endswith('1.20 seconds/step, 1.67 examples/second, ETA 0:00:12, skipped 2')


@pytest.mark.parametrize('step, taken, every, reached', [
    (10, 1, 10, True), (11, 1, 10, False), (12, 4, 10, True), (14, 4, 10, False),
    (40, 40, 10, True), (10, 0, 10, False)])
def test_an_interval_may_end_between_two_results(step, taken, every, reached):
    assert result_of(step)._replace(taken=taken).reaches(every) is reached

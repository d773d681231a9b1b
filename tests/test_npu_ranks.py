"""Training on several NPUs through the real script, a process a rank, over the fake adapter."""

import json
import re
import sys
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tests.npu_ranks import FAKES, Ranks
from tests.small_network.sitecustomize import small_network
from tools.demo_data import DatasetSpec, ensure_dataset
from training.checkpoints import open_checkpoint
from training.config import TrainConfig
from training.devices.gpu import GpuDevice
from training.graph import build_train_graph
from training.hooks import Batch
from training.run_folder import find_checkpoints
from utils.data_provider.data_provider import get_batch

SIZE, BATCH, SEED = 64, 2, 3
# What a rank may be late, on a machine that does much else besides.
COLLECTIVE_SECONDS = '600'

pytestmark = pytest.mark.timeout(1800)


class Job(Ranks):
    """Ranks that train in one directory."""

    def __init__(self, project_root, directory, size):
        super().__init__(directory, size, [sys.executable, str(project_root / 'npu_train.py')])
        self.record = directory / 'record'
        self.checkpoints = directory / 'run'
        self.data = directory / 'data' / 'train'
        ensure_dataset(str(directory / 'data'),
                       DatasetSpec(train_images=16, test_images=2, size=96))

    def train(self, *flags, batch_size=BATCH, **kwargs):
        """Trains to the end of all ranks: (exit code, output) of each."""
        arguments = [f'--training_data_path={self.data}',
                     f'--checkpoint_path={self.checkpoints}', f'--input_size={SIZE}',
                     f'--batch_size_per_gpu={batch_size}', '--num_readers=1', f'--seed={SEED}',
                     '--save_summary_steps=1', '--pretrained_model_path=', *flags]
        return self.run(*arguments, FAKE_NPU_COLLECTIVE_TIMEOUT=COLLECTIVE_SECONDS,
                        FAKE_NPU_RECORD=str(self.record), TF_CPP_MIN_LOG_LEVEL='2', **kwargs)

    def events(self, name):
        """What the ranks recorded under a name so far, in the order of the ranks."""
        events = [json.loads(line) for line in self.record.read_text().splitlines()]
        return sorted((event for event in events if event['event'] == name),
                      key=lambda event: event['rank'])

    def last_digests(self):
        """What each rank's variables held at last."""
        return list({event['rank']: event['digests']
                     for event in self.events('variables')}.values())

    def log_of(self, rank):
        """The log file of a rank that is not 0."""
        return (self.checkpoints / (f'rank_{rank}.log')).read_text()

    def saved_steps(self):
        """Steps of the checkpoints."""
        return sorted(open_checkpoint(prefix).global_step()
                      for prefix in find_checkpoints(str(self.checkpoints)))

    def remove_checkpoints(self):
        """They have 454 MB each, and pytest keeps directories."""
        for path in self.checkpoints.glob('model.ckpt-*'):
            path.unlink()


@pytest.fixture(scope='module')
def job(project_root, tmp_path_factory):
    """Two ranks, whose runs follow one another in one directory."""
    job = Job(project_root, tmp_path_factory.mktemp('ranks'), 2)
    yield job
    job.remove_checkpoints()


class Trained(NamedTuple):
    """The first run of the job."""

    ended: list    # (exit code, output) of each rank
    runs: list     # recorded events
    digests: list  # of each rank: {variable: digest of its last value}


@pytest.fixture(scope='module')
def trained(job):
    """Rank 1 overflows the second time, and gets SIGTERM the third, which is step 2."""
    ended = job.train('--max_steps=9', only={1: {'FAKE_NPU_OVERFLOW_STEPS': '2',
                                                 'FAKE_NPU_SIGNAL': '3:SIGTERM'}})
    return Trained(ended, job.events('run'), job.last_digests())


def test_a_signal_to_one_rank_ends_all_after_the_same_step(job, trained):
    first, second = trained.ended
    assert (first[0], second[0]) == (143, 143), trained.ended
    assert job.saved_steps() == [3]
    for log in (first[1], job.log_of(1)):
        assert 'stopped by SIGTERM' in log


def test_rank_0_alone_speaks_on_the_console(job, trained):
    (_, first), (_, second) = trained.ended
    assert 'training data: 16 images' in first
    assert 'INFO]' not in second
    assert 'training data: 16 images' in job.log_of(1)


def test_an_overflow_of_one_rank_skips_the_step_of_all(job, trained):
    (_, first), _ = trained.ended
    assert [(event['rank'], event['run']) for event in job.events('overflow')] == [('1', 2)]
    for log in (first, job.log_of(1)):
        assert re.findall(r'step (\d+): the gradients overflowed', log) == ['2']


def test_all_ranks_have_the_weights_that_rank_0_saved(job, trained, monkeypatch):
    first, second = trained.digests
    # Weights and statistics, the step, averages and two moments, Adam's powers.
    assert len(first) == 41 + 1 + 3 * 31 + 2
    assert first == second
    monkeypatch.syspath_prepend(str(FAKES))
    from fake_npu.digests import digest
    reader = tf.train.load_checkpoint(find_checkpoints(str(job.checkpoints))[0])
    names = reader.get_variable_to_shape_map()
    assert {name: digest(reader.get_tensor(name)) for name in names} == first


def test_all_ranks_run_the_same_fetches(job, trained):
    runs = [(event['kind'], event['fetches'], event['rank']) for event in trained.runs
            if event['kind'] != 'host']
    assert [run[:2] for run in runs if run[2] == '0'] == [run[:2] for run in runs if run[2] == '1']
    assert [kind for kind, _, rank in runs if rank == '0'] == ['compute', 'train', 'compute']


def test_losses_are_the_mean_of_what_each_share_of_the_batch_gives_alone(job, trained):
    with get_batch(str(job.data), 1, SIZE, 2 * BATCH, seed=SEED) as batches:
        both = Batch(*next(batches))
    shares = [Batch(*(value[place:place + BATCH] for value in both)) for place in (0, BATCH)]
    assert not set(shares[0].paths) & set(shares[1].paths)
    alone = np.mean(losses_alone(shares), axis=0)
    logged = [curve(job, name)[1] for name in ('model_loss', 'total_loss')]
    np.testing.assert_allclose(logged, alone, rtol=1e-6, atol=1e-6)


def losses_alone(batches):
    """The losses of a process that sees only this batch, and as its first, for each batch."""
    with tf.Graph().as_default(), small_network():
        tf.set_random_seed(SEED)
        graph = build_train_graph(TrainConfig(input_size=SIZE, batch_size_per_gpu=BATCH),
                                  GpuDevice(''))
        inputs, scalars = graph.inputs, graph.fetches.scalars
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            return [session.run([scalars.model_loss, scalars.total_loss], {
                inputs.images: batch.images, inputs.seg_maps: batch.seg_maps,
                inputs.training_masks: batch.training_masks, graph.stop_votes: [0, 0]})
                for batch in batches]


def curve(job, tag):
    """Values by step of a scalar in rank 0's events."""
    return {event.step: value.simple_value
            for path in sorted(job.checkpoints.glob('events*'))
            for event in tf.compat.v1.train.summary_iterator(str(path))
            for value in event.summary.value if value.tag == tag}


def test_a_rank_that_is_killed_ends_the_others_and_the_run_can_be_restored(job, trained):
    first, second = job.train('--max_steps=9', '--restore',
                              only={1: {'FAKE_NPU_SIGNAL': '2:SIGKILL'}})
    assert (first[0], second[0]) == (1, -9), (first, second)
    assert re.search(r'restored \S+-3', first[1])
    assert sorted(curve(job, 'total_loss')) == [1, 2, 3, 4]
    last = first[1].strip().splitlines()[-1]
    assert last.startswith('error: rank 0 of 2 processes lost another one during a step')
    assert re.search(r'HcomAllReduce #\d+: rank 1 has ended', last)
    assert '--restore' in last
    assert 'Traceback' not in first[1]
    assert job.saved_steps() == [3]


@pytest.mark.parametrize('missing', ['JOB_ID', 'RANK_ID', 'RANK_TABLE_FILE'])
def test_a_rank_that_does_not_know_its_job_gets_one_sentence(job, missing):
    (exit_code, log), *_ = job.train(only={0: {missing: ''}, 1: {missing: ''}})
    assert exit_code == 1
    assert log.startswith(f'error: {missing} must be set')
    assert 'for a job of 2 NPUs' in log
    assert log.count('\n') == 1


@pytest.mark.distributed
@pytest.mark.slow
def test_eight_ranks_end_with_the_same_weights(project_root, tmp_path):
    job = Job(project_root, tmp_path, 8)
    ended = job.train('--max_steps=2', batch_size=1, only={5: {'FAKE_NPU_OVERFLOW_STEPS': '1'}})
    try:
        assert [exit_code for exit_code, _ in ended] == [0] * 8, ended
        assert job.saved_steps() == [2]
        first, *others = job.last_digests()
        assert len(others) == 7
        assert all(digests == first for digests in others)
        assert 'step 1: the gradients overflowed' in ended[0][1]
    finally:
        job.remove_checkpoints()

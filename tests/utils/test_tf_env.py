"""The environment that TensorFlow will find."""

import logging
import os

import pytest

from utils.errors import PSENetError
from utils.tf_env import configure_tensorflow, hide_gpus, parse_gpu_list

VARIABLES = ('CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER', 'TF_CPP_MIN_LOG_LEVEL')


@pytest.fixture
def environment(monkeypatch):
    """environment() -> the variables in question that are set; none is at first."""
    for name in VARIABLES:
        monkeypatch.setenv(name, '')  # so that it is put back even where it was not set
        monkeypatch.delenv(name)
    logger = logging.getLogger('tensorflow')
    level = logger.level
    yield lambda: {name: os.environ[name] for name in VARIABLES if name in os.environ}
    logger.setLevel(level)


@pytest.mark.parametrize('gpu_list, numbers', [
    ('', []), (' ', []), ('0', [0]), ('0,1', [0, 1]), ('2, 0', [2, 0]), ('10,1', [10, 1]),
])
def test_lists_are_read_in_their_order(gpu_list, numbers):
    assert parse_gpu_list(gpu_list) == numbers


@pytest.mark.parametrize('gpu_list', ['cpu', '-1', '0;1', '0,', ',0', '0,,1', '0,0', '0,00', '1.5',
                                      '0 1', '²', 'all'])
def test_anything_else_is_refused(gpu_list):
    with pytest.raises(PSENetError) as caught:
        parse_gpu_list(gpu_list)
    assert str(caught.value).startswith(f'--gpu_list={gpu_list} must be GPU numbers')
    assert 'empty for the CPU' in str(caught.value)


@pytest.mark.parametrize('gpu_list, visible', [('', ''), ('0', '0'), ('2, 0', '2,0')])
def test_only_the_gpus_asked_for_are_visible(environment, gpu_list, visible):
    configure_tensorflow(gpu_list)
    assert environment()['CUDA_VISIBLE_DEVICES'] == visible


def test_gpus_are_numbered_as_nvidia_smi_does(environment):
    configure_tensorflow('0')
    assert environment()['CUDA_DEVICE_ORDER'] == 'PCI_BUS_ID'


@pytest.mark.parametrize('gpu_list, level', [('0', '2'), ('', '3')])
def test_start_up_chatter_is_off(environment, gpu_list, level):
    configure_tensorflow(gpu_list)
    assert environment()['TF_CPP_MIN_LOG_LEVEL'] == level
    assert logging.getLogger('tensorflow').level == logging.ERROR


def test_what_the_user_has_set_stays(environment, monkeypatch):
    monkeypatch.setenv('CUDA_DEVICE_ORDER', 'FASTEST_FIRST')
    monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', '0')
    configure_tensorflow('0')
    assert environment() == {'CUDA_VISIBLE_DEVICES': '0', 'CUDA_DEVICE_ORDER': 'FASTEST_FIRST',
                             'TF_CPP_MIN_LOG_LEVEL': '0'}


def test_a_bad_list_changes_nothing(environment):
    with pytest.raises(PSENetError):
        configure_tensorflow('first')
    assert environment() == {}


def test_gpus_are_hidden_and_errors_of_another_device_are_shown(environment):
    hide_gpus()
    assert environment()['CUDA_VISIBLE_DEVICES'] == ''
    assert environment()['TF_CPP_MIN_LOG_LEVEL'] == '2'


def test_the_users_own_log_level_stays_for_another_device(environment, monkeypatch):
    monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', '0')
    hide_gpus()
    assert environment()['TF_CPP_MIN_LOG_LEVEL'] == '0'

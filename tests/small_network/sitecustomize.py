"""Gives each Python that has this directory on its PYTHONPATH a network that is built in a second.

Tests of what surrounds the network (signals, restoring, ranks, devices) run the real scripts with
it: ``nets.backbones`` and ``nets.fpn`` are changed when they are imported, and nothing else is.
``PYTHONPATH`` is for such processes, ``small_network`` for a test's own.
"""

import importlib.machinery
import os
import sys
from contextlib import ExitStack, contextmanager
from unittest import mock

_FOLDER = os.path.dirname(os.path.abspath(__file__))
PYTHONPATH = os.pathsep.join([_FOLDER, os.path.dirname(os.path.dirname(_FOLDER))])


def _shrink_backbone(module):
    from tensorflow.contrib import slim

    from nets.layers import seeded_by_name

    tf = module.tf

    def small(images, weight_decay, is_training, batch_norm_decay):
        features, level = [], images
        with tf.variable_scope('resnet_v1_50'):
            for stride in (4, 2, 2, 2):
                level = slim.conv2d(
                    level, 8, 3, stride, weights_regularizer=slim.l2_regularizer(weight_decay),
                    weights_initializer=seeded_by_name(slim.xavier_initializer),
                    normalizer_fn=slim.batch_norm, scope='conv%d' % (1 + len(features)),
                    normalizer_params={'is_training': is_training, 'decay': batch_norm_decay,
                                       'scale': True})
                features.append(level)
        return tuple(features)
    module.BACKBONES['resnet_v1_50'] = small


def _shrink_pyramid(module):
    module.PYRAMID_DEPTH = 16


@contextmanager
def small_network():
    """The same in this process, for as long as the context lasts."""
    from nets import backbones, fpn, model

    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(backbones.BACKBONES))
        for module in (fpn, model):
            stack.enter_context(mock.patch.object(module, 'PYRAMID_DEPTH', 16))
        _shrink_backbone(backbones)
        yield


_CHANGES = {'nets.backbones': _shrink_backbone, 'nets.fpn': _shrink_pyramid}


class _Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target) if name in _CHANGES else None
        if spec is not None:
            load = spec.loader.exec_module

            def load_and_change(module):
                load(module)
                _CHANGES[name](module)
            spec.loader.exec_module = load_and_change
        return spec


if __name__ == 'sitecustomize':
    sys.meta_path.insert(0, _Finder)

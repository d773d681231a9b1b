"""The training graph as the NPU gets it: static shapes, no op of the host, one fetch list."""

import collections
import json

import pytest
import tensorflow as tf
from tensorflow.python.grappler import tf_optimizer

from tests.training.npu_on_path import fake_npu_bridge
from training.config import MODERN, TrainConfig
from training.devices.npu.options import NpuConfig
from training.devices.npu.session import NpuDevice
from training.graph import Fetches, build_train_graph

BATCH, SIZE = 2, 64
# Shaped on GPUs only, and read by the gradient alone; from this output on.
RESERVED = {'FusedBatchNormV3': 5}
IMAGE_OPS = ('Decode', 'Encode', 'ImageSummary', 'DrawBoundingBoxes', 'NonMaxSuppression')


class Step:
    """The graph of a step: the ops that it runs, before and after TensorFlow's own rewrites."""

    def __init__(self, recipe):
        with fake_npu_bridge(), tf.Graph().as_default() as graph:
            device = NpuDevice(NpuConfig(loss_scale_mode='dynamic'))
            device.prepare()
            self.built = build_train_graph(TrainConfig(
                input_size=SIZE, batch_size_per_gpu=BATCH, **recipe), device)
            self.variables = {variable.op.name for variable in tf.global_variables()}
            names = [getattr(item, 'op', item).name for item in
                     tf.contrib.framework.nest.flatten(self.built.fetches)]
            kept = {node.name for node in tf.compat.v1.graph_util.extract_sub_graph(
                graph.as_graph_def(), names).node}
            self.ops = [op for op in graph.get_operations() if op.name in kept]
            self.rewritten = self._rewritten(graph, names, device.session_config())

    @staticmethod
    def _rewritten(graph, names, config):
        """Node types of the step after grappler, with the session's own settings."""
        meta = tf.compat.v1.train.export_meta_graph(graph=graph)
        meta.collection_def['train_op'].node_list.value.extend(names)
        # No optimizer of that name is registered here; the adapter reads the entry itself.
        del config.graph_options.rewrite_options.custom_optimizers[:]
        return collections.Counter(node.op for node in
                                   tf_optimizer.OptimizeGraph(config, meta).node)


@pytest.fixture(scope='module', params=[{}, MODERN], ids=['reference', 'modern'])
def step(request):
    """The graph of each recipe, built once."""
    return Step(request.param)


def test_the_batch_is_fixed(step):
    assert [tensor.shape.as_list() for tensor in step.built.inputs] == [
        [BATCH, SIZE, SIZE, 3], [BATCH, SIZE // 4, SIZE // 4, 6], [BATCH, SIZE // 4, SIZE // 4, 1]]


def test_every_output_has_a_shape(step):
    unknown = [tensor.name for op in step.ops if op.type != 'BroadcastGradientArgs'
               for tensor in op.outputs[:RESERVED.get(op.type)]
               if not tensor.shape.is_fully_defined()]
    assert unknown == []


def test_sizes_are_known_when_the_graph_is_built(step):
    types = collections.Counter(op.type for op in step.ops)
    assert (types['Shape'], types['Size'], types['Rank'], types['Where']) == (0, 0, 0, 0)
    resizes = [op for op in step.ops if op.type.startswith('Resize') and 'Grad' not in op.type]
    assert len(resizes) == 6
    assert {op.inputs[1].op.type for op in resizes} == {'Const'}


def test_no_shape_is_computed_once_tensorflow_has_folded_constants(step):
    assert (step.rewritten['Shape'], step.rewritten['BroadcastGradientArgs']) == (0, 0)
    # Those of convolutions' gradients, whose value is known; the published graph keeps as many.
    assert step.rewritten['ShapeN'] <= 6
    assert step.rewritten['_FusedConv2D'] == 0


def test_no_op_of_the_host_stands_in_the_step(step):
    assert [op.name for op in step.ops if op.type.startswith(IMAGE_OPS) or 'Summary' in op.type
            or tf.string in {tensor.dtype.base_dtype for tensor in op.outputs}] == []
    assert [op.name for op in step.ops if op.device] == []
    assert [op.name for op in step.ops if tf.float64 in {
        tensor.dtype.base_dtype for tensor in op.outputs}] == []


def test_the_loss_scale_is_fetched_with_the_step(step):
    assert list(step.built.fetches.device_scalars) == ['loss_scale']
    assert step.built.fetches.device_scalars['loss_scale'].shape.as_list() == []
    assert step.built.fetches._fields == Fetches._fields


def test_variables_are_those_of_other_devices_and_the_scales(step, data_dir):
    reference = json.loads((data_dir / 'reference_variables.json').read_text(encoding='utf-8'))
    assert len(step.variables) == 286 + 1 + 3 * 178 + 2 + 3
    assert {'loss_scale', 'good_steps', 'bad_steps', 'global_step'} < step.variables
    assert {variable['name'] for variable in reference} < step.variables
    assert {variable['name'] + '/ExponentialMovingAverage' for variable in reference
            if variable['trainable']} < step.variables

"""What a graph that is offloaded to the device may hold; NPU.md, sections 8, 10 and 13."""

import re
from typing import Collection, Iterator

import tensorflow as tf

from fake_npu import float_status
from fake_npu.collectives import collectives_in

_UPDATE = re.compile(r'(Resource|Sparse|ResourceSparse)?Apply[A-Z]')
_COMPUTE = ('Conv2D', 'MatMul', 'DepthwiseConv2dNative')
_IMAGE = re.compile(r'(Decode|Encode)(Jpeg|Png|Gif|Bmp|Image)|ImageSummary|DrawBoundingBoxes|'
                    r'NonMaxSuppression|SampleDistortedBoundingBox|DecodeAndCropJpeg')
_NOT_FROM_DEVICE = re.compile(r'.*(Dataset|Queue|PyFunc|Summary)')
_REFUSED_DTYPES = (tf.float64, tf.complex64, tf.complex128)
# FusedBatchNorm's reserved outputs, from the fourth, have no shape outside a GPU.
_SHAPED_OUTPUTS = {'FusedBatchNorm': 3, 'FusedBatchNormV2': 3, 'FusedBatchNormV3': 3,
                   'FusedBatchNormGrad': 3, 'FusedBatchNormGradV2': 3, 'FusedBatchNormGradV3': 3}


def kind_of(reached: Collection[tf.Operation]) -> str:
    """What a run is: ``train`` updates weights, ``compute`` only computes, ``host`` is the rest."""
    if any(_UPDATE.match(op.type) for op in reached) or any(
            status.op in reached for status in tf.get_collection(float_status.STATUS)):
        return 'train'
    computes = any(op.type in _COMPUTE for op in reached)
    return 'compute' if computes or collectives_in(tf.get_default_graph(), reached) else 'host'


def placement_faults(reached: Collection[tf.Operation]) -> Iterator[str]:
    """Ops that were put on a GPU."""
    for op in reached:
        if 'gpu' in op.device.lower():
            yield f'{op.name} is placed on {op.device} by a tf.device scope'


def offload_faults(reached: Collection[tf.Operation]) -> Iterator[str]:
    """What the device cannot take, or compiles only for one of several shapes.

    Args:
        reached: the ops of a run of the kind train or compute.

    Yields:
        One sentence for each fault.
    """
    for op in sorted(reached, key=lambda op: op.name):
        if op.type in ('Placeholder', 'PlaceholderWithDefault') \
                and not op.outputs[0].shape.is_fully_defined():
            yield f'the placeholder {op.name} has the shape {op.outputs[0].shape}'
        if _IMAGE.match(op.type) or _NOT_FROM_DEVICE.match(op.type):
            yield f'{op.name} is a {op.type}, which the device does not run'
        yield from _dtype_faults(op)
    for op in sorted(reached, key=lambda op: op.name):
        yield from _shape_faults(op)


def _dtype_faults(op: tf.Operation) -> Iterator[str]:
    for tensor in [*op.inputs, *op.outputs]:
        if tensor.dtype.base_dtype == tf.string:
            yield f'{op.name} ({op.type}) has to do with strings'
        if tensor.dtype.base_dtype in _REFUSED_DTYPES:
            yield f'{op.name} ({op.type}) has the dtype {tensor.dtype.name}'


def _shape_faults(op: tf.Operation) -> Iterator[str]:
    # Grappler computes it from constants before the graph is offloaded.
    if op.type == 'BroadcastGradientArgs' and all(map(_is_constant, op.inputs)):
        return
    for output in op.outputs[:_SHAPED_OUTPUTS.get(op.type)]:
        if not output.shape.is_fully_defined():
            yield '%s (%s) has the shape %s, which the device cannot compile' % (
                output.name, op.type, output.shape)


def _is_constant(tensor: tf.Tensor) -> bool:
    """Whether grappler knows a shape tensor's value."""
    op = tensor.op
    if op.type in ('Shape', 'ShapeN'):
        return all(source.shape.is_fully_defined() for source in op.inputs)
    return op.type == 'Const'

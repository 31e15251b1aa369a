# Copyright 2026 TinySAM on MindSpore contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ============================================================================
"""Primitives of MindSpore 2.10 as operators of ONNX, opset 17 (onnx.ai/onnx/operators).

Each function takes (build, node, arguments), adds operators to `build` and returns what stands for the node's value: a
`Ref`, or a tuple of them. Arguments are Refs, tuples of Refs, or the plain numbers of constants. Static shapes make it
short: what a reshape, a broadcast or a slice gives is known, and whatever only changes the shape becomes a Reshape.
"""
from typing import NamedTuple

import numpy as np

from src.export.mindir import TensorType

LAST = np.iinfo(np.int64).max


class Ref(NamedTuple):
    """A tensor of the ONNX graph: its name there, and its type."""

    name: str
    type: TensorType


def plain(op):
    """An operator of the node's tensors as they are."""
    return lambda build, node, arguments: build.add(op, arguments, node)


def same(build, node, arguments):
    """What only orders reads and writes hands its first argument on."""
    return arguments[0]


def together(build, node, arguments):
    return tuple(arguments)


def item(build, node, arguments):
    values, index = arguments
    if values[index] is None:
        raise ValueError(f"output {index} of the node before {node.name} has no ONNX form here")
    return values[index]


def reshape(build, node, arguments):
    return build.add("Reshape", [arguments[0], np.array(node.type.shape, np.int64)], node)


def broadcast_to(build, node, arguments):
    return build.add("Expand", [arguments[0], np.array(node.type.shape, np.int64)], node)


def tile(build, node, arguments):
    return build.add("Tile", [arguments[0], np.array(arguments[1], np.int64)], node)


def transpose(build, node, arguments):
    return build.add("Transpose", arguments[:1], node, perm=arguments[1])


def cast(build, node, arguments):
    return build.add("Cast", arguments[:1], node, to=build.element_type(node.type.dtype))


def concat(build, node, arguments):
    parts, axis = arguments
    return build.add("Concat", parts, node, axis=axis)


def stack(build, node, arguments):
    axis = node.attributes["axis"]
    rank = len(node.type.shape)
    shape = list(node.type.shape)
    shape[axis % rank] = 1
    rows = []
    for index, part in enumerate(arguments[0]):
        kind = TensorType(tuple(shape), node.type.dtype)
        rows.append(build.operator("Reshape", [part, np.array(shape, np.int64)], f"{node.name}/{index}", kind))
    return build.add("Concat", rows, node, axis=axis % rank)


def split(build, node, arguments):
    x, axis, count = arguments
    names = [f"{node.name}/{index}" for index in range(count)]
    return build.operators("Split", [x], names, node.type, axis=axis)


def gather(build, node, arguments):
    x, indices, axis, batch_dims = arguments
    if batch_dims:
        raise ValueError(f"Gather {node.name} has batch_dims {batch_dims}; ONNX has none")
    return build.add("Gather", [x, indices], node, axis=axis)


def strided_slice(build, node, arguments):
    x, begin, end, strides, begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask = arguments
    if ellipsis_mask or new_axis_mask:
        raise ValueError(f"StridedSlice {node.name} has an ellipsis or a new axis, which have no ONNX form here")
    if min(strides) < 1:
        raise ValueError(f"StridedSlice {node.name} runs backwards {strides}, which has no ONNX form here")
    shape, starts, ends = list(x.type.shape), [], []
    for axis in range(len(begin)):
        shrink = shrink_axis_mask >> axis & 1
        starts.append(0 if begin_mask >> axis & 1 and not shrink else begin[axis])
        ends.append((starts[axis] + 1 or LAST) if shrink else LAST if end_mask >> axis & 1 else end[axis])
        shape[axis] = len(range(*slice(starts[axis], ends[axis], strides[axis]).indices(shape[axis])))
    bounds = [np.array(values, np.int64) for values in (starts, ends, range(len(begin)), strides)]
    if not shrink_axis_mask:
        return build.add("Slice", [x, *bounds], node)
    cut = build.operator("Slice", [x, *bounds], f"{node.name}/cut", TensorType(tuple(shape), node.type.dtype))
    return reshape(build, node, [cut])


def matmul(build, node, arguments):
    a, b, transpose_a, transpose_b = arguments
    return build.add("Gemm", [a, b], node, transA=int(transpose_a), transB=int(transpose_b))


def batch_matmul(build, node, arguments):
    a, b, transpose_a, transpose_b = arguments
    operands = []
    for place, (operand, transposed) in enumerate(((a, transpose_a), (b, transpose_b))):
        if transposed:
            axes = list(range(len(operand.type.shape)))
            axes[-2:] = axes[-1], axes[-2]
            kind = TensorType(tuple(operand.type.shape[axis] for axis in axes), operand.type.dtype)
            operand = build.operator("Transpose", [operand], f"{node.name}/{place}", kind, perm=axes)
        operands.append(operand)
    return build.add("MatMul", operands, node)


def bias_add(build, node, arguments):
    x, bias = arguments[:2]
    if len(x.type.shape) > 2:  # channels are axis 1
        shape = (1, -1) + (1,) * (len(x.type.shape) - 2)
        kind = TensorType((1, x.type.shape[1]) + shape[2:], x.type.dtype)
        bias = build.operator("Reshape", [bias, np.array(shape, np.int64)], f"{node.name}/bias", kind)
    return build.add("Add", [x, bias], node)


def conv2d(build, node, arguments):
    given = node.attributes
    if given["pad_mode"] not in ("pad", "valid"):
        raise ValueError(f"Conv2D {node.name} has pad_mode '{given['pad_mode']}'; only 'pad' and 'valid' have an ONNX "
                         "form here")
    top, bottom, left, right = given["pad"] if given["pad_mode"] == "pad" else (0, 0, 0, 0)
    return build.add("Conv", arguments[:2], node, kernel_shape=given["kernel_size"], strides=given["stride"][2:],
                     dilations=given["dilation"][2:], group=given["group"], pads=(top, left, bottom, right))


def batch_norm(build, node, arguments):
    x, scale, bias, mean, variance, is_training, epsilon = arguments[:7]
    if is_training:
        raise ValueError(f"BatchNorm {node.name} is in training; call set_train(False) before the export")
    kind = node.type[0]
    normal = build.operator("BatchNormalization", [x, scale, bias, mean, variance], node.name, kind, epsilon=epsilon)
    return (normal,) + (None,) * 4


def layer_norm(build, node, arguments):
    x, scale, bias, axis, params_axis, epsilon = arguments
    rank = len(x.type.shape)
    if axis % rank != rank - 1 or params_axis % rank != rank - 1:
        raise ValueError(f"LayerNorm {node.name} normalises from axis {axis}; only the last has an ONNX form here")
    normal = build.operator("LayerNormalization", [x, scale, bias], node.name, node.type[0], axis=-1, epsilon=epsilon)
    return normal, None, None


def softmax(build, node, arguments):
    (axis,) = arguments[1]
    return build.add("Softmax", arguments[:1], node, axis=axis)


def reduce_mean(build, node, arguments):
    return build.add("ReduceMean", arguments[:1], node, axes=arguments[1], keepdims=int(arguments[2]))


def rsqrt(build, node, arguments):
    root = build.operator("Sqrt", arguments[:1], f"{node.name}/root", node.type)
    return build.add("Reciprocal", [root], node)


CONVERSIONS = {
    "Load": same, "Depend": same, "MakeTuple": together, "make_list": together, "TupleGetItem": item,
    "Add": plain("Add"), "Sub": plain("Sub"), "Mul": plain("Mul"), "Div": plain("Div"), "RealDiv": plain("Div"),
    "Equal": plain("Equal"), "GreaterEqual": plain("GreaterOrEqual"), "Select": plain("Where"),
    "Sigmoid": plain("Sigmoid"), "ReLU": plain("Relu"), "Sin": plain("Sin"), "Cos": plain("Cos"), "Rsqrt": rsqrt,
    "Reshape": reshape, "ExpandDims": reshape, "BroadcastTo": broadcast_to, "Tile": tile, "Transpose": transpose,
    "Cast": cast, "Concat": concat, "Stack": stack, "Split": split, "Gather": gather, "StridedSlice": strided_slice,
    "MatMul": matmul, "BatchMatMul": batch_matmul, "BiasAdd": bias_add, "Conv2D": conv2d, "BatchNorm": batch_norm,
    "LayerNorm": layer_norm, "Softmax": softmax, "ReduceMean": reduce_mean,
}

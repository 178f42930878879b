"""Small ONNX models as a user might bring them."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def onnx_file(
    path: Path,
    *,
    layout="NCHW",
    output="vector",
    batch="B",
    size=16,
    cell=8,
    inputs=1,
    notes=None,
    root=False,
) -> Path:
    """An encoder that averages squares of `cell` px: a vector of those means, the map of them, or one number in all.

    With `root` of the roots of the pixels, which those that are dark once normalised have not.
    """
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    entries = [helper.make_tensor_value_info(f"images{k}", TensorProto.FLOAT, shape) for k in range(inputs)]
    nodes, name = [], "images0"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [name], ["moved"], perm=[0, 3, 1, 2]))
        name = "moved"
    if root:
        nodes.append(helper.make_node("Sqrt", [name], ["roots"]))
        name = "roots"
    nodes.append(
        helper.make_node("AveragePool", [name], ["map"], kernel_shape=[cell, cell], strides=[cell, cell])
    )
    shapes = {"map": [batch, 3, size // cell, size // cell], "vector": [batch, None], "scalar": []}
    if output == "vector":
        nodes.append(helper.make_node("Flatten", ["map"], ["vector"]))
    elif output == "scalar":
        nodes.append(helper.make_node("ReduceMean", ["map"], ["scalar"], keepdims=0))
    graph = helper.make_graph(
        nodes, "encoder", entries, [helper.make_tensor_value_info(output, TensorProto.FLOAT, shapes[output])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, notes or {})
    onnx.save(model, path)
    return path

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
"""MindIR of MindSpore 2.10 (version 3) rewritten to what MindSpore Lite 2.0.0 reads (version 1): for tests only.

Lite 2.0.0 is the newest library on PyPI with the C++ interface that an Ascend user links, so it runs the C++ program
where there is no Ascend. Since its time, parameters of primitives have moved from attributes to trailing constant
inputs. Whatever is not known here is an error.

    python tests/cpp/old_mindir.py EXPORT_FOLDER NEW_FOLDER      a whole export with its manifest
    python tests/cpp/old_mindir.py GRAPH.mindir NEW.mindir       one graph
"""
import hashlib
import inspect
import json
import sys
from pathlib import Path

from mindspore import ops
from mindspore.ops.auto_generate import gen_ops_prim
from mindspore.train.mind_ir_pb2 import AttributeProto, ModelProto

OLD_VERSION = 1
ORDER_OF_READS = ("Load", "UpdateState", "Depend")  # a forward graph writes nothing
RENAMED = {"Div": "RealDiv", "make_list": "MakeTuple"}
AS_THEY_WERE = ("Conv2D", "MakeTuple", "TupleGetItem", "Stack", "Cast")


def rewrite(model):
    """Rewrite a ModelProto in place, and return it.

    Raises:
        ValueError: something that has no known old form.
    """
    if model.functions:
        raise ValueError(f"{len(model.functions)} functions: only flat graphs are rewritten")
    model.mind_ir_version = OLD_VERSION
    graph = model.graph
    primitives = {primitive.name: primitive for primitive in model.primitives}
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    nodes, new_primitives, aliases = [], [], {}
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        old = primitives[node.op_type.partition("REF::")[2]]
        node.input[:] = [aliases.get(name, name) for name in node.input]
        if old.op_type in ORDER_OF_READS:
            aliases[node.output[0]] = node.input[0]
            continue
        new = type(old)()  # the values that move into it differ from node to node, so each has a primitive of its own
        new.CopyFrom(old)
        new.op_type = RENAMED.get(old.op_type, old.op_type)
        new.name = f"{new.op_type}:{len(new_primitives)}"
        new_primitives.append(new)
        node.op_type = f"REF::{new.name}"
        if new.op_type not in AS_THEY_WERE:
            _inputs_to_attributes(node, new, constants)
        nodes.append(node)
    graph.output[0].name = aliases.get(graph.output[0].name, graph.output[0].name)
    used = {name for node in nodes for name in node.input}
    kept = [_copy(node) for name, node in constants.items() if name in used] + [_copy(node) for node in nodes]
    del graph.node[:], model.primitives[:]
    graph.node.extend(kept)
    model.primitives.extend(new_primitives)
    return model


def _copy(message):
    """The repeated field that a message lies in is emptied before it is filled again."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _inputs_to_attributes(node, primitive, constants):
    """The last inputs, what today's class of the primitive is made with, become attributes of those names."""
    description = getattr(gen_ops_prim, primitive.op_type, None) or getattr(ops, primitive.op_type, None)
    if description is None:
        raise ValueError(f"primitive {primitive.op_type} (node {node.name}): its old form is not known")
    names = list(inspect.signature(description.__init__).parameters)[1:]
    called_with = len(node.input) - len(names)
    moved = list(node.input)[called_with:]
    if called_with < 1 or any(name not in constants for name in moved):
        raise ValueError(f"primitive {primitive.op_type} (node {node.name}): inputs {moved} are not {names}")
    for name, value in zip(names, moved):
        attribute = primitive.attribute.add()
        attribute.CopyFrom(constants[value].attribute[0])
        attribute.name = name
        if name == "data_format":
            if attribute.i != 0:
                raise ValueError(f"primitive {primitive.op_type} (node {node.name}): data_format is not NCHW")
            attribute.i, attribute.type, attribute.s = 0, AttributeProto.STRING, b"NCHW"
            format_too = primitive.attribute.add()
            format_too.CopyFrom(attribute)
            format_too.name = "format"
    del node.input[called_with:]


def rewrite_file(source, target):
    """Rewrite one graph."""
    model = ModelProto()
    model.ParseFromString(Path(source).read_bytes())
    Path(target).write_bytes(rewrite(model).SerializeToString())


def rewrite_export(source, target):
    """Rewrite the MindIR files of an export (docs/export.md) and their entries in its manifest."""
    source, target = Path(source), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    content = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    for graph in content["graphs"]:
        file = graph["files"]["mindir"]
        rewrite_file(source / file["name"], target / file["name"])
        data = (target / file["name"]).read_bytes()
        file.update({"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
        graph["files"] = {"mindir": file}
    (target / "manifest.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    (rewrite_export if Path(sys.argv[1]).is_dir() else rewrite_file)(*sys.argv[1:])

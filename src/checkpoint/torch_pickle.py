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
"""The part of the pickle language that torch.save needs for tensors, interpreted without running anything.

A pickle is a program that may import and call what it likes. Here its opcodes are walked by hand: the only names it may
mention are in the tables below, each stands for a plain value of this module, and any other name or opcode ends the
reading with a line that says which. Tensors come out as descriptions (storage, offset, size, stride), not as data.
"""
import pickletools
from dataclasses import dataclass

import numpy as np

_ONLY_TENSORS = "only tensors are read"
_STORAGE_TYPES = {
    "FloatStorage": np.dtype("<f4"), "HalfStorage": np.dtype("<f2"), "DoubleStorage": np.dtype("<f8"),
    "CharStorage": np.dtype("i1"), "ByteStorage": np.dtype("u1"), "ShortStorage": np.dtype("<i2"),
    "IntStorage": np.dtype("<i4"), "LongStorage": np.dtype("<i8"), "BoolStorage": np.dtype("?"),
    "BFloat16Storage": "bfloat16",  # NumPy has no such type
}
_CALLABLES = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "collections.OrderedDict")


@dataclass(frozen=True)
class Storage:
    """A flat block of numbers in the archive: entry name, element type (a NumPy dtype or "bfloat16"), element count."""

    key: str
    dtype: object
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    size: tuple
    stride: tuple


@dataclass(frozen=True)
class _Name:
    """A permitted global name. Inert: the interpreter compares it and never looks it up."""

    text: str


class Refusal(ValueError):
    """A file asks for something that tensors do not need, or is broken; the text goes behind "<file>: "."""


def interpret(program):
    """Value of a pickle (bytes): dicts, lists, tuples, str, numbers, bool, None and StoredTensor.

    Raises Refusal.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except Refusal:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        detail = " ".join(str(error).split())[:80]
        raise Refusal(f"its pickle is broken ({type(error).__name__}: {detail})") from None
    raise Refusal("its pickle is broken (it does not end)")


class _Machine:
    """Stack, marks and memo of one pickle."""

    _LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
    _CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
    _TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

    def __init__(self):
        self.stack, self.marks, self.memo = [], [], {}
        self._steps = {
            "PROTO": lambda _: None, "FRAME": lambda _: None,
            "EMPTY_DICT": lambda _: self.stack.append({}), "EMPTY_LIST": lambda _: self.stack.append([]),
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "BINPUT": self._remember, "LONG_BINPUT": self._remember,
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "BINGET": lambda index: self.stack.append(self.memo[index]),
            "LONG_BINGET": lambda index: self.stack.append(self.memo[index]),
            "TUPLE": lambda _: self.stack.append(tuple(self._since_mark())),
            "APPEND": lambda _: self._extend([self.stack.pop()]), "APPENDS": lambda _: self._extend(self._since_mark()),
            "SETITEM": lambda _: self._set_items(self._take(2)),
            "SETITEMS": lambda _: self._set_items(self._since_mark()),
            "GLOBAL": lambda text: self._global(*text.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._global(*self._take(2)),
            "BINPERSID": lambda _: self.stack.append(_storage(self.stack.pop())),
            "REDUCE": lambda _: self.stack.append(_call(*self._take(2))),
            "BUILD": self._build,
        }

    def step(self, name, argument):
        if name in self._LITERALS:
            self.stack.append(argument)
        elif name in self._CONSTANTS:
            self.stack.append(self._CONSTANTS[name])
        elif name in self._TUPLES:
            self.stack.append(tuple(self._take(self._TUPLES[name])))
        elif name in self._steps:
            self._steps[name](argument)
        else:
            raise Refusal(f"pickle uses the opcode {name}; {_ONLY_TENSORS}")

    def _take(self, count):
        if len(self.stack) < count:
            raise IndexError("stack underflow")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _since_mark(self):
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _remember(self, index):
        self.memo[index] = self.stack[-1]

    def _extend(self, items):
        if not isinstance(self.stack[-1], list):
            raise TypeError("items appended to something that is not a list")
        self.stack[-1].extend(items)

    def _set_items(self, items):
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError("items set on something that is not a dict")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, int):  # a nested tuple could take exponential time to hash
                raise TypeError(f"a dict key of type {type(key).__name__}")
            target[key] = value

    def _global(self, module, name):
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a global whose name is no text")
        text = f"{module}.{name}"
        is_storage = module == "torch" and name in _STORAGE_TYPES
        if not is_storage and text not in _CALLABLES:
            raise Refusal(f"pickle asks for {' '.join(text.split())[:200]}; {_ONLY_TENSORS}")
        self.stack.append(_Name(text))

    def _build(self, _):
        self.stack.pop()  # attributes such as OrderedDict's _metadata, which weights do not need
        if not isinstance(self.stack[-1], dict):
            raise TypeError("attributes set on something that is not a dict")


def _storage(identity):
    """("storage", type, key, device, count), which torch.save writes in place of the data."""
    if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
        raise TypeError("a persistent id that is not a storage")
    _, kind, key, _, count = identity
    name = kind.text.rpartition(".")[2] if isinstance(kind, _Name) else ""
    if name not in _STORAGE_TYPES or not isinstance(key, str) or not _is_count(count):
        raise TypeError("a storage without type, key or length")
    return Storage(key, _STORAGE_TYPES[name], count)


def _call(function, arguments):
    """What the three permitted calls give."""
    name = function.text if isinstance(function, _Name) else type(function).__name__
    if name == "collections.OrderedDict" and arguments == ():
        return {}
    if name == "torch._utils._rebuild_parameter" and len(arguments) == 3 and isinstance(arguments[0], StoredTensor):
        return arguments[0]
    if name == "torch._utils._rebuild_tensor_v2" and len(arguments) in (6, 7):
        storage, offset, size, stride = arguments[:4]
        whole = isinstance(storage, Storage) and _is_count(offset) and all(
            isinstance(numbers, tuple) and all(map(_is_count, numbers)) for numbers in (size, stride))
        if whole and len(size) == len(stride) <= 16:
            return StoredTensor(storage, offset, size, stride)
    raise Refusal(f"pickle calls {name} in a way that torch does not; {_ONLY_TENSORS}")


def _is_count(value):
    return type(value) is int and 0 <= value < 1 << 62

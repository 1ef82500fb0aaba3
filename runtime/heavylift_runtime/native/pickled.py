"""The pickle of a PyTorch checkpoint, read as data: a small stack machine that can build tables of tensors, no more.

Not the pickle module: nothing is imported, called or constructed, whatever the file asks for. It knows the opcodes that
`torch.save` writes (protocol 2) and the few names that rebuild tensors; a file that uses another one is refused.
The opcodes: https://docs.python.org/3/library/pickletools.html.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack
from typing import Any

from heavylift_runtime.errors import LoadError

LARGEST = 8 * 1024 * 1024
"""Bytes of a pickle, for its reader to check: some 50,000 tensors. It bounds the memory that a hostile one asks for."""

STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
"""torch's class of a storage → safetensors' name of its numbers."""


@dataclass(frozen=True)
class Storage:
    """A file of numbers inside the archive, not yet looked for."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: where it begins in its storage, and its shape and strides, all counted in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A name that may be called or named in the pickle; it stands for nothing that Python could run."""

    name: str


_MARK = object()
_REBUILD = {"_rebuild_tensor": 4, "_rebuild_tensor_v2": 6, "_rebuild_parameter": 3}
"""Functions of torch._utils, and the fewest arguments that torch writes for each."""


class _Corrupt(Exception):
    """What is wrong, without the file's name."""


def table_of(content: bytes, file: str) -> dict[str, View]:
    """The tensors of a pickled state dict, by name; LoadError with what in the pickle is not one."""
    try:
        made = _Machine(content).run()
    except (IndexError, KeyError, TypeError, ValueError) as error:  # a stack, memo or buffer that ends too early
        raise LoadError(f"{file}: its data.pkl is no pickle of torch.save; it is corrupt") from error
    except _Corrupt as error:
        raise LoadError(f"{file}: its data.pkl {error}") from error
    if not isinstance(made, dict):
        raise LoadError(f"{file}: holds {_kind(made)}, not a table of tensors; save the model's state_dict()")
    faults = [
        f"{file}: entry {name!r} is {_kind(value)}, not a tensor; save only the model's state_dict()"
        for name, value in made.items()
        if not isinstance(value, View)
    ]
    if faults:
        raise LoadError("\n".join(faults[:20]))
    return made


def _kind(value: object) -> str:
    """A value for people. Its content is not shown: it may be large, or hold itself."""
    return f"a {type(value).__name__}"


class _Machine:
    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        push, whole = self._stack.append, self._whole
        steps: dict[int, Callable[[], object]] = {
            0x80: self._protocol,
            ord("}"): lambda: push({}),
            ord("]"): lambda: push([]),
            ord(")"): lambda: push(()),
            ord("("): lambda: push(_MARK),
            ord("N"): lambda: push(None),
            0x88: lambda: push(True),
            0x89: lambda: push(False),
            ord("K"): lambda: push(whole(1)),
            ord("M"): lambda: push(whole(2)),
            ord("J"): lambda: push(whole(4, signed=True)),
            0x8A: lambda: push(whole(whole(1), signed=True)),
            ord("G"): lambda: push(unpack(">d", self._take(8))[0]),
            ord("X"): lambda: push(self._take(whole(4)).decode("utf-8", "strict")),
            ord("c"): self._global,
            ord("q"): lambda: self._memo.__setitem__(whole(1), self._stack[-1]),
            ord("r"): lambda: self._memo.__setitem__(whole(4), self._stack[-1]),
            ord("h"): lambda: push(self._memo[whole(1)]),
            ord("j"): lambda: push(self._memo[whole(4)]),
            0x85: lambda: self._tuple(1),
            0x86: lambda: self._tuple(2),
            0x87: lambda: self._tuple(3),
            ord("t"): lambda: push(tuple(self._marked())),
            ord("a"): lambda: self._append([self._stack.pop()]),
            ord("e"): lambda: self._append(self._marked()),
            ord("s"): lambda: self._set([self._stack.pop(-2), self._stack.pop()]),
            ord("u"): lambda: self._set(self._marked()),
            ord("Q"): self._storage,
            ord("R"): self._call,
            ord("b"): self._stack.pop,  # the state of an OrderedDict: its _metadata
        }
        while (code := self._whole(1)) != ord("."):
            if code not in steps:
                raise _Corrupt(f"uses opcode 0x{code:02x}, which no state_dict needs; it is not read")
            steps[code]()
        return self._stack.pop()

    def _take(self, count: int) -> bytes:
        """The next bytes; IndexError where there are not so many."""
        piece = self._content[self._at : self._at + count]
        self._at += count
        if len(piece) != count:
            raise IndexError
        return piece

    def _whole(self, count: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(count), "little", signed=signed)

    def _protocol(self) -> None:
        if (version := self._whole(1)) != 2:
            raise _Corrupt(f"has protocol {version}; torch.save writes 2")

    def _marked(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:  # an IndexError at last: more marks are asked for than set
            place -= 1
        found = self._stack[place + 1 :]
        del self._stack[place:]
        return found

    def _tuple(self, count: int) -> None:
        items = [self._stack.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(items)))

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise _Corrupt(f"appends to {_kind(target)}; it is corrupt")
        target += items

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise _Corrupt(f"puts an entry into {_kind(target)}; it is corrupt")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise _Corrupt(f"has {_kind(key)} for the name of an entry; names are texts")
            target[key] = value

    def _global(self) -> None:
        end = self._content.index(b"\n", self._at)
        second = self._content.index(b"\n", end + 1)
        module, name = self._content[self._at : end].decode(), self._content[end + 1 : second].decode()
        self._at = second + 1
        known = (
            (module == "torch" and name in STORAGES)
            or (module == "torch._utils" and name in _REBUILD)
            or (module, name) == ("collections", "OrderedDict")
        )
        if not known:
            shown = f"{module[:80]}.{name[:80]}"
            raise _Corrupt(f"asks for {shown!r}, which is no tensor; only tensors are read, and nothing is executed")
        self._stack.append(_Name(name))

    def _storage(self) -> None:
        match self._stack.pop():
            case ("storage", _Name(name), str(key), str(), int(count)) if name in STORAGES and type(count) is int:
                self._stack.append(Storage(STORAGES[name], key, count))
            case _:
                raise _Corrupt("refers to something outside itself that is no storage; it is corrupt")

    def _call(self) -> None:
        arguments, name = self._stack.pop(), self._stack.pop()
        match name, arguments:
            case _Name("OrderedDict"), ():
                made: Any = {}
            case _Name("_rebuild_parameter"), (View() as made, bool(), _):
                pass
            case _Name("_rebuild_tensor" | "_rebuild_tensor_v2"), (Storage() as storage, offset, shape, strides, *_):
                made = _view(storage, offset, shape, strides)
                if len(arguments) > 6 and arguments[6]:
                    raise _Corrupt("has a tensor of numbers that are to be negated or conjugated; save it resolved")
            case _:
                raise _Corrupt("rebuilds a tensor from something that is none; it is corrupt")
        self._stack.append(made)


def _view(storage: Storage, offset: object, shape: object, strides: object) -> View:
    """A tensor that lies inside its storage."""
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 8):
        raise _Corrupt("has a tensor without a shape and strides of at most 8 dimensions; it is corrupt")
    numbers = (offset, storage.count, *shape, *strides)
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise _Corrupt("has a tensor whose shape, strides or offset are no sizes; it is corrupt")
    assert isinstance(offset, int)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise _Corrupt(
            f"has a tensor of shape {list(shape)} that ends at number {last + 1} of a storage of {storage.count}"
        )
    return View(storage, offset, shape, strides)

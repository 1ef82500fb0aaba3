"""A YAML file read into plain values, each with its line and column. Not their meaning: that is model.py.

Read through PyYAML's SafeLoader (YAML 1.1: https://yaml.org/spec/1.1/), composed to nodes because only nodes keep
positions. Anchors are refused, so that a small file cannot unfold into a large one; size and depth have limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path as File
from typing import Any

import yaml

from heavylift.errors import InputError
from heavylift.spec.fault import Fault, Path, dotted, escaped, shown

LARGEST_BYTES = 256 * 1024
DEEPEST = 16
WIDEST_BITS = 63
NUMBER = re.compile(
    r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?|0x[0-9a-fA-F]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
"""As YAML 1.1 and 1.2 both read it: 010 is 8 or 10 to them, 1:30 is 90 or a text, 1_000 is 1000 or a text."""
PLAIN_TAGS = (yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG)
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tab and line feed

Position = tuple[int, int]


class Document:
    """`data`, the plain values; `faults`, those of the notation itself (duplicate keys, values YAML cannot read)."""

    def __init__(self, file: File, text: str) -> None:
        self.file = file
        self.data: Any = None
        self.faults: list[Fault] = []
        self._keys: dict[Path, Position] = {}
        self._values: dict[Path, Position] = {}
        loader = _Loader(file, text)
        try:
            node = loader.get_single_node()
            if node is not None:
                self.data = self._plain(node, (), loader)
        finally:
            loader.dispose()

    @classmethod
    def read(cls, file: File) -> Document:
        """Raises InputError for a file that is not there, not UTF-8, empty, too large or not YAML."""
        try:
            with file.open("rb") as stream:
                raw = stream.read(LARGEST_BYTES + 1)
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from error
        if len(raw) > LARGEST_BYTES:
            raise InputError(f"{file} is larger than {LARGEST_BYTES} bytes, too large for a model file")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode("utf-8-sig", errors="replace")
            raise InputError(f"{file}{_at(before)}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
        try:
            return cls(file, text)
        except yaml.YAMLError as error:
            raise InputError(f"{file}{_where(error, text)}: not YAML: {_reason(error, text)}") from error

    def located(self, faults: Iterable[Fault]) -> list[str]:
        """`models/x.yaml:12:5: …`, in the order of the text."""
        placed = sorted((self._place(fault), fault.sentence) for fault in faults)
        return [f"{self.file}:{line}:{column}: {escaped(sentence)}" for (line, column), sentence in placed]

    def _place(self, fault: Fault) -> Position:
        """Of the value, or of the key; what is missing has its parent's place."""
        path = fault.path
        if path in self._values:
            return self._keys[path] if fault.at_key else self._values[path]
        while path and path not in self._values:
            path = path[:-1]
        return self._keys.get(path) or self._values.get(path, (1, 1))

    def _plain(self, node: yaml.Node, path: Path, loader: yaml.SafeLoader) -> Any:
        self._values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in PLAIN_TAGS:
            sentence = (
                f"'{dotted(path) or 'the file'}' is tagged {shown(node.tag)}, which nothing here reads; leave it out"
            )
            self.faults.append(Fault(path, sentence))
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, path, loader))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(child, (*path, index), loader) for index, child in enumerate(node.value)]
        self._refuse_unprintable(path, node)
        try:
            value = loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            self.faults.append(Fault(path, f"'{dotted(path)}' cannot be read as {kind}; put it in quotes"))
            return node.value
        if isinstance(value, int) and value.bit_length() > WIDEST_BITS:
            sentence = f"'{dotted(path)}' is a number of more than {WIDEST_BITS} bits; write a smaller one, or quotes"
            self.faults.append(Fault(path, sentence))
            return node.value
        if isinstance(value, int | float) and not isinstance(value, bool) and NUMBER.fullmatch(node.value) is None:
            sentence = (
                f"'{dotted(path)}' is {value} in one version of YAML and not in the other: got {shown(node.value)}"
            )
            self.faults.append(Fault(path, f"{sentence}; write a plain decimal number, or a text in quotes"))
        return value

    def _refuse_unprintable(self, path: Path, node: yaml.Node, *, at_key: bool = False) -> None:
        """YAML's escapes can write what is no text: NUL, terminal codes, half of a surrogate pair."""
        if (found := UNPRINTABLE.search(str(node.value))) is not None:
            named = f"'{dotted(path)}' holds the character U+{ord(found[0]):04X}"
            self.faults.append(Fault(path, f"{named}, which is not printable; remove it", at_key=at_key))

    def _pairs(self, node: yaml.MappingNode, path: Path, loader: yaml.SafeLoader) -> Iterator[tuple[str, Any]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                here = (*path, len(self._values))  # no key of a mapping is a number: it is nobody else's place
                self._values[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
                self.faults.append(Fault(here, "a key must be text, not a mapping or a list"))
                continue
            here = (*path, str(key_node.value))
            self._refuse_unprintable(here, key_node, at_key=True)
            position = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if here in self._keys:
                first = self._keys[here]
                self._keys[here] = position
                self.faults.append(
                    Fault(here, f"duplicate key '{dotted(here)}'; first in line {first[0]}", at_key=True)
                )
            self._keys[here] = position
            yield str(key_node.value), self._plain(value_node, here, loader)


class _Loader(yaml.SafeLoader):
    """Refuses anchors, aliases and depth as it comes to them, before anything is unfolded or goes deep."""

    def __init__(self, file: File, text: str) -> None:
        super().__init__(text)
        self._file, self._depth = file, 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it so
        self._depth += 1
        anchored = isinstance(event, yaml.NodeEvent) and event.anchor is not None
        if anchored or (isinstance(event, yaml.CollectionStartEvent) and self._depth > DEEPEST):
            fault = "anchors and aliases are not allowed; write the value out" if anchored else "nested too deeply"
            mark = event.start_mark
            raise InputError(f"{self._file}:{mark.line + 1}:{mark.column + 1}: {fault}")
        made = super().compose_node(parent, index)
        self._depth -= 1
        return made


def _where(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f":{mark.line + 1}:{mark.column + 1}"
    return _at(text[: getattr(error, "position", 0)])  # of a character that YAML does not allow


def _at(before: str) -> str:
    return f":{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def _reason(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        indents = not text[: mark.index].rpartition("\n")[2].strip()
        return f"a tab cannot {'indent' if indents else 'stand here'}; use spaces"
    context, problem = getattr(error, "context", None), getattr(error, "problem", None)
    reason = getattr(error, "reason", None)
    return " ".join(part for part in (context, problem or reason or "unreadable") if part)

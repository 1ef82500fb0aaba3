"""A model file with what it extends and an environment's overlay: one document, each value with the file it is from.

Not the meaning of the values: that is model.py. Laid in this order: the base, the file, the overlay. A mapping is laid
over a mapping key by key; lists and single values take the place of what was there; `null` takes an inherited key away.
What is a choice between fields (WHOLE) is replaced whole, so that no field of the other choice is left over.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path as File
from typing import Any, NamedTuple

from heavylift.errors import InputError
from heavylift.spec.document import Document
from heavylift.spec.fault import Fault, Path, shown

EXTENDS, ENVIRONMENTS = "extends", "environments"
WHOLE = {("model",), ("image",), ("rollout",), ("compile",), ("benchmark", "workload"), ("benchmark", "load")}
MOST_BASES = 8
BASE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*\.yaml")
ENVIRONMENT = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_ENVIRONMENT = 20


class Origin(NamedTuple):
    """Where a value was written."""

    document: Document
    path: Path


Origins = Callable[[Path], Origin]


class Layers:
    """`data`, the values as they come to lie; `located` gives each fault its place in the file that it is from."""

    def __init__(self, top: Document) -> None:
        self.data: Any = {}
        self.faults: list[tuple[Document, Fault]] = []
        self._documents = [top]
        self._origins: dict[Path, Origin] = {(): Origin(top, ())}

    def lay(self, document: Document) -> None:
        """A document over what lies there."""
        if document not in self._documents:
            self._documents.append(document)
        self.faults += [(document, fault) for fault in document.faults]
        self._over(document.data, lambda path: Origin(document, path))

    def lay_environment(self, name: str) -> None:
        """One of the document's own environments over it; the others are left out."""
        found, origins = self.data[ENVIRONMENTS][name], dict(self._origins)
        overlay = {key: value for key, value in found.items() if key not in (EXTENDS, ENVIRONMENTS)}  # told already
        self._over(overlay, lambda path: origins[(ENVIRONMENTS, name, *path)])

    def take(self, key: str) -> Any:
        """A key of this module's own, out of the data."""
        return self.data.pop(key, None) if isinstance(self.data, dict) else None

    def located(self, faults: Iterable[Fault]) -> list[str]:
        """`models/x.yaml:12:5: …`: those of the file first, then its bases', each in the order of its text."""
        own = [*self.faults, *(self._home(fault) for fault in faults)]
        return [
            sentence
            for document in self._documents
            for sentence in document.located(dict.fromkeys(fault for home, fault in own if home is document))
        ]

    def _home(self, fault: Fault) -> tuple[Document, Fault]:
        """What is missing has its parent's home."""
        known = fault.path
        while known not in self._origins:
            known = known[:-1]
        document, path = self._origins[known]
        return document, fault._replace(path=(*path, *fault.path[len(known) :]))

    def _over(self, value: Any, origins: Origins) -> None:
        self.data = self._laid(self.data, value, (), origins)

    def _laid(self, under: Any, over: Any, path: Path, origins: Origins) -> Any:
        self._origins[path] = origins(path)
        if not (isinstance(under, dict) and isinstance(over, dict)) or path in WHOLE:
            if isinstance(under, dict | list):
                self._forget_below(path)
            self._record(over, path, origins)
            return over
        laid = dict(under)
        for key, value in over.items():
            here = (*path, key)
            if value is None and under.get(key) is not None:
                del laid[key]
                self._forget_below(here)
                del self._origins[here]
            else:
                laid[key] = self._laid(under.get(key), value, here, origins)
        return laid

    def _record(self, value: Any, path: Path, origins: Origins) -> None:
        self._origins[path] = origins(path)
        steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for step, each in steps:
            self._record(each, (*path, step), origins)

    def _forget_below(self, path: Path) -> None:
        for each in [each for each in self._origins if len(each) > len(path) and each[: len(path)] == path]:
            del self._origins[each]


def read_layers(file: File, env: str | None = None) -> Layers:
    """Read a model file and what it extends. Raises InputError for files that are no YAML, all of them at once."""
    if file.suffix == ".lock":
        raise InputError(f"{file} is a lock, which `heavylift plan` writes; name the model file, the .yaml beside it")
    top = Document.read(file)
    layers = Layers(top)
    for document in reversed(_chain(top, layers)):
        layers.lay(document)
    layers.take(EXTENDS)
    if not isinstance(layers.data, dict):
        return layers
    layers.faults += [layers._home(fault) for fault in _environment_faults(layers.data.get(ENVIRONMENTS))]
    if env is not None:
        _known(layers, file, env)
        layers.lay_environment(env)
    layers.take(ENVIRONMENTS)
    return layers


def environments(file: File) -> list[str]:
    """The environments that a model file has, its bases' among them, in the order of the text."""
    layers = Layers(top := Document.read(file))
    for document in reversed(_chain(top, layers)):
        layers.lay(document)
    found = layers.take(ENVIRONMENTS)
    return [name for name, overlay in found.items() if isinstance(overlay, dict)] if isinstance(found, dict) else []


def _chain(top: Document, layers: Layers) -> list[Document]:
    """The file, its base, the base's base …; where that ends wrongly, the fault is the last one's."""
    chain, root = [top], top.file.resolve().parent
    while isinstance(chain[-1].data, dict) and EXTENDS in chain[-1].data:
        last = chain[-1]
        named = last.data[EXTENDS]
        try:
            base = _base(named, last, root, chain)
        except ValueError as error:
            layers.faults.append((last, Fault((EXTENDS,), str(error))))
            break
        chain.append(base)
    return chain


def _base(named: Any, by: Document, root: File, chain: list[Document]) -> Document:
    """Raises ValueError with a sentence about `extends`, InputError for a base that is no YAML."""
    if not isinstance(named, str) or BASE.fullmatch(named) is None:
        raise ValueError(f"'extends' must be a .yaml file beside this one, or below, no '..'; got {shown(named)}")
    file = by.file.parent / named
    if not file.resolve().is_relative_to(root):
        raise ValueError(
            f"'extends' leads out of {root.name}/ through a link: {shown(named)}; put the file itself there"
        )
    if any(file.resolve() == each.file.resolve() for each in chain):
        circle = " → ".join([each.file.name for each in chain] + [file.name])
        raise ValueError(f"'extends' goes in a circle: {circle}; remove one of them")
    if len(chain) > MOST_BASES:
        raise ValueError(f"'extends' is {len(chain)} files deep; at most {MOST_BASES}")
    if not file.is_file():
        beside = [each.stem for each in file.parent.glob("*.yaml") if each.name != by.file.name]
        near = difflib.get_close_matches(file.stem, beside, n=1)  # '.yaml' is alike in all of them
        hint = f"; did you mean {shown(f'{near[0]}.yaml')}?" if near else ""
        raise ValueError(f"'extends' names {shown(named)}, which is not there{hint}")
    base = Document.read(file)
    if not isinstance(base.data, dict):
        raise ValueError(f"'extends' names {shown(named)}, which is no mapping of keys and values")
    return base


def _environment_faults(found: Any) -> Iterable[Fault]:
    if found is None:
        return
    if not isinstance(found, dict):
        yield Fault((ENVIRONMENTS,), f"'{ENVIRONMENTS}' must be a mapping of names to overlays; got {shown(found)}")
        return
    for name, overlay in found.items():
        path = (ENVIRONMENTS, name)
        if ENVIRONMENT.fullmatch(name) is None or len(name) > LONGEST_ENVIRONMENT:
            allowed = f"lower-case letters, digits and single hyphens, at most {LONGEST_ENVIRONMENT} characters"
            yield Fault(path, f"an environment's name has {allowed}; got {shown(name)}", at_key=True)
        if not isinstance(overlay, dict):
            yield Fault(path, f"'{ENVIRONMENTS}.{name}' must be a mapping of keys and values; got {shown(overlay)}")
            continue
        for key in (EXTENDS, ENVIRONMENTS):
            if key in overlay:
                yield Fault((*path, key), f"'{key}' belongs to the file, not to one of its environments", at_key=True)


def _known(layers: Layers, file: File, env: str) -> None:
    """Raises InputError for an environment that the file has not."""
    found = layers.data.get(ENVIRONMENTS)
    names = list(found) if isinstance(found, dict) else []
    if env in names and isinstance(found[env], dict):
        return
    near = difflib.get_close_matches(env, names, n=1)
    hint = f"did you mean {shown(near[0])}?" if near else f"it has {', '.join(names) or 'none'}"
    fault = Fault((ENVIRONMENTS,), f"there is no environment {shown(env)}; {hint}", at_key=True)
    raise InputError(layers.located([fault] if env not in names else []))

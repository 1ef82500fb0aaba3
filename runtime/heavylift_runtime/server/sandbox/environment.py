"""Templates that end: Jinja's immutable sandbox, in which every step and every character costs, up to a budget.

Templates come with checkpoints, from people that nobody here knows. The sandbox keeps them from Python's internals, but
lets loops within loops, doubled texts and macros that call each other run for ever, and so hold up the server. Here
each item of a loop, each call, filter, output, sum, comparison and literal pays, by its size; what multiplies sizes
pays beforehand, or is left out. No clock is involved: the same input always ends in the same way.
Not the templates' meaning: that is prompts.py.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, Template, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from heavylift_runtime.server.sandbox.meter import BUDGET, STEP, Meter, metered, pay, spend
from heavylift_runtime.server.sandbox.priced import Priced

# What makes a long text of a short one, what draws lots, and what prints Python.
_NO_FILTERS = ("batch", "center", "format", "pprint", "random", "slice", "urlencode", "urlize", "wordwrap", "xmlattr")
_NO_METHODS = ("center", "expandtabs", "ljust", "rjust", "to_bytes", "translate", "zfill")
# Filters that cost the same for any container, and those that look at its items, not into them.
_GLANCING = frozenset("count d default first last length".split())
_LOOKING = _GLANCING | frozenset("items list map reject rejectattr reverse select selectattr".split())
_MOST_BITS = 4096  # of a whole number that a product or a power makes


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment; as in transformers, blocks leave no line behind, and `break` and `continue` are known."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=_paid,
            extensions=[loopcontrols, _Generation],
        )
        for name in _NO_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = _tojson
        self.filters = {name: _priced(name, filter_) for name, filter_ in self.filters.items()}
        self.filters |= {"_each": _each, "_paid": _paid}
        self.globals = {"range": self.globals["range"], "dict": _dict, "namespace": _Namespace}

    def template(self, source: str) -> Callable[[Mapping[str, Any]], str]:
        """A function from variables to the text.

        Both raise jinja2.TemplateError, meter.Costly, or whatever a template can: take every exception for the
        template's fault. To compile is metered, too: outputs without variables are computed then.
        """
        with metered(Meter(BUDGET, len(source))):
            code = self.compile(Priced().visit(self.parse(source)))
        compiled = Template.from_code(self, code, dict(self.globals))

        def render(variables: Mapping[str, Any]) -> str:
            with metered(Meter.of(variables, len(source))):
                return compiled.render(variables)

        return render

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call pays for itself, for what it is a method of, for what it is given, and for what it gives."""
        bound, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        pay(bound, *args, *kwargs.values())
        if isinstance(bound, str | bytes | int):
            if name in _NO_METHODS:
                raise SecurityError(f"the method {name!r} is not for templates")
            args = _beforehand(name, bound, args)
        elif isinstance(__obj, Macro):
            spend(STEP, bodies=1)
        elif isinstance(__obj, LoopContext):
            args = tuple(_each(each) for each in args)
        return _paid(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`format` and `format_map` would fill any width."""
        return None if super().wrap_str_format(value) is None else _no_format

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Sums pay for what they make, products and powers beforehand."""
        if operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("'%' is for numbers: join texts with '~'")
        if operator == "**" and _bits(left) * max(1, abs(right)) > _MOST_BITS:
            raise SecurityError("this power is too large")
        if operator == "*":
            if _bits(left) + _bits(right) > _MOST_BITS:
                raise SecurityError("this product is too large")
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | bytes | list | tuple) and isinstance(other, int):
                    spend(STEP * len(one) * max(0, other))
        return _paid(super().call_binop(context, operator, left, right))


class _Generation(Extension):
    """`{% generation %}`, by which training finds an assistant's own words; what is inside is written as it is."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Namespace(Namespace):
    """As in transformers: without names that begin with an underscore."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"{name!r}: a namespace has no names that begin with an underscore")
        super().__setitem__(name, value)


def _no_format(*args: Any, **kwargs: Any) -> str:
    raise SecurityError("the method 'format' is not for templates: join texts with '~'")


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """`dict(…)`, without the class's own attributes."""
    return dict(*args, **kwargs)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As in transformers: JSON that is not escaped for HTML."""
    if indent is not None and not (type(indent) is int and 0 <= indent <= 8):
        raise SecurityError(f"tojson's indent must be 0 to 8: got {str(indent)[:20]}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _paid(value: Any) -> Any:
    """The value, paid for."""
    pay(value)
    return value


def _each(values: Any) -> Any:
    """What a loop goes through, its items paid for."""
    if not hasattr(values, "__len__"):
        values = list(values)
    spend(STEP, bodies=len(values))
    return values


def _priced(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, paid for; `wraps` keeps the mark by which Jinja hands a context in."""
    glancing, looking = name in _GLANCING, name in _LOOKING

    @functools.wraps(filter_)
    def priced(*args: Any, **kwargs: Any) -> Any:
        own = 1 if args and isinstance(args[0], Context | EvalContext | Environment) else 0
        head, given = args[:own], args[own:]
        for each in (*given, *kwargs.values()):
            if looking and hasattr(each, "__len__"):
                spend(STEP if glancing else STEP * (1 + len(each)))
            else:
                pay(each)
        if name == "join":  # the filter's list comes first, the method's text
            items = list(given[0])
            pay(items)
            spend(len(items) * len(str(given[1] if len(given) > 1 else kwargs.get("d", ""))))
            given = (items, *given[1:])
        elif given:
            _beforehand(name, given[0], (*given[1:], *kwargs.values()))
        found = filter_(*head, *given, **kwargs)
        return found if looking else _paid(found)

    return priced


def _beforehand(name: str, value: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a filter or method of this name is given, once what it will make is paid for."""
    if name == "replace" and len(given) > 1:
        old, new = str(given[0]), str(given[1])
        spend(str(value).count(old) * len(new))
    elif name == "join" and given:
        given = (list(given[0]), *given[1:])
        pay(given[0])
        spend(len(given[0]) * len(value))
    elif name == "sum" and any(isinstance(each, list | tuple) for each in given):
        raise SecurityError("sum is for numbers")  # of n lists, it copies n² / 2 items
    elif name == "indent":
        width = given[0] if given else 4
        spend(str(value).count("\n") * (width if type(width) is int else len(str(width))))
    elif name in ("split", "rsplit", "splitlines"):
        separator = given[0] if given and isinstance(given[0], str) and given[0] else None
        spend(STEP * (1 + value.count(separator)) if separator is not None else 16 * len(value))
    return given


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0

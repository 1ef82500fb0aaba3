"""Templates that nobody wrote, drawn from a grammar of texts and lists that grow: they all end soon."""

from __future__ import annotations

import random
import re
import resource
import time

import pytest

from heavylift_runtime.server.prompts import Prompts, compiled
from heavylift_runtime.server.refused import Refused

pytestmark = pytest.mark.slow

MESSAGES = [{"role": "user", "content": "hello <b> " * 50}, {"role": "assistant", "content": "xx"}]
BEGIN = (
    "{% set n = namespace(x='xy', y=['a']) %}{% set v = 'xyz' %}{% set w = ['b'] %}{% set big = 'x' * 100000 %}"
    "{% macro f(a) %}{{ a }}{{ v }}{% endmacro %}"
)
GRAMMAR = {  # T: a text, L: a list, B: statements; the last line of each has no other in it
    "T": [
        "(T ~ T)", "(T + T)", "(T * 50)", "(T|upper)", "(T|e)", "(T|title)", "(T|striptags)", "(T|indent(9))",
        "(T.strip())", "(T.swapcase())", "(T.replace(T, T))", "(T|replace(T, T))", "(L|join(T))", "(L|string)", "f(T)",
        "(T.join(L|map('string')))", "(L|map('string')|list|tojson)", "((T)[1:])", "((T)[::-1])",
        "(T if T in T else T)", "(T|tojson)", "(L|length|string)", "((L|first)|string)",
        "v", "n.x", "'x'", "messages[0].content", "big",
    ],
    "L": [
        "[T, T]", "[L, L]", "(L,L)", "((T)|list)", "((L|list)[1:])", "(L|map('string')|list)", "((L|list) + (L|list))",
        "(L|reverse|list)", "(T.split())", "(T.split('x'))", "(L|map('string')|sort)", "(L|map('string')|unique|list)",
        "((L|list) * 3)", "(L|map('string')|map('replace', 'x', T)|list)", "(L|map('list')|list)",
        "w", "n.y", "range(9)", "range(999)", "range(99999)", "messages",
    ],
    "B": [
        "{{ T }}", "{% set v = T %}", "{% set n.x = T %}", "{% set n.y = L %}", "{% set w = L %}", "{{ T }}B",
        "{% for a in L %}B{% endfor %}", "{% for a in range(40) %}B{% endfor %}", "{% if T == T %}B{% endif %}B",
        "{% for a in L if a != 3 %}B{{ loop.index }}{% if loop.last %}z{% endif %}{% endfor %}", "BBB",
        "{% macro f(a) %}B{% endmacro %}B", "{% set v %}B{% endset %}B", "{% set n.x %}B{% endset %}B",
        "{% filter upper %}B{% endfilter %}",
        "{{ v }}",
    ],
}  # fmt: skip
_SYMBOL = re.compile(r"(?<![A-Za-z])[TL](?![A-Za-z])|B(?=[B{]|$)")


def drawn(draw: random.Random, symbol: str, depth: int) -> str:
    """One of the symbol's forms, itself drawn through and through."""
    forms = [form for form in GRAMMAR[symbol] if depth > 0 or not _SYMBOL.search(form)]
    return _SYMBOL.sub(lambda found: drawn(draw, found[0], depth - 1), draw.choice(forms))


def test_drawn_templates_end_soon_in_little_memory() -> None:
    endings: dict[str, int] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(300):
        draw = random.Random(seed)
        source = BEGIN + "".join(drawn(draw, "B", 5) for _ in range(4))
        begun = time.thread_time()
        try:
            Prompts(compiled(source)).chat(MESSAGES, True, {})
            ending = "rendered"
        except Refused as refused:
            ending = "costly" if "takes too long" in refused.sentence else "refused"
            assert "MemoryError" not in refused.sentence, source
        assert time.thread_time() - begun < 15, source
        endings[ending] = endings.get(ending, 0) + 1

    assert min(endings.values()) > 10 and len(endings) == 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB

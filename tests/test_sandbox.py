"""Templates that end, whatever they are; and those that people write render as transformers renders them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from heavylift_runtime.server.prompts import Prompts, compiled
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.sandbox import meter

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. "},
    {"role": "user", "content": "Wie gëht es? <b>&</b>"},
    {"role": "assistant", "content": "<think>hm</think> Gut."},
    {"role": "user", "content": "Und\ndann? 🙂"},
]
CHATML = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""  # noqa: E501
LLAMA = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""  # noqa: E501
THINKING = """
{%- macro body(message) -%}
    {%- if '</think>' in message.content -%}
        {{- message.content.split('</think>')[-1].lstrip('\\n') -}}
    {%- else -%}
        {{- message.content | trim -}}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last=-1, count=0) -%}
{%- for message in messages[::-1] -%}
    {%- set index = (messages | length) - 1 - loop.index0 -%}
    {%- if ns.last < 0 and message.role == 'user' -%}{%- set ns.last = index -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages if message.role is defined and message.role not in ['tool', 'function'] -%}
    {%- if loop.first and message.role != 'system' -%}{{- 'no system\\n' -}}{%- endif -%}
    {%- set ns.count = ns.count + 1 -%}
    {%- generation -%}{{ loop.index }}/{{ loop.length }} {{ message.role | upper }}: {{ body(message) }}{%- endgeneration -%}  # noqa: E501
    {%- if not loop.last -%}{{ '\\n' }}{%- else -%}{%- break -%}{%- endif -%}
{%- endfor -%}
{{- '\\n' ~ ns.last ~ ' ' ~ ns.count ~ ' ' ~ (messages | selectattr('role', 'equalto', 'user') | list | length) -}}
{{- messages[0] | tojson }} {{ messages | map(attribute='role') | join(', ') }} {{ dict(a=1, b=[2]) | tojson(indent=2) }}  # noqa: E501
{{- (messages[0].items() | list)[0][1] | title }} {{ 'a' * 3 }} {{ 7 % 4 }} {{ 2 ** 5 }} {{ range(3) | list }}
{%- if tools is none and documents is not defined or true %} {{ strftime_now('%Y') | int > 2000 }}{% endif -%}
{{- 'x'.replace('x', 'y') | replace('y', 'zz') | indent(2) }} {{ ['b', 'a'] | sort | join('-') }} {{ (1, 2) | string -}}
"""  # noqa: E501


@pytest.mark.parametrize("source", [CHATML, LLAMA, THINKING], ids=["chatml", "llama", "thinking"])
@pytest.mark.parametrize("generation", [False, True])
def test_templates_render_as_transformers_renders_them(source: str, generation: bool) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    theirs, _ = render_jinja_template([MESSAGES], chat_template=source, add_generation_prompt=generation, **tokens)

    ours = Prompts(compiled(source), variables=tokens).chat(MESSAGES, generation, {})

    assert [ours] == theirs


HOSTILE = {
    "loops within loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop that counts": "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
    "a doubled text": "{% set n = namespace(x='x') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a text plus itself": "{% set n = namespace(x='x') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a doubled block": "{% set n = namespace(x='x') %}{% for a in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",  # noqa: E501
    "a doubled list": "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",  # noqa: E501
    "a doubled tuple as a key": "{% set n = namespace(x=(1,)) %}{% for a in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",  # noqa: E501
    "macros that call each other": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",  # noqa: E501
    "a macro for ever": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a recursive loop": "{% for a in [[], []] recursive %}{{ loop([[], []]) }}{{ loop([[], []]) }}{% endfor %}",
    "a product": "{{ 'x' * 10 ** 9 }}",
    "a list's product": "{{ [0] * 10 ** 9 }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a power of powers": "{% set n = namespace(x=9) %}{% for a in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",  # noqa: E501
    "a format": "{{ '%0999999999d' % 1 }}",
    "a format method": "{{ '{:999999999}'.format(1) }}",
    "a width": "{{ 'x'.ljust(999999999) }}",
    "a filled number": "{{ 'x'.zfill(999999999) }}",
    "bytes": "{{ (1).to_bytes(999999999, 'big') }}",
    "a replacement": "{% set x = 'x' * 100000 %}{{ x.replace('', x) }}",
    "a replacing filter": "{% set x = 'x' * 100000 %}{{ x | replace('x', x) }}",
    "a joint": "{% set x = 'x' * 100000 %}{{ x.join(range(99999) | map('string')) }}",
    "a joining filter": "{% set x = 'x' * 100000 %}{{ range(99999) | join(x) }}",
    "an indent": "{{ ('\\n' * 10000) | indent(999999) }}",
    "json's indent": "{{ [1] | tojson(indent=999999999) }}",
    "comparisons": "{% set x = 'x' * 600000 %}{% for a in range(99999) %}{{ x + 'a' == x + 'b' }}{% endfor %}",
    "searches": "{% set x = 'x' * 600000 %}{% for a in range(99999) %}{% if 'y' in x %}{% endif %}{% endfor %}",
    "slices": "{% set x = 'x' * 600000 %}{% for a in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "methods": "{% set x = 'x' * 600000 %}{% for a in range(99999) %}{% set y = x.upper() %}{% endfor %}",
    "filters": "{% set x = 'x' * 600000 %}{% for a in range(99999) %}{% set y = x | trim %}{% endfor %}",
    "tests": "{% set x = 'x' * 600000 %}{% for a in range(99999) %}{% set y = x is in(x) %}{% endfor %}",
    "maps of maps": "{{ range(99999) | map('string') | map('list') | map('join', 'xxxxxxxxxxxxxxxxxxxxx') | join | list }}",  # noqa: E501
    "sums of lists": "{% set x = [[1]] * 10000 %}{% for a in range(9999) %}{% set y = x | sum(start=[]) %}{% endfor %}",
    "an inner name": "{{ messages.__class__.__mro__ }}",
    "an inner name of a namespace": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "a change of the request": "{{ messages.append(1) }}",
    "another file": "{% include 'x' %}",
    "a fault": "{{ 1 / 0 }}",
    "half of a pair": "{{ '\\ud800' }}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_refused_soon(source: str) -> None:
    begun = time.thread_time()
    with pytest.raises(Refused) as caught:
        Prompts(compiled(source)).chat(MESSAGES, True, {})

    assert caught.value.code == 400 and "chat template" in caught.value.sentence
    assert time.thread_time() - begun < 10


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ x | center }}", "{{ " + "(" * 5000, "{% for %}" * 3, "x" * (2**20 + 1)]
)
def test_what_is_no_template_is_told_when_it_is_read(source: str) -> None:
    with pytest.raises(ValueError, match="it "):
        compiled(source)


def test_a_long_conversation_can_pay() -> None:
    messages = [{"role": ("user", "assistant")[number % 2], "content": "words " * 200} for number in range(2000)]

    prompt = Prompts(compiled(LLAMA), variables={"bos_token": "<s>", "eos_token": "</s>"}).chat(messages, True, {})

    assert prompt.count("[INST]") == 1000
    assert len(Prompts(compiled(THINKING)).chat(messages, True, {})) > 2_000_000


def test_a_megabyte_of_one_message_can_pay() -> None:
    assert len(Prompts(compiled(THINKING)).chat([{"role": "user", "content": "x" * 2**20}], True, {})) > 2**20


def test_outside_of_a_rendering_nothing_costs() -> None:
    meter.pay("x" * 1000)
    meter.spend(10**12)

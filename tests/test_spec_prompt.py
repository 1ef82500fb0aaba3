"""Templates and examples of a model file: locked, in the container's folder, and rendered there by the runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from jinja2 import Environment

from heavylift.errors import InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.lock import Lock, lock_path
from heavylift.plan.plan import Plan
from heavylift.serving import config_files
from heavylift.spec import ModelSpec
from heavylift.spec.template import LEFT_OUT
from heavylift.weights import inspect
from heavylift_runtime.server.prompts import Prompts
from heavylift_runtime.server.sandbox.environment import Sandbox
from heavylift_runtime.server.templates import prompts_of, reader

SHOTS = "few_shot: [{input: '1 + 1', output: two}, {input: 'Wie geht''s?', output: gut}]"


@pytest.fixture
def models(tmp_path: Path, tiny_t5: Path) -> Path:
    """tiny-t5 and two templates beside the model file."""
    shutil.copytree(tiny_t5, tmp_path / "m")
    (tmp_path / "text.jinja").write_text(
        "{% for each in examples %}{{ each.input }}={{ each.output }};{% endfor %}{{ prompt }}="
    )
    (tmp_path / "chat.jinja").write_text(
        "{% for m in messages %}{% generation %}{{ m.role }}: {{ m.content }}\n{% endgeneration %}{% endfor %}"
    )
    return tmp_path


def planned(models: Path, prompt: str) -> Plan:
    file = models / "x.yaml"
    file.write_text(f"name: x\nmodel: {{path: m}}\nprompt: {{{prompt}}}\n")
    spec = ModelSpec.from_yaml(file)
    inspect(spec, models).write(lock_path(file))
    return Plan.fit(spec, Lock.read(lock_path(file), "heavylift plan"))


def in_the_container(models: Path, prompt: str) -> Prompts:
    """As the server has them, from the files that the push would send and the options in serving.properties."""
    plan = planned(models, prompt)
    files = config_files(plan, models)
    assert digest(File.of(path, content) for path, content in files.items()) == plan.config_digest
    folder = models / "container"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    properties = {key.removeprefix("option."): value for key, value in plan.properties if key.startswith("option.")}
    return prompts_of(properties, reader(folder))


def test_examples_stand_before_the_text(models: Path) -> None:
    prompts = in_the_container(models, SHOTS)

    assert prompts.fill("2 + 2") == (
        "Input: 1 + 1\nOutput: two\n\nInput: Wie geht's?\nOutput: gut\n\nInput: 2 + 2\nOutput:"
    )


def test_a_template_of_ones_own_gets_the_examples(models: Path) -> None:
    prompts = in_the_container(models, f"template: text.jinja, {SHOTS}")

    assert prompts.fill("x") == "1 + 1=two;Wie geht's?=gut;x="


def test_a_chat_template_is_the_conversation_s(models: Path) -> None:
    prompts = in_the_container(models, "chat_template: chat.jinja")

    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert prompts.chat(messages, True, {}) == "user: a\nassistant: b\n"
    assert prompts.fill("x") == "x"


def test_a_changed_template_or_example_changes_the_prefix_and_a_stale_lock_is_told(models: Path) -> None:
    before = planned(models, f"template: text.jinja, {SHOTS}")
    fewer = planned(models, "template: text.jinja, few_shot: [{input: a, output: b}]")
    (models / "text.jinja").write_text("{{ prompt }}")

    with pytest.raises(InputError, match="a template of prompt changed since the lock was written"):
        config_files(fewer, models)
    after = planned(models, "template: text.jinja, few_shot: [{input: a, output: b}]")

    assert len({before.config_digest, fewer.config_digest, after.config_digest}) == 3


def test_a_lock_without_the_template_is_stale(models: Path) -> None:
    planned(models, SHOTS)
    lock = Lock.read(lock_path(models / "x.yaml"), "heavylift plan")
    (models / "x.yaml").write_text("name: x\nmodel: {path: m}\nprompt: {chat_template: chat.jinja}\n")

    reason = lock.stale(ModelSpec.from_yaml(models / "x.yaml"))

    assert reason == "the lock has no templates, unlike the model file"


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("none.jinja", None, "cannot read the template .*none.jinja: No such file"),
        ("bad.jinja", b"{% for %}", r"bad.jinja:1: not Jinja: Expected an expression"),
        ("same.jinja", b"{{ promt }}", "same.jinja never says 'prompt': every request would become the same text"),
        ("latin.jinja", b"\xff", "latin.jinja is not UTF-8"),
        ("large.jinja", b"x" * (2**20 + 1), "has 1048577 bytes; at most 1048576"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_before_anything_is_sent(
    models: Path, name: str, content: bytes | None, fault: str
) -> None:
    if content is not None:
        (models / name).write_bytes(content)

    with pytest.raises(InputError, match=fault):
        planned(models, f"template: {name}")


def test_validate_tells_every_broken_template_where_the_model_file_names_it(models: Path) -> None:
    file = models / "x.yaml"
    (models / "chat.jinja").write_text("{% for m in messages %}\n{{ m.role | uper }} {{ m is odds }}\n{% endfor %}")
    (models / "text.jinja").write_text("a\n{% if x %}{{ prompt ")
    file.write_text("name: x\nmodel: {path: m}\nprompt:\n  chat_template: chat.jinja\n  template: text.jinja\n")

    with pytest.raises(InputError) as raised:
        ModelSpec.from_yaml(file, beside=True)

    assert raised.value.faults == (
        f"{file}:4:18: 'prompt.chat_template': {models}/chat.jinja:2: no filter 'uper'; did you mean 'upper'?",
        f"{file}:4:18: 'prompt.chat_template': {models}/chat.jinja:2: no test 'odds'; did you mean 'odd'?",
        f"{file}:5:13: 'prompt.template': {models}/text.jinja:2: not Jinja: unexpected end of template, expected "
        "'end of print statement'.",
    )


def test_the_filters_that_a_template_may_use_are_those_of_the_containers_sandbox() -> None:
    own = Environment()

    assert own.filters.keys() - LEFT_OUT == {name for name in Sandbox().filters if not name.startswith("_")}
    assert own.tests.keys() == Sandbox().tests.keys()


def test_a_template_outside_of_the_folder_is_refused(models: Path) -> None:
    (models / "link.jinja").symlink_to("/etc/hostname")

    with pytest.raises(InputError, match="leads out of"):
        planned(models, "template: link.jinja")


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("code: c", "'prompt' cannot be combined with 'code'"),
        ("enable_network_isolation: true", "'prompt' cannot be combined with 'enable_network_isolation'"),
        ("options: {chat_template: x}", "'options.chat_template' is set by 'prompt'; keep one of the two"),
    ],
)
def test_what_would_leave_the_templates_unread_is_refused(models: Path, lines: str, fault: str) -> None:
    file = models / "x.yaml"
    file.write_text(f"name: x\nmodel: {{path: m}}\nprompt: {{chat_template: chat.jinja}}\n{lines}\n")

    with pytest.raises(InputError, match=fault):
        ModelSpec.from_yaml(file)

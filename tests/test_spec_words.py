"""What a model file's faults say where a person cannot see the fault: the word that was meant, YAML's own readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.errors import InputError
from heavylift.spec import ModelSpec

START = "name: x\nmodel: {path: tiny-t5}\n"


def faults(folder: Path, text: str, env: str | None = None, *, beside: bool = False) -> tuple[str, ...]:
    """Of models/x.yaml, without its folder."""
    file = folder / "x.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        ModelSpec.from_yaml(file, env, beside=beside)
    return tuple(fault.removeprefix(f"{folder}/") for fault in refused.value.faults)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("engine: vLLM", "did you mean 'vllm'?"),
        ("staging: {by: Job}", "did you mean 'job'?"),
        ("rollout: {strategy: canarry}", "did you mean 'canary'?"),
        ("rollout: {}", "'rollout.strategy' is missing: 'all_at_once', 'canary', 'linear' or 'rolling'"),
        ("serving.batch_size: 2", "unknown key 'serving.batch_size'; write 'batch_size' below 'serving', indented"),
        ("max_new_tokens: 8", "unknown key 'max_new_tokens' here; it belongs to 'options.max_new_tokens'"),
        ("shadow: {name: y, engine: vllm}", "unknown key 'engine' here; it stands at the top of the file"),
        ("environment: {A: on}", "'environment.A' must be text; got true; put it in quotes"),
        ("description: 2026-01-01", "got 2026-01-01; put it in quotes"),
        ("network: {subnets: [], security_groups: [sg-0123456789abcdef0]}", "got an empty list"),
        (
            "monitoring: {alarms: [{metric: gpu, max_percent: 101}]}",
            "'monitoring.alarms[0].max_percent' must be a number above 0 and at most 100; got 101",
        ),
    ],
)
def test_the_mend_is_in_the_sentence(tmp_path: Path, line: str, told: str) -> None:
    found = faults(tmp_path, f"{START}{line}\n")

    assert any(fault.startswith("x.yaml:3:") and fault.endswith(told) for fault in found), found


@pytest.mark.parametrize("line", ["dtype: fp64", "kms_key: 3", "engine: lmi"])
def test_no_mend_is_made_up(tmp_path: Path, line: str) -> None:
    (fault,) = faults(tmp_path, f"{START}{line}\n")

    assert "did you mean" not in fault and not fault.endswith("quotes")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("tags: !!set {a, b}", "x.yaml:3:7: 'tags' is tagged 'tag:yaml.org,2002:set', which nothing here reads"),
        ("? [a, b]\n: 1\n? {c: d}\n: 2", "x.yaml:5:3: a key must be text, not a mapping or a list"),
        ("description:\tx", "x.yaml:3:13: not YAML: a tab cannot stand here; use spaces"),
        ("serving: {batch_size: 9999999999999999999999}", "is a number of more than 63 bits"),
    ],
)
def test_yaml_that_is_not_what_it_looks_like_is_told_at_its_place(tmp_path: Path, lines: str, told: str) -> None:
    assert any(told in fault for fault in faults(tmp_path, f"{START}{lines}\n"))


def test_bytes_of_another_encoding_have_a_line_and_a_column(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes("name: x\ndescription: Zürich\n".encode("latin-1"))

    with pytest.raises(InputError, match=r"x\.yaml:2:15: not UTF-8 \(byte 22\); save the file as UTF-8"):
        ModelSpec.from_yaml(tmp_path / "x.yaml")


def test_a_fault_below_a_choice_is_the_only_one_told(tmp_path: Path) -> None:
    benchmark = "{workload: {synthetic: {prompt_words: [1, 2], new_tokens: 5}}, slo: [{metric: error_rate, max: 0.1}]}"

    (fault,) = faults(tmp_path, f"{START}benchmark: {benchmark}\n")

    assert "'benchmark.workload.synthetic.new_tokens' must be a non-empty list" in fault


def test_a_key_of_the_file_in_an_environment_is_told_once(tmp_path: Path) -> None:
    text = f"{START}environments: {{prod: {{extends: y.yaml}}}}\n"

    assert faults(tmp_path, text, "prod") == (
        "x.yaml:3:23: 'extends' belongs to the file, not to one of its environments",
    )


def test_the_nearest_base_is_not_near_by_its_ending(tmp_path: Path) -> None:
    (tmp_path / "unicode.yaml").touch()

    (fault,) = faults(tmp_path, f"{START}extends: nope.yaml\n")

    assert fault.endswith("which is not there")


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("cron(0 20 * *)", "has 4 fields; cron has 6: minutes, hours, day of the month, month, day of the week, year"),
        ("cron(99 20 * * ? *)", "has '99' as minutes, which is 0 to 59"),
        ("cron(0 20 * FOO ? *)", "has 'FOO' as month, which is 1 to 12, or JAN to DEC"),
        ("cron(0 20 * * * *)", "must have '?' as day of the month or as day of the week, and not as both"),
        ("cron(0 20 ? * ? *)", "must have '?' as day of the month or as day of the week, and not as both"),
        ("cron(0 20 * * ?/2 *)", "has '?/2' as day of the week"),
        ("at(2026-13-01T00:00:00)", "is no moment: month must be in 1..12"),
    ],
)
def test_a_schedule_that_never_comes_is_refused(tmp_path: Path, when: str, told: str) -> None:
    scaling = f"scaling: {{min: 1, max: 2, schedules: [{{name: n, when: '{when}', max: 1}}]}}\n"

    assert any(
        f"'scaling.schedules[0].when' {told}" in fault and "x.yaml:3:" in fault
        for fault in faults(tmp_path, START + scaling)
    )


@pytest.mark.parametrize(
    "when", ["cron(0/15 8-18 ? * MON-FRI *)", "cron(0 0 L * ? *)", "cron(5,35 0 ? JAN,7 6#3 2026-2030)", "rate(2 days)"]
)
def test_a_schedule_of_the_apis_forms_is_taken(tmp_path: Path, when: str) -> None:
    scaling = f"scaling: {{min: 1, max: 2, schedules: [{{name: n, when: '{when}', max: 1}}]}}\n"
    (tmp_path / "x.yaml").write_text(START + scaling)

    assert ModelSpec.from_yaml(tmp_path / "x.yaml").scaling is not None


def test_a_time_zone_that_is_none_is_answered_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heavylift.spec.rules.schedules.available_timezones", lambda: {"Europe/Berlin", "UTC"})
    row = "{name: n, when: 'rate(1 day)', timezone: Europe/Berln, max: 1}"

    (fault,) = faults(tmp_path, f"{START}scaling: {{min: 1, max: 2, schedules: [{row}]}}\n")

    assert fault.endswith("there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?")


def test_what_a_file_names_must_lie_beside_it(tmp_path: Path) -> None:
    text = START + "prompt: {template: text.jinja}\nbenchmark: {workload: {dataset: d.jsonl}, slo: []}\n"

    found = faults(tmp_path, text, beside=True)

    assert [fault.split(" names ")[0] for fault in found if " names " in fault] == [
        "x.yaml:2:15: 'model.path'",
        "x.yaml:3:20: 'prompt.template'",
        "x.yaml:4:33: 'benchmark.workload.dataset'",
    ]


def test_what_a_file_names_must_be_what_it_is_named_as(tmp_path: Path) -> None:
    for folder in ("tiny-t5", "c"):
        (tmp_path / folder).mkdir()
    (tmp_path / "d.jsonl").write_text('{"task": "a", "input": "b"}\nnot json\n')
    text = START + "code: c\nbenchmark: {workload: {dataset: d.jsonl}, slo: []}\n"

    found = faults(tmp_path, text, beside=True)

    assert f"x.yaml:3:7: 'code': {tmp_path}/c/model.py is missing: the script engine runs its handle(inputs)" in found
    assert [each for each in found if each.startswith("x.yaml:4:33: 'benchmark.workload.dataset': d.jsonl line 2 is ")]


def test_a_lock_is_no_model_file(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text("{}")

    with pytest.raises(InputError, match=r"x\.lock is a lock, which `heavylift plan` writes; name the model file"):
        ModelSpec.from_yaml(tmp_path / "x.lock")


def test_a_name_that_its_field_refuses_is_told_once(tmp_path: Path) -> None:
    found = faults(tmp_path, "name: x\nmodel: {path: naïve}\ncode: ../x\n", beside=True)

    assert [fault.split(" must be ")[0] for fault in found] == ["x.yaml:2:15: 'model.path'", "x.yaml:3:7: 'code'"]


def test_a_lock_stands_in_for_weights_that_are_not_in_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(START)
    (tmp_path / "x.lock").touch()

    assert ModelSpec.from_yaml(tmp_path / "x.yaml", beside=True).model.path == "tiny-t5"

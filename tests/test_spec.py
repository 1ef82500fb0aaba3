"""The model file: what is accepted, and the sentence for everything that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.spec import ModelSpec

MINIMAL = "name: x\nmodel: {path: m}\n"


def faults(folder: Path, text: str | bytes) -> list[str]:
    """The faults of a model file, its path cut off: `3:1: unknown key …`."""
    file = folder / "x.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError) as caught:
        ModelSpec.from_yaml(file)
    return [fault.removeprefix(f"{file}:") for fault in caught.value.faults]


def read(folder: Path, text: str) -> ModelSpec:
    file = folder / "x.yaml"
    file.write_text(text)
    return ModelSpec.from_yaml(file)


def test_the_shortest_file_has_a_name_and_a_source(tmp_path: Path) -> None:
    spec = read(tmp_path, MINIMAL)

    assert (spec.name, spec.model.path, spec.engine, spec.tensor_parallel_degree) == ("x", "m", "auto", "auto")
    assert spec.benchmark is None


def test_every_committed_example_is_valid(tiny_t5: Path) -> None:
    files = sorted(tiny_t5.parent.glob("*.yaml"))

    names = [ModelSpec.from_yaml(file).name for file in files]

    assert names == [file.stem for file in files] and "tiny-t5" in names


def test_all_faults_are_listed_at_once_in_the_order_of_the_text(tmp_path: Path) -> None:
    text = "name: x\nmodel: {path: m}\ntensor_paralel_degree: 2\ninitial_instance_count: 0\nserving:\n  workers: two\n"

    assert faults(tmp_path, text) == [
        "3:1: unknown key 'tensor_paralel_degree'; did you mean 'tensor_parallel_degree'?",
        "4:25: 'initial_instance_count' must be a whole number from 1 to 1000; got 0",
        "6:12: 'serving.workers' must be a whole number from 1 to 64; got 'two'",
    ]


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("batch_size: 4", "3:1: unknown key 'batch_size' here; it belongs to 'serving.batch_size'"),
        ("engine: nativ", "3:9: 'engine' must be 'auto', 'native', 'script'"),
        ("dtype: fp8", "3:8: 'dtype' must be 'auto', 'fp32', 'fp16' or 'bf16'; got 'fp8'"),
        ("tensor_parallel_degree: '2'", "3:25: 'tensor_parallel_degree' must be 'auto' or a whole number from 1 to 64"),
        ("tensor_parallel_degree: true", "3:25: 'tensor_parallel_degree' must be 'auto' or a whole number"),
        ("volume_size_in_gb: 513", "3:20: 'volume_size_in_gb' must be 'auto' or a whole number from 1 to 512; got 513"),
        (
            "container_startup_health_check_timeout_in_seconds: 59",
            "3:52: 'container_startup_health_check_timeout_in_seconds' must be 'auto' or a whole number",
        ),
        ("model_data_download_timeout_in_seconds: 3601", "3:41: 'model_data_download_timeout_in_seconds' must be"),
        (
            "instance_type: ml.g5.xlarge\nvolume_size_in_gb: 30",
            "4:1: 'volume_size_in_gb' must be left out: ml.g5.xlarge has NVMe storage",
        ),
        ("instance_type: ml.g5.xlarg", "3:16: no facts about instance type 'ml.g5.xlarg'; did you mean ml.g5.xlarge"),
        ("instance_type: g5.xlarge", "3:16: 'instance_type' must be 'auto' or a SageMaker instance type such as"),
        ("code: c\nengine: native", "3:1: 'code' needs engine: script; got engine: 'native'"),
        ("engine: script", "3:9: engine: script needs 'code', the folder with model.py"),
        ("code: ../c", "3:7: 'code' must be a folder beside this file, or below"),
        ("options: {dtype: fp16}", "3:11: 'options.dtype' is set by 'dtype'; write it there"),
        ("options: {env: A=1}", "3:11: 'options.env' is set by 'environment'; write it there"),
        ('code: c\noptions: {a: "b\\nengine=MPI"}', "4:14: 'options.a' must be printable text in one line"),
        ("environment: {OPTION_DTYPE: fp16}", "3:15: 'environment.OPTION_DTYPE' would override what Heavylift sets"),
        ("environment: {A: 1}", "3:18: 'environment.A' must be text; got 1"),
        ("environment: {A: " + "v" * 1025 + "}", "3:18: 'environment.A' must be at most 1024 bytes; got 1025"),
        ("tags: {aws:x: y}", "3:8: a tag's key has 1 to 128 characters and does not begin with 'aws:'"),
        ("gate: {on_fail: explode}", "3:17: 'gate.on_fail' must be 'rollback', 'hold' or 'warn'; got 'explode'"),
        ("quantization: int7", "3:15: 'quantization' must be 'none'"),
        ("engine: native\nquantization: fp8", "4:15: 'quantization' of engine native is none or int8"),
        (
            "pipeline_parallel_degree: 65",
            "3:27: 'pipeline_parallel_degree' must be a whole number from 1 to 64; got 65",
        ),
        (
            "engine: native\noptions: {max_new_token: 4}",
            "4:11: 'max_new_token' is no option of engine native; did you mean",
        ),
        ("options: {max_new_tokens: 0}", "3:27: 'options.max_new_tokens' must be a whole number from 1 to"),
        ("serving: 3", "3:10: 'serving' must be a mapping with 'workers', 'batch_size', 'max_batch_delay' and"),
        ("serving: {workers: 1, workers: 2}", "3:23: duplicate key 'serving.workers'; first in line 3"),
        ("enable_network_isolation: true\ncode: c", "3:1: 'enable_network_isolation' cannot be combined with 'code'"),
        ("description: !!python/object:os.system x", "3:14: 'description' cannot be read as"),
        ("description: 2026-99-99", "3:14: 'description' cannot be read as"),
        ("? [a]\n: 1", "3:3: a key must be text"),
        (
            "initial_instance_count: 010",
            "3:25: 'initial_instance_count' is 8 in one version of YAML and not",
        ),
        ("serving: {batch_size: 1:30}", "3:23: 'serving.batch_size' is 90 in one version of YAML and not in the other"),
        ("serving: {workers: 0b10}", "3:20: 'serving.workers' is 2 in one version of YAML and not in the other"),
        ("serving: {job_queue_size: 1_000}", "3:27: 'serving.job_queue_size' is 1000 in one version of YAML"),
    ],
)
def test_a_fault_names_its_place_the_value_and_what_is_allowed(tmp_path: Path, lines: str, fault: str) -> None:
    found = faults(tmp_path, MINIMAL + lines + "\n")

    assert len(found) == 1 and found[0].startswith(fault), found


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{}", "2:8: 'model' needs exactly one of 'path', 's3' and 'id'; got none"),
        (
            "{path: m, s3: 's3://bucket/p/'}",
            "2:8: 'model' needs exactly one of 'path', 's3' and 'id'; got 'path' and 's3'",
        ),
        (
            "{id: google/flan-t5-xxl}",
            "2:13: 'model.id' needs 'model.revision', the commit to pin: 40 hexadecimal digits",
        ),
        ("{id: a/b, revision: main}", "2:28: 'model.revision' must be a commit: 40 hexadecimal digits"),
        ("{path: m, revision: " + "a" * 40 + "}", "2:18: 'model.revision' belongs to 'model.id' only"),
        ("{path: /etc}", "2:15: 'model.path' must be a folder beside this file"),
        ("{path: a/../../b}", "2:15: 'model.path' must be a folder beside this file"),
        ("{s3: 's3://bucket/prefix'}", "2:13: 'model.s3' must be s3://bucket/prefix/, ending with '/'"),
    ],
)
def test_a_model_has_exactly_one_pinned_source(tmp_path: Path, source: str, fault: str) -> None:
    found = faults(tmp_path, f"name: x\nmodel: {source}\n")

    assert len(found) == 1 and found[0].startswith(fault), found


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (
            "{metric: p90, max_ms: 1}",
            "6:16: 'benchmark.slo[0].metric' must be 'attainment', 'batch_invariance', 'cost_per",
        ),
        ("{metric: quality}", "6:7: 'benchmark.slo[0].min' is missing: a number from 0 to 1"),
        ("{metric: quality, min: 2}", "6:30: 'benchmark.slo[0].min' must be a number from 0 to 1; got 2"),
        ("{metric: error_rate, min: 0}", "6:28: unknown key 'min'; allowed here: metric, max"),
        (
            "{metric: e2e_latency, percentile: 100, max_ms: 1}",
            "6:41: 'benchmark.slo[0].percentile' must be a number above",
        ),
        (
            "{metric: e2e_latency, percentile: 90, max_ms: .inf}",
            "6:53: 'benchmark.slo[0].max_ms' must be a number above 0",
        ),
        ("7", "6:7: 'benchmark.slo[0]' must be a mapping with 'metric'"),
        ("{metric: quality, min: 1}\n    - {metric: quality, min: 0}", "7:7: a second target for 'quality'; keep one"),
    ],
)
def test_a_target_is_checked_by_its_metric(tmp_path: Path, target: str, fault: str) -> None:
    text = f"{MINIMAL}benchmark:\n  workload: four-tasks\n  slo:\n    - {target}\n"

    found = faults(tmp_path, text)

    assert found[0].startswith(fault) or any(each.startswith(fault) for each in found), found


def test_a_benchmark_without_targets_is_refused(tmp_path: Path) -> None:
    found = faults(tmp_path, f"{MINIMAL}benchmark: {{workload: four-tasks, slo: []}}\n")

    assert found[0].startswith("3:40: 'benchmark.slo' must be a non-empty list"), found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1:1: the file must be a mapping"),
        ("- a\n", "1:1: the file must be a mapping of keys and values"),
        ("name:\n\tx: 1\n", "2:1: not YAML: a tab cannot indent; use spaces"),
        ("a: b: c\n", "1:5: not YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 1\n", "2:1: not YAML: expected a single document"),
        ("a: &x 1\nb: *x\n", "1:4: anchors and aliases are not allowed; write the value out"),
        ("[" * 40, "1:17: nested too deeply"),
        (b"name: x\nmodel: \xff\n", "2:8: not UTF-8 (byte 15); save the file as UTF-8"),
        ("name: y\nmodel: {path: m}\n", "1:7: 'name' must be the file's: 'x'; got 'y'"),
    ],
)
def test_a_file_that_is_no_model_file_is_refused_with_its_place(tmp_path: Path, text: str | bytes, fault: str) -> None:
    found = faults(tmp_path, text)

    assert found[0].startswith(fault), found


def test_a_missing_or_a_huge_file_is_named(tmp_path: Path) -> None:
    huge = tmp_path / "x.yaml"
    huge.write_text("#" * 300_000)

    with pytest.raises(InputError, match=r"cannot read .*nowhere\.yaml: No such file"):
        ModelSpec.from_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="larger than 262144 bytes"):
        ModelSpec.from_yaml(huge)


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=60), st.text("abné:-[]{},&*!?|>'\"#%@`\n\t 01.", max_size=60).map(str.encode)))
def test_no_bytes_at_all_raise_anything_but_a_sentence(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(raw)

    with pytest.raises(InputError) as caught:
        ModelSpec.from_yaml(file)

    assert all(fault.strip() for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("initial_instance_count: !!int ''", "3:25: 'initial_instance_count' cannot be read as int; put"),
        ("initial_instance_count: !!bool maybe", "3:25: 'initial_instance_count' cannot be read as bool; put"),
        ("initial_instance_count: !!timestamp x", "3:25: 'initial_instance_count' cannot be read as timestamp; put"),
        ("initial_instance_count: 0x" + "f" * 5000, "3:25: 'initial_instance_count' is a number of more than 63 bits"),
        ("code: c\noptions: {a: 0b" + "1" * 20000 + "}", "4:14: 'options.a' is a number of more than 63 bits"),
        ('environment: {A: "a\\0b"}', "3:18: 'environment.A' holds the character U+0000, which is not printable"),
        ('environment: {A: "\\ud800"}', "3:18: 'environment.A' holds the character U+D800"),
        ('description: "\\e[31m"', "3:14: 'description' holds the character U+001B"),
        ('tags: {"a\\0": b}', "3:8: 'tags.a\\x00' holds the character U+0000"),
        ('environment: {"A\\n": x}', "3:15: 'A\\n' is not an environment variable's name"),
        ("tags: {a: 'x*y'}", "3:11: a tag has letters, digits, blanks and _ . : / = + - @; got '*'"),
    ],
)
def test_numbers_and_texts_that_nothing_can_carry_are_refused(line: str, fault: str, tmp_path: Path) -> None:
    found = faults(tmp_path, MINIMAL + line + "\n")

    assert found[0].startswith(fault)


def test_a_list_with_a_faulty_member_is_not_called_empty(tmp_path: Path) -> None:
    found = faults(tmp_path, MINIMAL + "benchmark: {workload: four-tasks, slo: [{metric: speed}]}\n")

    assert [fault.partition(" must")[0] for fault in found] == ["3:50: 'benchmark.slo[0].metric'"]


@pytest.mark.parametrize(
    ("benchmark", "fault"),
    [
        ("load: {mode: open}", "3:12: 'benchmark.load': load has no rate"),
        ("load: {mode: open, rate: 2, cv: 1}", "3:12: 'benchmark.load': load has the unknown key 'cv'"),
        ("load: {concurrency: 2, rate: 5}", "3:12: 'benchmark.load': load has the unknown key 'rate'"),
        ("load: {mode: open, arrivals: trace, times_s: [3, 1]}", "load.times_s must be at least two times"),
        ("requests: 20", "must be 'auto', or at least 29 to certify e2e_latency p90 at 0.95 confidence; got 20"),
        ("workload: {synthetic: {prompt_words: [5, 9]}}", "'benchmark.workload.synthetic.new_tokens' is missing"),
        ("warmup: {window: 2}", "'benchmark.warmup.window' must be a whole number from 3 to 10000; got 2"),
    ],
)
def test_a_load_that_cannot_be_or_cannot_tell_is_refused(tmp_path: Path, benchmark: str, fault: str) -> None:
    named = "" if benchmark.startswith("workload") else "workload: four-tasks, "
    target = "slo: [{metric: e2e_latency, percentile: 90, max_ms: 1}]"

    found = faults(tmp_path, f"{MINIMAL}benchmark: {{{named}{benchmark}, {target}}}\n")

    assert any(fault.partition(": ")[2] in each or fault in each for each in found), found


@pytest.mark.parametrize(
    ("benchmark", "fault"),
    [
        (
            "slo: [{metric: batch_invariance, min: 1}]",
            "'benchmark.probes' must be at least 8 to certify batch_invariance",
        ),
        ("probes: 14, slo: [{metric: load_invariance, min: 0.95}]", "must be at least 15 to certify load_invariance"),
        (
            "probes: 8, requests: auto, slo: [{metric: batch_invariance, min: 1}]",
            "'benchmark.probes' must be at least 10",
        ),
        (
            "probes: 30, requests: 29, slo: [{metric: load_invariance, min: 1}]",
            "at least the 30 probes that it compares",
        ),
        ("probes: 64, stream: true, slo: [{metric: batch_invariance, min: 1}]", "batch_invariance needs batches"),
    ],
)
def test_an_invariance_needs_probes_that_can_certify_it(tmp_path: Path, benchmark: str, fault: str) -> None:
    found = faults(tmp_path, f"{MINIMAL}serving: {{batch_size: 4}}\nbenchmark: {{workload: four-tasks, {benchmark}}}\n")

    assert any(fault in each for each in found), found


@pytest.mark.parametrize(
    "benchmark",
    [
        "probes: 8, slo: [{metric: batch_invariance, min: 1}]",
        "probes: 2, slo: [{metric: load_invariance, min: 1, tolerance: 0.4}]",
    ],
)
def test_an_invariance_with_enough_probes_is_a_target(tmp_path: Path, benchmark: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"{MINIMAL}serving: {{batch_size: 4}}\nbenchmark: {{workload: four-tasks, {benchmark}}}\n")

    spec = ModelSpec.from_yaml(file)

    assert spec.benchmark is not None and spec.benchmark.slo[0].metric.endswith("_invariance")


def test_an_open_load_and_own_prompts_reach_the_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    workload = "workload: {synthetic: {prompt_words: [5, 9], new_tokens: [1, 4], shared_prefix_words: 3, prompts: 8}}"
    load = "load: {mode: open, arrivals: gamma, rate: 2.5, cv: 2}"
    slo = "slo: [{metric: e2e_latency, percentile: 99, max_ms: 500, confidence: 0.9}]"
    file.write_text(f"{MINIMAL}benchmark: {{{workload}, {load}, stream: false, requests: auto, {slo}}}\n")

    spec = ModelSpec.from_yaml(file)

    assert spec.benchmark is not None
    assert spec.benchmark.load.to_dict() == {"mode": "open", "arrivals": "gamma", "rate": 2.5, "cv": 2.0}
    assert (spec.benchmark.requests, spec.benchmark.stream) == ("auto", False)

"""Model files that extend others, and their environments: what lies over what, and in which file a fault is."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.errors import InputError
from heavylift.spec import ModelSpec, environments


def write(folder: Path, **texts: str) -> Path:
    """The files of a folder by their stems; gives x.yaml."""
    for stem, text in texts.items():
        (folder / f"{stem}.yaml").write_text(text)
    return folder / "x.yaml"


def faults(file: Path, env: str | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        ModelSpec.from_yaml(file, env)
    return [fault.removeprefix(f"{file.parent}/") for fault in caught.value.faults]


BASE = "model: {path: m}\nserving: {workers: 2, batch_size: 4}\ntags: {team: a, cost: b}\n"


def test_a_file_lies_over_its_base_key_by_key(tmp_path: Path) -> None:
    file = write(tmp_path, base=BASE, x="extends: base.yaml\nname: x\nserving: {batch_size: 8}\ntags: {team: c}\n")

    spec = ModelSpec.from_yaml(file)

    assert (spec.model.path, spec.serving.workers, spec.serving.batch_size) == ("m", 2, 8)
    assert spec.tags == {"team": "c", "cost": "b"}


def test_bases_of_bases_lie_below_and_a_list_takes_a_list_s_place(tmp_path: Path) -> None:
    slo = "benchmark: {workload: four-tasks, requests: auto, slo: [{metric: quality, min: 0}]}\n"
    middle = "extends: root.yaml\nbenchmark: {slo: [{metric: quality, min: 0.9}]}\n"
    file = write(tmp_path, root=BASE + slo, middle=middle, x="extends: middle.yaml\nname: x\n")

    spec = ModelSpec.from_yaml(file)

    assert spec.benchmark is not None
    assert [(target.metric, target.model_dump()["min"]) for target in spec.benchmark.slo] == [("quality", 0.9)]
    assert spec.benchmark.requests == "auto"


def test_null_takes_an_inherited_key_away(tmp_path: Path) -> None:
    file = write(tmp_path, base=BASE, x="extends: base.yaml\nname: x\nserving: null\ntags: {cost: null}\n")

    spec = ModelSpec.from_yaml(file)

    assert (spec.serving.workers, spec.tags) == (1, {"team": "a"})


def test_a_choice_is_replaced_whole(tmp_path: Path) -> None:
    file = write(tmp_path, base=BASE, x="extends: base.yaml\nname: x\nmodel: {s3: 's3://bucket/prefix/'}\n")

    spec = ModelSpec.from_yaml(file)

    assert (spec.model.path, spec.model.s3) == (None, "s3://bucket/prefix/")


ENVIRONMENTS = """\
name: x
model: {path: m}
initial_instance_count: 1
environments:
  dev: {instance_type: ml.c6i.xlarge}
  prod:
    name: x-prod
    initial_instance_count: 3
"""


def test_an_environment_lies_over_the_file_and_the_others_do_not(tmp_path: Path) -> None:
    file = write(tmp_path, x=ENVIRONMENTS)

    plain, prod = ModelSpec.from_yaml(file), ModelSpec.from_yaml(file, "prod")

    assert environments(file) == ["dev", "prod"]
    assert (plain.name, plain.initial_instance_count, plain.instance_type) == ("x", 1, "auto")
    assert (prod.name, prod.initial_instance_count, prod.instance_type) == ("x-prod", 3, "auto")


def test_a_base_s_environment_lies_under_the_file_s(tmp_path: Path) -> None:
    base = BASE + "environments: {prod: {tags: {stage: prod, cost: p}}}\n"
    own = "extends: base.yaml\nname: x\nenvironments: {prod: {tags: {cost: q}}}\n"
    file = write(tmp_path, base=base, x=own)

    spec = ModelSpec.from_yaml(file, "prod")

    assert spec.tags == {"team": "a", "cost": "q", "stage": "prod"}


def test_a_fault_is_told_in_the_file_that_it_is_in(tmp_path: Path) -> None:
    base = "model: {path: m}\nserving:\n  workers: two\ndtyp: fp32\n"
    own = "extends: base.yaml\nname: x\nserving: {batch_size: 0}\nenvironments: {prod: {dtype: fp7}}\n"
    file = write(tmp_path, base=base, x=own)

    found = faults(file, "prod")

    assert [fault.split(" must be")[0] for fault in found] == [
        "x.yaml:3:23: 'serving.batch_size'",
        "x.yaml:4:30: 'dtype'",
        "base.yaml:3:12: 'serving.workers'",
        "base.yaml:4:1: unknown key 'dtyp'; did you mean 'dtype'?",
    ]


def test_what_is_missing_is_told_where_its_mapping_is(tmp_path: Path) -> None:
    file = write(
        tmp_path, base="benchmark: {workload: four-tasks}\n", x="extends: base.yaml\nname: x\nmodel: {path: m}\n"
    )

    found = faults(file)

    assert found == ["base.yaml:1:1: 'benchmark.slo' is missing: a non-empty list: " + found[0].rpartition("list: ")[2]]


def test_a_faulty_value_that_is_replaced_is_no_fault(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        base="model: {path: m}\ndtype: fp7\nserving: {worker: 1}\n",
        x="extends: base.yaml\nname: x\ndtype: fp32\nserving: null\n",
    )

    assert ModelSpec.from_yaml(file).dtype == "fp32"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "extends: basis.yaml",
            "x.yaml:1:10: 'extends' names 'basis.yaml', which is not there; did you mean 'base.yaml'?",
        ),
        (
            "extends: ../base.yaml",
            "x.yaml:1:10: 'extends' must be a .yaml file beside this one, or below, no '..'; got",
        ),
        ("extends: /etc/base.yaml", "x.yaml:1:10: 'extends' must be a .yaml file beside this one"),
        ("extends: base.json", "x.yaml:1:10: 'extends' must be a .yaml file"),
        (
            "extends: [base.yaml]",
            "x.yaml:1:10: 'extends' must be a .yaml file beside this one, or below, no '..'; got a list",
        ),
        ("extends: x.yaml", "x.yaml:1:10: 'extends' goes in a circle: x.yaml → x.yaml; remove one of them"),
        ("extends: round.yaml", "round.yaml:1:10: 'extends' goes in a circle: x.yaml → round.yaml → x.yaml"),
        ("extends: out/base.yaml", "x.yaml:1:10: 'extends' leads out of inside/ through a link: 'out/base.yaml'"),
        ("extends: list.yaml", "x.yaml:1:10: 'extends' names 'list.yaml', which is no mapping of keys and values"),
        ("environments: 3", "x.yaml:1:15: 'environments' must be a mapping of names to overlays; got 3"),
        ("environments: {Prod: {}}", "x.yaml:1:16: an environment's name has lower-case letters, digits and single"),
        ("environments: {prod: 1}", "x.yaml:1:22: 'environments.prod' must be a mapping of keys and values; got 1"),
        ("environments: {p: {extends: base.yaml}}", "x.yaml:1:20: 'extends' belongs to the file, not to one of its"),
    ],
)
def test_a_base_that_cannot_be_is_refused_with_its_place(tmp_path: Path, line: str, fault: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "out").symlink_to(outside)
    write(outside, base="model: {path: m}\n")
    file = write(
        inside, base="{}\n", round="extends: x.yaml\n", list="[]\n", x=f"{line}\nname: x\nmodel: {{path: m}}\n"
    )

    found = faults(file)

    assert len(found) == 1 and found[0].startswith(fault), found


def test_an_environment_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path, x=ENVIRONMENTS)

    assert faults(file, "prd") == ["x.yaml:4:1: there is no environment 'prd'; did you mean 'prod'?"]
    assert faults(file, "zzz") == ["x.yaml:4:1: there is no environment 'zzz'; it has dev, prod"]


def test_a_base_that_is_no_yaml_is_told_as_such(tmp_path: Path) -> None:
    file = write(tmp_path, base="a: b: c\n", x="extends: base.yaml\nname: x\n")

    assert faults(file) == ["base.yaml:1:5: not YAML: mapping values are not allowed here"]


def test_ten_bases_are_too_many(tmp_path: Path) -> None:
    chain = {f"b{step}": f"extends: b{step + 1}.yaml\n" for step in range(12)}
    file = write(tmp_path, **chain, x="extends: b0.yaml\nname: x\nmodel: {path: m}\n")

    assert faults(file) == ["b7.yaml:1:10: 'extends' is 9 files deep; at most 8"]

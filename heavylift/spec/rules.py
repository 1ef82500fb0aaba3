"""What the fields of a model file must agree on. Not what one field may be: that is model.py.

The rules read the plain document, not a ModelSpec, so that they speak even where another field is faulty.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from heavylift.benchmark.load import load_from
from heavylift.benchmark.looks import needed_for
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.slo import Slo
from heavylift.plan import facts
from heavylift.spec.fault import Fault, shown
from heavylift_runtime.engines.registry import ENGINES

Data = dict[str, Any]
Rule = Callable[[Data], Iterator[Fault]]

SOURCES = ("path", "s3", "id")
RESERVED = {
    "OPTION_": "write it under 'options'",
    "SERVING_": "write it under 'serving'",
    "HEAVYLIFT_": "such names are Heavylift's own",
}
OWN_OPTIONS = {
    "dtype": "dtype",
    "quantize": "quantization",
    "tensor_parallel_degree": "tensor_parallel_degree",
    "pipeline_parallel_degree": "pipeline_parallel_degree",
    "model_id": "model",
    "entryPoint": "code",
    "engine": "engine",
}
MOST_ENVIRONMENT, LONGEST_VALUE = (
    100,
    1024,
)  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ContainerDefinition.html
OWN_ENVIRONMENT = 8  # room for what the plan and the stack add: OPTION_MODEL_ID and its like
MOST_TAGS, LONGEST_TAG_KEY, LONGEST_TAG = (
    50,
    128,
    256,
)  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
TAG_SIGNS = "_.:/=+-@"


def rule_faults(document: Any, stem: str) -> list[Fault]:
    """Every broken rule of a file called `stem`; none for a document that is not a mapping, since its fields say so."""
    data = document if isinstance(document, dict) else {}
    return [*named_as_file(data, stem), *(fault for rule in RULES for fault in rule(data))]


def named_as_file(data: Data, stem: str) -> Iterator[Fault]:
    """So that no two files of a folder can name the same endpoint, and none the foundation's stack."""
    name = data.get("name")
    if name == "foundation":
        yield Fault(("name",), "'name' must not be 'foundation': all models share the stack of that name")
    if isinstance(name, str) and name != stem:
        yield Fault(("name",), f"'name' must be the file's: {shown(stem)}; got {shown(name)}")


def one_source(data: Data) -> Iterator[Fault]:
    """Exactly one of path, s3 and id; a revision where, and only where, there is an id."""
    model = data.get("model")
    if not isinstance(model, dict):
        return
    named = [key for key in SOURCES if model.get(key) is not None]
    if len(named) != 1:
        got = " and ".join(f"'{key}'" for key in named) if named else "none"
        yield Fault(("model",), f"'model' needs exactly one of 'path', 's3' and 'id'; got {got}")
    if model.get("id") is not None and model.get("revision") is None:
        yield Fault(("model", "id"), "'model.id' needs 'model.revision', the commit to pin: 40 hexadecimal digits")
    if model.get("id") is None and model.get("revision") is not None:
        yield Fault(("model", "revision"), "'model.revision' belongs to 'model.id' only", at_key=True)


def code_and_script(data: Data) -> Iterator[Fault]:
    """A code folder is what the script engine runs."""
    name, code = data.get("engine", "auto"), data.get("code")
    if code is not None and name not in ("auto", "script"):
        yield Fault(("code",), f"'code' needs engine: script; got engine: {shown(name)}", at_key=True)
    if code is None and name == "script":
        yield Fault(("engine",), "engine: script needs 'code', the folder with model.py")


def engine(data: Data) -> Iterator[Fault]:
    """The registry knows more engines than this version has."""
    row = ENGINES.get(str(data.get("engine")))
    if row is not None and row.why_not is not None:
        yield Fault(("engine",), f"engine: {row.name} cannot run: {row.why_not}")


def instance(data: Data) -> Iterator[Fault]:
    """The type is one we have facts for; NVMe types take no volume."""
    name, volume = data.get("instance_type", "auto"), data.get("volume_size_in_gb", "auto")
    if not isinstance(name, str) or not name.startswith("ml."):
        return
    fact = facts.instances().get(name)
    if fact is None:
        yield Fault(("instance_type",), facts.unknown_type(name))
    elif fact.nvme and volume != "auto":
        sentence = (
            f"'volume_size_in_gb' must be left out: {name} has NVMe storage, and SageMaker refuses a volume on it"
        )
        yield Fault(("volume_size_in_gb",), f"{sentence}; got {shown(volume)}", at_key=True)


def options(data: Data) -> Iterator[Fault]:
    """Options add keys; those of other fields, and line breaks, are refused."""
    for key, value in _mapping(data, "options"):
        path = ("options", key)
        if field := OWN_OPTIONS.get(key.removeprefix("option.")):
            yield Fault(path, f"'options.{key}' is set by '{field}'; write it there", at_key=True)
        elif not key.isidentifier() or not key.isascii():
            yield Fault(
                path, f"{shown(key)} is not an option's name: letters, digits and '_', without 'option.'", at_key=True
            )
        if isinstance(value, str) and (value != value.strip() or not value or not value.isprintable()):
            yield Fault(
                path, f"'options.{key}' must be printable text in one line, without blanks around; got {shown(value)}"
            )


def environment(data: Data) -> Iterator[Fault]:
    """SageMaker's limits, and nothing that Heavylift sets."""
    pairs = list(_mapping(data, "environment"))
    if len(pairs) > MOST_ENVIRONMENT - OWN_ENVIRONMENT:
        most = MOST_ENVIRONMENT - OWN_ENVIRONMENT
        yield Fault(
            ("environment",), f"'environment' has {len(pairs)} entries; at most {most} (Heavylift adds its own)"
        )
    for key, value in pairs:
        path = ("environment", key)
        if not key.isidentifier() or not key.isascii():
            yield Fault(
                path, f"{shown(key)} is not an environment variable's name: letters, digits and '_'", at_key=True
            )
        for prefix, mend in RESERVED.items():
            if key.upper().startswith(prefix):
                yield Fault(path, f"'environment.{key}' would override what Heavylift sets; {mend}", at_key=True)
        if isinstance(value, str) and (size := max(map(_utf8_bytes, (key, value)))) > LONGEST_VALUE:
            yield Fault(path, f"'environment.{key[:40]}' must be at most {LONGEST_VALUE} bytes; got {size}")


def tags(data: Data) -> Iterator[Fault]:
    """AWS's limits on tags."""
    pairs = list(_mapping(data, "tags"))
    if len(pairs) > MOST_TAGS:
        yield Fault(("tags",), f"'tags' has {len(pairs)} entries; at most {MOST_TAGS}")
    for key, value in pairs:
        if key.lower().startswith("aws:") or not 1 <= len(key) <= LONGEST_TAG_KEY:
            sentence = f"a tag's key has 1 to {LONGEST_TAG_KEY} characters and does not begin with 'aws:'"
            yield Fault(("tags", key), f"{sentence}; got {shown(key)}", at_key=True)
        if isinstance(value, str) and len(value) > LONGEST_TAG:
            yield Fault(("tags", key), f"'tags.{key}' must be at most {LONGEST_TAG} characters; got {len(value)}")
        for text, at_key in ((key, True), (value, False)):
            if odd := sorted({each for each in str(text) if not _in_tags(each)}):
                allowed = f"letters, digits, blanks and {' '.join(TAG_SIGNS)}"
                yield Fault(("tags", key), f"a tag has {allowed}; got {shown(''.join(odd))}", at_key=at_key)


def _utf8_bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))  # halves of pairs are a fault of their own


def _in_tags(character: str) -> bool:
    return character in TAG_SIGNS or unicodedata.category(character)[0] in "LNZ"


def targets(data: Data) -> Iterator[Fault]:
    """No two targets about the same thing."""
    benchmark = data.get("benchmark")
    rows = benchmark.get("slo") if isinstance(benchmark, dict) else None
    seen: set[tuple[str, str]] = set()
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        if not isinstance(row, dict):
            continue
        subject = (str(row.get("metric")), str(row.get("percentile")))
        if subject in seen:
            yield Fault(("benchmark", "slo", index), f"a second target for {shown(row.get('metric'))}; keep one")
        seen.add(subject)


def load(data: Data) -> Iterator[Fault]:
    """The fields that belong to the load's mode and arrivals, and no others."""
    benchmark = data.get("benchmark")
    said = benchmark.get("load") if isinstance(benchmark, dict) else None
    if not isinstance(said, dict):
        return
    opened = said.get("mode") == "open"
    filled = {"mode": "closed", **({"arrivals": "poisson"} if opened else {"concurrency": 1}), **said}
    try:
        load_from(filled)
    except FormatError as error:
        for sentence in error.faults:
            yield Fault(("benchmark", "load"), f"'benchmark.load': {sentence}")


def prompts(data: Data) -> Iterator[Fault]:
    """A workload of one's own is either synthetic or a dataset."""
    benchmark = data.get("benchmark")
    said = benchmark.get("workload") if isinstance(benchmark, dict) else None
    if isinstance(said, dict) and sum(said.get(key) is not None for key in ("synthetic", "dataset")) != 1:
        yield Fault(("benchmark", "workload"), "'benchmark.workload' needs exactly one of 'synthetic' and 'dataset'")


def enough_requests(data: Data) -> Iterator[Fault]:
    """So many requests can certify each target, if none of them misses it; else money is spent for no verdict."""
    benchmark = data.get("benchmark")
    rows = benchmark.get("slo") if isinstance(benchmark, dict) else None
    requests = benchmark.get("requests", 200) if isinstance(benchmark, dict) else None
    if not isinstance(requests, int) or requests < 1:
        return
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        try:
            target = Slo.from_dict(row)
        except FormatError:  # its fields say so
            continue
        needed = needed_for(target, misses=0)
        if needed is not None and requests < needed:
            sentence = f"'benchmark.requests' must be 'auto', or at least {needed} to certify {target.label} at "
            yield Fault(("benchmark", "slo", index), f"{sentence}{target.confidence:g} confidence; got {requests}")


def isolation(data: Data) -> Iterator[Fault]:
    """With network isolation SageMaker copies one prefix, the weights: there is no second one for the code."""
    if data.get("enable_network_isolation") is True and data.get("code") is not None:
        yield Fault(
            ("enable_network_isolation",), "'enable_network_isolation' cannot be combined with 'code'", at_key=True
        )


def _mapping(data: Data, field: str) -> Iterator[tuple[str, Any]]:
    value = data.get(field)
    yield from value.items() if isinstance(value, dict) else ()


RULES: tuple[Rule, ...] = (
    one_source,
    code_and_script,
    engine,
    instance,
    options,
    environment,
    tags,
    targets,
    load,
    prompts,
    enough_requests,
    isolation,
)

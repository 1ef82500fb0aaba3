"""The container's environment, secrets, image and jobs; tags. Not the options of its engine: source.py."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from heavylift.plan import containers, facts
from heavylift.spec.fault import Fault, shown
from heavylift.spec.rules.read import Data, Rule, named, part
from heavylift_runtime.engines.registry import ENGINES

RESERVED = {
    "OPTION_": "write it under 'options'",
    "SERVING_": "write it under 'serving'",
    "HEAVYLIFT_": "such names are Heavylift's own",
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
SECRET = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|API_?KEY|ACCESS_KEY)(_|$)", re.IGNORECASE)
LOOKED_UP = "_SECRET_ARN"  # heavylift_runtime.secret_values
LOADS_PARTITIONS = ("native", "fastertransformer")
"""Engines whose ranks read what a partition job writes (heavylift_runtime.job)."""
PROMPT_OPTIONS = {"chat_template", "prompt_template", "prompt_examples"}
TAG_SIGNS = "_.:/=+-@"


def environment(data: Data) -> Iterator[Fault]:
    """SageMaker's limits, and nothing that Heavylift sets."""
    pairs = list(part(data, "environment").items())
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
        if key.endswith(LOOKED_UP):
            sentence = f"'environment.{key}' is looked up by the container as it starts, and its role may not read it"
            yield Fault(path, f"{sentence}; write it under 'secrets' as {key.removesuffix(LOOKED_UP)}", at_key=True)
        if isinstance(value, str) and (size := max(map(_utf8_bytes, (key, value)))) > LONGEST_VALUE:
            yield Fault(path, f"'environment.{key[:40]}' must be at most {LONGEST_VALUE} bytes; got {size}")


def secrets(data: Data) -> Iterator[Fault]:
    """A secret has a variable's name, and one place."""
    for key in part(data, "secrets"):
        path = ("secrets", key)
        if not key.isidentifier() or not key.isascii():
            yield Fault(
                path, f"{shown(key)} is not an environment variable's name: letters, digits and '_'", at_key=True
            )
        for prefix, mend in RESERVED.items():
            if key.upper().startswith(prefix):
                yield Fault(path, f"'secrets.{key}' would override what Heavylift sets; {mend}", at_key=True)
        if key in part(data, "environment"):
            yield Fault(path, f"'{key}' is in 'environment', too; keep one of the two", at_key=True)
    if part(data, "secrets") and part(data, "image").get("dlc") is not None:
        sentence = "'secrets' are looked up by Heavylift's own image; a Deep Learning Container would get ARNs only"
        yield Fault(("secrets",), sentence, at_key=True)
    if part(data, "secrets") and data.get("enable_network_isolation") is True:
        yield Fault(("secrets",), "'secrets' cannot be looked up under 'enable_network_isolation'", at_key=True)


def plain_secrets(data: Data) -> Iterator[Fault]:
    """A token in `environment` would be readable by everybody who may describe the endpoint."""
    for key, value in part(data, "environment").items():
        if isinstance(value, str) and value and SECRET.search(key) is not None:
            sentence = (
                f"'environment.{key}' looks like a secret, and everybody who may describe the model could read it"
            )
            yield Fault(("environment", key), f"{sentence}; write its ARN under 'secrets'", at_key=True)


def prompt(data: Data) -> Iterator[Fault]:
    """Templates travel with serving.properties, and are the server's; a script makes its prompts itself."""
    if data.get("prompt") is None:
        return
    for key, set_ in (("code", data.get("code")), ("enable_network_isolation", data.get("enable_network_isolation"))):
        if set_ is not None and set_ is not False:
            yield Fault(("prompt",), f"'prompt' cannot be combined with '{key}'", at_key=True)
    for key in PROMPT_OPTIONS & part(data, "options").keys():
        yield Fault(("options", key), f"'options.{key}' is set by 'prompt'; keep one of the two", at_key=True)


def image(data: Data) -> Iterator[Fault]:
    """One image."""
    said = [key for key in ("uri", "dlc", "build") if part(data, "image").get(key) is not None]
    if isinstance(data.get("image"), dict) and len(said) != 1:
        got = " and ".join(f"'{key}'" for key in said) if said else "none"
        yield Fault(("image",), f"'image' needs exactly one of 'uri', 'dlc' and 'build'; got {got}")


def dlc(data: Data) -> Iterator[Fault]:
    """One of AWS's containers is there, in the file's region, too, and has an engine of its own."""
    said = part(data, "image", "dlc")
    framework, version, region = (
        named(each, key) for each, key in ((said, "framework"), (said, "version"), (data, "region"))
    )
    if framework not in containers.ENGINES:
        return
    if version and (why := containers.fault(framework, version, region or None)) is not None:
        yield Fault(("image", "dlc", "version"), f"'image.dlc.version': {why}")
    able, engine = containers.ENGINES[framework], data.get("engine", "auto")
    if data.get("code") is not None and engine in ("auto", "script"):
        if "script" not in able:
            sentence = f"'code' is run by no {framework} container of AWS's; leave out 'code', or 'image.dlc'"
            yield Fault(("code",), sentence, at_key=True)
    elif isinstance(engine, str) and engine in (*ENGINES, "auto") and engine not in able:
        allowed = f"'engine' with AWS's {framework} container must be one of {', '.join(able)}"
        own = "" if engine == "auto" else "; leave out 'image.dlc' for Heavylift's own image"
        path = ("engine",) if "engine" in data else ("image", "dlc", "framework")
        yield Fault(path, f"{allowed}; got {shown(engine)}{own}")


BELONGS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("compile", "backend"): {"torch": ("cuda_graphs",), "neuron": ("sequence_lengths", "neuron_sdk", "instance_type")},
    ("partition", "when"): {"load": (), "ahead_of_time": ("instance_type",)},
    ("staging", "by"): {"push": (), "job": ("token",)},
    ("routing", "strategy"): {"prefix_aware": ("prefix_length", "concurrency_threshold")},
}
"""Where a field says which way, the further fields of each way."""
USUAL = {("partition", "when"): "load", ("staging", "by"): "push"}


def belongs(data: Data) -> Iterator[Fault]:
    """A field of one way is not given for another: it would be ignored."""
    for (section, field), ways in BELONGS.items():
        said = part(data, section)
        way = said.get(field, USUAL.get((section, field)))
        for owner, keys in ways.items():
            for key in keys:
                if owner != way and key in said and said[key] not in (None, False, "auto"):
                    sentence = f"'{section}.{key}' belongs to '{field}: {owner}'; got '{field}: {way}'"
                    yield Fault((section, key), sentence, at_key=True)
    staging = part(data, "staging")
    if part(data, "model").get("id") is None:
        if staging.get("token") is not None:
            yield Fault(("staging", "token"), "'staging.token' is the hub's, and 'model' has no 'id'", at_key=True)
        elif staging.get("by") == "job":
            sentence = "'staging.by' job brings a model from the hub, and 'model' has no 'id'; use push"
            yield Fault(("staging", "by"), sentence)


def compiles(data: Data) -> Iterator[Fault]:
    """Each compiler is for its engine and its hardware."""
    engines = {"torch": "vllm", "neuron": "neuronx"}
    backend = part(data, "compile").get("backend")
    engine = data.get("engine", "auto")
    if backend in engines and isinstance(engine, str) and engine not in ("auto", engines[backend]):
        sentence = f"'compile.backend' {backend} is engine {engines[backend]}'s; got engine: {shown(engine)}"
        yield Fault(("compile", "backend"), sentence)
    backend, fact = part(data, "compile").get("backend"), facts.instances().get(str(data.get("instance_type")))
    if fact is None or backend not in ("torch", "neuron"):
        return
    if (backend == "neuron") != (fact.hardware == "neuron"):
        mend = "Inf2 and Trn types" if backend == "neuron" else "GPUs and processors"
        yield Fault(("compile", "backend"), f"'compile.backend' {backend} is for {mend}; got {fact.type}")


def ahead(data: Data) -> Iterator[Fault]:
    """What is made ahead is made by our own image, and loaded by it."""
    neuron = part(data, "compile").get("backend") == "neuron"
    cut = part(data, "partition").get("when") == "ahead_of_time"
    if neuron and cut:
        sentence = "'partition' and 'compile' for Neuron exclude each other: what is compiled is split as it loads"
        yield Fault(("partition", "when"), sentence)
    engine = "script" if data.get("code") is not None else data.get("engine", "auto")
    if cut and isinstance(engine, str) and engine not in ("auto", *LOADS_PARTITIONS):
        sentence = f"'partition' ahead of time is for {' and '.join(LOADS_PARTITIONS)}; got engine: {shown(engine)}"
        yield Fault(("partition", "when"), sentence)
    if neuron and data.get("enable_network_isolation") is True:
        sentence = "'compile' cannot be combined with 'enable_network_isolation': what was compiled comes from S3"
        yield Fault(("compile",), sentence, at_key=True)
    for section, asked in (("partition", cut), ("compile", neuron)):
        for other, given in (("image.dlc", part(data, "image").get("dlc")), ("multi_model", data.get("multi_model"))):
            if asked and given is not None:
                sentence = f"'{section}' makes files for one model that only Heavylift's own image loads"
                yield Fault((section,), f"{sentence}; leave out '{other}' or '{section}'", at_key=True)


def tags(data: Data) -> Iterator[Fault]:
    """AWS's limits on tags."""
    pairs = list(part(data, "tags").items())
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


RULES: tuple[Rule, ...] = (environment, plain_secrets, secrets, prompt, image, dlc, belongs, compiles, ahead, tags)

"""The container's environment and the tags. Not the options of its engine: source.py."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from heavylift.spec.fault import Fault, shown
from heavylift.spec.rules.read import Data, Rule, part

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
        if isinstance(value, str) and (size := max(map(_utf8_bytes, (key, value)))) > LONGEST_VALUE:
            yield Fault(path, f"'environment.{key[:40]}' must be at most {LONGEST_VALUE} bytes; got {size}")


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


RULES: tuple[Rule, ...] = (environment, tags)

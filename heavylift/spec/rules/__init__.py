"""What the fields of a model file must agree on. Not what one field may be: that is model.py.

The rules read the plain document, not a ModelSpec, so that they speak even where another field is faulty.
"""

from __future__ import annotations

from typing import Any

from heavylift.spec.fault import Fault
from heavylift.spec.rules import benchmark, container, hosting, rollout, scaling, source, variants
from heavylift.spec.rules.read import Rule

RULES: tuple[Rule, ...] = (
    *source.RULES,
    *container.RULES,
    *hosting.RULES,
    *scaling.RULES,
    *rollout.RULES,
    *variants.RULES,
    *benchmark.RULES,
)


def rule_faults(document: Any, stem: str, env: str | None = None) -> list[Fault]:
    """Every broken rule of a file called `stem`; none for a document that is not a mapping, since its fields say so."""
    data = document if isinstance(document, dict) else {}
    return [*source.named_as_file(data, stem, env), *(fault for rule in RULES for fault in rule(data))]

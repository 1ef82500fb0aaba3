"""What an EndpointConfig asks to be started, variant by variant, and which variant's turn it is to answer.

Not the starting: that is endpoints.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .container import Container


@dataclass(frozen=True)
class Variant:
    """A variant as CreateEndpointConfig was given it, and its model's container; a shadow gets copies only."""

    given: dict[str, Any]
    container: dict[str, Any]
    shadow: bool = False

    @property
    def name(self) -> str:
        """VariantName."""
        return str(self.given["VariantName"])


@dataclass(frozen=True)
class Deployment:
    """One EndpointConfig's variants, in its order."""

    config: str
    variants: tuple[Variant, ...]


@dataclass
class Served:
    """A variant's container and its share of the traffic; `answered` requests since the shares last changed."""

    variant: Variant
    container: Container
    weight: float
    instances: int
    answered: int = 0

    @classmethod
    def begin(cls, variant: Variant, container: Container, before: Served | None, retained: frozenset[str]) -> Served:
        """With the configuration's weight and count, or those of `before` where UpdateEndpoint retains them."""
        weight, instances = variant.given.get("InitialVariantWeight", 1.0), variant.given.get("InitialInstanceCount", 1)
        if before is not None:
            weight = before.weight if "DesiredWeight" in retained else weight
            instances = before.instances if "DesiredInstanceCount" in retained else instances
        return cls(variant, container, weight, instances)


def turn(served: Iterable[Served]) -> Served | None:
    """The variant that answers next: each in exact proportion to its weight (SageMaker draws them). None: all are 0."""
    open_ = [each for each in served if each.weight > 0 and not each.variant.shadow]
    return min(open_, key=lambda each: (each.answered + 1) / each.weight, default=None)


def shadow(served: Iterable[Served], of: Served) -> Served | None:
    """The shadow variant, where the request that `of` answers is among those that it gets a copy of.

    Its weight over the production variant's is the share of the requests that are copied.
    """
    for each in served:
        if each.variant.shadow and of.weight > 0 and (each.answered + 1) * of.weight <= of.answered * each.weight:
            return each
    return None

"""What an EndpointConfig, or an inference component, asks to be started, and whose turn it is to answer.

Not the starting: that is endpoints.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .container import Container


@dataclass(frozen=True)
class Variant:
    """A variant as CreateEndpointConfig was given it, and its model's container; a shadow gets copies only.

    Without a container it is the instances of inference components. A copy of such a component is a variant, too: `of`
    is the one on whose instances it is.
    """

    given: dict[str, Any]
    container: dict[str, Any] | None
    shadow: bool = False
    of: str | None = None

    @property
    def name(self) -> str:
        """VariantName."""
        return str(self.given["VariantName"])

    @property
    def production(self) -> str:
        """The production variant that a caller is told of."""
        return self.name if self.of is None else self.of


@dataclass(frozen=True)
class Deployment:
    """One EndpointConfig's variants, in its order, or a component's copies; `given`: the request that asked for it."""

    config: str
    variants: tuple[Variant, ...]
    given: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    """What is done before anything is started, on the same thread; EndpointFailed where it cannot be."""

    @property
    def asynchronous(self) -> dict[str, Any] | None:
        """AsyncInferenceConfig, where requests and replies lie in S3."""
        found: dict[str, Any] | None = self.given.get("AsyncInferenceConfig")
        return found


@dataclass
class Served:
    """A variant's container and its share of the traffic; `answered` requests since the shares last changed."""

    variant: Variant
    container: Container | None
    weight: float
    instances: int
    answered: int = 0

    @classmethod
    def begin(
        cls, variant: Variant, container: Container | None, before: Served | None, retained: frozenset[str]
    ) -> Served:
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

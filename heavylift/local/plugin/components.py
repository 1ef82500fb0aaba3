"""Inference components: copies of a model on the instances of an endpoint's variant, each a process of its own.

Not their processes: an `Endpoints` of their own keeps those, one variant for each copy. What a copy takes of an
instance is kept and described; nothing is measured out here. An update is blue/green, whatever DeploymentConfig says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .adapters import Adapters, base_of
from .deployment import Deployment, Variant
from .endpoints import Endpoint, Endpoints
from .errors import invalid
from .listing import page
from .multi_model import many

Parameters = dict[str, Any]

RESOURCE = "inference-component"
UPDATED = ("Specification", "RuntimeConfig")
LEAST_COPIES = 1
"""Of CreateInferenceComponent; an update may go to 0."""


class Components:
    """Their operations. `copies` keeps them by name, `model` gives a Model as it was created."""

    def __init__(
        self, endpoints: Endpoints, copies: Endpoints, adapters: Adapters, model: Callable[[str], Parameters]
    ) -> None:
        self._endpoints, self._copies, self._model = endpoints, copies, model
        self._adapters = adapters

    def create(self, given: Parameters) -> Endpoint:
        """Begin to create one; ValidationException for what cannot be."""
        if given.get("Specification", {}).get("BaseInferenceComponentName") is not None:
            return self._copies.create(given["InferenceComponentName"], self._adapter(given))
        wanted = {**given, "VariantName": self._variant(given), "RuntimeConfig": given.get("RuntimeConfig", {})}
        wanted["RuntimeConfig"] = {"CopyCount": LEAST_COPIES, **wanted["RuntimeConfig"]}
        if wanted["RuntimeConfig"]["CopyCount"] < LEAST_COPIES:
            raise invalid(f"CopyCount is 0; a new inference component has at least {LEAST_COPIES}")
        return self._copies.create(given["InferenceComponentName"], self._deployment(wanted))

    def update(self, given: Parameters) -> Parameters:
        """Begin to replace the copies by ones of another specification, or to have more or fewer."""
        found = self._copies.get(given["InferenceComponentName"])
        _refuse_several(given)
        wanted = {**_now(found), **{key: value for key, value in given.items() if key in UPDATED}}
        made = self._deployment(wanted) if base_of(found) is None else self._adapter(wanted)
        updated = self._copies.update(found.name, made, keep=True)
        return {"InferenceComponentArn": updated.arn}

    def update_copies(self, given: Parameters) -> Parameters:
        """Begin to have more or fewer copies."""
        named = {"InferenceComponentName": given["InferenceComponentName"]}
        return self.update({**named, "RuntimeConfig": given["DesiredRuntimeConfig"]})

    def describe(self, given: Parameters) -> Parameters:
        """The component as SageMaker shows it."""
        found = self._copies.get(given["InferenceComponentName"])
        specification = dict((found.serving or found.asked).given["Specification"])
        if "Container" in specification:
            container = dict(specification["Container"])
            if "Image" in container:
                container["DeployedImage"] = {"SpecifiedImage": container.pop("Image")}
            specification["Container"] = container
        failure = {} if found.failure is None else {"FailureReason": found.failure}
        shown = {**self._summary(found), "Specification": specification, **failure}
        if base_of(found) is not None:  # it has no copies of its own
            return shown
        desired = _now(found)["RuntimeConfig"]["CopyCount"]
        return {**shown, "RuntimeConfig": {"DesiredCopyCount": desired, "CurrentCopyCount": len(found.served)}}

    def list(self, given: Parameters) -> Parameters:
        """One page of them."""
        rows = [self._summary(each) for each in self._copies.all()]
        for column in ("EndpointName", "VariantName"):
            wanted = given.get(f"{column}Equals")
            rows = [row for row in rows if wanted in (None, row[column])]
        return page("InferenceComponents", "InferenceComponentName", rows, given, "InferenceComponentStatus")

    def delete(self, given: Parameters) -> None:
        """Begin to delete one."""
        found = self._copies.get(given["InferenceComponentName"])
        if left := list(self._adapters.of(found.name)):
            raise invalid(f"inference component {found.name} has adapters: delete {', '.join(left)} first")
        self._copies.delete(found.name)
        if (base := base_of(found)) is not None:
            self._adapters.forget(found.name, base)

    def of(self, endpoint: str) -> Iterator[str]:
        """The names of an endpoint's."""
        for each in self._copies.all():
            if each.asked.given["EndpointName"] == endpoint:
                yield each.name

    def _summary(self, found: Endpoint) -> Parameters:
        endpoint = found.asked.given["EndpointName"]
        return {
            "InferenceComponentName": found.name,
            "InferenceComponentArn": found.arn,
            "EndpointName": endpoint,
            "EndpointArn": self._endpoints.get(endpoint).arn,
            "VariantName": found.asked.given["VariantName"],
            "InferenceComponentStatus": found.status,
            "CreationTime": found.created,
            "LastModifiedTime": found.modified,
        }

    def _variant(self, given: Parameters) -> str:
        """The variant on whose instances it shall be: one without a model, the only one where none is named."""
        endpoint = self._endpoints.get(given["EndpointName"])
        if endpoint.status not in ("InService", "Updating"):
            raise invalid(f"endpoint {endpoint.name} is {endpoint.status}; it takes components when it is InService")
        free = [name for name, served in endpoint.served.items() if served.container is None]
        wanted = given.get("VariantName", free[0] if len(free) == 1 else None)
        if wanted not in free:
            raise invalid(
                f"VariantName is {wanted!r}; of endpoint {endpoint.name}, "
                f"the variants without a model of their own are: {', '.join(free) or 'none'}"
            )
        return str(wanted)

    def _adapter(self, wanted: Parameters) -> Deployment:
        """Nothing to start, but an archive to bring."""
        specification, name = wanted["Specification"], wanted["InferenceComponentName"]
        base, url = specification["BaseInferenceComponentName"], specification.get("Container", {}).get("ArtifactUrl")
        if url is None or not url.startswith("s3://") or "ModelName" in specification:
            raise invalid(f"adapter {name} needs Container.ArtifactUrl, s3://bucket/key.tar.gz, and no ModelName")
        found = self._copies.find(base)
        if found is None or base_of(found) is not None or found.asked.given["EndpointName"] != wanted["EndpointName"]:
            raise invalid(f"endpoint {wanted['EndpointName']} has no inference component {base!r} to adapt")
        if found.status != "InService":
            raise invalid(f"inference component {base} is {found.status}; it takes adapters when it is InService")
        given = {**wanted, "VariantName": found.asked.given["VariantName"]}
        return Deployment(name, (), given, lambda: self._adapters.bring(name, base, url))

    def _deployment(self, wanted: Parameters) -> Deployment:
        """A variant for each copy."""
        _refuse_several(wanted)
        specification = wanted["Specification"]
        if "BaseInferenceComponentName" in specification:
            raise invalid("a component with copies of its own cannot become an adapter")
        own, name = specification.get("Container"), specification.get("ModelName")
        if (own is None) == (name is None):
            raise invalid("Specification needs a ModelName or a Container, and not both")
        if own is not None and ("ArtifactUrl" in own or "Image" not in own):
            raise invalid("the embedded SageMaker starts a Container with an Image and without ArtifactUrl")
        if "ComputeResourceRequirements" not in specification:
            raise invalid("Specification needs ComputeResourceRequirements")
        model = {} if name is None else self._model(name)
        container = own or model.get("PrimaryContainer") or model["Containers"][0]
        if many(container):
            raise invalid(f"model {name} is of Mode MultiModel; an inference component has one model")
        times, of = specification.get("StartupParameters", {}), wanted["VariantName"]
        copies = range(1, wanted["RuntimeConfig"]["CopyCount"] + 1)
        variants = (Variant({"VariantName": f"copy-{number}", **times}, container, of=of) for number in copies)
        return Deployment(wanted["InferenceComponentName"], tuple(variants), wanted)


def _now(found: Endpoint) -> Parameters:
    """What is asked of a component: of an update that failed, nothing is."""
    return (found.asked if found.status == "Updating" else found.serving or found.asked).given


def _refuse_several(given: Parameters) -> None:
    if "Specifications" in given or ("Specification" not in given and "RuntimeConfig" not in given):
        raise invalid("the embedded SageMaker takes one Specification for all instance types; give Specification")

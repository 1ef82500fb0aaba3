"""SageMaker's control plane: Model, EndpointConfig, Endpoint, tags, processing jobs, and its errors.

Not the processes: those are endpoints.py and processing.py. Not invocations: invoke.py, asynchronous.py. What local
processes cannot show is accepted and does nothing: DeploymentConfig, DataCaptureConfig, VpcConfig, KmsKeyId, network
isolation, the role.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from . import model_data
from .adapters import Adapters
from .components import Components
from .deployment import Deployment, Served, Variant
from .endpoints import Endpoint, Endpoints
from .errors import ApiError, invalid
from .listing import page
from .processing import Jobs
from .settings import Settings
from .shapes import Shapes

Parameters = dict[str, Any]

_ARN = {"Model": "model", "EndpointConfig": "endpoint-config"}
_RETAINED = frozenset({"DesiredInstanceCount", "DesiredWeight"})
"""What RetainAllVariantProperties keeps here; the third, DataCaptureConfig, has no effect."""


class SageMaker:
    """The operations that the embedded AWS knows, by their API name."""

    def __init__(self, settings: Settings, endpoints: Endpoints, copies: Endpoints, jobs: Jobs) -> None:
        self._settings = settings
        self._endpoints, self._copies = endpoints, copies
        adapters = Adapters(settings, copies)
        copies.dress = adapters.dress
        self._components = components = Components(endpoints, copies, adapters, lambda name: self._get("Model", name))
        self._shapes = Shapes("sagemaker")
        self._stored: dict[str, dict[str, Parameters]] = {"Model": {}, "EndpointConfig": {}}
        self._tags: dict[str, dict[str, str]] = {}
        self._operations: dict[str, Callable[[Parameters], Parameters]] = {
            "CreateModel": self._create_model,
            "CreateEndpointConfig": self._create_config,
            "CreateEndpoint": self._create_endpoint,
            "UpdateEndpoint": self._update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._update_weights,
            "DescribeEndpoint": lambda p: self._describe_endpoint(self._endpoints.get(p["EndpointName"])),
            "DeleteEndpoint": self._delete_endpoint,
            "ListEndpoints": self._list_endpoints,
            "CreateInferenceComponent": self._create_component,
            "UpdateInferenceComponent": components.update,
            "UpdateInferenceComponentRuntimeConfig": components.update_copies,
            "DescribeInferenceComponent": components.describe,
            "DeleteInferenceComponent": self._delete_component,
            "ListInferenceComponents": components.list,
            "CreateProcessingJob": jobs.create,
            "DescribeProcessingJob": jobs.describe,
            "StopProcessingJob": jobs.stop,
            "ListTags": lambda p: {"Tags": self._tag_list(p["ResourceArn"])},
            "AddTags": self._add_tags,
            "DeleteTags": self._delete_tags,
        }
        for kind in self._stored:
            self._operations[f"Describe{kind}"] = partial(self._describe, kind)
            self._operations[f"Delete{kind}"] = partial(self._delete, kind)
            self._operations[f"List{kind}s"] = partial(self._list, kind)

    def call(self, operation: str, parameters: Parameters) -> Parameters:
        """Do one operation; ApiError where SageMaker would refuse."""
        self._shapes.check(operation, parameters)
        if operation not in self._operations:
            raise ApiError("UnknownOperationException", f"the embedded SageMaker does not know {operation}")
        return self._operations[operation](parameters)

    def call_with(self, operation: str, properties: Parameters) -> Parameters:
        """The same with CloudFormation's properties."""
        return self.call(operation, self._shapes.coerce(operation, properties))

    def has(self, kind: str, name: str) -> bool:
        """Whether there is a Model, EndpointConfig, Endpoint or InferenceComponent of that name."""
        living = {"Endpoint": self._endpoints, "InferenceComponent": self._copies}
        return living[kind].find(name) is not None if kind in living else name in self._stored[kind]

    # Model and EndpointConfig: stored as they were given

    def _create_model(self, given: Parameters) -> Parameters:
        containers = [given["PrimaryContainer"]] if "PrimaryContainer" in given else given.get("Containers", [])
        if len(containers) != 1:
            raise invalid(f"the model has {len(containers)} containers; the embedded SageMaker starts exactly one")
        if "Image" not in containers[0]:
            raise invalid("the container has no Image")
        model_data.check(containers[0])
        return self._create("Model", given)

    def _create_config(self, given: Parameters) -> Parameters:
        shadows = given.get("ShadowProductionVariants", [])
        variants = given["ProductionVariants"] + shadows
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) < len(names):
            raise invalid(f"variant names must differ; got {', '.join(names)}")
        if shadows and len(variants) != 2:
            raise invalid("a shadow variant goes with exactly one production variant, and there is one of each")
        for variant in variants:
            self._check_variant(variant)
        free = [name for name, variant in zip(names, variants, strict=True) if "ModelName" not in variant]
        if free and "ExecutionRoleArn" not in given:
            raise invalid(f"ExecutionRoleArn is missing; variant {free[0]} has no model with a role")
        if "AsyncInferenceConfig" in given:
            if shadows or free:
                raise invalid("asynchronous requests need variants with models of their own, and no shadow")
            if "S3OutputPath" not in given["AsyncInferenceConfig"]["OutputConfig"]:
                raise invalid("AsyncInferenceConfig.OutputConfig needs S3OutputPath")
        return self._create("EndpointConfig", given)

    def _check_variant(self, variant: Parameters) -> None:
        if "ServerlessConfig" in variant:
            raise invalid("the embedded SageMaker serves from instances; leave out ServerlessConfig")
        if "InstanceType" not in variant and not variant.get("InstancePools"):
            raise invalid("the production variant has no InstanceType")
        if "ModelName" in variant:  # else its instances are for inference components
            self._get("Model", variant["ModelName"])

    def _create(self, kind: str, given: Parameters) -> Parameters:
        name = given[f"{kind}Name"]
        arn = self._settings.arn("sagemaker", f"{_ARN[kind]}/{name}")
        if name in self._stored[kind]:
            raise invalid(f'Cannot create already existing {_ARN[kind]} "{arn}".')
        stored = {key: value for key, value in given.items() if key != "Tags"}
        self._stored[kind][name] = {**stored, f"{kind}Arn": arn, "CreationTime": time.time()}
        self._tag(arn, given.get("Tags", []))
        return {f"{kind}Arn": arn}

    def _get(self, kind: str, name: str) -> Parameters:
        if name not in self._stored[kind]:
            arn = self._settings.arn("sagemaker", f"{_ARN[kind]}/{name}")
            raise invalid(f'Could not find {_ARN[kind]} "{arn}".')
        return self._stored[kind][name]

    def _describe(self, kind: str, given: Parameters) -> Parameters:
        return dict(self._get(kind, given[f"{kind}Name"]))

    def _delete(self, kind: str, given: Parameters) -> Parameters:
        name = given[f"{kind}Name"]
        self._tags.pop(self._get(kind, name)[f"{kind}Arn"], None)
        del self._stored[kind][name]
        return {}

    def _list(self, kind: str, given: Parameters) -> Parameters:
        members = (f"{kind}Name", f"{kind}Arn", "CreationTime")
        rows = [{member: stored[member] for member in members} for stored in self._stored[kind].values()]
        return page(f"{kind}s", f"{kind}Name", rows, given)

    # Endpoint: a process for each variant

    def _deployment(self, config: str) -> Deployment:
        asked = self._get("EndpointConfig", config)
        variants = [self._variant(each, shadow=False) for each in asked["ProductionVariants"]]
        variants += [self._variant(each, shadow=True) for each in asked.get("ShadowProductionVariants", [])]
        return Deployment(config, tuple(variants), asked)

    def _variant(self, given: Parameters, *, shadow: bool) -> Variant:
        if "ModelName" not in given:
            return Variant(given, None, shadow)
        model = self._get("Model", given["ModelName"])
        return Variant(given, model.get("PrimaryContainer") or model["Containers"][0], shadow)

    def _create_endpoint(self, given: Parameters) -> Parameters:
        endpoint = self._endpoints.create(given["EndpointName"], self._deployment(given["EndpointConfigName"]))
        self._tag(endpoint.arn, given.get("Tags", []))
        return {"EndpointArn": endpoint.arn}

    def _update_endpoint(self, given: Parameters) -> Parameters:
        name, config = given["EndpointName"], given["EndpointConfigName"]
        self._endpoints.get(name)
        excluded = {each["VariantPropertyType"] for each in given.get("ExcludeRetainedVariantProperties", [])}
        retained = _RETAINED - excluded if given.get("RetainAllVariantProperties") else frozenset()
        return {"EndpointArn": self._endpoints.update(name, self._deployment(config), retained).arn}

    def _update_weights(self, given: Parameters) -> Parameters:
        wanted = {
            each["VariantName"]: (each.get("DesiredWeight"), each.get("DesiredInstanceCount"))
            for each in given["DesiredWeightsAndCapacities"]
        }
        return {"EndpointArn": self._endpoints.share(given["EndpointName"], wanted).arn}

    def _delete_endpoint(self, given: Parameters) -> Parameters:
        if hosted := list(self._components.of(given["EndpointName"])):
            raise invalid(
                f"endpoint {given['EndpointName']} has inference components: delete {', '.join(hosted)} first"
            )
        self._tags.pop(self._endpoints.get(given["EndpointName"]).arn, None)
        self._endpoints.delete(given["EndpointName"])
        return {}

    def _describe_endpoint(self, endpoint: Endpoint) -> Parameters:
        """The endpoint; CurrentInstanceCount is 1 however many are desired, because one process serves a variant."""
        described = _summary(endpoint)
        described["EndpointConfigName"] = (endpoint.serving or endpoint.asked).config
        if endpoint.status == "Updating":
            described["PendingDeploymentSummary"] = {"EndpointConfigName": endpoint.asked.config}
        if endpoint.failure is not None:
            described["FailureReason"] = endpoint.failure
        if endpoint.serving is not None and endpoint.serving.asynchronous is not None:
            described["AsyncInferenceConfig"] = endpoint.serving.asynchronous
        for member, shadow in (("ProductionVariants", False), ("ShadowProductionVariants", True)):
            served = [each for each in endpoint.served.values() if each.variant.shadow is shadow]
            if served:
                described[member] = [_shown(each) for each in served]
        return described

    def _list_endpoints(self, given: Parameters) -> Parameters:
        rows = [_summary(endpoint) for endpoint in self._endpoints.all()]
        return page("Endpoints", "EndpointName", rows, given)

    # Inference components: a process for each copy

    def _create_component(self, given: Parameters) -> Parameters:
        made = self._components.create({key: value for key, value in given.items() if key != "Tags"})
        self._tag(made.arn, given.get("Tags", []))
        return {"InferenceComponentArn": made.arn}

    def _delete_component(self, given: Parameters) -> Parameters:
        arn = self._copies.get(given["InferenceComponentName"]).arn
        self._components.delete(given)
        self._tags.pop(arn, None)
        return {}

    # Tags

    def _tag(self, arn: str, tags: list[dict[str, str]]) -> None:
        self._tags.setdefault(arn, {}).update({tag["Key"]: tag["Value"] for tag in tags})

    def _tag_list(self, arn: str) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self._tags.get(arn, {}).items()]

    def _add_tags(self, given: Parameters) -> Parameters:
        self._tag(given["ResourceArn"], given["Tags"])
        return {"Tags": self._tag_list(given["ResourceArn"])}

    def _delete_tags(self, given: Parameters) -> Parameters:
        for key in given["TagKeys"]:
            self._tags.get(given["ResourceArn"], {}).pop(key, None)
        return {}


def _shown(served: Served) -> Parameters:
    return {
        "VariantName": served.variant.name,
        "CurrentWeight": served.weight,
        "DesiredWeight": served.weight,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": served.instances,
    }


def _summary(endpoint: Endpoint) -> Parameters:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointStatus": endpoint.status,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
    }

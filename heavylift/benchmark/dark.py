"""A dark variant: the new model beside the old one on the same endpoint, at weight 0, measured by TargetVariant.

Not the last word: after the flip CloudFormation gives the endpoint its own config, without the old variants. SageMaker
keeps an endpoint's old config when an update fails (https://github.com/hashicorp/terraform-provider-aws/issues/48997).
"""

from __future__ import annotations

import hashlib
from typing import Any

import boto3
from botocore.exceptions import ClientError

from heavylift.benchmark.stage import IN_PROGRESS, GateClosed, Place, absent, described

PREFIX = "dark-"
BEFORE = "heavylift:before"  # the tag that names the config to go back to
UNFIT = {
    "ShadowProductionVariants": "shadow variants",
    "AsyncInferenceConfig": "asynchronous inference",
    "ExplainerConfig": "an explainer",
}


class Dark:
    """`endpoint` serves an older config; `config` is the new one, whose variants become the dark ones."""

    def __init__(self, endpoint: str, config: str) -> None:
        self._sagemaker = boto3.client("sagemaker")
        self._config = config
        both = f"{endpoint}-dark-{hashlib.sha256(config.encode()).hexdigest()[:8]}"
        self.place = Place(endpoint, both)

    def ready(self) -> bool:
        live = self._live()
        if live["EndpointStatus"] in IN_PROGRESS:
            return False
        if live["EndpointConfigName"] == self.place.config:
            self.place = Place(self.place.endpoint, self.place.config, self._measured())
            return True
        if self._both() is not None:  # it was asked for before
            why = live.get("FailureReason", "SageMaker gives no reason")
            raise GateClosed(f"{self.place.endpoint} could not take the dark variant: {why}")
        self._add(live["EndpointConfigName"])
        return False

    def promote(self) -> bool:
        """All requests to the new variants, at the weights of their own config."""
        live = self._live()
        if live["EndpointStatus"] in IN_PROGRESS:
            return False
        wanted = {PREFIX + each["VariantName"]: each["InitialVariantWeight"] for each in self._variants()}
        now = {each["VariantName"]: each["DesiredWeight"] for each in live["ProductionVariants"]}
        if all(weight == wanted.get(name, 0.0) for name, weight in now.items()):
            return True
        weights = [{"VariantName": name, "DesiredWeight": wanted.get(name, 0.0)} for name in now]
        self._sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=self.place.endpoint, DesiredWeightsAndCapacities=weights
        )
        return False

    def undo(self) -> bool:
        """Back to the config before; then the one with both is deleted, also after a promotion."""
        live, both = described(self.place.endpoint), self._both()
        if both is None:
            return True
        if live is not None and live["EndpointStatus"] in IN_PROGRESS:
            return False
        if live is not None and live["EndpointConfigName"] == self.place.config:
            self._sagemaker.update_endpoint(
                EndpointName=self.place.endpoint,
                EndpointConfigName=self._before(both["EndpointConfigArn"]),
                RetainAllVariantProperties=True,
                ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],  # a flip made them 0
            )
            return False
        self._sagemaker.delete_endpoint_config(EndpointConfigName=self.place.config)
        return True

    def _live(self) -> dict[str, Any]:
        found = described(self.place.endpoint)
        if found is None:
            raise GateClosed(f"there is no endpoint {self.place.endpoint}; it was deleted meanwhile")
        return found

    def _add(self, before: str) -> None:
        """A config with the variants of both, and the endpoint's update to it."""
        old = self._sagemaker.describe_endpoint_config(EndpointConfigName=before)
        dark = {"InitialVariantWeight": 0.0}
        new = [{**each, "VariantName": PREFIX + each["VariantName"], **dark} for each in self._variants()]
        faults = [word for key, word in UNFIT.items() if old.get(key)]
        if any("ModelName" not in each for each in (*old["ProductionVariants"], *new)):
            faults.append("variants without a model")
        if faults:
            raise GateClosed(
                f"{before} has {' and '.join(faults)}, which no dark variant fits: use 'strategy: staging'"
            )
        known = self._sagemaker.meta.service_model.operation_model("CreateEndpointConfig").input_shape.members
        asked = {key: value for key, value in old.items() if key in known}
        asked |= {
            "EndpointConfigName": self.place.config,
            "ProductionVariants": [
                *old["ProductionVariants"],
                *({**each, "InitialVariantWeight": 0.0} for each in new),
            ],
            "Tags": [{"Key": BEFORE, "Value": before}],
        }
        self._sagemaker.create_endpoint_config(**asked)
        self._sagemaker.update_endpoint(
            EndpointName=self.place.endpoint,
            EndpointConfigName=self.place.config,
            RetainAllVariantProperties=True,  # weights and counts that scaling has set
        )

    def _variants(self) -> list[dict[str, Any]]:
        """The new config's own."""
        found = self._sagemaker.describe_endpoint_config(EndpointConfigName=self._config)
        return [{"InitialVariantWeight": 1.0, **each} for each in found["ProductionVariants"]]

    def _measured(self) -> str:
        """The dark variant that will have most of the traffic."""
        heaviest = max(self._variants(), key=lambda each: float(each["InitialVariantWeight"]))
        return PREFIX + str(heaviest["VariantName"])

    def _both(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._sagemaker.describe_endpoint_config(EndpointConfigName=self.place.config)
        except ClientError as error:
            if absent(error):
                return None
            raise
        return found

    def _before(self, arn: str) -> str:
        tags = {tag["Key"]: tag["Value"] for tag in self._sagemaker.list_tags(ResourceArn=arn)["Tags"]}
        return str(tags[BEFORE])

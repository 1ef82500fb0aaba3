"""A staging endpoint: the new config on an endpoint of its own, deleted as soon as it was measured.

Not the endpoint that serves: CloudFormation updates that one, after the gate.
"""

from __future__ import annotations

import boto3

from heavylift.benchmark.stage import IN_PROGRESS, GateClosed, Place, described


class Staging:
    """`<endpoint>-staging`. What a Lambda that was killed left there is deleted first."""

    def __init__(self, endpoint: str, config: str) -> None:
        self.place = Place(f"{endpoint}-staging", config)

    def ready(self) -> bool:
        place, found = self.place, described(self.place.endpoint)
        if found is None:
            boto3.client("sagemaker").create_endpoint(EndpointName=place.endpoint, EndpointConfigName=place.config)
            return False
        status = found["EndpointStatus"]
        if status in IN_PROGRESS:
            return False
        if found["EndpointConfigName"] != place.config:
            self._delete()
            return False
        if status != "InService":
            raise GateClosed(f"the staging endpoint {place.endpoint} is {status}: {found.get('FailureReason', '')}")
        return True

    def promote(self) -> bool:
        """CloudFormation gives the config to the endpoint that serves; this one is no longer needed."""
        return self.undo()

    def undo(self) -> bool:
        found = described(self.place.endpoint)
        if found is None or found["EndpointStatus"] == "Deleting":
            return True
        if found["EndpointStatus"] in IN_PROGRESS:  # SageMaker refuses to delete it now
            return False
        self._delete()
        return True

    def _delete(self) -> None:
        boto3.client("sagemaker").delete_endpoint(EndpointName=self.place.endpoint)

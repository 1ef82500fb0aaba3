"""RuntimeImage: which container image an endpoint runs, as a choice of named constructors.

Not the image itself: that is container/ and runtime/, and Docker builds it when the CDK CLI publishes the asset.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aws_cdk import Aws, CfnMapping, IgnoreMode, Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as ecr_assets
from constructs import Construct, IDependable

from heavylift.errors import InputError
from heavylift.plan import containers
from heavylift.plan.images import NEURON_SDKS
from heavylift_cdk.compatibility import cuda_of
from heavylift_cdk.values import is_token, partition

if TYPE_CHECKING:  # their import takes time, and few images are built so
    from aws_cdk import aws_logs as logs

    from heavylift_cdk.weights import Weights

Hardware = Literal["cpu", "gpu", "neuron"]
Framework = Literal["lmi", "vllm", "deepspeed", "fastertransformer", "neuronx"]

CHECKOUT = Path(__file__).resolve().parents[2]

# All but the two folders that a Dockerfile copies, less the other Dockerfiles: no other edit may roll a large endpoint.
EXCLUDE = ("**", "!container/**", "!runtime/**", "**/__pycache__", "**/.*", "container/Dockerfile.*")

_ECR_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?"
    r"/(?P<repository>[a-z0-9._/-]+)(?::[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})"
)


BROUGHT = {"vllm": "VLLM", "deepspeed": "DEEPSPEED", "diffusers": "DIFFUSERS"}
"""An engine, or a library of a script's → the ARG with which Dockerfile.gpu installs it; the others need nothing more
than every image has."""
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
"""What pulling from a repository takes."""


@dataclass(frozen=True)
class BoundImage:
    """An image within one stack.

    `repository_arn` is what the execution role must be allowed to pull from; `is_asset` where that is the repository of
    the CDK's own assets, or the foundation's, from which the foundation's role may pull already. The image is there
    once `after` is.
    """

    uri: str
    repository_arn: str
    is_asset: bool = False
    after: IDependable | None = None


@dataclass(frozen=True)
class RuntimeImage:
    """Where the image comes from. Make one with a named constructor; `bind` places it in a stack."""

    bind: Callable[[Construct], BoundImage]
    hardware: Hardware | None = None
    """What it runs on; None where that is not known."""
    cuda: str | None = None
    """Its CUDA, such as 12.8; None where it has none, or it is not known."""

    @classmethod
    def from_runtime(
        cls,
        hardware: Hardware,
        *,
        engine: str | None = None,
        neuron_sdk: str | None = None,
        checkout: Path = CHECKOUT,
    ) -> RuntimeImage:
        """Heavylift's own runtime, built from container/Dockerfile.<hardware>, with what `engine` (or a script: one of
        BROUGHT) needs beside it. Raises InputError if there is none."""
        dockerfile, arguments = _dockerfile(hardware, checkout), _arguments(hardware, engine, neuron_sdk)

        def bind(scope: Construct) -> BoundImage:
            asset = ecr_assets.DockerImageAsset(
                scope,
                "Image",
                directory=str(checkout),
                file=dockerfile,
                build_args=arguments or None,
                exclude=[*EXCLUDE, f"!{dockerfile}"],
                ignore_mode=IgnoreMode.DOCKER,
                # Of every instance type in the fact tables, whatever the machine that builds is.
                platform=ecr_assets.Platform.LINUX_AMD64,
            )
            return BoundImage(asset.image_uri, asset.repository.repository_arn, is_asset=True)

        # The GPU image brings CUDA's compatibility libraries along; the plan chooses its AMI (heavylift.plan.images).
        return cls(bind, hardware)

    @classmethod
    def from_codebuild(
        cls,
        hardware: Hardware,
        *,
        repository: ecr.IRepository,
        weights: Weights,
        log_group: logs.ILogGroup,
        engine: str | None = None,
        neuron_sdk: str | None = None,
        checkout: Path = CHECKOUT,
    ) -> RuntimeImage:
        """The same, built by CodeBuild in the account and pushed to `repository`, once for each content: no Docker is
        needed here. For Neuron on AWS's image with `neuron_sdk` (None: the Dockerfile's own). Raises InputError."""
        dockerfile, arguments = _dockerfile(hardware, checkout), _arguments(hardware, engine, neuron_sdk)

        def bind(scope: Construct) -> BoundImage:
            from heavylift_cdk.image_build import ImageBuild  # parts of the CDK that take time, and few need

            brought = "".join(name.capitalize() for name in BROUGHT.values() if name in arguments)
            stack, id = Stack.of(scope), f"{hardware.capitalize()}{brought}ImageBuild"
            made = stack.node.try_find_child(id)
            if made is None:
                made = ImageBuild(
                    stack,
                    id,
                    hardware=hardware,
                    checkout=checkout,
                    exclude=[*EXCLUDE, f"!{dockerfile}"],
                    repository=repository,
                    weights=weights,
                    log_group=log_group,
                    arguments=arguments,
                )
            assert isinstance(made, ImageBuild)
            return BoundImage(made.uri, repository.repository_arn, is_asset=True, after=made)

        return cls(bind, hardware)

    @classmethod
    def from_dlc(cls, framework: Framework, version: str, *, region: str | None = None) -> RuntimeImage:
        """An AWS Deep Learning Container, as sagemaker-core's image_uris names it (heavylift.plan.containers).

        In a stack that may go to any region, its registry is looked up when it is deployed. Raises InputError.
        """
        if (fault := containers.fault(framework, version, region)) is not None:
            raise InputError(fault)
        row, accounts = containers.versions(framework)[version], containers.accounts(framework, version)

        def bind(scope: Construct) -> BoundImage:
            stack = Stack.of(scope)
            here = region
            if here is None and not is_token(stack.region):
                here = stack.region
            if (fault := containers.fault(framework, version, here)) is not None:
                raise InputError(fault)
            if here is None:
                rows = {name: {"account": account} for name, account in accounts.items()}
                account, here = (
                    CfnMapping(scope, "Registries", mapping=rows).find_in_map(Aws.REGION, "account"),
                    Aws.REGION,
                )
            else:
                account = accounts[here]
            uri = f"{account}.dkr.ecr.{here}.{Aws.URL_SUFFIX}/{row['repository']}:{row['tag']}"
            arn = f"arn:{Aws.PARTITION}:ecr:{here}:{account}:repository/{row['repository']}"
            return BoundImage(uri, arn)

        return cls(bind, "neuron" if framework == "neuronx" else "gpu", cuda_of(row["tag"]))

    @classmethod
    def from_ecr(cls, repository: ecr.IRepository, tag: str) -> RuntimeImage:
        """An image that something else pushes to `repository`."""
        return cls(lambda _: BoundImage(repository.repository_uri_for_tag(tag), repository.repository_arn))

    @classmethod
    def from_uri(cls, uri: str) -> RuntimeImage:
        """A built image in any account's Amazon ECR, such as an AWS Deep Learning Container. Raises InputError."""
        assert not is_token(uri), "a URI that is only known when deployed is not one to parse: use from_ecr"
        found = _ECR_URI.fullmatch(uri)
        if found is None or len(uri) > 255:
            raise InputError(
                f"an endpoint's image must be in Amazon ECR, in at most 255 characters: got '{uri}'; "
                f"use <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>"
            )
        arn = f"arn:{partition()}:ecr:{found['region']}:{found['account']}:repository/{found['repository']}"
        return cls(lambda _: BoundImage(uri, arn), cuda=cuda_of(uri))


def _dockerfile(hardware: Hardware, checkout: Path) -> str:
    """Its path in the checkout. Raises InputError where there is none."""
    dockerfile = f"container/Dockerfile.{hardware}"
    if not (checkout / dockerfile).is_file():
        raise InputError(
            f"no '{dockerfile}' in '{checkout}': synthesize in a Heavylift checkout, or name a built image with "
            f"'--context image=<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>'"
        )
    return dockerfile


def _arguments(hardware: Hardware, engine: str | None, neuron_sdk: str | None) -> dict[str, str]:
    """The Dockerfile's ARGs that are not its own. Raises InputError."""
    base = _with_sdk(neuron_sdk)
    arguments = {} if base is None else {"BASE_IMAGE": base}
    return arguments | ({BROUGHT[engine]: "true"} if hardware == "gpu" and engine in BROUGHT else {})


def _with_sdk(asked: str | None) -> str | None:
    """AWS's image with this Neuron SDK, None for the Dockerfile's own. Raises InputError."""
    if asked is not None and asked not in NEURON_SDKS:
        raise InputError(
            f"no image of AWS's for Python 3.11 has the Neuron SDK {asked}: use {' or '.join(NEURON_SDKS)}"
        )
    return None if asked is None else NEURON_SDKS[asked]

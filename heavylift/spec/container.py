"""What runs on an instance: prompts, compilation, ahead-of-time jobs, the image, the server. Not where: hosting.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heavylift.spec.fields import Auto, BesideFile, Image, InstanceType, Listed, SecretArn, Strictly, text


class ServingSpec(Strictly):
    """How the server takes requests."""

    workers: int = Field(1, ge=1, le=64, description="copies of the model on one instance")
    batch_size: int = Field(1, ge=1, le=1024, description="requests that the server may put into one batch")
    max_batch_delay: int = Field(10, ge=0, le=60_000, description="milliseconds to wait for a fuller batch")
    job_queue_size: int = Field(100, ge=1, le=100_000, description="requests that may wait; more get 503")


class Shot(Strictly):
    """One example of what is asked and how it is answered."""

    input: str = Field(min_length=1, max_length=16_384)
    output: str = Field(min_length=1, max_length=16_384)


class PromptSpec(Strictly):
    """What a request's text, or conversation, is put into. Jinja files lie beside the model file."""

    chat_template: BesideFile | None = Field(None, description="of conversations; default: the tokenizer's own")
    template: BesideFile | None = Field(None, description="of texts: `prompt`, with `examples` of few_shot")
    few_shot: Annotated[tuple[Shot, ...], Listed] = Field((), max_length=64, description="examples before the text")


Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=1_048_576)], ...], Listed, Field(min_length=1, max_length=32)]


class CompileSpec(Strictly):
    """Kernels made for this model: vLLM's by torch.compile and CUDA graphs as it loads, Neuron's ahead of time."""

    backend: Literal["torch", "neuron"]
    cuda_graphs: bool = Field(False, description="of torch: replay each batch size's kernels as one graph")
    batch_sizes: Sizes | None = Field(None, description="sizes to compile for; default: serving.batch_size")
    sequence_lengths: Sizes | None = Field(None, description="of neuron: tokens, prompt and answer together")
    neuron_sdk: Annotated[str, text(r"^2\.[0-9]+\.[0-9]+$", "a Neuron SDK such as '2.26.1'", 16)] | None = Field(
        None, description="of neuron: the version that compiles and runs"
    )
    instance_type: Auto | InstanceType = Field("auto", description="of the job that compiles")


class PartitionSpec(Strictly):
    """When the weights are split over the ranks."""

    when: Literal["load", "ahead_of_time"] = Field("load", description="by each rank as it loads, or once, by a job")
    instance_type: Auto | InstanceType = Field("auto", description="of the job that partitions")


class StagingSpec(Strictly):
    """How the weights come to our bucket."""

    by: Literal["push", "job"] = Field("push", description="`heavylift weights push`, or a build in the account")
    token: SecretArn | None = Field(None, description="of the job: the hub's token, for gated models")


class DlcSpec(Strictly):
    """An AWS Deep Learning Container; its URI follows from the region and the instance type."""

    framework: Literal["lmi", "vllm", "deepspeed", "fastertransformer", "neuronx"]
    version: Annotated[str, text(r"^[0-9]+\.[0-9]+(\.[0-9]+)?$", "a version such as '0.33.0'", 16)]


class ImageSpec(Strictly):
    """The container's image, where it is not Heavylift's own."""

    uri: Image | None = Field(None, description="any image in ECR")
    dlc: DlcSpec | None = Field(None, description="an AWS Deep Learning Container")
    build: Literal["docker", "codebuild"] | None = Field(None, description="who builds our own; default: Docker")

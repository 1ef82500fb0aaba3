"""The native engine's core on a device that computes nothing, in a process of its own: what lies where, and who looks.

Tensors that hold nothing (torch's FakeTensorMode), on a device that is not the processor. A product of one of them with
one in the host's memory is an error, and so is a look at one's numbers, which on a GPU is a wait and in a CUDA graph
impossible. PyTorch for processors slices no CUDA tensors, even without numbers; this is the device that it leaves to
others, and it is made known to the whole process.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from heavylift_runtime.native.architectures import model_of
from heavylift_runtime.native.core import Core
from heavylift_runtime.native.distributed import Alone
from heavylift_runtime.native.found import Found, Given
from heavylift_runtime.native.news import News
from heavylift_runtime.native.place import within
from heavylift_runtime.native.replay import Work
from heavylift_runtime.native.sampling import Chosen
from heavylift_runtime.native.vocabulary import Vocabulary
from tests.native_cores import arrival, core_of
from tests.test_native_t5 import MetaWeights

NAME = "privateuseone"


def begin() -> None:
    """Makes the device known, and lets logits without numbers lead to token 5."""
    _setup_privateuseone_for_python_backend()
    fake_tensor.CONSTANT_NUMEL_LIMIT = -1  # single numbers are forgotten, too
    torch._C._set_only_lift_cpu_tensors(True)  # as FakeTensorMode does for CUDA

    def of(wanting: list[Any], given: Given | None, vocabulary: Vocabulary, *_: object) -> Found:
        assert given is not None
        for head in (vocabulary.greedy, vocabulary.scores) if wanting else ():
            found = given.through(head)
            assert len(found) == len(wanting) and found.device.type == NAME
        return Found({place: Chosen(5) for place in range(len(wanting))}, {})

    Found.of = of  # type: ignore[method-assign,assignment]  # in this process only


class Weights(MetaWeights):
    """In the shapes of a table, on the device."""

    dtype, device = torch.bfloat16, torch.device(NAME, 0)

    def take(self, name: str) -> Tensor:
        return super().take(name).to(self.dtype)


def core(config: dict[str, Any], **settings: Any) -> Core:
    """A model with all its weights on the device."""
    with within(Weights.device):
        return core_of(model_of(config, Weights(config, 0, 1, set()), Alone()), **settings)


class LookedError(Exception):
    """A number was asked for, or a shape that depends on one."""


def run(config: dict[str, Any], *, record: bool) -> int:
    """What `serve` says; LookedError where it looks at a number."""
    try:
        return serve(config, record=record)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise LookedError(str(error.func)) from None  # torch's own cannot be sent to another process


def serve(config: dict[str, Any], *, record: bool) -> int:
    """Serves a few prompts to their ends, in passes with and without portions; how many passes were recorded."""
    recorded: list[Work] = []

    def recorder(work: Work) -> Work:
        recorded.append(work)

        def replay() -> Tensor:
            # numbers of the host's would have to be copied, which no graph records
            with patch.object(torch, "tensor", side_effect=LookedError("a list became a tensor")):
                return work()

        return replay

    with FakeTensorMode(), torch.inference_mode():
        engine = core(config, tokens=8, record=recorder if record else None)
        prompts = [[7] * 20, [5, 6, 7], [9]]
        news = News(tuple(arrival(key, prompt, 6, ignore_eos=True) for key, prompt in enumerate(prompts)))
        ended = 0
        while ended < len(prompts):
            ended += sum(each.finish_reason is not None for each in engine.step(news))
            news = News()
    return len(recorded)

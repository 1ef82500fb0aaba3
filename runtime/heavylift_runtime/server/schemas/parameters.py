"""`parameters` of LMI's and TGI's requests, as one value. Not OpenAI's, and not what FasterTransformer means by them.

Names, meanings, defaults: djl-serving's LMI input/output schema
(https://docs.djl.ai/docs/serving/serving/docs/lmi/user_guides/lmi_input_output_schema.html) and
https://huggingface.co/docs/text-generation-inference/reference/api_reference. docs/serving.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.manner import Manner
from heavylift_runtime.server.schemas import fastertransformer, forms
from heavylift_runtime.server.schemas.choices import MAX_ROWS, MOST_CHOICES, Choices
from heavylift_runtime.server.schemas.exchange import Defaults
from heavylift_runtime.server.schemas.fields import Fields

MOST_KNOWN = 64  # wishes that are kept, of a kilobyte each
MOST_LOGPROBS = 20
MOST_STOPS = 16
LONGEST_STOP = 256  # characters
N = TypeVar("N", int, float)
Rule = Literal["none", "0.23", "latest", "tgi"]
"""option.lmi_compat, or TGI."""


@dataclass(frozen=True)
class Wish:
    """What the parameters ask for."""

    sampling: Sampling
    choices: Choices
    details: bool = False
    full_text: bool = False
    top: int = 0
    """How many of the likeliest tokens are told beside each token."""
    logprobs: bool = False
    """Asked for by name, not by `details`."""
    adapters: tuple[str, ...] = ()


def read_parameters(fields: Fields, defaults: Defaults, rule: Rule, stream: bool) -> Wish:
    """The wish; its faults are added to `fields.faults`. One without any is kept: to read thirty names takes half as
    long as all the rest of a request."""
    key, known, faults = fields.key(), defaults.known, len(fields.faults)
    if key is not None and (wish := known.get((rule, stream, key))) is not None:
        return wish  # type: ignore[no-any-return]  # whatever schemas keep there, under a key of their own
    wish = _read(fields, defaults, rule, stream)
    if key is not None and len(fields.faults) == faults:
        if len(known) >= MOST_KNOWN:
            known.clear()
        known[rule, stream, key] = wish
    return wish


def _read(fields: Fields, defaults: Defaults, rule: Rule, stream: bool) -> Wish:
    of_ft = rule != "tgi" and (defaults.fastertransformer or fields.given(*fastertransformer.NAMES))
    most = _most(fields, defaults)
    manner = Manner() if of_ft else defaults.manner()
    chance = fastertransformer.chance(fields) if of_ft else _chance(fields, rule, manner)
    least, ceiling = manner.min_new_tokens or 0, defaults.most_new_tokens
    penalty = 1.0 if manner.repetition_penalty is None else manner.repetition_penalty
    of_length = 1.0 if manner.length_penalty is None else manner.length_penalty
    choices = _choices(fields, rule)
    details = fields.flag("details", default=False)
    top = fields.whole("top_n_tokens", low=0, high=MOST_LOGPROBS, default=0)
    asked = fields.whole("logprobs", low=0, high=MOST_LOGPROBS) if rule != "tgi" else None
    top = top if asked is None else max(top, asked)
    by_name = asked is not None or top > 0
    whole = (details or (stream and rule != "0.23")) and rule != "none"  # tell every token with its log-probability
    sampling = Sampling(
        max_new_tokens=most,
        min_new_tokens=fields.whole("min_new_tokens", "min_length", low=0, high=ceiling, default=least),
        repetition_penalty=fields.number("repetition_penalty", low=0, high=100, above=True, default=penalty),
        frequency_penalty=fields.number("frequency_penalty", low=-2, high=2, default=0.0),
        presence_penalty=fields.number("presence_penalty", low=-2, high=2, default=0.0),
        stop=fields.texts("stop", "stop_sequences", "stop_words_list", most=MOST_STOPS, length=LONGEST_STOP),
        ignore_eos=fields.flag("ignore_eos_token", "ignore_eos", default=False),
        logprobs=top if by_name or whole else None,
        num_beams=fields.whole("num_beams", "beam_width", low=1, high=16, default=1),
        length_penalty=fields.number("length_penalty", "len_penalty", low=-10, high=10, default=of_length),
        form=forms.of_parameters(fields, defaults.structured),
        **chance,
    )
    fields.faults += choices.fault(sampling)
    full_text = fields.flag("return_full_text", default=False)
    adapters = fields.texts("adapter_id", "adapters", most=MAX_ROWS, length=256)
    _at_one_value(fields)
    fastertransformer.rest(fields)
    fields.rest()
    return Wish(sampling, choices, details, full_text, top, by_name, adapters)


def _most(fields: Fields, defaults: Defaults) -> int:
    names = ("max_new_tokens", "max_length", "max_seq_len", "output_len")
    return fields.whole(*names, low=1, high=defaults.most_new_tokens, default=defaults.max_new_tokens)


def _choices(fields: Fields, rule: Rule) -> Choices:
    n = 1 if rule == "tgi" else fields.whole("n", low=1, high=MOST_CHOICES, default=1)
    best_of = fields.whole("best_of", low=1, high=MOST_CHOICES, default=n)
    if best_of < n:
        fields.faults.append(f"'best_of' must be at least 'n': got {best_of} and {n}")
    return Choices(n, max(n, best_of))


def _chance(fields: Fields, rule: Rule, manner: Manner) -> dict[str, Any]:
    """How tokens are drawn, as fields of Sampling.

    Without `do_sample`, TGI draws where any of these is given, LMI since 0.32 where one is given that is not its
    default, and before that never. What is not given is the checkpoint's; whether tokens are drawn is the request's.
    """
    sample = fields.flag("do_sample")
    temperature = fields.number("temperature", low=0, high=100)
    top_k = fields.whole("top_k", low=-1, high=1_000_000)
    top_p = fields.number("top_p", low=0, high=1, above=True)
    min_p = fields.number("min_p", low=0, high=1)
    seed = fields.whole("seed", "manual_seed", low=0, high=fastertransformer.LARGEST_SEED)
    if sample is None and rule == "tgi":
        sample = not temperature is top_k is top_p is None
    elif sample is None and rule != "0.23":
        sample = temperature not in (None, 1) or top_k not in (None, -1, 0) or top_p not in (None, 1) or bool(min_p)
    if not sample:
        return {"seed": seed}
    return {
        "temperature": _first(temperature, manner.temperature, 1.0),
        "top_k": max(0, _first(top_k, manner.top_k, 0)),
        "top_p": _first(top_p, manner.top_p, 1.0),
        "min_p": _first(min_p, manner.min_p, 0.0),
        "seed": seed,
    }


def _first(asked: N | None, wanted: N | None, usual: N) -> N:
    return asked if asked is not None else usual if wanted is None else wanted


def _at_one_value(fields: Fields) -> None:
    """Parameters of LMI and TGI that are accepted where they ask for nothing."""
    fields.only("typical_p", allowed=(1,), why="tokens are not drawn by typicality")
    fields.only("decoder_input_details", allowed=(False,), why="the engines tell nothing of a prompt's tokens")
    fields.only("truncate", allowed=(), why="a prompt is never cut")
    fields.only("watermark", allowed=(False,), why="nothing is hidden in the answers")
    fields.only("early_stopping", allowed=(False,), why="beams end when none can become better")
    fields.only("use_beam_search", allowed=(False,), why="ask with 'num_beams'")

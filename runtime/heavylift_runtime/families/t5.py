"""T5, T5 v1.1 and FLAN-T5 (Raffel et al. 2020; the gated layers are Shazeer's, 2020): config.json and table of weights.

Not the forward pass: that is native/architectures/t5.py. Names are those of the checkpoints on the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families import decoder, stages
from heavylift_runtime.families.stages import End, Layer
from heavylift_runtime.families.table import Split, Weight, located, shard

ARCHITECTURE = "T5ForConditionalGeneration"
OLDER = "T5WithLMHeadModel"
"""What transformers before 3 called the same."""
ACTIVATIONS = {
    **{word: (ours, False) for word, ours in decoder.ACTIVATIONS.items()},
    **{f"gated-{word}": (ours, True) for word, ours in decoder.ACTIVATIONS.items()},
    "gated-gelu": ("gelu_tanh", True),  # by convention the tanh form, whatever `dense_act_fn` says
}
"""`feed_forward_proj` → (activation, gated)."""

BUCKETS, FURTHEST = "relative_attention_num_buckets", "relative_attention_max_distance"
DEFAULTS: dict[str, Any] = {
    "architectures": [ARCHITECTURE],
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    BUCKETS: 32,
    FURTHEST: 128,
    "layer_norm_epsilon": 1e-6,
}
"""What config.json may leave out, or say null to: the values of the first T5."""

SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
MOST_LAYERS = 1000  # the largest T5 has 24
HEAD, SHARED = "lm_head.weight", "shared.weight"
ENCODER_SELF, ENCODER_FF = "encoder.block.{}.layer.0", "encoder.block.{}.layer.1"
DECODER_SELF, DECODER_CROSS, DECODER_FF = (f"decoder.block.{{}}.layer.{layer}" for layer in range(3))
ENCODER_BIAS, DECODER_BIAS = (
    f"{first.format(0)}.SelfAttention.relative_attention_bias.weight" for first in (ENCODER_SELF, DECODER_SELF)
)


@dataclass(frozen=True)
class Shape:
    """What config.json says, typed; the field names are its own."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    activation: str  # relu | gelu | gelu_tanh | silu
    gated: bool
    tied: bool  # what config.json says; the checkpoint's tensors decide
    scaled: bool  # decoder output times d_model ** -0.5 before the head
    buckets: int
    max_distance: int
    epsilon: float

    @property
    def inner(self) -> int:
        """Width of all heads together; not always d_model (FLAN-T5-small: 384 and 512)."""
        return self.num_heads * self.d_kv

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """LoadError with every fault of config.json at once."""
        if faults := config_faults(config):
            raise LoadError("\n".join(faults))
        given = {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
        activation, gated = ACTIVATIONS[given["feed_forward_proj"]]
        return cls(
            **{name: given[name] for name in SIZES},
            num_decoder_layers=given.get("num_decoder_layers", given["num_layers"]),
            activation=activation,
            gated=gated,
            tied=given["tie_word_embeddings"] is not False,
            # transformers 5 writes this field, and then `tie_word_embeddings` is always true;
            # in older files a tied head is a scaled one (Raffel et al., released code)
            scaled=given.get("scale_decoder_outputs", given["tie_word_embeddings"]) is not False,
            buckets=given[BUCKETS],
            max_distance=given[FURTHEST],
            epsilon=given["layer_norm_epsilon"],
        )


def config_faults(config: Mapping[str, Any]) -> list[str]:
    """Everything in config.json that no T5 can be built from."""
    given = {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
    faults = []
    architectures = given["architectures"]
    if not isinstance(architectures, list) or not any(name in architectures for name in (ARCHITECTURE, OLDER)):
        faults.append(f"config.json: 'architectures' is {architectures!r}; only {ARCHITECTURE!r} generates text")
    for name in (*SIZES, "num_decoder_layers", BUCKETS, FURTHEST):
        value = given.get(name, given.get("num_layers") if name == "num_decoder_layers" else None)
        if type(value) is not int or value < 1:
            faults.append(f"config.json: {name!r} is {value!r}; it must be a whole number of at least 1")
    for name in ("num_layers", "num_decoder_layers"):
        if type(value := given.get(name)) is int and value > MOST_LAYERS:  # the table has a row for each of them
            faults.append(f"config.json: {name!r} is {value}; at most {MOST_LAYERS} are read")
    if not faults and (given[BUCKETS] < 4 or given[BUCKETS] % 2 or given[FURTHEST] <= given[BUCKETS] // 2):
        faults.append(
            f"config.json: {BUCKETS!r} is {given[BUCKETS]} and {FURTHEST!r} is {given[FURTHEST]}; "
            "the first must be even and at least 4, the second more than half of it"
        )
    epsilon = given["layer_norm_epsilon"]
    if type(epsilon) not in (int, float) or not 0 < epsilon < 1:
        faults.append(f"config.json: 'layer_norm_epsilon' is {epsilon!r}; it must be a number between 0 and 1")
    for name in ("tie_word_embeddings", "scale_decoder_outputs"):
        if type(given.get(name, True)) is not bool:
            faults.append(f"config.json: {name!r} is {given[name]!r}; it must be true or false")
    kind = given["feed_forward_proj"]
    if not isinstance(kind, str) or kind not in ACTIVATIONS:
        faults.append(f"config.json: 'feed_forward_proj' is {kind!r}; known are {', '.join(map(repr, ACTIVATIONS))}")
    return faults


@dataclass(frozen=True)
class T5:
    """The family, as the plan and the loader see it."""

    title: str = "T5, T5 v1.1, FLAN-T5"
    has_encoder: bool = True

    def faults(self, config: Mapping[str, Any]) -> list[str]:
        return config_faults(config)

    def check(
        self, config: Mapping[str, Any], tensor_parallel_degree: int, pipeline_parallel_degree: int = 1
    ) -> list[str]:
        if faults := config_faults(config):
            return faults
        faults = [
            f"tensor_parallel_degree {tensor_parallel_degree} does not divide {name!r} {config[name]}; "
            f"use {' or '.join(map(str, _common_divisors(config['num_heads'], config['d_ff'])))}"
            for name in ("num_heads", "d_ff")
            if config[name] % tensor_parallel_degree != 0
        ]
        if config["vocab_size"] < tensor_parallel_degree:
            faults.append(
                f"tensor_parallel_degree {tensor_parallel_degree} is more than 'vocab_size' {config['vocab_size']}"
            )
        shape = Shape.of(config)
        layers = {"num_layers": shape.num_layers, "num_decoder_layers": shape.num_decoder_layers}
        return faults + stages.faults(pipeline_parallel_degree, **layers)

    def weights(self, config: Mapping[str, Any]) -> Iterable[Weight]:
        return _table(Shape.of(config))

    def ignored(self, config: Mapping[str, Any]) -> Collection[str]:
        # written by the first converter and in every published T5 since; cross-attention has no position bias
        return (f"{DECODER_CROSS.format(0)}.EncDecAttention.relative_attention_bias.weight",)

    def parameters(self, config: Mapping[str, Any], present: Collection[str] | None = None) -> int:
        return self._elements(config, 1, present)

    def bytes_per_rank(
        self, config: Mapping[str, Any], degree: int, bytes_per_element: int, present: Collection[str] | None = None
    ) -> int:
        return self._elements(config, degree, present) * bytes_per_element

    def _elements(self, config: Mapping[str, Any], degree: int, present: Collection[str] | None) -> int:
        """Numbers on the last rank, which is never the smaller one."""
        shape = Shape.of(config)
        has_head = HEAD in present if present is not None else not shape.tied
        return sum(shard(w, degree - 1, degree).elements for w in _table(shape) if w.name != HEAD or has_head)


def _table(shape: Shape) -> Iterator[Weight]:
    """Of a pipeline, each stage holds layers of both stacks.

    So the caches, which are the decoder's, lie on all stages, and all of them work on every token; the encoder's result
    is sent to all in either case, for the decoder's layers look at it.
    """
    vocabulary = (shape.vocab_size, shape.d_model)
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    yield Weight(SHARED, vocabulary, Split.VOCABULARY, copies=copies, where=End.FIRST)
    yield _position_bias(shape, ENCODER_BIAS)
    for number in range(shape.num_layers):
        yield from located(Layer(number, shape.num_layers), _encoder_layer(shape, number))
    yield Weight("encoder.final_layer_norm.weight", (shape.d_model,), where=End.LAST)
    yield _position_bias(shape, DECODER_BIAS)
    for number in range(shape.num_decoder_layers):
        yield from located(Layer(number, shape.num_decoder_layers), _decoder_layer(shape, number))
    yield Weight("decoder.final_layer_norm.weight", (shape.d_model,), where=End.LAST)
    yield Weight(HEAD, vocabulary, Split.VOCABULARY, stand_in=SHARED, head=True, where=End.LAST)


def _encoder_layer(shape: Shape, number: int) -> Iterator[Weight]:
    yield from _attention(shape, f"{ENCODER_SELF.format(number)}.SelfAttention")
    yield from _feed_forward(shape, ENCODER_FF.format(number))


def _decoder_layer(shape: Shape, number: int) -> Iterator[Weight]:
    yield from _attention(shape, f"{DECODER_SELF.format(number)}.SelfAttention")
    yield from _attention(shape, f"{DECODER_CROSS.format(number)}.EncDecAttention")
    yield from _feed_forward(shape, DECODER_FF.format(number))


def _position_bias(shape: Shape, name: str) -> Weight:
    """It lies in a stack's first block, and all blocks use it."""
    return Weight(name, (shape.buckets, shape.num_heads), Split.HEADS, where=End.EVERY)


def _attention(shape: Shape, prefix: str) -> Iterator[Weight]:
    """A block's norm and its four projections."""
    yield Weight(f"{prefix.rpartition('.')[0]}.layer_norm.weight", (shape.d_model,))
    for name in "qkv":
        yield Weight(f"{prefix}.{name}.weight", (shape.inner, shape.d_model), Split.COLUMN, unit=shape.d_kv)
    yield Weight(f"{prefix}.o.weight", (shape.d_model, shape.inner), Split.ROW, unit=shape.d_kv)


def _feed_forward(shape: Shape, prefix: str) -> Iterator[Weight]:
    yield Weight(f"{prefix}.layer_norm.weight", (shape.d_model,))
    for name in ("wi_0", "wi_1") if shape.gated else ("wi",):
        yield Weight(f"{prefix}.DenseReluDense.{name}.weight", (shape.d_ff, shape.d_model), Split.COLUMN)
    yield Weight(f"{prefix}.DenseReluDense.wo.weight", (shape.d_model, shape.d_ff), Split.ROW, wide=True)


def _common_divisors(*numbers: int) -> list[int]:
    return [d for d in range(1, min(numbers) + 1) if all(number % d == 0 for number in numbers)]

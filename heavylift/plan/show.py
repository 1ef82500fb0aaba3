"""A plan for people: what was decided, how, and the arithmetic; bytes, times, cost, settings.

Not its JSON form: that is Plan.to_json; nor one field's whole story: explain.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from heavylift.plan.memory import GIB
from heavylift.plan.parts import WHERES, Alternative, Performance, Range, Where
from heavylift.plan.plan import Plan
from heavylift.plan.section import Section, plain

ON: dict[Where, str] = {
    "host": "the host",
    "accelerator": "each accelerator",
    "disk": "the disk",
    "shm": "/dev/shm (part of the host's)",
}
SHOWN = 8  # alternatives; the page and --json have all


def show(plan: Plan) -> str:
    """Aligned plain text; every number has its unit, and how it was obtained."""
    return plain(sections(plan))


def sections(plan: Plan) -> Iterator[Section]:
    """Everything, in the order in which people ask."""
    yield head(plan)
    rows = tuple((row.field, row.value, row.how, row.why) for row in plan.decisions)
    yield Section("decisions", ("decision", "value", "how", "why"), rows)
    for where in WHERES:
        if any(row.where == where for row in plan.memory.rows):
            yield memory(plan, where)
    if plan.performance is not None:
        yield performance(plan.performance)
    yield cost(plan)
    if plan.alternatives:
        yield alternatives(plan)
    yield settings(plan)
    yield Section("serving.properties", ("key", "value"), plan.properties)
    gate = plan.gate_digest if plan.gate_digest is not None else "none: the file has no benchmark"
    digests = (("weights", plan.weights_digest), ("config", plan.config_digest), ("gate", gate))
    yield Section("digests", ("of", "SHA-256"), digests)


def head(plan: Plan) -> Section:
    """The model and where it would run, in two lines."""
    model, instance = plan.model, plan.instance
    size = f"{model.parameters:,} parameters, " if model.parameters is not None else ""
    accelerators = f", {instance.accelerators} · {instance.accelerator}" if instance.accelerator is not None else ""
    facts = f"{instance.vcpus} vCPUs, {instance.memory_gib:g} GiB{accelerators}, {_price(plan)}"
    return Section(
        f"{plan.name}: {model.source}, {size}{sized(model.bytes)}", note=f"{instance.count} · {instance.type}: {facts}"
    )


def memory(plan: Plan, where: Where) -> Section:
    """The ledger of one place, with its sum against what there is."""
    needed, available = plan.memory.needed(where), plan.memory.available(where)
    rows = tuple((row.what, sized(row.bytes), row.formula) for row in plan.memory.rows if row.where == where)
    share = f", {100 * needed / available:.1f} %" if available > 0 else ""
    total = ("needed", sized(needed), f"of {sized(available)} that can be used{share}")
    return Section(f"memory of {ON[where]}", ("what", "size", "formula, bytes"), rows, right=("size",), total=total)


def performance(found: Performance) -> Section:
    """Intervals under the load; the note says what they rest on."""
    rows = (
        ("time to the first token", *_spread(found.first_token_ms), "ms"),
        ("time per token", *_spread(found.per_token_ms), "ms"),
        ("time per request", *_spread(found.request_ms), "ms"),
        ("generated", *_spread(found.tokens_per_second), "tokens/s"),
        ("generated at full load", *_spread(found.most_tokens_per_second), "tokens/s"),
    )
    note = f"{found.calibration}; all targets kept with probability {found.probability:.0%}; batch of {found.batch:g}"
    title = f"performance, expected under {found.load} ({found.load_how})"
    return Section(title, ("of the mean request", "P10", "P50", "P90", "unit"), rows, note, ("P10", "P50", "P90"))


def cost(plan: Plan) -> Section:
    """Dollars: an hour, a month, a million tokens."""
    rows = []
    price, found = plan.instance.price, plan.performance
    if price is not None:
        total = price.usd_per_hour * plan.instance.count
        rows.append(("an hour", f"${total:.4g}", f"{plan.instance.count} · ${price.usd_per_hour:.4g}, {price.source}"))
        rows.append(("30 days", f"${720 * total:,.2f}", "720 hours, as long as the endpoint is up"))
    if found is not None and found.usd_per_million_tokens is not None:
        rows.append(("10^6 generated tokens", f"${found.usd_per_million_tokens:.4g}", f"at P50 under {found.load}"))
    if found is not None and found.usd_per_million_tokens_most is not None:
        rows.append(("10^6 at full load", f"${found.usd_per_million_tokens_most:.4g}", "as full as the targets allow"))
    note = "no price of this type is known" if price is None else f"{price.region}, {price.how}, read {price.date}"
    return Section("cost", ("for", "US dollars", "how"), tuple(rows), note, ("US dollars",))


def alternatives(plan: Plan, most: int = SHOWN) -> Section:
    """Those that no other beats, the cheapest first; at most so many."""
    shown, count = plan.alternatives[:most], len(plan.alternatives)
    note = "no other way is better in cost, P90 to the first token, P90 of a token and time to load at once"
    names = ("way", "$/h", "first token P90", "token P90", "load", "targets kept", "needs in the file")
    rows = tuple(
        (
            way(each),
            f"{each.usd_per_hour:.4g}",
            f"{each.first_token_ms_p90:.4g} ms",
            f"{each.per_token_ms_p90:.4g} ms",
            f"{each.load_seconds:.4g} s",
            f"{each.probability:.0%}",
            "; ".join(each.asks) or "nothing",
        )
        for each in shown
    )
    title = f"alternatives ({count})" if count <= most else f"alternatives ({most} of {count})"
    return Section(title, names, rows, note, names[1:6])


def settings(plan: Plan) -> Section:
    """The EndpointConfig's variant, by SageMaker's names."""
    variant = plan.variant
    rows = (
        ("ModelDataDownloadTimeoutInSeconds", f"{variant.model_data_download_timeout_in_seconds}"),
        ("ContainerStartupHealthCheckTimeoutInSeconds", f"{variant.container_startup_health_check_timeout_in_seconds}"),
        ("VolumeSizeInGB", _or_out(variant.volume_size_in_gb)),
        ("InferenceAmiVersion", _or_out(variant.inference_ami_version)),
    )
    return Section("settings", ("of the variant", "value"), rows)


def way(each: Alternative) -> str:
    """`2 · ml.g5.12xlarge, vllm bf16, degree 4`"""
    count = f"{each.instances} · " if each.instances > 1 else ""
    quantized = "" if each.quantization == "none" else f" {each.quantization}"
    stages = f" · {each.pipeline_parallel_degree} stages" if each.pipeline_parallel_degree > 1 else ""
    copies = f", {each.copies} copies" if each.copies > 1 else ""
    numbers = f"{each.engine} {each.dtype}{quantized}, degree {each.tensor_parallel_degree}{stages}{copies}"
    return f"{count}{each.instance_type}, {numbers}"


def sized(count: int) -> str:
    """Bytes for people: MiB below one GiB."""
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def _spread(found: Range) -> tuple[str, str, str]:
    return _number(found.p10), _number(found.p50), _number(found.p90)


def _number(value: float) -> str:
    """Four digits, and never an exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _or_out(value: int | str | None) -> str:
    return "left out" if value is None else str(value)


def _price(plan: Plan) -> str:
    price = plan.instance.price
    if price is None:
        return "price unknown"
    total = price.usd_per_hour * plan.instance.count
    return f"${total:.4g} per hour in {price.region} ({price.how}, {price.date})"

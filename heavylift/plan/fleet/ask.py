"""A fleet file becomes a problem: its own profiles, those of its CSV, or the closed forms'. Not the solving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.fleet.document import FleetFile, MelangeFile
from heavylift.plan.fleet.problem import Bucket, Offer, Problem
from heavylift.plan.fleet.profile import Profile, profiles
from heavylift.plan.fleet.profiles import Profiles, read_profiles
from heavylift.plan.parallel import Subject
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.performance.load import Targets

COMPUTED_HEAD_ROOM = 0.1
"""Kept free where throughputs are computed: fleets chosen by closed forms had 99 % to 145 % of the capacity that
measured profiles give (Mélange's tables, six rates)."""


@dataclass(frozen=True)
class Asked:
    """`computed` are the types whose throughputs nobody measured, with their parallel plans."""

    problem: Problem
    computed: dict[str, Profile]

    def models(self, name: str) -> dict[str, str]:
        """A SageMaker model for each parallel plan, since its degrees stand in serving.properties; none where all
        types have the same."""
        plans = {type_: profile.option for type_, profile in self.computed.items()}
        if len({(option.split, option.copies) for option in plans.values()}) < 2:
            return {}
        return {
            type_: f"{name}-tp{option.split.tp}-pp{option.split.pp}-x{option.copies}" for type_, option in plans.items()
        }


def ask(
    file: FleetFile | MelangeFile, folder: Path, subject: Subject | None, calibrations: Sequence[Calibration] = ()
) -> Asked:
    """`folder` holds the CSV; `subject` is needed where throughputs are to be computed. Raises InputError."""
    if isinstance(file, MelangeFile):
        return Asked(file.problem(), {})
    buckets, entries = file.sizes(), file.types
    measured = Profiles() if file.profiles is None else read_profiles(_beside(folder, file.profiles))
    names = list(entries) or list(measured.throughput) or [fact.type for fact in _priced()]
    given = {
        name: entry.throughput if (entry := entries.get(name)) and entry.throughput is not None else None
        for name in names
    }
    given |= {name: measured.of(name, buckets) for name in names if given[name] is None and name in measured.throughput}
    unknown = [name for name in names if given[name] is None]
    computed = _computed(file, unknown, buckets, subject, calibrations) if unknown else {}
    faults, offers = [], []
    for name in names:
        throughput = given[name] if given[name] is not None else computed[name].throughput if name in computed else None
        if throughput is None:
            if name in entries:
                faults.append(f"{name} serves none of the sizes within the SLO")
            continue
        price = _price(name, file, measured)
        if price is None:
            faults.append(f"no price of {name} is known; give 'types.{name}.usd_per_hour'")
            continue
        bounds = entries.get(name)
        least, most = (0, None) if bounds is None else (bounds.at_least, bounds.at_most)
        offers.append(Offer(name, price, throughput, least, most))
    if faults:
        raise InputError(faults)
    if not offers:
        raise InputError("no instance type serves any of the sizes within the SLO")
    head_room = file.head_room if file.head_room is not None else COMPUTED_HEAD_ROOM if computed else 0.0
    problem = Problem(buckets, tuple(offers), head_room, file.minimum_instances, file.most_types)
    return Asked(problem, computed)


def _computed(
    file: FleetFile,
    names: list[str],
    buckets: tuple[Bucket, ...],
    subject: Subject | None,
    calibrations: Sequence[Calibration],
) -> dict[str, Profile]:
    if subject is None:
        raise InputError(
            f"the throughputs of {', '.join(names[:3])} are not given, and there is no model to compute them"
        )
    known = facts.instances()
    if missing := [name for name in names if name not in known]:
        raise InputError(f"{facts.unknown_type(name)}; or give its 'throughput' and 'usd_per_hour'" for name in missing)
    slo = file.slo
    targets = Targets(
        first_token=None if slo.ttft_ms is None else slo.ttft_ms / 1e3,
        per_token=None if slo.tpot_ms is None else slo.tpot_ms / 1e3,
    )
    return profiles(subject, [known[name] for name in names], buckets, targets, calibrations)


def _priced() -> list[facts.InstanceFact]:
    return [fact for fact in facts.instances().values() if fact.usd_per_hour is not None]


def _price(name: str, file: FleetFile, measured: Profiles) -> float | None:
    """The file's own, then the CSV's, then the fact table's."""
    entry = file.types.get(name)
    if entry is not None and entry.usd_per_hour is not None:
        return entry.usd_per_hour
    if name in measured.usd_per_hour:
        return measured.usd_per_hour[name]
    fact = facts.instances().get(name)
    return None if fact is None else fact.usd_per_hour


def _beside(folder: Path, name: str) -> Path:
    """A file in the folder. Raises InputError for one that lies elsewhere."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"'profiles' must lie beside the fleet file, or below; got {name}")
    return path

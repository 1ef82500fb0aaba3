"""One rank's part of generating: arrivals in, a pass of the model, a token of each row out. The same on all ranks.

No text and no sockets: tokens in, tokens out. lane.py says who is in a pass, and what its tokens mean. In a pipeline as
many passes are on their way as there are stages, each of another lane, and all stages work at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from heavylift_runtime.errors import LoadError, ran_out
from heavylift_runtime.manner import Rules
from heavylift_runtime.native.alarm import NOBODY, Account, Interrupted
from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.drafts import Drafts
from heavylift_runtime.native.found import Found, Given
from heavylift_runtime.native.lane import Flight, Lane, Progress
from heavylift_runtime.native.limits import Limits
from heavylift_runtime.native.memory import Caches
from heavylift_runtime.native.mesh import ALONE, Mesh
from heavylift_runtime.native.news import Arrival, News
from heavylift_runtime.native.passes import Reading
from heavylift_runtime.native.place import within
from heavylift_runtime.native.replay import Recorder
from heavylift_runtime.native.sampling import is_plain
from heavylift_runtime.native.scheduler import Scheduler
from heavylift_runtime.native.sequence import Sequence
from heavylift_runtime.native.steps import Steps

TOKENS = 256
"""In one pass, about: the longest that a running row waits for others' prompts."""
FULL = "memory ran out while this request was computed; send it again, or send less at once"


class Core:
    """The model, and the lanes of sequences that run."""

    def __init__(
        self,
        model: Model,
        start: int,
        ends: Collection[int],
        slots: int,
        budget: int,
        limits: Limits,
        *,
        tokens: int = TOKENS,
        invariant: bool = False,
        mesh: Mesh = ALONE,
        rules: Rules | None = None,
        record: Recorder | None = None,
        drafted: int = 0,
        copied: bool = False,
    ) -> None:
        """`slots`: rows that run at once; `budget`: bytes of cache on each rank; `rules`: the checkpoint's.

        `invariant`: a request's numbers depend on no other's, bit for bit. `record`: what passes without prompts are
        recorded with; None: their sizes are as they come, which on a processor is quicker. `drafted`: tokens that are
        guessed at most before a pass, see drafts.py; `copied`: by the model too.
        """
        self._model, self._start, self._mesh = model, start, mesh
        self._ends = frozenset(end for end in ends if end < model.vocabulary.size)  # no other one can ever come
        self.limits, self._rules = limits, Rules() if rules is None else rules
        self._record, self._drafted, self._copied = record, drafted, copied
        lanes = min(slots, mesh.stage.of)
        self._slots = -(-slots // lanes)
        self._lanes = [self._lane(tokens, budget // lanes, invariant=invariant) for _ in range(lanes)]
        self._flights: deque[Flight | None] = deque([None] * mesh.stage.of, mesh.stage.of)
        """What each stage works on."""
        self._taken: list[Tensor] = []
        self._turn = self._arrived = 0
        self._known: dict[int, tuple[Arrival, list[int]]] = {}
        """By key, in the order of their arrival: requests that go on, and their tokens that `step` has given."""
        self._place = 0
        """Of this rank in its steps; odd where nothing is changed that cannot be computed once more (alarm.py)."""
        self._now: Flight | None = None
        """What this rank works on."""
        self.again: tuple[Arrival, ...] = ()
        """What rank 0 must tell all ranks once more, for they have forgotten all."""

    def _lane(self, tokens: int, budget: int, *, invariant: bool) -> Lane:
        limits, slots = self.limits, self._slots
        caches = Caches(self._model.stores(slots, limits.prompt, limits.together or limits.answer))
        if caches.taken > budget:
            raise LoadError(
                f"a cache of {slots} sequences of {limits.together or limits.answer} tokens takes {caches.taken} bytes "
                f"of {self._model.device}, of which it may have {budget}: lower 'max_model_len' or the batch size "
                f"to {budget / caches.taken:.0%}"
            )
        depth = self._model.depth if self._mesh.stage.of == 1 else 1  # stages hand on whole readings
        scheduler = Scheduler(caches, slots, tokens, budget, fixed=invariant, depth=depth)
        steps = None
        if self._record is not None and not invariant:
            steps = Steps(self._model, caches.stores, slots, self._record, self._mesh.stage)
        drafts = Drafts(self._model, caches.stores, self._drafted, copied=self._copied) if self._drafted else None
        return Lane(self._model, caches, scheduler, self._ends, invariant=invariant, steps=steps, drafts=drafts)

    @property
    def busy(self) -> bool:
        return any(lane.scheduler.busy for lane in self._lanes)

    @property
    def words(self) -> int:
        """Tokens that the model knows."""
        return self._model.vocabulary.size

    @property
    def slots(self) -> int:
        """The most rows of one request."""
        return self._slots

    @property
    def scheduler(self) -> Scheduler:
        """The first lane's; all have as many slots, and as much memory."""
        return self._lanes[0].scheduler

    @property
    def load(self) -> dict[str, float]:
        """Rows that run and that wait, and the share of the caches' bytes that the running ones hold."""
        loads = [lane.scheduler.load for lane in self._lanes]
        total = {name: sum(load[name] for load in loads) for name in loads[0]}
        return {**total, "kv_cache_use": total["kv_cache_use"] / len(loads)}

    def sequence(self, arrival: Arrival) -> Sequence:
        """A request at its beginning."""
        self._arrived += 1
        source, text = (arrival.prompt, [self._start]) if self._model.encodes else ((), list(arrival.prompt))
        how, given = arrival.sampling, len(text)
        text += arrival.said
        plain = is_plain(how) and not self._rules.bind
        return Sequence(arrival.key, source, text, given, how, plain, arrival.seed, self._arrived, self._rules)

    def step(self, news: News) -> list[Progress]:
        """Each stage's part of a pass; empty when none ends, nothing runs, or only parts of prompts were read.

        Called on all ranks at once: at every step a lane's pass begins, and each that is on its way goes on by a stage.
        """
        progress: list[Progress] = []
        try:
            self._hear(news)
            self._turn = (self._turn + 1) % self._mesh.stage.of
            progress += self._given(self._go_on())
            if self._mesh.stage.of == 1 and (ended := self._flights[-1]) is not None and ended.readings:
                progress += self._given(self._go_on())  # those whose sources were read
            if not self.busy:
                # before all sleep: whoever could not go on has said so
                self._mesh.everyone.all_reduce(torch.zeros(1, dtype=torch.int64))
        except (MemoryError, RuntimeError) as error:
            return progress + self.recover(error)
        return progress

    def know(self, news: News) -> None:
        """What there is to do, before it is told: none of it is lost when ranks begin again."""
        self.again = ()
        self._known |= {arrival.key: (arrival, list(arrival.said)) for arrival in news.arrived}
        for key in news.gone:
            self._known.pop(key, None)

    def _hear(self, news: News) -> None:
        self.know(news)
        for key in news.gone:
            for lane in self._lanes:
                lane.cancel(key)
        for arrival in news.arrived:
            min(self._lanes, key=lambda lane: lane.load).scheduler.add(self.sequence(arrival))

    def recover(self, error: Exception) -> list[Progress]:
        """Memory ran out, here or on another rank: one request is refused, the others go on; another error is raised.

        Called on all ranks, each where it is. Where all were at the same place, and nothing was changed there, that is
        planned anew without the one; else all forget all, and rank 0 tells `again` what is left, and how far it was.
        """
        if not (isinstance(error, Interrupted) or _is_memory(error)):
            raise error
        flight, self._now = self._now, None
        victim = None if isinstance(error, Interrupted) or flight is None else flight.lane.victim
        accounts = self._mesh.gather(Account(self._place, NOBODY if victim is None else victim.key))
        if accounts is None:
            raise error  # other ranks wait in the middle of a pass
        victims = {account.victim for account in accounts} - {NOBODY} or {*list(self._known)[-1:]}
        known = [self._known.pop(key) for key in sorted(victims & self._known.keys())]
        refused = [Progress(self.sequence(_so_far(*each)), (), None, (507, FULL)) for each in known]
        self._flights.extend([None] * self._mesh.stage.of)
        self._taken = []
        if {account.place for account in accounts} == {self._place | 1}:
            self._place += 1
            for lane in self._lanes:
                lane.undo()
                for key in victims:
                    lane.cancel(key)
        else:
            for lane in self._lanes:
                lane.clear()
            self._turn = self._place = 0
            self.again = tuple(_so_far(*each) for each in self._known.values())
            self._known.clear()
        self._mesh.begin_again()
        return refused

    def _given(self, progress: list[Progress]) -> list[Progress]:
        """What `step` gives is known."""
        for each in progress:
            key = each.sequence.key
            if each.finish_reason is not None or each.error is not None:
                self._known.pop(key, None)
            elif key in self._known:
                self._known[key][1].extend(chosen.token for chosen in each.chosen)
        return progress

    def _go_on(self) -> list[Progress]:
        """The next flight begins, each is on a stage, the last one ends."""
        stage, lane = self._mesh.stage, self._lanes[self._turn] if self._turn < len(self._lanes) else None
        self._flights.appendleft(None if lane is None else lane.begin())
        if not any(self._flights):
            return []
        self._place += 1
        self._now = self._flights[stage.number]
        with within(self._model.device):
            given = self._compute(self._now)
        if not stage.last:
            for hidden in given:
                self._mesh.hand_on(hidden)
        self._now = coming = None if stage.first else self._flights[stage.number - 1]
        rows = [] if coming is None else coming.lengths
        self._taken = [
            self._mesh.take((count, self._model.width), self._model.stream, self._model.device) for count in rows
        ]
        self._now = ended = self._flights[-1]
        found = None if ended is None else self._end(ended, given if stage.last else [])
        self._place += 1
        return [] if ended is None or found is None else ended.lane.end(ended.wanting, found)

    def _compute(self, flight: Flight | None) -> list[Tensor]:
        """This stage's part: hidden states for the next, or, on the last, what the encoder gave or the head gets."""
        if flight is None:
            return []
        hidden = [*self._taken] if not self._mesh.stage.first else [None] * len(flight.lengths)
        given = [self._encode(flight.lane, reading, x) for reading, x in zip(flight.readings, hidden, strict=False)]
        for each, x in zip(flight.passes, hidden, strict=False):
            steps = flight.lane.steps
            if steps is not None and steps.take(each.batch):
                given.append(steps(each.batch, x))
                continue
            found = self._model.forward(each.batch.on(self._model.device), flight.lane.caches.stores, x)
            given.append(found)
        return given

    def _encode(self, lane: Lane, reading: Reading, x: Tensor | None) -> Tensor:
        """Hidden states of what is read; where that is a portion, they wait in the lane for the next one."""
        given = self._model.encode(reading.sources, lane.unread if reading.part else x, reading.part, reading.parts)
        if reading.parts > 1:
            lane.unread = None if reading.last else given
        return given

    def _end(self, flight: Flight, given: list[Tensor]) -> Found | None:
        """What a flight brought, on all ranks; None: its sources are read.

        `given`: on the last stage, what it computed.
        """
        lane, model = flight.lane, self._model
        for place, reading in enumerate(flight.readings):
            if not reading.last:
                continue
            own = given[place] if given else None
            hidden = self._mesh.tell(own, (reading.tokens, model.width), model.dtype, model.device)
            with within(model.device):
                model.remember(reading.sources, hidden, lane.caches.stores)
        if flight.readings:
            return None
        wanted = None
        if self._mesh.stage.last:
            parts = [(part, each.kept) for part, each in zip(given, flight.passes, strict=True)]
            wanted = Given([(part, kept) for part, kept in parts if kept])
        return Found.of(flight.wanting, wanted, model.vocabulary, self._mesh, self._ends)


def _so_far(arrival: Arrival, said: list[int]) -> Arrival:
    return replace(arrival, said=tuple(said))


def _is_memory(error: Exception) -> bool:
    """Python's and torch's words for memory that is not there; the last are C++'s."""
    return ran_out(error) or "out of memory" in str(error) or "std::bad_alloc" in str(error)

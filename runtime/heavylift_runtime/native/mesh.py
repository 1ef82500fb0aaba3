"""The ranks of a pipeline: those that share a stage's layers, all of them, and what stages hand to each other.

Not what they compute (core.py). Every stage has as many ranks; all of one hold the same hidden states, so that each
hands its own to the rank of the same part in the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heavylift_runtime.families.stages import WHOLE, Stage
from heavylift_runtime.native.alarm import Account, Alarm
from heavylift_runtime.native.distributed import Alone, Gloo, Group
from heavylift_runtime.native.nccl import beside
from heavylift_runtime.native.place import HOST
from heavylift_runtime.native.shared_memory import SharedMemory, through_memory


@dataclass(frozen=True)
class Mesh:
    """One rank's place among all ranks of a model."""

    everyone: Group
    group: Group
    """The ranks that share its stage."""
    stage: Stage = WHOLE
    alarm: Alarm | None = None
    """Where ranks learn that one cannot go on; None: they do not, and one that cannot go on ends them all."""

    @classmethod
    def join(cls, rank: int, tensor: int, pipeline: int, rendezvous: str, device: torch.device = HOST) -> Mesh:
        """Meets the others, in the quickest groups that this machine has; a world of one needs no rendezvous.

        `device`: where this rank computes; tensors that lie there go from GPU to GPU.
        """
        if tensor * pipeline == 1:
            return cls(Alone(), Alone())
        gloo = Gloo(rank, tensor * pipeline, rendezvous)
        whole = through_memory(gloo)
        part: Gloo | SharedMemory = whole
        if 1 < tensor < gloo.world:
            first = rank // tensor * tensor
            part = through_memory(gloo.divided(tensor), whole if isinstance(whole, SharedMemory) else None, first)
        heard = isinstance(part, SharedMemory) and isinstance(whole, SharedMemory) and device.type == "cpu"
        everywhere = int(whole.all_reduce(torch.tensor([int(heard)]))) == gloo.world
        everyone = beside(whole, gloo.world, device)
        group: Group = everyone if part is whole else beside(part, gloo.world, device)
        return cls(
            everyone,
            Alone() if tensor == 1 else group,
            Stage.holding(rank, tensor, pipeline),
            whole.alarm if everywhere and isinstance(whole, SharedMemory) else None,
        )

    def gather(self, account: Account) -> list[Account] | None:
        """Raises the alarm, or answers it: every rank's account; None where ranks cannot come together again.

        Called at any place of a step, by each rank; `begin_again` follows.
        """
        if self.everyone.world == 1:
            return [account]
        return None if self.alarm is None else self.alarm.answer(account)

    def begin_again(self) -> None:
        """Nothing of what was being exchanged is waited for any more."""
        for group in (self.everyone, self.group):
            if isinstance(group, SharedMemory):
                group.begin_again()
        if self.alarm is not None:
            self.alarm.over()

    def hand_on(self, hidden: Tensor) -> None:
        """To the next stage; called there as `take`."""
        self.everyone.send(hidden.contiguous(), self.everyone.rank + self.group.world)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device = HOST) -> Tensor:
        """What the stage before hands on."""
        return self.everyone.receive(
            torch.empty(shape, dtype=dtype, device=device), self.everyone.rank - self.group.world
        )

    def tell(
        self, found: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device = HOST
    ) -> Tensor:
        """What the last stage's ranks found, the same on each, on every rank; the others give None."""
        if self.stage.of == 1:
            assert found is not None
            return found
        # a sum in which all others have zeros, for sums are what the groups do quickest
        speaks = self.everyone.rank == self.everyone.world - 1
        assert not speaks or found is not None
        said = (
            found.to(dtype).clone() if speaks and found is not None else torch.zeros(shape, dtype=dtype, device=device)
        )
        return self.everyone.all_reduce(said)

    def close(self) -> None:
        """Leave all groups."""
        if self.group is not self.everyone:
            self.group.close()
        self.everyone.close()


ALONE = Mesh(Alone(), Alone())

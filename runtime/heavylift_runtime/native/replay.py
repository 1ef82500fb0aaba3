"""Work that is the same each time but for what its inputs hold: recorded once, and replayed.

Not what is computed (steps.py). A CUDA graph saves the hundreds of launches of a pass, which on a GPU take longer than
a small batch's computing; on a processor there is nothing to save, and the work is simply done again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Work = Callable[[], Tensor]
"""Reads tensors that stay where they are, and gives one that stays until the next work is replayed."""
Recorder = Callable[[Work], Work]
SIZES = 512
"""Far more than there are: torch.compile gives up on a function that it has compiled for so many."""


def again(work: Work) -> Work:
    """The work itself."""
    return work


class Graphs:
    """Records CUDA graphs that share their temporary memory, for one is replayed at a time. Written, not run."""

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Done once before it is recorded: libraries take their room, and NCCL connects, at the first call."""
        now = torch.cuda.current_stream()
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            work()
        now.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # NCCL's watchdog asks for events in a thread of its own, which is no fault of this one
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            given = work()

        def replay() -> Tensor:
            graph.replay()
            return given

        return replay


def compiled(recorder: Recorder) -> Recorder:
    """Work that torch.compile has made into fewer kernels, recorded as before."""

    def record(work: Work) -> Work:
        work()  # views of the caches are made, and kept, at the first call: what is compiled is given them
        torch._dynamo.config.recompile_limit = SIZES
        return recorder(torch.compile(work, dynamic=False, fullgraph=True))

    return record


def recorder_of(device: torch.device, *, eager: bool, compiles: bool) -> Recorder | None:
    """What a device gains by; None: nothing, for passes whose sizes are as they come are quicker."""
    if device.type == "cpu":
        return None
    record = again if eager else Graphs(device)
    return compiled(record) if compiles else record

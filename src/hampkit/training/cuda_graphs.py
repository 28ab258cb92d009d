"""Training steps as CUDA graphs: their kernels are recorded once and replayed, which saves the time to launch each kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hampkit.errors import one_line
from hampkit.types import Batch

Step = Callable[[], None]
Recorder = Callable[
    [Step], Step
]  # runs a step several times, and returns a function that repeats it on the same memory


def cuda_graph(step: Step) -> Step:
    """The step as a CUDA graph. It runs three times before it is recorded, as torch recommends, to allocate its memory."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class Replayed:
    """Steps on batches of one shape: recorded once, and replayed only if the recording gives the results of the step itself.

    step: (batch, learning rate) → None. It changes the tensors of ``state`` in place and no others that outlive it, and what it
    reads stays at the same address. The learning rate is part of a recording: another one needs a new recording.
    """

    def __init__(
        self, record: Recorder, step: Callable[[Batch, float], None], state: Callable[[], list[Tensor]]
    ) -> None:
        self.record, self.step, self.state = record, step, state
        self.refused = ""  # why steps are not recorded; empty: they are
        self.key: object = None  # learning rate and shapes of the recording
        self.warm = False  # a first step has allocated the memory of the state
        self.replay: Step = lambda: None
        self.batch: Batch | None = None  # the memory that the recording reads

    def __call__(self, batch: Batch, lr: float) -> None:
        """One step on a batch whose tensors are (M, B, …)."""
        key = (lr, tuple(t.shape for t in batch))
        if not self.warm or self.refused or (key != self.key and not self._recorded(batch, lr, key)):
            self.warm = True
            return self.step(batch, lr)
        assert self.batch is not None
        for memory, given in zip(self.batch, batch, strict=True):
            memory.copy_(given)
        return self.replay()

    def _recorded(self, batch: Batch, lr: float, key: object) -> bool:
        """Record the step. False if that fails or gives other results; the state is restored in every case."""
        self.batch = copy = Batch(*(t.clone() for t in batch))
        before = self._copied()
        self.step(copy, lr)
        expected = self._copied()
        try:
            self.replay = self.record(lambda: self.step(copy, lr))
            self._restore(before)
            self.replay()
            self.refused = (
                "" if _close(self._copied(), expected) else "a recorded step gives other results than the step"
            )
        except RuntimeError as error:
            self.refused = f"steps cannot be recorded: {one_line(error)}"
        self._restore(before)
        self.key = None if self.refused else key
        return not self.refused

    def _copied(self) -> list[Tensor]:
        return [t.clone() for t in self.state()]

    def _restore(self, values: list[Tensor]) -> None:
        for t, value in zip(self.state(), values, strict=True):
            t.copy_(value)


def _close(found: list[Tensor], expected: list[Tensor]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-6, equal_nan=True) for a, b in pairs)

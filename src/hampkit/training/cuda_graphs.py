"""A training step whose kernels are recorded once and replayed: on a GPU, starting them one by one costs more than they do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hampkit.types import Batch

Step = Callable[[], None]
Recorder = Callable[[Step], Step]  # runs a step some times, and returns what repeats it on the same memory


def cuda_graph(step: Step) -> Step:
    """The step as a CUDA graph. It is run three times first, as torch asks, so that what allocates once has done so."""
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
    """Steps on batches of one shape. A recording is used only once it was seen to give what the step itself gives.

    step: (batch, learning rate) → None, changes the tensors of ``state`` in place and nothing else that lasts; all that it
    reads must stay where it is. The learning rate is a number of the recording: another one is recorded anew.
    """

    def __init__(
        self, record: Recorder, step: Callable[[Batch, float], None], state: Callable[[], list[Tensor]]
    ) -> None:
        self.record, self.step, self.state = record, step, state
        self.refused = ""  # why steps are not recorded
        self.key: object = None
        self.warm = False  # a first step was taken: all memory that lasts is there
        self.replay: Step = lambda: None
        self.batch: Batch | None = None  # the memory that a recording reads

    def __call__(self, batch: Batch, lr: float) -> None:
        key = (lr, tuple(t.shape for t in batch))
        if not self.warm or self.refused or (key != self.key and not self._recorded(batch, lr, key)):
            self.warm = True
            return self.step(batch, lr)
        assert self.batch is not None
        for mine, given in zip(self.batch, batch, strict=True):
            mine.copy_(given)
        return self.replay()

    def _recorded(self, batch: Batch, lr: float, key: object) -> bool:
        """Record the step; false, with everything as it was, where that fails or gives something else."""
        self.batch = mine = Batch(*(t.clone() for t in batch))
        before = [t.clone() for t in self.state()]
        self.step(mine, lr)
        right = [t.clone() for t in self.state()]
        try:
            self.replay = self.record(lambda: self.step(mine, lr))
            self._restore(before)
            self.replay()
            found = [t.clone() for t in self.state()]
        except RuntimeError as error:
            self.refused = f"steps cannot be recorded: {error}".partition("\n")[0]
        else:
            pairs = zip(found, right, strict=True)
            if not all(torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-6, equal_nan=True) for a, b in pairs):
                self.refused = "a recorded step gives something else than the step itself"
        self._restore(before)
        self.key = None if self.refused else key
        return not self.refused

    def _restore(self, values: list[Tensor]) -> None:
        for t, value in zip(self.state(), values, strict=True):
            t.copy_(value)

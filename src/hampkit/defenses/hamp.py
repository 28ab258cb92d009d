"""HAMP (Chen & Pattabiraman, NDSS 2024): train for less confident answers, then release only their order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hampkit.defenses.base import Ask, Defense, Keyed, Models, Release
from hampkit.errors import UserError
from hampkit.rng import derive, torch_rng
from hampkit.training import MeanLoss, Trainer
from hampkit.training.soft_labels import check_gamma, check_grid, hamp_loss, soft_labels
from hampkit.types import Domain, Stack, Task

LARGEST_BANK = 10**7  # answers
PUBLISHED_CHUNK = 1024  # noise inputs drawn and answered at once


@dataclass(frozen=True)
class Hamp(Defense):
    """High-entropy soft labels, an entropy regulariser, and answers that keep only the order of the classes.

    Training minimises KL(soft label ‖ softmax z) − alpha · H(softmax z); the soft label gives the true class as much as
    leaves it an entropy of gamma · ln C, and the rest to the others in equal parts. On release, the logits of every
    answer are exchanged for those of a random input, in the same order, so that the predicted label stays.

    Differs from the published code, unless its recipe fields are set: the soft label is exact, not on a grid of 0.01
    (``grid``); the KL term is averaged over rows, not over rows and classes (``kl``); tied logits keep distinct values.
    """

    name: ClassVar[str] = "hamp"
    paper: ClassVar[str] = "https://arxiv.org/abs/2307.01610"

    gamma: float = 0.5  # entropy of the soft label as a share of ln C, in [0, 1)
    alpha: float = 0.03  # weight of the entropy term, in the units of kl
    kl: Literal["batchmean", "mean"] = "batchmean"  # mean: divided by rows and by classes, as published
    grid: float | None = None  # step of the search for the soft label; published: 0.01
    modify: bool = True  # False: release the network's own answers (training alone)
    noise: Literal["fresh", "keyed"] = (
        "fresh"  # keyed: the noise follows from the input and a secret; repeating teaches nothing
    )
    bank: int = 0  # answers to this many noise inputs are prepared once and drawn from; 0: a new noise input per query

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        if self.alpha < 0 or not math.isfinite(self.alpha):
            raise UserError(f"defense.alpha={self.alpha} must be a number of at least 0")
        check_grid(self.grid)
        if not 0 <= self.bank <= LARGEST_BANK:
            raise UserError(
                f"defense.bank={self.bank} must be 0 (fresh noise inputs) or the number of answers to prepare, at most"
                f" {LARGEST_BANK}"
            )

    def fit(self, task: Task, trainer: Trainer) -> Models:
        classes = task.pool.num_classes
        targets = soft_labels(task.pool.y, classes, self.gamma, self.grid).float()
        stack = trainer.fit(task, MeanLoss(hamp_loss(self.alpha, self.kl)), targets)
        return Models(stack, self._state(task, stack, trainer))

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        if not self.modify:
            return super().release(state, domain)
        return SwapConfidences(domain, self.noise, state["secret"], state.get("bank"))

    def _state(self, task: Task, stack: Stack, trainer: Trainer) -> dict[str, Tensor]:
        """A secret per model, and its bank of noise answers where one is asked for.

        Both follow from the model's seed, so that an evaluation repeats. Who serves a model keeps a secret of their own:
        `hampkit.nn.HampModel` draws one unless it is given.
        """
        state = {"secret": Keyed.secrets(task)}
        if self.modify and self.bank:
            noise = [task.pool.domain.sample(self.bank, torch_rng(derive(s, "bank"))) for s in task.seeds]
            answers = [trainer.predict(stack.take([m]), x)[0] for m, x in enumerate(noise)]
            state["bank"] = torch.stack(answers)
        return state


def swap_confidences(logits: Any, noise_logits: Any, ties: Literal["distinct", "published"] = "distinct") -> Any:
    """The values of noise row i in the order of logits row i: (N, C), (N, C) → (N, C), tensors or arrays.

    The class with the j-th largest logit gets the j-th largest noise value, so the predicted label (the first maximum)
    stays. Tied logits get distinct values, the first class the largest; ``ties="published"`` gives all of them the
    highest value of their group, as the published code does. Where the two largest noise values are equal, the largest
    is raised to the next float: the label must not depend on it.
    """
    if isinstance(logits, Tensor):
        z, r = logits.detach().cpu().numpy(), noise_logits.detach().cpu().numpy()
        return torch.from_numpy(swap_confidences(z, r, ties)).to(logits.device)
    z, r = np.asarray(logits), np.array(noise_logits)
    if z.shape != r.shape or z.ndim != 2:
        raise ValueError(f"logits {z.shape} and noise_logits {r.shape} must have the same shape (N, C)")
    r.sort(-1)
    if r.shape[-1] > 1:
        equal = r[:, -1] == r[:, -2]
        r[equal, -1] = np.nextafter(r[equal, -1], np.inf, dtype=r.dtype)
    order = _ascending(z)
    out = np.empty_like(r)
    if ties == "published":
        ordered = np.take_along_axis(z, order, -1)
        r = np.take_along_axis(r, _last_of_group(ordered), -1)
    np.put_along_axis(out, order, r, -1)
    return out


class SwapConfidences(Release):
    """HAMP's output modification: each answer is exchanged for that to a random input, in the order of the true one."""

    about = "the logits of a random input, in the order of the true logits: only the ranking of the classes is released"

    def __init__(self, domain: Domain, noise: str, secret: Tensor, bank: Tensor | None = None) -> None:
        self.domain = domain  # what random inputs look like
        self.noise = noise  # fresh or keyed
        self.keyed = Keyed(domain, secret)
        self.bank = bank  # (K, C) answers to noise inputs, or None

    def __call__(self, ask: Ask, x: Tensor, rng: torch.Generator) -> Tensor:
        logits = ask(x)
        if self.bank is not None:
            rows = (
                self.keyed.numbers(x, len(self.bank))
                if self.noise == "keyed"
                else torch.randint(len(self.bank), (len(x),), generator=rng)
            )
            return swap_confidences(logits, self.bank[rows].to(logits))
        parts = [ask(self._inputs(part, rng)) for part in x.split(PUBLISHED_CHUNK)]
        return swap_confidences(logits, torch.cat(parts))

    def _inputs(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """One random input per row: drawn, or derived from the row and the secret."""
        if self.noise == "fresh":
            return self.domain.sample(len(x), rng)
        seeds = self.keyed.numbers(x, 2**63 - 1)
        return torch.cat([self.domain.sample(1, torch_rng(int(seed))) for seed in seeds])


def _ascending(z: np.ndarray) -> np.ndarray:
    """Positions in ascending order, of tied values the last position first (so that the first maximum comes last)."""
    order = np.argsort(z, -1)  # several times faster than a stable sort, and the same where nothing is tied
    ordered = np.take_along_axis(z, order, -1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(-1)
    if tied.any():
        order[tied] = z.shape[-1] - 1 - np.argsort(z[tied][:, ::-1], -1, kind="stable")
    return order


def _last_of_group(ordered: np.ndarray) -> np.ndarray:
    """For every place of sorted rows, the last place that holds the same value."""
    c = ordered.shape[-1]
    ends = np.where(np.c_[ordered[:, 1:] != ordered[:, :-1], np.ones((len(ordered), 1), bool)], np.arange(c), c)
    return np.minimum.accumulate(ends[:, ::-1], -1)[:, ::-1]

"""HAMP (Chen & Pattabiraman, NDSS 2024): training for less confident answers, and a release of their ranking alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hampkit.defenses.base import ADAPTIVE, Defense, Keyed, Models, Predict, Release
from hampkit.errors import UserError
from hampkit.rng import derive, torch_rng
from hampkit.training import MeanLoss, Trainer
from hampkit.training.soft_labels import check_gamma, check_grid, hamp_loss, soft_labels
from hampkit.types import Domain, Stack, Task

LARGEST_BANK = 10**7  # answers
PUBLISHED_CHUNK = 1024  # noise inputs per forward pass


@dataclass(frozen=True)
class Hamp(Defense):
    """High-entropy soft labels, an entropy regulariser, and answers that keep only the ranking of the classes.

    Training minimises KL(t ‖ p) − alpha · H(p) with p = softmax z. The soft label t has entropy gamma · ln C: one probability for
    the true class, equal ones for all others. On release, the logits of every answer are replaced by those of a random input,
    in the order of the true logits, so that the predicted label is unchanged.

    Differs from the published code, unless its recipe fields are set: the soft label is exact, not on a grid of 0.01
    (``grid``); the KL term is averaged over rows, not over rows and classes (``kl``). Tied logits get distinct values.
    """

    name: ClassVar[str] = "hamp"
    paper: ClassVar[str] = "https://arxiv.org/abs/2307.01610"
    adaptive: ClassVar[tuple[str, ...]] = (*ADAPTIVE, "repeated")

    gamma: float = 0.5  # entropy of the soft label as a share of ln C, in [0, 1)
    alpha: float = 0.03  # weight of the entropy term; its scale depends on kl
    kl: Literal["batchmean", "mean"] = "batchmean"  # average of the KL term; mean: over rows and classes, as published
    grid: float | None = None  # step of the published search for the soft label (0.01); none: exact
    modify: bool = True  # False: release the network's own answers
    noise: Literal["fresh", "keyed"] = (
        "fresh"  # keyed: the random input is a keyed hash of the query, so that repeated queries have one answer
    )
    bank: int = 0  # draw from prepared answers to this many random inputs; 0: a new random input per query

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
        """The release with the model's state: "secret" (32,) and, if answers were prepared, "bank" (K, C)."""
        if not self.modify:
            return super().release(state, domain)
        return SwapConfidences(domain, self.noise, state["secret"], state.get("bank"))

    def _state(self, task: Task, stack: Stack, trainer: Trainer) -> dict[str, Tensor]:
        """A secret per model (M, 32), and with ``bank`` answers to random inputs (M, K, C).

        Both are drawn from the model's seed, so that an evaluation can be repeated. A service needs a secret of its own:
        `hampkit.nn.HampModel` draws one unless it is given.
        """
        state = {"secret": Keyed.secrets(task)}
        if self.modify and self.bank:
            noise = [task.pool.domain.sample(self.bank, torch_rng(derive(s, "bank"))) for s in task.seeds]
            answers = [trainer.predict(stack.take([m]), x)[0] for m, x in enumerate(noise)]
            state["bank"] = torch.stack(answers)
        return state


def swap_confidences(logits: Any, noise_logits: Any, ties: Literal["distinct", "published"] = "distinct") -> Any:
    """Per row, the values of noise_logits in the order of logits: (N, C), (N, C) → (N, C), tensors or arrays.

    The class with the j-th largest logit gets the j-th largest noise value, so that the predicted label, the first maximum, is
    unchanged. Tied logits get distinct values, the first class the largest; with ``ties="published"`` all of them get the
    largest value of the tie, as in the published code. If the two largest noise values are equal, the largest is raised to the
    next float, so that the predicted label stays the only maximum.

    Raises: `ValueError` for arrays of different shapes.
    """
    if isinstance(logits, Tensor) and ties == "distinct":
        return ranked_like(logits.detach(), noise_logits.detach())
    if isinstance(logits, Tensor):
        z, r = logits.detach().cpu().numpy(), noise_logits.detach().cpu().numpy()
        return torch.from_numpy(swap_confidences(z, r, ties)).to(logits.device)
    z, r = np.asarray(logits), np.array(noise_logits)
    if z.shape != r.shape or z.ndim != 2:
        raise ValueError(f"logits {z.shape} and noise_logits {r.shape} must have the same shape (N, C)")
    _sort_with_one_maximum(r)
    order = _ascending(z)
    out = np.empty_like(r)
    if ties == "published":
        ordered = np.take_along_axis(z, order, -1)
        r = np.take_along_axis(r, _last_of_group(ordered), -1)
    np.put_along_axis(out, order, r, -1)
    return out


def ranked_like(logits: Tensor, noise_logits: Tensor, exported: bool = False) -> Tensor:
    """Per row, the values of noise_logits (B, C) in the order of logits (B, C), in torch alone; see `swap_confidences`.

    The same in every floating-point type. exported: the same values by operations that torch.onnx.export has.
    Raises: `ValueError` for tensors of different shapes.
    """
    if logits.shape != noise_logits.shape or logits.ndim != 2:
        raise ValueError(
            f"logits {tuple(logits.shape)} and noise_logits {tuple(noise_logits.shape)} must be (B, C), the same"
        )
    values = torch.sort(noise_logits, dim=-1, descending=True).values
    top, second = values[:, :1], values[:, 1:2]
    number = torch.finfo(values.dtype)
    above = second + (second.abs() * number.eps).clamp(min=number.tiny)  # at least the next number, in every type
    if values.shape[1] > 1:
        values = torch.cat([torch.where(top == second, above, top), values[:, 1:]], 1)
    return values.gather(-1, _places_by_comparing(logits) if exported else _places(logits))


def _places(z: Tensor) -> Tensor:
    """The place (B, C) of each class among its row z (B, C), 0 for the largest; of equal ones the first class is first."""
    order = torch.sort(z, dim=-1, descending=True, stable=True).indices
    return torch.empty_like(order).scatter(-1, order, torch.arange(z.shape[1], device=z.device).expand_as(order))


def _places_by_comparing(z: Tensor) -> Tensor:
    """`_places` from C² comparisons per row: a stable sort is not available in ONNX."""
    first = torch.arange(z.shape[1], device=z.device)
    above = z[:, None, :] > z[:, :, None]  # (B, class, other class)
    before = (z[:, None, :] == z[:, :, None]) & (first[None, :] < first[:, None])
    return (above | before).sum(-1)


class SwapConfidences(Release):
    """HAMP's output modification: each answer is replaced by that to a random input, in the order of the true logits."""

    about = "the logits of a random input, in the order of the true logits: only the ranking of the classes is released"
    keeps_order = True

    def __init__(self, domain: Domain, noise: str, secret: Tensor, bank: Tensor | None = None) -> None:
        self.domain = domain  # of the random inputs
        self.noise = noise  # fresh or keyed
        self.keyed = Keyed(domain, secret)
        self.bank = bank  # (K, C) answers to random inputs, or None

    def __call__(self, predict: Predict, x: Tensor, rng: torch.Generator) -> Tensor:
        logits = predict(x)
        if self.bank is not None:
            return swap_confidences(logits, self.bank[self._bank_rows(x, len(self.bank), rng)].to(logits))
        parts = [predict(self._inputs(part, rng)) for part in x.split(PUBLISHED_CHUNK)]
        return swap_confidences(logits, torch.cat(parts))

    def _bank_rows(self, x: Tensor, size: int, rng: torch.Generator) -> Tensor:
        """One row (B,) of the bank per input (B, *shape)."""
        if self.noise == "keyed":
            return self.keyed.numbers(x, size)
        return torch.randint(size, (len(x),), generator=rng)

    def _inputs(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """One random input per input of x (B, *shape): drawn, or derived from the input and the secret."""
        if self.noise == "fresh":
            return self.domain.sample(len(x), rng)
        seeds = self.keyed.numbers(x, 2**63 - 1)
        return torch.cat([self.domain.sample(1, torch_rng(int(seed))) for seed in seeds])


def _sort_with_one_maximum(r: np.ndarray) -> None:
    """Sort the rows of r (N, C) in place, and raise a tied maximum to the next float."""
    r.sort(-1)
    if r.shape[-1] > 1:
        equal = r[:, -1] == r[:, -2]
        r[equal, -1] = np.nextafter(r[equal, -1], np.inf, dtype=r.dtype)


def _ascending(z: np.ndarray) -> np.ndarray:
    """Classes in ascending order of z (N, C): (N, C); tied classes in descending order, so that the first maximum is last."""
    order = np.argsort(z, -1)  # several times faster than a stable sort, and the same without ties
    ordered = np.take_along_axis(z, order, -1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(-1)
    if tied.any():
        order[tied] = z.shape[-1] - 1 - np.argsort(z[tied][:, ::-1], -1, kind="stable")
    return order


def _last_of_group(ordered: np.ndarray) -> np.ndarray:
    """For every position in sorted rows (N, C), the last position with the same value: (N, C)."""
    c = ordered.shape[-1]
    ends = np.where(np.c_[ordered[:, 1:] != ordered[:, :-1], np.ones((len(ordered), 1), bool)], np.arange(c), c)
    return np.minimum.accumulate(ends[:, ::-1], -1)[:, ::-1]

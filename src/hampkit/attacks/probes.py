"""Probes: what attacks ask beyond one question per example, and what they keep of the answers.

Axes: B examples, R questions about each, C classes, P candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from hampkit import signals
from hampkit.errors import UserError
from hampkit.nets.augmentations import COUNT, augmented
from hampkit.types import Domain, InputSpace, Probe

FLIPS = (0.02, 0.05)  # probability with which a bit is flipped and a category drawn anew, for each half of the copies
MOVES = (0.1, 0.3)  # standard deviation of the noise on a number, in deviations of the number over the population
MOST_QUESTIONS = 1024  # more is a typing error: every shadow model answers as many about every candidate


@dataclass(frozen=True)
class NoisyCopies(Probe):
    """Noisy copies of each example. Kept is the rank of the true label on each of them, 0 for the predicted label.

    Tables: half of the copies with weak noise, half with strong noise (`FLIPS`, `MOVES`). Images: mirror images and shifts, at
    most 18. The rank is the number of classes with a larger answer; of equal answers the first class is the largest, as in
    argmax, so that the label is right where the rank is 0.
    """

    name: ClassVar[str] = "noisy"
    order_only: ClassVar[bool] = True
    copies: int = 32  # R

    def __post_init__(self) -> None:
        check_questions("copies", self.copies, 2)

    def questions(self, shape: tuple[int, ...]) -> int:
        return min(self.copies, COUNT) if _is_image(shape) else self.copies

    def inputs(self, x: Tensor, space: InputSpace, rng: torch.Generator) -> Tensor:
        copies = self.questions(tuple(x.shape[1:]))
        if _is_image(tuple(x.shape[1:])):
            return torch.stack([augmented(x, k) for k in range(copies)], dim=1)
        weak = copies // 2
        halves = ((weak, FLIPS[0], MOVES[0]), (copies - weak, FLIPS[1], MOVES[1]))
        return torch.cat([_noisy(x, n, flip, move, space, rng) for n, flip, move in halves], dim=1)

    def keep(self, answers: Tensor, y: Tensor) -> Tensor:
        return ranks(answers, y.unsqueeze(1).expand(answers.shape[:2]))


@dataclass(frozen=True)
class Repeats(Probe):
    """The same question R times. Kept is the mean of the scaled logits of the answers."""

    name: ClassVar[str] = "repeats"
    repeats: ClassVar[bool] = True
    copies: int = 16  # R

    def __post_init__(self) -> None:
        check_questions("copies", self.copies, 2)

    def questions(self, shape: tuple[int, ...]) -> int:
        return self.copies

    def inputs(self, x: Tensor, space: InputSpace, rng: torch.Generator) -> Tensor:
        return x.unsqueeze(1).expand(len(x), self.copies, *x.shape[1:])

    def keep(self, answers: Tensor, y: Tensor) -> Tensor:
        return signals.scaled_logit(answers, y.unsqueeze(1).expand(answers.shape[:2])).mean(1, keepdim=True)


@dataclass(frozen=True)
class OwnAnswers(Probe):
    """The answer of the network behind the release. Kept is its scaled logit."""

    name: ClassVar[str] = "own"
    released: ClassVar[bool] = False

    def questions(self, shape: tuple[int, ...]) -> int:
        return 1

    def inputs(self, x: Tensor, space: InputSpace, rng: torch.Generator) -> Tensor:
        return x.unsqueeze(1)

    def keep(self, answers: Tensor, y: Tensor) -> Tensor:
        return signals.scaled_logit(answers, y.unsqueeze(1))


@dataclass(frozen=True)
class AnswerShape(Probe):
    """One question. Kept are six numbers of the answer that the noise of a release leaves readable.

    The scaled logit of the label, its rank, the logarithms of the three largest probabilities, and the entropy.
    """

    name: ClassVar[str] = "shape"

    def questions(self, shape: tuple[int, ...]) -> int:
        return 1

    def inputs(self, x: Tensor, space: InputSpace, rng: torch.Generator) -> Tensor:
        return x.unsqueeze(1)

    def keep(self, answers: Tensor, y: Tensor) -> Tensor:
        z = answers[:, 0]
        logs = z.log_softmax(-1)
        top = logs.topk(min(3, z.shape[1]), dim=-1).values
        return torch.cat([torch.stack([signals.scaled_logit(z, y), ranks(z, y), signals.entropy(z)], 1), top], 1)


@dataclass(frozen=True)
class Neighbours(Probe):
    """Each example and its nearest other candidates. Kept is the scaled logit of the example's own label for each of them."""

    name: ClassVar[str] = "neighbours"
    count: int = 4  # other candidates

    def __post_init__(self) -> None:
        check_questions("neighbours", self.count, 1)

    def questions(self, shape: tuple[int, ...]) -> int:
        return 1 + self.count

    def inputs(self, x: Tensor, space: InputSpace, rng: torch.Generator) -> Tensor:
        near = nearest(x, space, self.count)
        return torch.cat([x.unsqueeze(1), space.rows[near].to(x.dtype)], dim=1)

    def keep(self, answers: Tensor, y: Tensor) -> Tensor:
        return signals.scaled_logit(answers, y.unsqueeze(1).expand(answers.shape[:2]))


def ranks(answers: Tensor, y: Tensor) -> Tensor:
    """The rank of each label: the number of classes before it in descending order of the answers (…, C), (…) → (…).

    >>> ranks(torch.tensor([[3.0, 1.0, 3.0], [0.0, 2.0, 1.0]]), torch.tensor([2, 2])).tolist()
    [1.0, 1.0]
    """
    own = answers.gather(-1, y.unsqueeze(-1))
    first = torch.arange(answers.shape[-1], device=answers.device) < y.unsqueeze(-1)
    return ((answers > own) | ((answers == own) & first)).sum(-1).double()


def nearest(x: Tensor, space: InputSpace, count: int) -> Tensor:
    """The places (B, count) among the candidates of those nearest to x (B, *shape), equal ones left out.

    Distances are Euclidean, in deviations of each coordinate, see `InputSpace.scaled`.
    Raises: `UserError` for fewer candidates.
    """
    if len(space.rows) <= count:
        raise UserError(f"near-duplicate.neighbours={count} must be below the number of candidates, {len(space.rows)}")
    rows = space.scaled_rows.double()
    distances = torch.cdist(space.scaled(x).double(), rows)
    equal = distances <= 1e-6 * (1 + rows.norm(dim=1))  # rounding: the distance of equal rows is not exactly 0
    return distances.masked_fill(equal, torch.inf).topk(count, dim=1, largest=False).indices


def check_questions(name: str, number: int, least: int) -> None:
    """Raises: `UserError` for a number of questions below ``least`` or above `MOST_QUESTIONS`."""
    if not least <= number <= MOST_QUESTIONS:
        raise UserError(f"{name}={number} must lie between {least} and {MOST_QUESTIONS}")


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3


def _noisy(x: Tensor, copies: int, flip: float, move: float, space: InputSpace, rng: torch.Generator) -> Tensor:
    """Noisy copies (B, copies, *shape) float32 of x (B, *shape): bits, categories and numbers each in their own way."""
    domain = space.domain
    found = x.float().unsqueeze(1).expand(len(x), copies, *x.shape[1:])
    bits, numbers = _kinds(domain)
    if bits.any():
        flipped = bits & (torch.rand(found.shape, generator=rng) < flip)
        found = torch.where(flipped, domain.low + domain.high - found, found)
    if numbers.any():
        moved = found + move * space.deviation * torch.randn(found.shape, generator=rng)
        found = torch.where(numbers, moved.clamp(domain.low, domain.high), found)
    found = found.clone() if domain.groups else found
    for start, stop in domain.groups:
        drawn = torch.randint(stop - start, found.shape[:2], generator=rng)
        redrawn = torch.rand(found.shape[:2], generator=rng) < flip
        new = one_hot(drawn, stop - start).to(found.dtype)
        found[..., start:stop] = torch.where(redrawn.unsqueeze(-1), new, found[..., start:stop])
    return found


def _kinds(domain: Domain) -> tuple[Tensor, Tensor]:
    """Which coordinates (*shape) are bits, with two values each, and which other numbers; columns of a category are neither."""
    bits = (domain.step > 0) & (domain.low + domain.step == domain.high)
    category = torch.zeros_like(bits)
    for start, stop in domain.groups:
        category[start:stop] = True
    return bits & ~category, ~bits & ~category

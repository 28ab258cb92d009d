"""MemGuard (Jia et al., CCS 2019): answers are changed slightly, until a membership classifier cannot decide."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hampkit.defenses.base import ADAPTIVE, Defense, Keyed, Models, Predict, Release
from hampkit.errors import UserError
from hampkit.nets.attack import SortedNet
from hampkit.rng import derive, numpy_rng
from hampkit.training import CROSS_ENTROPY, MeanLoss, Trainer
from hampkit.training.batches import block_members
from hampkit.types import Dataset, Domain, Stack, Task

WEIGHTS = tuple(0.1 * 10**k for k in range(7))  # c3, the weight of the distance, in this order; larger: smaller changes
STEPS = 299  # at most, with each weight
LENGTH = 0.1  # of every step
LABEL = 10.0  # c2, the weight of the predicted label
COMPACT = 0.8  # finished rows are dropped once less than this share of the rows is unfinished
BLOCK = 4096  # rows at once; large blocks need fewer torch operations
SHARE_ROWS = 128  # reference rows on which the share of changed answers is measured
LITTLE_CHANGE = 0.01  # share of changed answers below which the report states that nothing is protected
UNDECIDED = 1e-5  # answers whose membership probability is this close to 1/2 are not changed
SURROGATE_BATCH = 256  # rows


@dataclass(frozen=True)
class MemGuard(Defense):
    """The answers of an undefended network are changed by gradient descent on the logits, until a surrogate membership classifier
    changes its decision. The predicted label is kept. The descent is repeated with a larger weight of the distance as long as
    it succeeds, and the last success is released.

    Differs from the published code: the surrogate is not trained on an example that is judged. It learns to distinguish the two
    halves of the reference rows from the answers of a second network, which is trained on one half with the same recipe. Every
    model, also every shadow model, has a surrogate of its own. ``surrogate=members`` trains it on the model's own members and
    the reference rows, as published. ``budget`` adds the paper's second phase, which the published code leaves out: an answer is
    changed with the probability that keeps the expected distance within the budget, decided by a keyed hash of the input.
    """

    name: ClassVar[str] = "memguard"
    paper: ClassVar[str] = "https://arxiv.org/abs/1909.10594"
    needs: ClassVar[tuple[str, ...]] = ("reference",)
    adaptive: ClassVar[tuple[str, ...]] = (*ADAPTIVE, "reference")
    quick: ClassVar[dict[str, Any]] = {"surrogate_epochs": 5}

    surrogate: Literal["reference", "members"] = "reference"  # training rows of the surrogate
    surrogate_epochs: int = 400  # epochs of the surrogate's training, in batches of 256
    surrogate_lr: float = 1e-3  # learning rate of the surrogate's SGD
    budget: float | None = None  # largest expected L1 distance between released and true probabilities; none: no limit

    def __post_init__(self) -> None:
        if self.surrogate_epochs < 1 or not self.surrogate_lr > 0:
            raise UserError(
                f"defense.surrogate_epochs={self.surrogate_epochs} must be at least 1 and"
                f" defense.surrogate_lr={self.surrogate_lr} above 0"
            )
        if self.budget is not None and not 0 <= self.budget <= 2:
            raise UserError(f"defense.budget={self.budget} must lie in [0, 2], the range of L1 distances, or be none")

    def fit(self, task: Task, trainer: Trainer) -> Models:
        assert task.reference is not None
        stack = trainer.fit(task, CROSS_ENTROPY)
        inside, outside = self._features(task, stack, trainer)
        surrogates = self._surrogates(task, trainer, inside, outside)
        state = {f"surrogate.{k}": v for k, v in surrogates.params.items()}
        facts = []
        for m, (a, b) in enumerate(zip(inside, outside, strict=True)):
            logits = trainer.predict(stack.take([m]), task.reference.x[:SHARE_ROWS])[0]
            _, changed = obfuscate(logits, _surrogate({k: v[m] for k, v in state.items()}))
            facts.append(self._facts(len(a), len(b), float(changed.double().mean())))
        return Models(stack, {**state, "secret": Keyed.secrets(task)}, tuple(facts))

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        """The release with the model's state: weights and biases of the surrogate, and "secret" (32,)."""
        return _Guarded(_surrogate(state), self.budget, Keyed(domain, state["secret"]))

    def _features(self, task: Task, stack: Stack, trainer: Trainer) -> tuple[list[Tensor], list[Tensor]]:
        """Per model, the surrogate's features (n, C) of rows that were trained on and of rows that were not."""
        assert task.reference is not None
        if self.surrogate == "members":
            pairs = [(stack.take([m]), task.pool.x[task.rows(m)]) for m in range(len(task))]
            inside = [_sorted_probabilities(trainer, network, x) for network, x in pairs]
            return inside, [_sorted_probabilities(trainer, network, task.reference.x) for network, _ in pairs]
        halves = torch.stack([_half(seed, len(task.reference)) for seed in task.seeds])
        proxies = trainer.fit(_proxies(task, halves), CROSS_ENTROPY)
        both = [_sorted_probabilities(trainer, proxies.take([m]), task.reference.x) for m in range(len(task))]
        pairs = list(zip(both, halves, strict=True))
        return [p[half] for p, half in pairs], [p[~half] for p, half in pairs]

    def _surrogates(self, task: Task, trainer: Trainer, inside: list[Tensor], outside: list[Tensor]) -> Stack:
        """One surrogate per model, trained on its own features (n, C)."""
        pairs = list(zip(inside, outside, strict=True))
        x = torch.cat([torch.cat(pair) for pair in pairs])
        y = torch.cat([torch.cat([torch.ones(len(a)), torch.zeros(len(b))]) for a, b in pairs])
        data = Dataset("surrogate", x, y.long(), 2, Domain.grid((x.shape[1],), 0, 1, 0))
        members = block_members([len(a) + len(b) for a, b in pairs])
        seeds, classes = tuple(derive(seed, "surrogate") for seed in task.seeds), task.pool.num_classes
        config = trainer.config.with_defaults(
            epochs=self.surrogate_epochs,
            batch_size=SURROGATE_BATCH,
            optimizer="sgd",
            lr=self.surrogate_lr,
            select="last",
        )
        loss = MeanLoss(lambda z, b: binary_cross_entropy_with_logits(z[:, 0], b.y.to(z), reduction="none"))
        surrogate_trainer = trainer.with_config(config, f"defense.surrogate_lr={self.surrogate_lr}")
        return surrogate_trainer.fit(Task(data, members, seeds, lambda: SortedNet(classes)), loss)

    def _facts(self, inside: int, outside: int, changed: float) -> dict[str, Any]:
        source = "a second network" if self.surrogate == "reference" else "the model itself"
        summary = f"surrogate: learnt from {inside:,} members of {source} and {outside:,} other reference rows"
        summary += f"; it changes {changed:.0%} of the answers to reference rows"
        if changed < LITTLE_CHANGE:
            summary += ": it learnt too little to protect anything, and the network's own answers are released"
        return {"surrogate_members": inside, "surrogate_nonmembers": outside, "changed": changed, "summary": summary}


def _sorted_probabilities(trainer: Trainer, stack: Stack, x: Tensor) -> Tensor:
    """Probabilities (N, C) of the first model of the stack for x (N, *shape), in ascending order."""
    return trainer.predict(stack, x)[0].softmax(-1).sort(-1).values


def _half(seed: int, n: int) -> Tensor:
    """The reference rows (n,) bool that the second network is trained on."""
    return torch.from_numpy(numpy_rng(derive(seed, "proxy half")).permutation(n) < n // 2)


def _proxies(task: Task, halves: Tensor) -> Task:
    """The task of the second networks, one per model; halves (M, n) bool."""
    assert task.reference is not None
    seeds = tuple(derive(seed, "proxy") for seed in task.seeds)
    return replace(task, pool=task.reference, members=halves, seeds=seeds, reference=None)


def _surrogate(state: dict[str, Tensor]) -> Surrogate:
    """The surrogate of one model from its state."""
    return Surrogate(
        [(state[f"surrogate.layers.{k}.weight"], state[f"surrogate.layers.{k}.bias"]) for k in (0, 2, 4, 6)]
    )


class Surrogate:
    """The membership classifier in float64: logit, gradient and linear region for probabilities in ascending order."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self.layers = _rescaled([(w.double(), b.double()) for w, b in layers])
        self.widths = [len(b) for _, b in self.layers[:-1]]

    def __call__(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,) of membership for ascending probabilities p (B, C), and their gradients with respect to p (B, C)."""
        logit, active, _ = self.forward(p)
        return logit, self.slope(active)

    def forward(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B,) for p (B, C), active hidden units (B, H) bool, and an L1 radius (B,) in which the same units are active."""
        active, radius, h = torch.empty(len(p), sum(self.widths), dtype=torch.bool), [], p
        for (w, b), on in zip(self.layers[:-1], active.split(self.widths, 1), strict=True):
            h = torch.addmm(b, h, w.T)
            torch.gt(h, 0, out=on)
            radius.append(h.abs().amin(-1))
            h.relu_()
        w, b = self.layers[-1]
        return torch.addmm(b, h, w.T).squeeze(-1), active, torch.stack(radius).amin(0)

    def slope(self, active: Tensor) -> Tensor:
        """Gradients (B, C) of the logit, which depend only on the active hidden units (B, H) bool."""
        slope = self.layers[-1][0].expand(len(active), -1)
        for (w, _), on in zip(reversed(self.layers[:-1]), reversed(active.split(self.widths, 1)), strict=True):
            slope = torch.where(on, slope, 0) @ w
        return slope


def _rescaled(layers: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The same function, with hidden units scaled so that none changes by more than ‖p − q‖₁ between two answers p and q.

    p − q sums to 0, with half of the norm in its positive and half in its negative entries. So a unit of the first layer changes
    by at most half the range of its weights, and the whole layer by at most half the largest distance between two columns of
    its weight matrix. ReLU does not increase a norm, and a later matrix increases it at most by its spectral norm. A factor
    on a unit passes through ReLU, and the weights of the next layer undo it.
    """
    w = layers[0][0]
    reach, together = [(w.amax(1) - w.amin(1)) / 2], torch.pdist(w.T.contiguous()).max() / 2
    for w, _ in layers[1:-1]:
        reach.append(w.norm(dim=1) * together)
        together = together * torch.linalg.matrix_norm(w, 2)
    # rounded to float32, because the last bits of a norm depend on the number of threads, and slightly too large to be safe
    scales = [(r * (1 + 1e-6)).float().double().clamp_min(1e-30) for r in reach]
    before, after = [torch.ones_like(layers[0][0][0]), *scales], [*scales, torch.ones_like(layers[-1][1])]
    return [(w * x / y.unsqueeze(-1), b / y) for (w, b), x, y in zip(layers, before, after, strict=True)]


@dataclass
class _Region:
    """Points (B, C) at which the surrogate was evaluated, and the part of their linear regions that is known."""

    p: Tensor
    logit: Tensor  # (B,) at p; within the radius only its sign is certain
    active: Tensor  # (B, H) bool, hidden units above 0
    slope: Tensor  # (B, C) gradient of the logit
    radius: Tensor  # (B,) L1 distance within which the slope and the sign of the logit are the same

    @classmethod
    def at(cls, p: Tensor, surrogate: Surrogate) -> _Region:
        """The regions of points p (B, C)."""
        logit, active, radius = surrogate.forward(p)
        slope = surrogate.slope(active)
        return cls(p.clone(), logit, active, slope, _safe_radius(radius, logit, slope))

    def move(self, p: Tensor, surrogate: Surrogate) -> None:
        """Evaluate the surrogate at those points p (B, C) that are outside the radius."""
        far = ((p - self.p).abs_().sum(-1) >= self.radius).nonzero().squeeze(-1)
        if not len(far):
            return
        q = p.index_select(0, far)
        logit, active, radius = surrogate.forward(q)
        other = (_packed(active) != _packed(self.active).index_select(0, far)).any(-1).nonzero().squeeze(-1)
        if len(other):
            now, rows = active.index_select(0, other), far[other]
            self.active.index_copy_(0, rows, now)
            self.slope.index_copy_(0, rows, surrogate.slope(now))
        self.p.index_copy_(0, far, q)
        self.logit.index_copy_(0, far, logit)
        self.radius.index_copy_(0, far, _safe_radius(radius, logit, self.slope.index_select(0, far)))

    def take(self, rows: Tensor) -> _Region:
        """A copy with only these rows (b,) int64."""
        return _Region(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Tensor, other: _Region) -> None:
        """Overwrite rows (b,) int64 by the b rows of another region."""
        for f in fields(self):
            getattr(self, f.name).index_copy_(0, rows, getattr(other, f.name))


def _safe_radius(radius: Tensor, logit: Tensor, slope: Tensor) -> Tensor:
    """The L1 radius (B,) in which the active units and the sign of the logit are the same, less a margin for rounding."""
    span = (slope.amax(-1) - slope.amin(-1)) / 2
    return 0.999 * torch.minimum(radius, logit.abs() / span.clamp_min(1e-300))


def _packed(flags: Tensor) -> Tensor:
    """Flags (B, H) bool as words of eight bytes, which are compared faster, where H is a multiple of 8."""
    return flags.view(torch.int64) if flags.shape[-1] % 8 == 0 else flags


def obfuscate(logits: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    """The logits (N, C) after MemGuard's change, and which rows were changed (N,) bool.

    Per row, with z in ascending order, z₀ the true logits, p₀ = softmax z₀, ℓ the surrogate's logit and y* the last class: for
    c = 0.1, 1, …, 10⁵, at most 299 steps of length 0.1 against the gradient of
    |ℓ(z)| + 10 · relu(max_{j≠y*} z_j − z_y*) + c · ‖softmax z − p₀‖₁, until the sign of ℓ is not that of ℓ(z₀) and y* has the
    largest logit. The first c without success ends the search. The last success is the result, or z₀ if there is none.
    """
    parts = [_obfuscate(rows, surrogate) for rows in logits.split(BLOCK)]
    return torch.cat([z for z, _ in parts]), torch.cat([c for _, c in parts])


def _obfuscate(logits: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    z0, order = _sorted(logits.double())
    best, changed = _descend(z0, surrogate)
    return torch.empty_like(best).scatter_(-1, order, best), changed


def _descend(z0: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    """The last success of every row of z0 (B, C), in ascending order, and which rows had one (B,) bool."""
    best, changed = z0.clone(), torch.zeros(len(z0), dtype=torch.bool)
    descent = _Descent(z0, surrogate)
    while len(descent.rows):
        descent.step()
        done = descent.successes()
        if len(done):
            best[descent.rows[done]], changed[descent.rows[done]] = descent.z[done], True
            descent.restart(done)
        descent.drop_finished()
    return best, changed


class _Descent:
    """The rows whose descent is not finished, each with its own weight and number of steps.

    The surrogate is evaluated only for rows that left their linear region. A row that oscillates around a point returns to
    the region of two steps before, so that the regions of two steps are kept.
    """

    def __init__(self, z0: Tensor, surrogate: Surrogate) -> None:
        self.surrogate = surrogate
        start = _Region.at(z0.softmax(-1), surrogate)
        self.rows = ((start.logit.sigmoid() - 0.5).abs() > UNDECIDED).nonzero().squeeze(-1)  # (b,) rows of z0
        self.start, self.z0 = start.take(self.rows), z0[self.rows]
        self.z, self.p, self.rival = self.z0.clone(), self.start.p.clone(), self.z0[:, :-1].amax(-1)
        self.now, self.regions, self.turn = self.start, [start.take(self.rows) for _ in range(2)], 0
        self.weights = torch.tensor(WEIGHTS, dtype=z0.dtype)
        self.weight = torch.zeros_like(self.rows)  # index of the weight in use
        self.left = torch.full_like(self.rows, STEPS)  # steps left with it
        self.scratch = torch.empty_like(self.z), torch.empty_like(self.z)  # reused, so that it stays in the cache

    def step(self) -> None:
        """One step of every row."""
        z, p = self.z, self.p
        v, w = self.scratch
        c = self.weights[self.weight.clamp_max(len(WEIGHTS) - 1)].unsqueeze(-1)
        torch.sub(p, self.start.p, out=v).sign_().mul_(c).addcmul_(self.now.logit.sign().unsqueeze(-1), self.now.slope)
        gradient = v.sub_(torch.mul(p, v, out=w).sum(-1, keepdim=True)).mul_(p)
        over = (self.rival > z[:, -1]).nonzero().squeeze(-1)
        if len(over):
            gradient[over, -1] -= LABEL
            gradient[over, z[over, :-1].argmax(-1)] += LABEL
        z.addcmul_(gradient, -LENGTH / gradient.norm(dim=-1, keepdim=True).clamp_min_(1e-30))
        torch.softmax(z, -1, out=p)  # exact: a sum that is wrong in its last bit could decide for answers close to 1
        self.now, self.turn = self.regions[self.turn], 1 - self.turn
        self.now.move(p, self.surrogate)
        self.rival = z[:, :-1].amax(-1)
        self.left -= 1

    def successes(self) -> Tensor:
        """Positions (k,) of the rows that have just succeeded."""
        changed = self.now.logit * self.start.logit <= 0
        return ((self.rival < self.z[:, -1]) & changed & (self.left >= 0)).nonzero().squeeze(-1)

    def restart(self, at: Tensor) -> None:
        """Reset the rows at positions (k,) to z0 with the next weight; those without a next weight are finished."""
        self.weight[at] += 1
        self.left[at] = torch.where(self.weight[at] < len(WEIGHTS), STEPS, 0)
        self.z[at], self.p[at], self.rival[at] = self.z0[at], self.start.p[at], self.z0[at, :-1].amax(-1)
        self.now.put(at, self.start.take(at))

    def drop_finished(self) -> None:
        """Drop the finished rows once there are many of them: it copies all others."""
        rest = (self.left > 0).nonzero().squeeze(-1)
        if len(rest) >= COMPACT * len(self.rows):
            return
        for name in ("rows", "z0", "z", "p", "rival", "weight", "left"):
            setattr(self, name, getattr(self, name)[rest])
        self.start, self.regions = self.start.take(rest), [region.take(rest) for region in self.regions]
        self.now = self.regions[1 - self.turn]
        self.scratch = self.scratch[0][: len(rest)], self.scratch[1][: len(rest)]


def _sorted(z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, C) in ascending order, and the class of each position (B, C); of tied values the first class comes last."""
    turned = z.flip(-1).sort(dim=-1, stable=True).indices
    order = z.shape[-1] - 1 - turned
    return z.gather(-1, order), order


class _Guarded(Release):
    about = "the network's answers, changed until a membership classifier is undecided"

    def __init__(self, surrogate: Surrogate, budget: float | None, keyed: Keyed) -> None:
        self.surrogate, self.budget, self.keyed = surrogate, budget, keyed

    def __call__(self, predict: Predict, x: Tensor, rng: torch.Generator) -> Tensor:
        logits = predict(x).double().cpu()
        noisy, _ = obfuscate(logits, self.surrogate)
        if self.budget is None:
            return noisy
        share = mixing(logits, noisy, self.surrogate, self.budget)
        draw = self.keyed.numbers(x, 2**53).double() / 2**53
        return torch.where((draw < share).unsqueeze(-1), noisy, logits)


def mixing(logits: Tensor, noisy: Tensor, surrogate: Surrogate, budget: float) -> Tensor:
    """The probability (N,) of releasing noisy (N, C) in place of logits (N, C): min(budget / L1 distance, 1).

    It is 0 where the surrogate is not less certain about the changed answer.
    """

    def certainty(z: Tensor) -> Tensor:
        return (surrogate(z.softmax(-1).sort(-1).values)[0].sigmoid() - 0.5).abs()

    distance = (noisy.softmax(-1) - logits.softmax(-1)).abs().sum(-1)
    share = (budget / distance.clamp_min(1e-300)).clamp_max(1.0)
    return torch.where(certainty(logits) <= certainty(noisy), 0.0, share)

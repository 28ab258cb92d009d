"""MemGuard (Jia et al., CCS 2019): answers get a small change that leaves a membership classifier undecided."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hampkit.defenses.base import Ask, Defense, Keyed, Models, Release
from hampkit.errors import UserError
from hampkit.nets.attack import SortedNet
from hampkit.rng import derive, numpy_rng
from hampkit.training import CROSS_ENTROPY, MeanLoss, Trainer
from hampkit.types import Dataset, Domain, Stack, Task

WEIGHTS = tuple(0.1 * 10**k for k in range(7))  # c3 of the distance, in turn; a larger one asks for a smaller change
STEPS = 299  # at most, for each of them
LENGTH = 0.1  # of every step
LABEL = 10.0  # c2, the weight of keeping the predicted label
COMPACT = 0.8  # rows are taken out once less than this share is under way
BLOCK = 4096  # rows at once: more share the cost of starting each operation
SHARE_ROWS = 128  # reference rows that are asked how many answers change: a surrogate that never does protects nothing
FEW = 0.01  # share of changed answers below which the result says that nothing is protected
UNDECIDED = 1e-5  # a surrogate this near to 1/2 is left as it is


@dataclass(frozen=True)
class MemGuard(Defense):
    """An undefended network whose answers are changed, by gradient descent on the logits, until a surrogate membership classifier
    changes its mind, with the predicted label kept; the weight of staying close rises while that succeeds, and the last change
    is released.

    Differs from the published code: the surrogate never sees an example that is judged. It learns from a second network of
    the same recipe, trained on half of the reference rows, to tell that half from the other; every model, also every shadow
    model, has a surrogate of its own. ``surrogate=members`` takes the model's own members against the reference rows, as
    published. ``budget`` adds the paper's second phase, which the published code leaves out: the change is made with the
    probability that keeps its expected distance within the budget; the chance follows from the input and a secret.
    """

    name: ClassVar[str] = "memguard"
    paper: ClassVar[str] = "https://arxiv.org/abs/1909.10594"
    needs: ClassVar[tuple[str, ...]] = ("reference",)
    quick: ClassVar[dict[str, Any]] = {"surrogate_epochs": 5}

    surrogate: Literal["reference", "members"] = "reference"  # rows that the surrogate learns from
    surrogate_epochs: int = 400  # of its training, in batches of 256
    surrogate_lr: float = 1e-3  # of its SGD
    budget: float | None = None  # expected L1 distance between released and true probabilities; none: always change

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
        if self.surrogate == "members":
            rows = [row.nonzero().squeeze(-1) for row in task.members]
            inside = [self._features(trainer, stack.take([m]), task.pool.x[r]) for m, r in enumerate(rows)]
            outside = [self._features(trainer, stack.take([m]), task.reference.x) for m in range(len(task))]
        else:
            halves = torch.stack([_half(seed, len(task.reference)) for seed in task.seeds])
            proxies = trainer.fit(_proxies(task, halves), CROSS_ENTROPY)
            answers = [self._features(trainer, proxies.take([m]), task.reference.x) for m in range(len(task))]
            inside = [a[h] for a, h in zip(answers, halves, strict=True)]
            outside = [a[~h] for a, h in zip(answers, halves, strict=True)]
        surrogates = self._surrogates(task, trainer, inside, outside)
        state = {f"surrogate.{k}": v for k, v in surrogates.params.items()}
        asked = task.reference.x[:SHARE_ROWS]
        facts = []
        for m, (a, b) in enumerate(zip(inside, outside, strict=True)):
            logits = trainer.predict(stack.take([m]), asked)[0]
            _, changed = obfuscate(logits, _surrogate({k: v[m] for k, v in state.items()}))
            facts.append(self._facts(len(a), len(b), float(changed.double().mean())))
        return Models(stack, {**state, "secret": Keyed.secrets(task)}, tuple(facts))

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        surrogate = _surrogate(state)
        return _Guarded(surrogate, self.budget, Keyed(domain, state["secret"]))

    def _features(self, trainer: Trainer, stack: Stack, x: Tensor) -> Tensor:
        return trainer.predict(stack, x)[0].softmax(-1).sort(-1).values

    def _surrogates(self, task: Task, trainer: Trainer, inside: list[Tensor], outside: list[Tensor]) -> Stack:
        """One surrogate per model, on features of its own (a block of rows each)."""
        x = torch.cat([torch.cat(pair) for pair in zip(inside, outside, strict=True)])
        y = torch.cat(
            [torch.cat([torch.ones(len(a)), torch.zeros(len(b))]) for a, b in zip(inside, outside, strict=True)]
        )
        sizes = [len(a) + len(b) for a, b in zip(inside, outside, strict=True)]
        owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        data = Dataset("surrogate", x, y.long(), 2, Domain.grid((x.shape[1],), 0, 1, 0))
        members = owner == torch.arange(len(sizes)).unsqueeze(-1)
        seeds = tuple(derive(seed, "surrogate") for seed in task.seeds)
        config = replace(
            trainer.config, epochs=self.surrogate_epochs, batch_size=256, optimizer="sgd", lr=self.surrogate_lr, momentum=0.0,
            weight_decay=0.0, schedule="constant", milestones=(), shuffle=True, select="last", stop_after=0, patience=0,
            sampling="shuffle", augment=(), restart_optimizer=False, passes_per_epoch=1,
        )  # fmt: skip
        loss = MeanLoss(lambda z, b: binary_cross_entropy_with_logits(z[:, 0], b.y.to(z), reduction="none"))
        classes = task.pool.num_classes
        taught = trainer.with_config(config, f"defense.surrogate_lr={self.surrogate_lr}")
        return taught.fit(Task(data, members, seeds, lambda: SortedNet(classes)), loss)

    def _facts(self, inside: int, outside: int, changed: float) -> dict[str, Any]:
        source = "a second network's" if self.surrogate == "reference" else "the model's own"
        said = f"surrogate: learnt from {source} {inside:,} members and {outside:,} other reference rows"
        said += f"; it changes {changed:.0%} of the answers to reference rows"
        if changed < FEW:
            said += ": it learnt too little to protect anything, and the network's own answers are what is released"
        return {"surrogate_members": inside, "surrogate_nonmembers": outside, "changed": changed, "summary": said}


def _half(seed: int, n: int) -> Tensor:
    """(n,) bool: which reference rows the second network is trained on."""
    return torch.from_numpy(numpy_rng(derive(seed, "proxy half")).permutation(n) < n // 2)


def _proxies(task: Task, halves: Tensor) -> Task:
    assert task.reference is not None
    seeds = tuple(derive(seed, "proxy") for seed in task.seeds)
    return replace(task, pool=task.reference, members=halves, seeds=seeds, reference=None)


def _surrogate(state: dict[str, Tensor]) -> Surrogate:
    """That of one model, from its share of the state."""
    return Surrogate(
        [(state[f"surrogate.layers.{k}.weight"], state[f"surrogate.layers.{k}.bias"]) for k in (0, 2, 4, 6)]
    )


class Surrogate:
    """The membership classifier: probabilities in ascending order → logit of membership, and its slope, in float64."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self.layers = _in_units_of_reach([(w.double(), b.double()) for w, b in layers])
        self.widths = [len(b) for _, b in self.layers[:-1]]

    def __call__(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C) → logits (B,) and their gradients with respect to p (B, C), in closed form."""
        logit, active, _ = self.forward(p)
        return logit, self.slope(active)

    def forward(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C) → logits (B,), which hidden units are above 0 (B, H), and the L1 distance within which that stays so (B,)."""
        active, radius, h = torch.empty(len(p), sum(self.widths), dtype=torch.bool), [], p
        for (w, b), on in zip(self.layers[:-1], active.split(self.widths, 1), strict=True):
            h = torch.addmm(b, h, w.T)
            torch.gt(h, 0, out=on)
            radius.append(h.abs().amin(-1))
            h.relu_()
        w, b = self.layers[-1]
        return torch.addmm(b, h, w.T).squeeze(-1), active, torch.stack(radius).amin(0)

    def slope(self, active: Tensor) -> Tensor:
        """Gradients (B, C) of the logit: they depend on nothing but which units are above 0."""
        slope = self.layers[-1][0].expand(len(active), -1)
        for (w, _), on in zip(reversed(self.layers[:-1]), reversed(active.split(self.widths, 1)), strict=True):
            slope = torch.where(on, slope, 0) @ w
        return slope


def _in_units_of_reach(layers: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The same function with hidden units scaled so that none moves by more than ‖p − q‖₁ between two answers p and q.

    p − q sums to 0, half of the norm above and half below: a unit of the first layer moves by no more than half of what its
    weights span, and all of them together by no more than half of the widest distance between two columns of weights. relu
    lengthens nothing, and a matrix no more than its spectral norm says. What scales a unit goes through relu, and is taken back
    by the weights of the next layer.
    """
    w = layers[0][0]
    reach, together = [(w.amax(1) - w.amin(1)) / 2], torch.pdist(w.T.contiguous()).max() / 2
    for w, _ in layers[1:-1]:
        reach.append(w.norm(dim=1) * together)
        together = together * torch.linalg.matrix_norm(w, 2)
    # in float32, so that the last bits of a norm, which are others with other threads, change nothing; and a little above
    scales = [(r * (1 + 1e-6)).float().double().clamp_min(1e-30) for r in reach]
    before, after = [torch.ones_like(layers[0][0][0]), *scales], [*scales, torch.ones_like(layers[-1][1])]
    return [(w * x / y.unsqueeze(-1), b / y) for (w, b), x, y in zip(layers, before, after, strict=True)]


@dataclass
class _Place:
    """Answers (B, C) at which the surrogate was asked, what it said, and how far around them it says the like."""

    p: Tensor
    logit: Tensor  # there; elsewhere within the radius only its sign holds
    active: Tensor
    slope: Tensor
    radius: Tensor  # L1, within which the slope and the sign of the logit are the same

    @classmethod
    def at(cls, p: Tensor, surrogate: Surrogate) -> _Place:
        logit, active, radius = surrogate.forward(p)
        place = cls(p.clone(), logit, active, surrogate.slope(active), radius)
        place.radius = _certain(radius, logit, place.slope)
        return place

    def move(self, p: Tensor, surrogate: Surrogate) -> None:
        """To p, where it is too far away for the same to hold there for sure."""
        far = ((p - self.p).abs_().sum(-1) >= self.radius).nonzero().squeeze(-1)
        if not len(far):
            return
        q = p.index_select(0, far)
        logit, active, radius = surrogate.forward(q)
        other = (_words(active) != _words(self.active).index_select(0, far)).any(-1).nonzero().squeeze(-1)
        if len(other):
            now, rows = active.index_select(0, other), far[other]
            self.active.index_copy_(0, rows, now)
            self.slope.index_copy_(0, rows, surrogate.slope(now))
        self.p.index_copy_(0, far, q)
        self.logit.index_copy_(0, far, logit)
        self.radius.index_copy_(0, far, _certain(radius, logit, self.slope.index_select(0, far)))

    def take(self, rows: Tensor) -> _Place:
        return _Place(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Tensor, other: _Place) -> None:
        """Rows of another place, as many."""
        for f in fields(self):
            getattr(self, f.name).index_copy_(0, rows, getattr(other, f.name))


def _certain(radius: Tensor, logit: Tensor, slope: Tensor) -> Tensor:
    """The L1 distance within which no hidden unit and no sign of the logit changes, less a little for rounding."""
    span = (slope.amax(-1) - slope.amin(-1)) / 2
    return 0.999 * torch.minimum(radius, logit.abs() / span.clamp_min(1e-300))


def _words(flags: Tensor) -> Tensor:
    """(B, H) bool → the same bytes in words of eight, which are compared sooner."""
    return flags.view(torch.int64) if flags.shape[-1] % 8 == 0 else flags


def obfuscate(logits: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    """Logits (N, C) changed as little as was found for the surrogate to change its mind, and which rows were changed (N,).

    Per row z in ascending order, p₀ = softmax z₀, y* the last: at most 299 steps of length 0.1 against the gradient of
    |ℓ(z)| + 10 · relu(max_{j≠y*} z_j − z_y*) + c · ‖softmax z − p₀‖₁, until the sign of ℓ has changed and y* is the largest; for
    c = 0.1, 1, …, 10⁵ while that succeeds. The last success is the result, the true answer where there is none.
    """
    parts = [_obfuscate(rows, surrogate) for rows in logits.split(BLOCK)]
    return torch.cat([z for z, _ in parts]), torch.cat([c for _, c in parts])


def _obfuscate(logits: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    z0, order = _sorted(logits.double())
    best, changed = _descend(z0, surrogate)
    return torch.empty_like(best).scatter_(-1, order, best), changed


def _descend(z0: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    """Every row from z0 (B, C) on, with a larger weight after each success: the last successes, and which rows had one (B,)."""
    best, changed = z0.clone(), torch.zeros(len(z0), dtype=torch.bool)
    walk = _Walk(z0, surrogate)
    while len(walk.rows):
        walk.step()
        done = walk.successes()
        if len(done):
            best[walk.rows[done]], changed[walk.rows[done]] = walk.z[done], True
            walk.restart(done)
        walk.leave_out_the_finished()
    return best, changed


class _Walk:
    """Rows on their way, each with the weight and the steps that it has left.

    What the surrogate says is asked for anew only where it may have changed. A row that swings about a point comes back to the
    same hidden units every other step, so that two places are remembered.
    """

    def __init__(self, z0: Tensor, surrogate: Surrogate) -> None:
        self.surrogate = surrogate
        start = _Place.at(z0.softmax(-1), surrogate)
        self.rows = ((start.logit.sigmoid() - 0.5).abs() > UNDECIDED).nonzero().squeeze(-1)  # their numbers
        self.start, self.z0 = start.take(self.rows), z0[self.rows]
        self.z, self.p, self.rival = self.z0.clone(), self.start.p.clone(), self.z0[:, :-1].amax(-1)
        self.now, self.places, self.turn = self.start, [start.take(self.rows) for _ in range(2)], 0
        self.weights = torch.tensor(WEIGHTS, dtype=z0.dtype)
        self.tried, self.left = torch.zeros_like(self.rows), torch.full_like(self.rows, STEPS)
        self.scratch = torch.empty_like(self.z), torch.empty_like(self.z)  # memory used anew stays near the processor

    def step(self) -> None:
        z, p = self.z, self.p
        v, w = self.scratch
        c = self.weights[self.tried.clamp_max(len(WEIGHTS) - 1)].unsqueeze(-1)
        torch.sub(p, self.start.p, out=v).sign_().mul_(c).addcmul_(self.now.logit.sign().unsqueeze(-1), self.now.slope)
        gradient = v.sub_(torch.mul(p, v, out=w).sum(-1, keepdim=True)).mul_(p)
        over = (self.rival > z[:, -1]).nonzero().squeeze(-1)
        if len(over):
            gradient[over, -1] -= LABEL
            gradient[over, z[over, :-1].argmax(-1)] += LABEL
        z.addcmul_(gradient, -LENGTH / gradient.norm(dim=-1, keepdim=True).clamp_min_(1e-30))
        torch.softmax(z, -1, out=p)  # a sum that is off by a bit would decide where an answer is nearly 1
        self.now, self.turn = self.places[self.turn], 1 - self.turn
        self.now.move(p, self.surrogate)
        self.rival = z[:, :-1].amax(-1)
        self.left -= 1

    def successes(self) -> Tensor:
        """Which rows have just succeeded; those that are finished go on for nothing until they are left out."""
        turned = self.now.logit * self.start.logit <= 0
        return ((self.rival < self.z[:, -1]) & turned & (self.left >= 0)).nonzero().squeeze(-1)

    def restart(self, at: Tensor) -> None:
        """From z0 with the next weight; who has none left is finished."""
        self.tried[at] += 1
        self.left[at] = torch.where(self.tried[at] < len(WEIGHTS), STEPS, 0)
        self.z[at], self.p[at], self.rival[at] = self.z0[at], self.start.p[at], self.z0[at, :-1].amax(-1)
        self.now.put(at, self.start.take(at))

    def leave_out_the_finished(self) -> None:
        """Once they are many: it costs a copy of everything."""
        go = (self.left > 0).nonzero().squeeze(-1)
        if len(go) >= COMPACT * len(self.rows):
            return
        for name in ("rows", "z0", "z", "p", "rival", "tried", "left"):
            setattr(self, name, getattr(self, name)[go])
        self.start, self.places = self.start.take(go), [place.take(go) for place in self.places]
        self.now = self.places[1 - self.turn]
        self.scratch = self.scratch[0][: len(go)], self.scratch[1][: len(go)]


def _sorted(z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in ascending order and their old places; of tied values the first comes last, so that the label is at the end."""
    turned = z.flip(-1).sort(dim=-1, stable=True).indices
    order = z.shape[-1] - 1 - turned
    return z.gather(-1, order), order


class _Guarded(Release):
    about = "the network's answers, changed until a membership classifier is undecided"

    def __init__(self, surrogate: Surrogate, budget: float | None, keyed: Keyed) -> None:
        self.surrogate, self.budget, self.keyed = surrogate, budget, keyed

    def __call__(self, ask: Ask, x: Tensor, rng: torch.Generator) -> Tensor:
        logits = ask(x).double().cpu()
        noisy, _ = obfuscate(logits, self.surrogate)
        if self.budget is None:
            return noisy
        share = mixing(logits, noisy, self.surrogate, self.budget)
        chance = self.keyed.numbers(x, 2**53).double() / 2**53
        return torch.where((chance < share).unsqueeze(-1), noisy, logits)


def mixing(logits: Tensor, noisy: Tensor, surrogate: Surrogate, budget: float) -> Tensor:
    """With which probability (N,) a change is made: 0 where it does not help, else min(budget / distance, 1)."""

    def doubt(z: Tensor) -> Tensor:
        return (surrogate(z.softmax(-1).sort(-1).values)[0].sigmoid() - 0.5).abs()

    distance = (noisy.softmax(-1) - logits.softmax(-1)).abs().sum(-1)
    share = (budget / distance.clamp_min(1e-300)).clamp_max(1.0)
    return torch.where(doubt(logits) <= doubt(noisy), 0.0, share)

"""MemGuard (Jia et al., CCS 2019): answers get a small change that leaves a membership classifier undecided."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
BLOCK = 2048  # rows at once: more share the cost of starting each operation, and memory stays small
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

    surrogate: Literal["reference", "members"] = "reference"  # what the surrogate learns from
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
        loss = MeanLoss(lambda z, b: binary_cross_entropy_with_logits(z[:, 0], b.y.float(), reduction="none"))
        classes = task.pool.num_classes
        taught = trainer.with_config(config, f"defense.surrogate_lr={self.surrogate_lr}")
        return taught.fit(Task(data, members, seeds, lambda: SortedNet(classes)), loss)

    def _facts(self, inside: int, outside: int, changed: float) -> dict[str, Any]:
        source = "a second network's" if self.surrogate == "reference" else "the model's own"
        said = f"surrogate: learnt from {source} {inside:,} members and {outside:,} other reference rows"
        said += f"; it changes {changed:.0%} of the answers to reference rows"
        if changed < FEW:
            said += ": it learnt too little to protect anything, and the network's own answers are what is released"
        return {"surrogate_members": inside, "surrogate_nonmembers": outside, "changed": changed, "said": said}


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
    """The membership classifier: probabilities in ascending order → logit of membership, and its slope."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]], dtype: torch.dtype = torch.float64) -> None:
        self.layers, self.dtype = [(w.to(dtype), b.to(dtype)) for w, b in layers], dtype
        self.widths = [len(b) for _, b in self.layers[:-1]]

    def __call__(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C) → logits (B,) and their gradients with respect to p (B, C), in closed form."""
        logit, active = self.forward(p)
        return logit, self.slope(active)

    def forward(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C) → logits (B,), and which hidden units are above 0 (B, H)."""
        active, h = [], p
        for w, b in self.layers[:-1]:
            h = torch.addmm(b, h, w.T)
            active.append(h > 0)
            h.relu_()
        w, b = self.layers[-1]
        return torch.addmm(b, h, w.T).squeeze(-1), torch.cat(active, 1)

    def slope(self, active: Tensor) -> Tensor:
        """Gradients (B, C) of the logit: they depend on nothing but which units are above 0."""
        slope = self.layers[-1][0].expand(len(active), -1)
        for (w, _), on in zip(reversed(self.layers[:-1]), reversed(active.split(self.widths, 1)), strict=True):
            slope = torch.where(on, slope, 0) @ w
        return slope


class _Slopes:
    """The slopes of rows under way. A row that swings about a point comes back to the same units every other step."""

    def __init__(self, surrogate: Surrogate, p: Tensor) -> None:
        self.surrogate = surrogate
        self.logit, active = surrogate.forward(p)
        slope = surrogate.slope(active)
        self.known = [(active, slope), (active.clone(), slope.clone())]  # of even steps and of odd ones
        self.slope = slope

    def move(self, p: Tensor, step: int) -> None:
        active, slope = self.known[step % 2]
        self.logit, now = self.surrogate.forward(p)
        other = (now != active).any(-1).nonzero().squeeze(-1)
        if len(other):
            active[other], slope[other] = now[other], self.surrogate.slope(now[other])
        self.slope = slope

    def keep(self, rows: Tensor) -> None:
        self.logit, self.slope = self.logit[rows], self.slope[rows]
        self.known = [(active[rows], slope[rows]) for active, slope in self.known]


def obfuscate(logits: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    """Logits (N, C) changed as little as was found for the surrogate to change its mind, and which rows were changed (N,).

    Per row z in ascending order, p₀ = softmax z₀, y* the last: at most 299 steps of length 0.1 against the gradient of
    |ℓ(z)| + 10 · relu(max_{j≠y*} z_j − z_y*) + c · ‖softmax z − p₀‖₁, until the sign of ℓ has changed and y* is the largest; for
    c = 0.1, 1, …, 10⁵ while that succeeds. The last success is the result, the true answer where there is none.
    """
    if len(logits) > BLOCK:
        parts = [obfuscate(part, surrogate) for part in logits.split(BLOCK)]
        return torch.cat([z for z, _ in parts]), torch.cat([c for _, c in parts])
    z0, order = _sorted(logits.to(surrogate.dtype))
    p0 = z0.softmax(-1)
    start = surrogate(p0)[0]
    best, changed = z0.clone(), torch.zeros(len(z0), dtype=torch.bool)
    rows = ((start.sigmoid() - 0.5).abs() > UNDECIDED).nonzero().squeeze(-1)
    for c in WEIGHTS:
        if not len(rows):
            break
        z, done = _descend(z0[rows], p0[rows], start[rows], c, surrogate)
        rows = rows[done]  # who failed keeps the last success
        best[rows], changed[rows] = z[done], True
    return torch.empty_like(best).scatter_(-1, order, best), changed


def _descend(z0: Tensor, p0: Tensor, start: Tensor, c: float, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
    """Every row from z0 until it succeeds: the last z (B, C), and which rows succeeded (B,)."""
    found, done = z0.clone(), torch.zeros(len(z0), dtype=torch.bool)
    rows, z, near, sign, p, last = torch.arange(len(z0)), z0, p0, start, p0, z0.shape[-1] - 1  # those under way
    at = _Slopes(surrogate, p)
    rival, place = z[:, :last].max(-1)
    for step in range(STEPS):
        v = (p - near).sign_().mul_(c).addcmul_(at.logit.sign().unsqueeze(-1), at.slope)
        gradient = v.sub_((p * v).sum(-1, keepdim=True)).mul_(p)
        over = rival > z[:, last]
        if over.any():
            pull = LABEL * over.to(z)
            gradient[:, last] -= pull
            gradient.scatter_add_(-1, place.unsqueeze(-1), pull.unsqueeze(-1))
        z = z - gradient.mul_(LENGTH / gradient.norm(dim=-1, keepdim=True).clamp_min_(1e-30))
        p = z.softmax(-1)
        at.move(p, step)
        rival, place = z[:, :last].max(-1)
        success = (rival < z[:, last]) & (at.logit * sign <= 0) & ~done[rows]
        if not success.any():
            continue
        found[rows[success]] = z[success]
        done[rows[success]] = True
        go = ~done[rows]
        if int(go.sum()) < COMPACT * len(rows):  # taking the finished out costs a copy of everything
            rows, z, near, sign, p, rival, place = (t[go] for t in (rows, z, near, sign, p, rival, place))
            at.keep(go)
        if not len(rows):
            break
    return found, done


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

"""DP-SGD (Abadi et al. 2016): clipped gradients of single examples, and noise; the only defense here with a proof."""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.nn.functional import cross_entropy

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.nets.mlp import MLP
from hampkit.nets.normalize import Normalize
from hampkit.rng import forked
from hampkit.training import Gradient, Objective, Trainer
from hampkit.training.batches import poisson_steps
from hampkit.training.objectives import Params
from hampkit.training.stacks import initial, normalises_batches
from hampkit.training.vectorize import Vectorize, vectorize_over
from hampkit.types import Batch, Stack, Task

CHUNK = 32  # examples whose gradients are held at once
NOISE = (0.01, 1e4)  # multipliers that the accountants can count with
PRV_NOISE = 0.3  # below it the tighter accountant takes all memory there is
TOLERANCE = 0.01  # how far a training may stay below the epsilon that was asked for
ROWWISE = {  # what a layer does to one row does not depend on the others
    nn.Sequential, MLP, Normalize, nn.Linear, nn.Identity, nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU,
}  # fmt: skip
HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_always_called",
)  # fmt: skip
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
OWN_CALLS = {"forward", "_call_impl", "_compiled_call_impl"}  # set on one module, they run instead of its class's
_GLOBAL = re.compile(r"_global_(forward|backward)\w*hooks\w*")


@dataclass(frozen=True)
class DpSgd(Defense):
    """Every example's gradient is clipped to the norm ``max_grad_norm``; their sum gets normal noise of deviation
    ``noise_multiplier · max_grad_norm`` and is divided by the expected batch size. Batches are Poisson samples.

    The privacy budget epsilon at ``delta`` is computed by Opacus's accountant, stored and shown. It bounds what anybody can
    learn about one member from all checkpoints; the choice among them looks at validation rows, which are no members.
    Differs from the published code, which neither computes epsilon nor uses the delta it takes: a model that diverges is not
    trained again with another seed, because a second training would cost a second budget. Noise and batches follow from the
    run's seed, so that evaluations repeat: the guarantee holds towards whoever does not know it.
    """

    name: ClassVar[str] = "dp-sgd"
    paper: ClassVar[str] = "https://arxiv.org/abs/1607.00133"

    noise_multiplier: float = 1.0  # deviation of the noise in units of max_grad_norm
    max_grad_norm: float = 1.0  # norm that every example's gradient is clipped to
    delta: float = 1e-5  # of (epsilon, delta)
    target_epsilon: float = 0.0  # take the noise that leads to this epsilon instead of noise_multiplier; 0: no
    accountant: Literal["rdp", "prv"] = "rdp"  # Opacus's; prv is tighter and slower

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "max_grad_norm"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"defense.{name}={getattr(self, name)} must be a number above 0")
        low, high = NOISE
        if not self.target_epsilon and not low <= self.noise_multiplier <= high:
            raise UserError(f"defense.noise_multiplier={self.noise_multiplier} must lie between {low} and {high:g}")
        if self.accountant == "prv" and not self.target_epsilon and self.noise_multiplier < PRV_NOISE:
            raise UserError(
                f"defense.noise_multiplier={self.noise_multiplier} is too small for defense.accountant=prv, which starts at"
                f" {PRV_NOISE}; take rdp"
            )
        if not 0 < self.delta < 1:
            raise UserError(f"defense.delta={self.delta} must lie between 0 and 1, well below 1 / number of members")
        if self.target_epsilon < 0:
            raise UserError(
                f"defense.target_epsilon={self.target_epsilon} must be above 0, or 0 to take the noise as given"
            )

    def check(self, task: Task, trainer: Trainer) -> None:
        with forked(0):
            net = task.net()
        if normalises_batches(net):
            raise UserError(
                "dp-sgd cannot train a network with batch norm: it mixes the examples of a batch, so that no gradient belongs to"
                " one of them; take net=mlp, or for images net=convnet-gn or another network with group norm"
            )
        _accounting()
        least, most = int(task.members.sum(-1).min()), int(task.members.sum(-1).max())
        if least <= trainer.config.batch_size:
            raise UserError(
                f"dp-sgd draws every member into a batch by chance; train.batch_size={trainer.config.batch_size} must be below"
                f" the {least} members"
            )
        if self.delta * most >= 1:
            raise UserError(
                f"defense.delta={self.delta} is no guarantee for {most} members: publishing one of them whole would keep to it;"
                f" take less than {1 / most:.2g}"
            )
        for n in dict.fromkeys((least, most)):
            self._budget(n, trainer)
        _try(task, trainer, self.max_grad_norm)

    def fit(self, task: Task, trainer: Trainer) -> Models:
        config = replace(trainer.config, sampling="poisson", retries=0)
        sizes = [int(n) for n in task.members.sum(-1)]
        budgets = {n: self._budget(n, trainer) for n in dict.fromkeys(sizes)}
        objective = ClippedNoisy(self.max_grad_norm, lambda n: budgets[n]["noise_multiplier"], config.batch_size)
        stack = trainer.with_config(config).fit(task, objective)
        own = any(isinstance(m, Normalize) and m.own for m in stack.net.modules())
        return Models(stack, facts=tuple({**budgets[n], "summary": _said(budgets[n], own)} for n in sizes))

    def _budget(self, members: int, trainer: Trainer) -> dict[str, Any]:
        """What one training spends at most, and with how much noise: steps that train.patience leaves away are counted too."""
        config = trainer.config
        per_epoch = poisson_steps(members, config.batch_size) * config.passes_per_epoch
        steps = per_epoch * min(config.stop_after or config.epochs, config.epochs)
        rate = config.passes_per_epoch / per_epoch
        noise = self.noise_multiplier
        if self.target_epsilon:
            noise = noise_for(self.target_epsilon, self.delta, rate, steps, self.accountant)
        return {
            "epsilon": epsilon(noise, rate, steps, self.delta, self.accountant),
            "delta": self.delta,
            "accountant": self.accountant,
            "noise_multiplier": noise,
            "sample_rate": rate,
            "steps": steps,
        }


class ClippedNoisy(Objective):
    """The noisy mean of clipped gradients, (Σ_b clip(g_b) + σ · c · N(0, I)) / expected batch size, rounded down.

    noise: number of members → σ. batch_size: rows of an ordinary batch; the expected size of a Poisson sample follows from it.
    """

    def __init__(self, max_grad_norm: float, noise: Callable[[int], float], batch_size: int) -> None:
        self.clip, self.noise, self.batch_size = max_grad_norm, noise, batch_size

    def init(self, stack: Stack, task: Task, rngs: list[torch.Generator]) -> _State:
        sizes = [int(n) for n in task.members.sum(-1)]
        scales = [(self.noise(n) * self.clip, n // poisson_steps(n, self.batch_size)) for n in sizes]
        return _State(scales, tapped=by_rows(stack.net, stack.params, len(task.pool.shape)))

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: _State, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        if state.tapped:
            sums, value = tapped_sum(vectorize, stack, batch, self.clip)
        else:
            sums, value = vectorize(lambda p, b, rows: clipped_sum(stack, p, b, rows, self.clip))(
                stack.params, stack.buffers, batch
            )
        grads = {}
        for k, total in sums.items():
            draws = [
                torch.randn(total.shape[1:], generator=rng) * sd
                for rng, (sd, _) in zip(rngs, state.scales, strict=True)
            ]
            expected = torch.tensor([n for _, n in state.scales]).view(-1, *(1,) * (total.ndim - 1)).to(total)
            grads[k] = (total + torch.stack(draws).to(total)) / expected
        return Gradient(grads, stack.buffers, value, state)


@dataclass(frozen=True)
class _State:
    scales: list[tuple[float, int]]  # per model: the noise's deviation and the expected batch size
    tapped: bool  # `tapped_sum` is right for this network


def tapped_sum(vectorize: Vectorize, stack: Stack, batch: Batch, clip: float) -> tuple[Params, Tensor]:
    """What `clipped_sum` gives, for all models, without one gradient per example; every parameter is a linear layer's.

    With the layer's input a_b and the loss's slope s_b at its output, an example's gradient is s_b a_bᵀ and its squared norm
    ‖s_b‖² (‖a_b‖² + 1), bias included (Goodfellow 2015, arXiv 1510.01799): the clipped sum is one matrix product.
    """
    layers = _linear(stack.net)
    rows = batch.y.shape
    taps = {k: batch.weight.new_zeros(*rows, layer.out_features) for k, layer in layers.items()}

    def loss(taps: Params, params: Params, buffers: Params, batch: Batch) -> tuple[Tensor, tuple[Params, Tensor]]:
        inputs: Params = {}

        def hook(name: str) -> Any:
            def add(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
                inputs[name] = args[0]
                return out + taps[name]

            return add

        hooks = [layer.register_forward_hook(hook(k)) for k, layer in layers.items()]
        try:
            losses = cross_entropy(stack.forward(params, buffers, batch.x), batch.y, reduction="none")
        finally:
            for h in hooks:
                h.remove()
        return losses.sum(), (inputs, losses)

    slopes, (_, (inputs, losses)) = vectorize.gradient(loss)(taps, stack.params, stack.buffers, batch)
    square = torch.zeros_like(batch.weight)
    for k, s in slopes.items():
        square += s.square().sum(-1) * (inputs[k].to(s.dtype).square().sum(-1) + (layers[k].bias is not None))
    scale = (clip / (square.sqrt() + 1e-6)).clamp_max(1.0) * batch.weight
    sums = {}
    for k, s in slopes.items():
        s = s * scale.unsqueeze(-1)
        sums[f"{k}.weight"] = s.transpose(-1, -2) @ inputs[k].to(s.dtype)
        sums[f"{k}.bias"] = s.sum(-2)
    return {k: sums[k] for k in stack.params}, (losses * batch.weight).sum(-1) / batch.weight.sum(-1).clamp_min(1)


def by_rows(net: nn.Module, params: Params, dims: int) -> bool:
    """Whether `tapped_sum` is right for this network: seen from its structure, for a trial proves nothing about privacy.

    Every layer is used once, one row at a time, and every parameter that is trained is a linear layer's. dims: of one example.
    """
    layers = list(net.named_modules(remove_duplicate=False))
    linear = [(k, m) for k, m in layers if type(m) is nn.Linear]
    owned = {f"{k}.{name}" for k, m in linear for name in ("weight", "bias") if getattr(m, name) is not None}
    plain = all(type(m) in ROWWISE and _as_made(m) for _, m in layers) and not _watched()
    # an MLP lays the values of an example in a row; a linear layer in front of it would see them as rows of their own
    first = next((type(m) for _, m in layers if type(m) in (MLP, nn.Linear)), None)
    flat = dims == 1 or first is MLP
    return plain and flat and set(params) == owned and len(layers) == len(list(net.modules()))


def _as_made(layer: nn.Module) -> bool:
    """Whether a layer runs what its class says: no hook, no method of its own, no layer that its forward does not run."""
    inside = [name for name, _ in layer.named_children()]
    expected = inside if type(layer) is nn.Sequential else ["features", "classifier"] if type(layer) is MLP else []
    hooked = any(getattr(layer, name, None) for name in HOOKS) or any(
        getattr(p, name, None) for p in layer.parameters(recurse=False) for name in PARAMETER_HOOKS
    )
    return inside == expected and not hooked and OWN_CALLS.isdisjoint(vars(layer))


def _watched() -> bool:
    """Whether torch runs hooks on every module there is."""
    return any(value for name, value in vars(nn.modules.module).items() if _GLOBAL.fullmatch(name))


def _try(task: Task, trainer: Trainer, clip: float) -> None:
    """One step as in training, on two examples. Errors: `UserError` where a network gives no gradients of single examples."""
    one = task.only([0])
    rows = task.pool.take(torch.arange(2))
    batch = Batch(rows.x, rows.y, torch.empty(2, 0), torch.ones(2))
    with forked(0):
        stack = initial(one, [row.nonzero().squeeze(-1) for row in one.members], torch.device("cpu"))
        stack = replace(stack, mixed=trainer.config.precision == "bfloat16")
        stack.net.train()
        try:
            objective = ClippedNoisy(clip, lambda n: 0.0, trainer.config.batch_size)
            state = objective.init(stack, one, [])
            single = Batch(*(t.unsqueeze(0) for t in batch._replace(x=batch.x.to(stack.dtype))))
            objective.gradient(vectorize_over(1), stack, state, single, [torch.Generator()])
        except Exception as error:  # whatever a user's network may raise
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"dp-sgd cannot take the gradients of single examples through the network {type(stack.net).__name__}: {why};"
                " take net=mlp or convnet-gn, or a network that treats every example alike and asks no tensor for its value"
            ) from None


def _linear(net: nn.Module) -> dict[str, nn.Linear]:
    return {k: m for k, m in net.named_modules() if type(m) is nn.Linear}


def clipped_sum(stack: Stack, params: Params, buffers: Params, batch: Batch, clip: float) -> tuple[Params, Tensor]:
    """Σ_b w_b g_b · min(1, clip / (‖g_b‖ + 1e-6)) of one model, and its mean loss."""

    def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(stack.forward(params, buffers, x.unsqueeze(0)), y.unsqueeze(0))

    per_example = vmap(grad_and_value(loss), in_dims=(None, 0, 0), randomness="different")
    total = {k: torch.zeros_like(p) for k, p in params.items()}
    losses = []
    for x, y, w in zip(*(t.split(CHUNK) for t in (batch.x, batch.y, batch.weight)), strict=True):
        grads, rows = per_example(params, x, y)
        norms = torch.stack([g.flatten(1).square().sum(-1) for g in grads.values()]).sum(0).sqrt()
        scale = (clip / (norms + 1e-6)).clamp_max(1.0) * w
        for k, g in grads.items():
            total[k] = total[k] + torch.tensordot(scale, g, 1)
        losses.append(rows * w)
    return total, torch.cat(losses).sum() / batch.weight.sum().clamp_min(1)


@functools.cache
def epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: str = "rdp") -> float:
    """Epsilon at delta of so many noisy steps on Poisson samples, by Opacus's accountant. Errors: `UserError` without Opacus."""
    counter = _accounting().create_accountant(accountant)
    counter.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():  # that a wider range of orders might be tighter: an upper bound it is all the same
        warnings.simplefilter("ignore", UserWarning)
        return max(0.0, float(counter.get_epsilon(delta)))


@functools.cache
def noise_for(target: float, delta: float, sample_rate: float, steps: int, accountant: str = "rdp") -> float:
    """The smallest noise multiplier found whose epsilon at delta is at most ``target``: Opacus's search, within `NOISE`.

    Opacus knows no bounds: it goes down to noise that its accountants cannot count with. Errors: `UserError`.
    """
    least, most = PRV_NOISE if accountant == "prv" else NOISE[0], NOISE[1]

    def spent(noise: float, counter: str = accountant) -> float:
        return epsilon(noise, sample_rate, steps, delta, counter)

    def too_large(reached: float) -> UserError:
        return UserError(
            f"defense.target_epsilon={target} is more than training spends with the least noise that"
            f" defense.accountant={accountant} counts with, {least} (epsilon {reached:.4g}); take a smaller one"
        )

    if (reached := spent(least, "rdp")) <= target:  # an upper bound for the tighter one, which takes minutes there
        raise too_large(reached)
    low, high = 0.0, 20.0
    while (found := spent(high)) > target:
        if high == most:
            raise UserError(
                f"defense.target_epsilon={target} cannot be reached: noise of {most:g} spends {found:.4g}; take a larger one"
            )
        high = min(2 * high, most)
    while target - found > TOLERANCE and high - low > 1e-9 * high:
        middle = max((low + high) / 2, least)
        reached = spent(middle)
        if reached >= target:
            low = middle
        elif middle == least:
            raise too_large(reached)
        else:
            high, found = middle, reached
    return high


def _accounting() -> Any:
    """Opacus's accountants."""
    try:
        from opacus import accountants
    except ImportError as error:
        raise UserError(
            f"dp-sgd computes its privacy budget with Opacus, which cannot be imported ({error}); pip install 'hampkit[dp]'"
        ) from None
    return accountants


def _said(budget: dict[str, Any], own_scaling: bool) -> str:
    said = (
        f"differentially private towards adding or removing one member: epsilon {budget['epsilon']:.3f} at delta"
        f" {budget['delta']:g} ({budget['accountant'].upper()} accountant, noise multiplier {budget['noise_multiplier']:.4g},"
        f" {budget['steps']:,} steps, sampling rate {budget['sample_rate']:.4g}), towards whoever does not know the run's seed"
    )
    if own_scaling:
        said += "; mean and deviation of the members, which scale the features, are not covered"
    return said

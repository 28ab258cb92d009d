"""DP-SGD (Abadi et al. 2016): clipped per-example gradients plus noise; the only defense with a privacy guarantee."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.nn.functional import cross_entropy

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError, one_line
from hampkit.nets.mlp import MLP
from hampkit.nets.normalize import Normalize
from hampkit.rng import forked
from hampkit.training import Gradient, Objective, Trainer
from hampkit.training.accounting import NOISE, PRV_NOISE, accountants, epsilon, noise_for
from hampkit.training.batches import poisson_steps
from hampkit.training.dry_run import one_step
from hampkit.training.objectives import Params
from hampkit.training.stacks import initial, normalises_batches
from hampkit.training.vectorize import Vectorize
from hampkit.types import Batch, Stack, Task

CHUNK = 32  # per-example gradients in memory at once
ROWWISE = {  # layers that treat every row on its own
    nn.Sequential, MLP, Normalize, nn.Linear, nn.Identity, nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU,
}  # fmt: skip
HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_always_called",
)  # fmt: skip
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
OWN_CALLS = {"forward", "_call_impl", "_compiled_call_impl"}  # set on one module, they replace the methods of its class
_GLOBAL = re.compile(r"_global_(forward|backward)\w*hooks\w*")


@dataclass(frozen=True)
class DpSgd(Defense):
    """The gradient of every example is clipped to the norm ``max_grad_norm``. Their sum plus normal noise of standard deviation
    ``noise_multiplier · max_grad_norm`` is divided by the expected batch size. Batches are Poisson samples.

    The privacy budget epsilon at ``delta`` is computed by Opacus's accountant, stored and reported. It bounds what can be
    learnt about one member from all checkpoints; the best checkpoint is chosen on validation rows, which are no members.
    Differs from the published code, which neither computes epsilon nor uses its delta: a model that diverges is not trained
    again with another seed, because a second training would cost a second budget. Noise and batches are drawn from the run's
    seed, so that evaluations can be repeated: the guarantee holds towards everyone who does not have the seed.
    """

    name: ClassVar[str] = "dp-sgd"
    paper: ClassVar[str] = "https://arxiv.org/abs/1607.00133"

    noise_multiplier: float = 1.0  # standard deviation of the noise in units of max_grad_norm
    max_grad_norm: float = 1.0  # largest norm of an example's gradient
    delta: float = 1e-5  # of (epsilon, delta)
    target_epsilon: float = 0.0  # take the noise that gives this epsilon, in place of noise_multiplier; 0: no target
    accountant: Literal["rdp", "prv"] = "rdp"  # of Opacus; prv is tighter and slower

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "max_grad_norm"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"defense.{name}={getattr(self, name)} must be a number above 0")
        low, high = NOISE
        if not self.target_epsilon and not low <= self.noise_multiplier <= high:
            raise UserError(f"defense.noise_multiplier={self.noise_multiplier} must lie between {low} and {high:g}")
        if self.accountant == "prv" and not self.target_epsilon and self.noise_multiplier < PRV_NOISE:
            raise UserError(
                f"defense.noise_multiplier={self.noise_multiplier} is too small for defense.accountant=prv, which needs at"
                f" least {PRV_NOISE}; take rdp"
            )
        if not 0 < self.delta < 1:
            raise UserError(f"defense.delta={self.delta} must lie between 0 and 1, well below 1 / number of members")
        if self.target_epsilon < 0:
            raise UserError(
                f"defense.target_epsilon={self.target_epsilon} must be above 0, or 0 to take defense.noise_multiplier"
            )

    def check(self, task: Task, trainer: Trainer) -> None:
        _check_net(task)
        accountants()
        least, most = int(task.members.sum(-1).min()), int(task.members.sum(-1).max())
        if least <= trainer.config.batch_size:
            raise UserError(
                f"the batches of dp-sgd are random samples of the members; train.batch_size={trainer.config.batch_size} must be"
                f" below their number, {least}"
            )
        if self.delta * most >= 1:
            raise UserError(
                f"defense.delta={self.delta} guarantees nothing for {most} members: publishing one of them would satisfy it;"
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
        own_scaling = any(isinstance(m, Normalize) and m.own for m in stack.net.modules())
        return Models(stack, facts=tuple({**budgets[n], "summary": _summary(budgets[n], own_scaling)} for n in sizes))

    def _budget(self, n_members: int, trainer: Trainer) -> dict[str, Any]:
        """The noise of one training and the epsilon that it spends at most: as if train.patience never ended it early."""
        config = trainer.config
        per_epoch = poisson_steps(n_members, config.batch_size) * config.passes_per_epoch
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
    """The noisy mean of clipped gradients, (Σ_b clip(g_b) + σ · c · N(0, I)) / n, with n the expected batch size, rounded down.

    max_grad_norm: c. noise: number of members → σ. batch_size: rows of an ordinary batch, from which the expected size of a
    Poisson sample is computed.
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
            one_model = vectorize(lambda p, b, rows: clipped_sum(stack, p, b, rows, self.clip))
            sums, value = one_model(stack.params, stack.buffers, batch)
        grads = {k: _noisy_mean(total, state.scales, rngs) for k, total in sums.items()}
        return Gradient(grads, stack.buffers, value, state)


@dataclass(frozen=True)
class _State:
    scales: list[tuple[float, int]]  # (M,) standard deviation of the noise, and expected batch size
    tapped: bool  # whether `tapped_sum` is correct for this network


def _noisy_mean(total: Tensor, scales: list[tuple[float, int]], rngs: list[torch.Generator]) -> Tensor:
    """Sums of gradients (M, *shape) plus noise, divided by each model's expected batch size."""
    draws = [torch.randn(total.shape[1:], generator=rng) * sd for rng, (sd, _) in zip(rngs, scales, strict=True)]
    expected = torch.tensor([n for _, n in scales]).view(-1, *(1,) * (total.ndim - 1)).to(total)
    return (total + torch.stack(draws).to(total)) / expected


def tapped_sum(vectorize: Vectorize, stack: Stack, batch: Batch, clip: float) -> tuple[Params, Tensor]:
    """Sums of clipped gradients, each (M, *shape), and mean losses (M,), for networks whose parameters are all in linear layers.

    The result of `clipped_sum` for every model, without per-example gradients. With the layer's input a_b and the gradient s_b
    of the loss at its output, an example's gradient is s_b a_bᵀ and its squared norm ‖s_b‖² (‖a_b‖² + 1), bias included
    (Goodfellow 2015, arXiv 1510.01799), so that the clipped sum is one matrix product.
    """
    layers = _linear(stack.net)
    slopes, inputs, losses = _taps(vectorize, stack, batch, layers)
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


def _taps(
    vectorize: Vectorize, stack: Stack, batch: Batch, layers: dict[str, nn.Linear]
) -> tuple[Params, Params, Tensor]:
    """Per layer, the gradients at its output (M, B, out) and its inputs (M, B, in); and the losses (M, B).

    A tap is a zero that is added to the output of a layer; its gradient is the gradient at that output.
    """
    taps = {k: batch.weight.new_zeros(*batch.y.shape, layer.out_features) for k, layer in layers.items()}

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
    return slopes, inputs, losses


def by_rows(net: nn.Module, params: Params, dims: int) -> bool:
    """Whether `tapped_sum` is correct for this network, judged by its structure: a trial would not prove it.

    Every layer must be used once and treat every row on its own, and every trained parameter must be in a linear layer. dims:
    number of axes of one example.
    """
    layers = list(net.named_modules(remove_duplicate=False))
    linear = [(k, m) for k, m in layers if type(m) is nn.Linear]
    owned = {f"{k}.{name}" for k, m in linear for name in ("weight", "bias") if getattr(m, name) is not None}
    plain = all(type(m) in ROWWISE and _as_made(m) for _, m in layers) and not _watched()
    # an MLP flattens an example; a linear layer in front of it would treat its axes as further rows
    first = next((type(m) for _, m in layers if type(m) in (MLP, nn.Linear)), None)
    flat = dims == 1 or first is MLP
    return plain and flat and set(params) == owned and len(layers) == len(list(net.modules()))


def _as_made(layer: nn.Module) -> bool:
    """Whether a layer runs the code of its class: without hooks, replaced methods, or sublayers that its forward ignores."""
    inside = [name for name, _ in layer.named_children()]
    expected = inside if type(layer) is nn.Sequential else ["features", "classifier"] if type(layer) is MLP else []
    hooked = any(getattr(layer, name, None) for name in HOOKS) or any(
        getattr(p, name, None) for p in layer.parameters(recurse=False) for name in PARAMETER_HOOKS
    )
    return inside == expected and not hooked and OWN_CALLS.isdisjoint(vars(layer))


def _watched() -> bool:
    """Whether there are global hooks, which torch runs on every module."""
    return any(value for name, value in vars(nn.modules.module).items() if _GLOBAL.fullmatch(name))


def _check_net(task: Task) -> None:
    with forked(0):
        net = task.net()
    if normalises_batches(net):
        raise UserError(
            "dp-sgd cannot train a network with batch norm: it mixes the examples of a batch, so that no gradient belongs to"
            " one of them; take net=mlp, or for images net=convnet-gn or another network with group norm"
        )


def _try(task: Task, trainer: Trainer, clip: float) -> None:
    """Take one step on two examples.

    Raises: `UserError` for a network without per-example gradients.
    """
    one = task.only([0])
    with forked(0):
        stack = initial(one, [one.rows(0)], torch.device("cpu"))
        stack = replace(stack, mixed=trainer.config.precision == "bfloat16")
        try:
            one_step(stack, ClippedNoisy(clip, lambda n: 0.0, trainer.config.batch_size), one, torch.arange(2))
        except Exception as error:  # a user's network may raise anything
            raise UserError(
                f"dp-sgd cannot take the gradients of single examples through the network {type(stack.net).__name__}:"
                f" {one_line(error)}; take net=mlp or convnet-gn, or a network that treats every example on its own and does"
                " not branch on the value of a tensor"
            ) from None


def _linear(net: nn.Module) -> dict[str, nn.Linear]:
    return {k: m for k, m in net.named_modules() if type(m) is nn.Linear}


def clipped_sum(stack: Stack, params: Params, buffers: Params, batch: Batch, clip: float) -> tuple[Params, Tensor]:
    """Σ_b w_b g_b · min(1, clip / (‖g_b‖ + 1e-6)) of one model, each (*shape), and its mean loss, a scalar.

    batch: of one model, x (B, *shape); g_b: the gradient of the cross-entropy of example b.
    """

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


def _summary(budget: dict[str, Any], own_scaling: bool) -> str:
    """The guarantee in words; own_scaling: features are scaled by mean and deviation of the members."""
    summary = (
        f"differentially private towards adding or removing one member: epsilon {budget['epsilon']:.3f} at delta"
        f" {budget['delta']:g} ({budget['accountant'].upper()} accountant, noise multiplier {budget['noise_multiplier']:.4g},"
        f" {budget['steps']:,} steps, sampling rate {budget['sample_rate']:.4g}), towards everyone without the run's seed"
    )
    if own_scaling:
        summary += "; mean and deviation of the members, which scale the features, are not covered"
    return summary

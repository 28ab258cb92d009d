"""HAMP for training loops and services of one's own: a loss, and a wrapper that releases only the ranking of the classes.

loss_fn = hampkit.nn.HampLoss(num_classes=10, gamma=0.5, alpha=0.003)
...                                             # in any training loop: loss_fn(model(x), y).backward()
released = hampkit.nn.HampModel(model, noise="uniform")
released(x)                                     # the same predicted labels, the confidences of random inputs
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hampkit.defenses.base import hashed
from hampkit.defenses.hamp import hamp_loss, ranked_like, soft_labels
from hampkit.errors import Notice, UserError
from hampkit.types import Batch, Domain

Inputs = Any  # what the network takes: a tensor, a tuple or list of tensors, or a dict of keyword arguments
Draw = Callable[[int, torch.Generator], Inputs]  # n, generator → inputs of n examples
KEY_BYTES = (16, 64)  # shortest and longest secret


class HampLoss(nn.Module):
    """HAMP's training loss, averaged over the batch as published (https://arxiv.org/abs/2307.01610).

    L = Σ_b w_b [ KL(t_b ‖ p_b) / C − alpha · H(p_b) ] / Σ_b w_b in nats, with p = softmax(logits) and the soft label t of entropy
    gamma · ln C: logits (B, C), integers y (B,) → scalar. ``kl="batchmean"``, the default of recipes for one's own data, does not
    divide by C: with C times the alpha, the loss and its gradients are C times as large. ``grid=0.01`` takes the published search
    for t in place of the exact solution.

    weight: (C,) the weight w of each class; default: 1. ignore_index: rows with this label have the weight 0. Both as in
    `torch.nn.CrossEntropyLoss`.

    Raises: `UserError` for options out of range, `ValueError` for tensors of other shapes or types.
    """

    table: Tensor
    weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        gamma: float,
        alpha: float,
        kl: Literal["mean", "batchmean"] = "mean",
        grid: float | None = None,
        *,
        weight: Tensor | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        if kl not in ("mean", "batchmean"):
            raise UserError(f"kl={kl!r} must be 'mean' or 'batchmean'")
        if weight is not None and (weight.shape != (num_classes,) or not (weight >= 0).all() or not weight.any()):
            raise UserError(
                f"weight {tuple(weight.shape)} must be ({num_classes},): a number of at least 0 for each class"
            )
        labels = torch.arange(num_classes)
        self.register_buffer("table", soft_labels(labels, num_classes, gamma, grid), persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.ignore_index = ignore_index
        self.rows = hamp_loss(alpha, kl)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss, a scalar in nats, for logits (B, C) and labels y (B,); 0 if every row is ignored.

        Raises: `ValueError` for other shapes, and for labels that are no integers.
        """
        classes = len(self.table)
        if logits.ndim != 2 or logits.shape[1] != classes or y.shape != logits.shape[:1]:
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} must be (B, {classes}) and (B,)"
            )
        if y.is_floating_point():
            raise ValueError(f"labels of type {y.dtype} must be integers: HAMP makes its own soft labels")
        kept = torch.ones_like(y, dtype=torch.bool) if self.ignore_index is None else y != self.ignore_index
        y = torch.where(kept, y, 0)
        weights = kept.to(logits.dtype) if self.weight is None else self.weight.to(logits)[y] * kept
        batch = Batch(logits, y, self.table.to(logits)[y], torch.ones_like(y, dtype=logits.dtype))
        return (self.rows(logits, batch) * weights).sum() / weights.sum().clamp_min(torch.finfo(logits.dtype).tiny)


class HampModel(nn.Module):
    """A trained network with HAMP's output modification: inputs of B examples → modified logits (B, C), with the same labels.

    The network runs in evaluation mode, because batch statistics of the queries would change its labels, and without gradients.
    Its mode is restored afterwards. If its output is an object with ``logits`` (Hugging Face), so is the result, with nothing but
    the modified logits: hidden states would reveal what the release hides.

    noise: the distribution of the random inputs, as the network takes them: ``"bernoulli"`` (0 or 1 with probability 1/2, as
    published for binary tables), ``"uniform"`` (in [0, 1)), ``"fit"`` (between the smallest and the largest value of each
    feature of ``data``), a `hampkit.types.Domain`, a tensor of inputs (K, *shape) to draw from, or a function of (n, generator).
    The extremes of ``data`` are released: give public data, or clip them. Do not give real examples as a tensor: their answers
    would be released. A network with several inputs needs a function.

    preprocess: from the arguments of the call to the inputs of the network; default: the arguments themselves.
    bank: prepare answers to this many random inputs at the first call and draw from them, which saves the second forward pass.
    keyed: derive the random input from the query and ``secret``, so that repeated queries have one answer. The secret and the
    bank are part of `state_dict`: replicas that load it, or that are given the same ``secret``, answer alike (with a bank, load
    the state). secret: 16 to 64 bytes; drawn if not given. seed: of fresh noise; drawn if not given.

    The same answers under `torch.compile`. `torch.jit.trace` and `torch.export` would make the noise a constant and are refused;
    `exportable` returns a module for them and for ONNX.

    Raises: `UserError` for options out of range.
    """

    secret: Tensor | None
    bank: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        noise: str | Domain | Tensor | Draw = "bernoulli",
        *,
        bank: int = 0,
        keyed: bool = False,
        secret: bytes | None = None,
        seed: int | None = None,
        data: Tensor | None = None,
        preprocess: Callable[..., Inputs] | None = None,
    ) -> None:
        super().__init__()
        if bank < 0:
            raise UserError(f"bank={bank} must be 0 or the number of answers to prepare")
        self.model, self.preprocess = model, preprocess
        self._noise, self._bank_size = _Noise(_source(noise, data)), bank
        self._seed = secrets.randbits(63) if seed is None else seed
        self._rngs: dict[torch.device, torch.Generator] = {}
        self._warned = False
        self.register_buffer("secret", _secret(secret) if keyed else None)
        self.register_buffer("bank", None)

    @torch.compiler.disable(recursive=False)
    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The modified logits (B, C) for inputs of B examples.

        Raises: `UserError` while being traced or exported, and for a network with one logit or without logits.
        """
        _refuse_tracing()
        x = self._inputs(args, kwargs)
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            output = _call(self.model, x)
            return _with_logits(output, self._released(x, _logits(output)))
        finally:
            for module, mode in modes.items():
                module.training = mode

    @torch.no_grad()
    def noise_for(self, *args: Any, **kwargs: Any) -> Inputs:
        """The second argument of `exportable` for these inputs: random inputs, or with a bank its rows (B,) int64.

        They are drawn anew at each call or, if keyed, derived from the inputs.
        """
        x = self._inputs(args, kwargs)
        if self._bank_size:
            return self._bank_rows(x, self._bank_size)
        return self._random_inputs(x)

    def exportable(self) -> Exportable:
        """The release as a function of inputs and noise, for `torch.export`, `torch.jit.trace` and `torch.onnx.export`.

        Its second argument is `noise_for` of the first. A bank becomes a constant.

        Raises: `UserError` for a bank that is not prepared yet: call the module once before.
        """
        if self._bank_size and self.bank is None:
            raise UserError(
                "the bank is prepared at the first call: call the HampModel with inputs before exportable()"
            )
        return Exportable(self.model, self.bank)

    def _inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
        if self.preprocess is not None:
            x = self.preprocess(*args, **kwargs)
        elif args and kwargs:
            raise UserError("give the inputs by position or by name, or give a preprocess function to HampModel")
        else:
            x = dict(kwargs) if kwargs else args[0] if len(args) == 1 else args
        if not self._warned and (text := self._noise.outside(x)):
            self._warned = True
            warnings.warn(text, Notice, stacklevel=4)
        return x

    def _released(self, x: Inputs, logits: Tensor) -> Tensor:
        if self._bank_size:
            bank = self._prepared(x).to(logits)
            return ranked_like(logits, bank[self._bank_rows(x, len(bank)).to(logits.device)])
        return ranked_like(logits, _logits(_call(self.model, self._random_inputs(x))).to(logits))

    def _prepared(self, x: Inputs) -> Tensor:
        """The bank (K, C)."""
        if self.bank is None:
            noise = self._noise.sample(self._bank_size, self._rng(_first(x).device), x)
            self.bank = _logits(_call(self.model, noise))
        return self.bank

    def _bank_rows(self, x: Inputs, size: int) -> Tensor:
        """One row (B,) of the bank for each example."""
        first = _first(x)
        if self.secret is not None:
            return self._keyed(x, size).to(first.device)
        rng = self._rng(first.device)
        return torch.randint(size, (len(first),), generator=rng, device=first.device)

    def _random_inputs(self, x: Inputs) -> Inputs:
        """One random input for each example: drawn, or derived from the input and the secret."""
        first = _first(x)
        if self.secret is None:
            return self._noise.sample(len(first), self._rng(first.device), x)
        seeds = self._keyed(x, 2**63 - 1).tolist()  # on the CPU, so that the answer does not depend on the device
        parts = [self._noise.sample(1, torch.Generator().manual_seed(seed), x) for seed in seeds]
        return _concatenated(parts, x)

    def _keyed(self, x: Inputs, below: int) -> Tensor:
        """A number in [0, below) for each example, (B,) int64, from a keyed hash of all its tensors."""
        assert self.secret is not None
        tensors = _tensors(x)
        rows = (
            self._noise.snap(_first(x))
            if len(tensors) == 1
            else torch.cat([t.cpu().double().flatten(1) for t in tensors], 1)
        )
        return hashed(rows, self.secret, below)

    def _rng(self, device: torch.device) -> torch.Generator:
        """The generator of fresh noise: on the device, except for domains and functions, which draw on the CPU."""
        device = device if isinstance(self._noise.source, (str, Tensor)) else torch.device("cpu")
        if device not in self._rngs:
            self._rngs[device] = torch.Generator(device).manual_seed(self._seed)
        return self._rngs[device]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("secret", "bank"):
            stored = state_dict.get(prefix + name)
            if stored is not None and (name == "bank" or self.secret is not None):
                setattr(self, name, torch.empty_like(stored))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Exportable(nn.Module):
    """HAMP's release as a function: inputs of B examples and noise → modified logits (B, C). Made by `HampModel.exportable`.

    noise: random inputs of B examples or, with a bank, its rows (B,) int64, both from `HampModel.noise_for`. The network is put
    into evaluation mode.
    """

    bank: Tensor | None

    def __init__(self, model: nn.Module, bank: Tensor | None) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("bank", bank)
        self.eval()

    def forward(self, x: Inputs, noise: Inputs) -> Tensor:
        """The modified logits (B, C)."""
        logits = _logits(_call(self.model, x))
        if self.bank is not None:
            return ranked_like(logits, self.bank.to(logits)[noise])
        return ranked_like(logits, _logits(_call(self.model, noise)))


class _Noise:
    """A distribution of random inputs."""

    def __init__(self, source: str | Domain | Tensor | Draw) -> None:
        self.source = source

    def sample(self, n: int, rng: torch.Generator, like: Inputs) -> Inputs:
        """Random inputs of n examples, with the device and type of those of a query."""
        if callable(self.source):
            return _moved(self.source(n, rng), like)
        first = _only(like)
        return self._drawn(n, rng, first).to(first)

    def _drawn(self, n: int, rng: torch.Generator, like: Tensor) -> Tensor:
        source = self.source
        if isinstance(source, Domain):
            return source.sample(n, rng)
        if isinstance(source, Tensor):
            return source[torch.randint(len(source), (n,), generator=rng, device=rng.device).to(source.device)]
        u = torch.rand((n, *like.shape[1:]), generator=rng, device=rng.device)
        return (u < 0.5).float() if source == "bernoulli" else u

    def snap(self, x: Tensor) -> Tensor:
        """Inputs (B, *shape) moved to the nearest point of the domain: 0 or 1 for bernoulli noise, unchanged without a domain."""
        x = x.detach().cpu().double()
        if isinstance(self.source, Domain):
            return self.source.snap(x)
        return (x.round().clamp(0, 1) if self.source == "bernoulli" else x) + 0.0  # + 0.0: −0.0 is 0

    def bounds(self) -> tuple[Any, Any] | None:
        """The smallest and the largest input of the domain, if there is one."""
        if isinstance(self.source, Domain):
            return self.source.low, self.source.high
        return (0.0, 1.0) if isinstance(self.source, str) else None

    def outside(self, x: Inputs) -> str:
        """A warning if inputs lie outside the domain; empty if they do not."""
        bounds = self.bounds()
        if bounds is None:
            return ""
        first = _only(x)
        low, high = (torch.as_tensor(bound, device=first.device) for bound in bounds)
        count = int(((first < low) | (first > high)).flatten(1).any(1).sum())
        if not count:
            return ""
        return (
            f"{count} of {len(first)} inputs lie outside the domain of the noise: answers to the noise differ from answers to"
            " such inputs, which reveals the inputs' kind; give noise='fit' with data=, a Domain, or a function"
        )


def _source(noise: str | Domain | Tensor | Draw, data: Tensor | None) -> str | Domain | Tensor | Draw:
    """The distribution of the noise. Raises: `UserError` for an unknown one, and for data without ``noise="fit"``."""
    if (data is not None) != (isinstance(noise, str) and noise == "fit"):
        raise UserError("noise='fit' and data= belong together: data is a tensor of inputs (K, *shape)")
    if data is not None:
        return _fitted(data)
    if (isinstance(noise, str) and noise in ("bernoulli", "uniform")) or isinstance(noise, (Domain, Tensor)):
        return noise
    if callable(noise):
        return noise
    raise UserError(
        f"noise={noise!r} must be 'bernoulli', 'uniform', 'fit', a Domain, a tensor of inputs or a function of (n, generator)"
    )


def _fitted(data: Tensor) -> Domain:
    """The domain between the extremes of inputs (K, *shape); features with whole numbers only have steps of 1.

    Raises: `UserError` for no inputs, and for values that are not finite.
    """
    if len(data) == 0 or not torch.isfinite(data).all():
        raise UserError(f"data {tuple(data.shape)} must be finite inputs (K, *shape), at least one")
    rows = data.detach().cpu().float()
    whole = (rows == rows.round()).all(0)
    return Domain(rows.amin(0), rows.amax(0), whole.float())


def _secret(given: bytes | None) -> Tensor:
    """(n,) uint8. Raises: `UserError` for a secret of another length than `KEY_BYTES`."""
    least, most = KEY_BYTES
    if given is not None and not least <= len(given) <= most:
        raise UserError(f"secret of {len(given)} bytes must have {least} to {most}, such as secrets.token_bytes(32)")
    return torch.tensor(list(given or secrets.token_bytes(32)), dtype=torch.uint8)


def _refuse_tracing() -> None:
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        raise UserError(
            "a traced or exported HampModel would answer with the noise of one call; export hampkit.nn.HampModel.exportable(),"
            " which takes the noise as an input"
        )


def _call(model: nn.Module, x: Inputs) -> Any:
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, (tuple, list)) else model(x)


def _logits(output: Any) -> Tensor:
    """(B, C), C ≥ 2. Raises: `UserError` for outputs of other kinds."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise UserError(
            f"the network returns a {type(output).__name__}: wrap it in a module that returns logits (B, C), or an object with"
            " logits"
        )
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise UserError(
            f"the network returns logits {tuple(logits.shape)}: HAMP releases a ranking of at least two classes, (B, C); give a"
            " network with one logit z the logits (0, z)"
        )
    return logits


def _with_logits(output: Any, released: Tensor) -> Any:
    """The released logits, in an object of the output's type if the network returns one."""
    return released if isinstance(output, Tensor) else type(output)(logits=released)


def _tensors(x: Inputs) -> list[Tensor]:
    """All tensors of the inputs, in a fixed order."""
    if isinstance(x, Tensor):
        return [x]
    parts = [x[key] for key in sorted(x)] if isinstance(x, Mapping) else list(x)
    return [part for part in parts if isinstance(part, Tensor)]


def _first(x: Inputs) -> Tensor:
    """The first tensor of the inputs. Raises: `UserError` without one."""
    tensors = _tensors(x)
    if not tensors:
        raise UserError(
            "HampModel got no tensor: give inputs as tensors, or a preprocess function that makes tensors of them"
        )
    return tensors[0]


def _only(x: Inputs) -> Tensor:
    """The only tensor of the inputs. Raises: `UserError` for several."""
    if len(_tensors(x)) > 1:
        raise UserError(
            "a network with several inputs needs noise= as a function of (n, generator) that returns all of them"
        )
    return _first(x)


def _moved(noise: Inputs, like: Inputs) -> Inputs:
    """The noise on the device of a query, and in its types where both have floating-point numbers."""

    def moved(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor) or not isinstance(b, Tensor):
            return a
        return a.to(b) if a.is_floating_point() and b.is_floating_point() else a.to(b.device)

    if isinstance(noise, Mapping):
        given = like if isinstance(like, Mapping) else {}
        return {key: moved(value, given.get(key, _first(like))) for key, value in noise.items()}
    if isinstance(noise, (tuple, list)):
        given = like if isinstance(like, (tuple, list)) else [_first(like)] * len(noise)
        return type(noise)(moved(a, b) for a, b in zip(noise, given, strict=True))
    return moved(noise, _first(like))


def _concatenated(parts: list[Inputs], like: Inputs) -> Inputs:
    """Inputs of single examples as those of all."""
    first = parts[0] if parts else like
    if isinstance(first, Mapping):
        return {key: torch.cat([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(torch.cat(column) for column in zip(*parts, strict=True))
    return torch.cat(parts) if parts else first

"""A trained network with HAMP's output modification, for services."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hampkit.defenses.base import hashed
from hampkit.defenses.hamp import ranked_like
from hampkit.errors import Notice, UserError
from hampkit.nn import arguments
from hampkit.nn.inputs import Inputs, answered, call, checked, concatenated, first, logits_of, tensors, with_logits
from hampkit.nn.noise import Draw, Noise, source_of
from hampkit.nn.state import BOUNDS, Expected, Snapshot, mark_of, wide, wrong_width
from hampkit.types import Domain


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
    After a change of the network's weights it is prepared anew; changes through ``parameter.data`` are not noticed.
    keyed: derive the random input from the query and ``secret``, so that repeated queries have one answer. The secret, the bank
    and the bounds of ``noise="fit"`` are part of `state_dict`: replicas that load it answer alike. So do replicas that are given
    the same ``secret`` and the same noise, without a bank. secret: 16 to 64 bytes; drawn if not given. seed: of fresh noise;
    drawn if not given.

    The same answers under `torch.compile`. `torch.jit.trace` and `torch.export` would make the noise a constant and are refused;
    `exportable` returns a module for them and for ONNX.

    Raises: `UserError` for options of a wrong type or out of range.
    """

    secret: Tensor | None
    bank: Tensor | None
    noise_low: Tensor | None
    _made_by: tuple[Any, ...] = ()  # mark of the weights that made the bank; empty: those of the next use
    _classes: int | None = None  # of the network, once it answered

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
        if not arguments.choice("keyed", keyed) and secret is not None:
            raise UserError("secret= has no effect without keyed=True; add it, or leave the secret out")
        self.model = arguments.network_of(model)
        self.preprocess = arguments.function_or_none("preprocess", preprocess)
        self._noise, self._bank_size = Noise(source_of(noise, data)), arguments.bank_size(bank)
        self._seed = arguments.seed_of(seed)
        self._rngs: dict[torch.device, torch.Generator] = {}
        self._warned, self._strict = False, True
        self.register_buffer("secret", arguments.secret_of(secret) if keyed else None)
        self.register_buffer("bank", None)
        fitted = self._noise.source if data is not None else None
        for name in BOUNDS:  # of the fitted domain: replicas must draw the same noise
            self.register_buffer(f"noise_{name}", getattr(fitted, name, None))
        self.register_load_state_dict_post_hook(_mark)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of every module.

        Raises: `UserError` for a keyed bank that is not prepared yet: each replica would prepare another one.
        """
        self._drop_stale_bank()
        if self.secret is not None and self._bank_size and self.bank is None:
            raise UserError(
                "the bank is prepared at the first call, also after the network's weights changed: call the HampModel with inputs"
                " before its state is saved, or replicas prepare banks of their own and answer differently"
            )
        return super().state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of every module. With ``strict=False`` a secret and bounds that the state lacks remain, and a bank is made anew.
        If it raises an error, the module and its network stay as they were.

        Raises: `UserError` for the state of a release with other options, also without ``strict`` if it has more than this one,
        and for a secret, a bank or bounds that are malformed.
        """
        self._drop_stale_bank()
        before, noise = Snapshot(self), self._noise
        self._strict = strict
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except BaseException:
            before.restore()
            self._noise = noise
            _mark(self)
            raise
        finally:
            self._strict = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The modified logits (B, C) for inputs of B examples.

        Raises: `UserError` while being traced or exported, for a network with one logit or without logits, and for inputs that
        are no batch, or of another shape or type than the noise or the network takes.
        """
        _refuse_tracing(kwargs or args)
        return self._answer(args, kwargs)

    # drawing noise and restoring modes is not compiled; the network and the exchange of confidences may be
    @torch.compiler.disable(recursive=False)
    @torch.no_grad()
    def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        x = self._inputs(args, kwargs)
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            output = answered(self.model, x)
            logits = logits_of(output)
            self._classes = logits.shape[1]
            return with_logits(output, self._released(x, logits))
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
        self._drop_stale_bank()
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
        checked(x)
        self._noise.check(x)
        self._warn_of_others(x)
        return x

    @torch.compiler.disable(recursive=True)
    def _warn_of_others(self, x: Inputs) -> None:
        """Warn once of inputs outside the domain of the noise."""
        if not self._warned and (text := self._noise.outside(x)):
            self._warned = True
            warnings.warn(text, Notice, stacklevel=5)

    def _released(self, x: Inputs, logits: Tensor) -> Tensor:
        if self._bank_size:
            bank = self._prepared(x, logits.shape[1]).to(logits)
            return ranked_like(logits, bank[self._bank_rows(x, len(bank)).to(logits.device)])
        return ranked_like(logits, logits_of(call(self.model, self._random_inputs(x))).to(logits))

    def _prepared(self, x: Inputs, classes: int) -> Tensor:
        """The bank (K, C). Raises: `UserError` for a loaded one that is not of the network's number of classes."""
        if self._drop_stale_bank() and self.secret is not None:
            warnings.warn(
                "the network's weights changed, and the bank is prepared anew: replicas answer alike again once they load"
                " state_dict()",
                Notice,
                stacklevel=5,
            )
        if self.bank is None:
            noise = self._noise.sample(self._bank_size, self._rng(first(x).device), x)
            self.bank = logits_of(call(self.model, noise))
            _mark(self)
        elif wrong := wrong_width(self.bank, classes):
            raise UserError(wrong)
        return self.bank

    @torch.compiler.disable(recursive=True)
    def _drop_stale_bank(self) -> bool:
        """Drop a bank that other weights made; whether there was one."""
        if self.bank is None:
            return False
        now = mark_of(self.model)
        self._made_by = self._made_by or now
        if not now or now == self._made_by:  # none: a replica of `torch.nn.DataParallel`
            return False
        self.bank = self._classes = None
        return True

    def _bank_rows(self, x: Inputs, size: int) -> Tensor:
        """One row (B,) of the bank for each example."""
        rows = first(x)
        if self.secret is not None:
            return self._keyed(x, size).to(rows.device)
        rng = self._rng(rows.device)
        return torch.randint(size, (len(rows),), generator=rng, device=rng.device).to(rows.device)

    def _random_inputs(self, x: Inputs) -> Inputs:
        """One random input for each example: drawn, or derived from the input and the secret."""
        if self.secret is None:
            return self._noise.sample(len(first(x)), self._rng(first(x).device), x)
        seeds = self._keyed(x, 2**63 - 1).tolist()  # on the CPU, so that the answer does not depend on the device
        parts = [self._noise.sample(1, torch.Generator().manual_seed(seed), x) for seed in seeds]
        return concatenated(parts, x)

    def _keyed(self, x: Inputs, below: int) -> Tensor:
        """A number in [0, below) for each example, (B,) int64, from a keyed hash of all its tensors."""
        assert self.secret is not None
        parts = tensors(x)
        if len(parts) == 1:
            return hashed(self._noise.snap(parts[0]), self.secret, below)
        return hashed(torch.cat([part.cpu().double().flatten(1) for part in parts], 1), self.secret, below)

    def _rng(self, device: torch.device) -> torch.Generator:
        """The generator of fresh noise: on the device, except for domains and functions, which draw on the CPU."""
        device = device if isinstance(self._noise.source, (str, Tensor)) else torch.device("cpu")
        if device not in self._rngs:
            self._rngs[device] = torch.Generator(device).manual_seed(self._seed)
        return self._rngs[device]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HampModel:
        """As of every module, but the secret and the bounds of the noise change their device only, not their type."""
        self._drop_stale_bank()
        kept = {name: getattr(self, name) for name in ("secret", *(f"noise_{name}" for name in BOUNDS))}
        super()._apply(fn, recurse)
        for name, tensor in kept.items():
            if tensor is not None and not tensor.is_meta:
                setattr(self, name, tensor.to(getattr(self, name).device))
        _mark(self)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Copies have other tensors with the same weights: they keep the bank."""
        self._drop_stale_bank()
        return {**self.__dict__, "_made_by": ()}

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Make room for a stored secret, bank and bounds, whose sizes and types a new module does not have.

        Raises: `UserError` for the state of a release with other options, before anything is changed.
        """
        self._drop_stale_bank()
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if wrong := self._expected().misfit(own):
            raise UserError(wrong)
        if "bank" not in own and (not self._strict or self.secret is None):
            self.bank = None  # it holds answers of the network as it was
        for name in ("secret", "bank", *(f"noise_{name}" for name in BOUNDS)):
            if own.get(name) is not None and (name == "bank" or getattr(self, name) is not None):
                setattr(self, name, torch.empty_like(own[name]))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if isinstance(self.noise_low, Tensor):
            for name in BOUNDS:
                setattr(self, f"noise_{name}", wide(getattr(self, f"noise_{name}")))
            self._noise = Noise(Domain(*(getattr(self, f"noise_{name}").cpu() for name in BOUNDS)))

    def _expected(self) -> Expected:
        """What a state must be to be that of a release with these options."""
        return Expected(
            keyed=self.secret is not None,
            bounds=None if self.noise_low is None else self.noise_low.shape,
            size=self._bank_size,
            classes=self._classes,
            weights=any(self.model.state_dict()),
            strict=self._strict,
        )


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
        logits = logits_of(call(self.model, x))
        if self.bank is not None:
            return ranked_like(logits, self.bank.to(logits)[noise], exported=True)
        return ranked_like(logits, logits_of(call(self.model, noise)), exported=True)


def _mark(module: Any, _keys: Any = None) -> None:
    """The bank of a `HampModel` is that of its network's weights as they are."""
    module._made_by = () if module.bank is None else mark_of(module.model)


def _refuse_tracing(given: Inputs) -> None:
    """Raise `UserError` if the call is recorded instead of answered."""
    exporting = getattr(torch.compiler, "is_exporting", lambda: False)()  # from torch 2.7 on
    fake = any(type(t).__name__ == "FakeTensor" for t in tensors(given))
    if torch.jit.is_tracing() or exporting or fake:  # pyright: ignore[reportPrivateImportUsage]
        raise UserError(
            "a traced or exported HampModel would answer with the noise of one call; export hampkit.nn.HampModel.exportable(),"
            " which takes the noise as an input"
        )

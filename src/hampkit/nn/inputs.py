"""What networks take and return: tensors, tuples and dicts of tensors, and objects with logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hampkit.errors import UserError

Inputs = Any  # what the network takes: a tensor, a tuple or list of tensors, or a dict of keyword arguments


def call(model: nn.Module, x: Inputs) -> Any:
    """The output of a network for its inputs."""
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, (tuple, list)) else model(x)


@torch.compiler.disable(recursive=False)  # so that errors of a compiled network are explained too
def answered(model: nn.Module, x: Inputs) -> Any:
    """`call` for a query. Raises: `UserError` if it fails because the inputs are of another type than the network takes."""
    try:
        return call(model, x)
    except (RuntimeError, TypeError) as error:
        if wrong := _of_other_type(model, first(x).dtype, str(error)):
            raise UserError(wrong) from error
        raise


def _of_other_type(model: nn.Module, given: torch.dtype, error: str) -> str:
    """A message for the network's error if the type of the inputs is its cause; empty if it is not."""
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if "'indices'" in error and given.is_floating_point:
        return f"the network takes numbers of rows, such as tokens, and the inputs are {given}; give inputs.long()"
    if own in (None, given) or "type" not in error:
        return ""
    return f"the network's parameters are {own}, and the inputs are {given}; give inputs.to({own})"


def logits_of(output: Any) -> Tensor:
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
            " network with one logit z the logits (0, z), and a single example x as the batch x[None]"
        )
    return logits


def with_logits(output: Any, released: Tensor) -> Any:
    """The released logits, in an object of the output's type if the network returns one."""
    return released if isinstance(output, Tensor) else type(output)(logits=released)


def tensors(x: Inputs) -> list[Tensor]:
    """All tensors of the inputs, in a fixed order; none for inputs of other kinds."""
    if isinstance(x, Tensor):
        return [x]
    if not isinstance(x, (Mapping, tuple, list)):
        return []
    parts = [x[key] for key in sorted(x)] if isinstance(x, Mapping) else list(x)
    return [part for part in parts if isinstance(part, Tensor)]


def first(x: Inputs) -> Tensor:
    """The first tensor of the inputs. Raises: `UserError` without one."""
    found = tensors(x)
    if not found:
        raise UserError(
            f"HampModel got a {type(x).__name__} and no tensor: give inputs as tensors, or a preprocess function that makes"
            " tensors of them"
        )
    return found[0]


def checked(x: Inputs) -> None:
    """Raises: `UserError` for inputs without a tensor, and for tensors that are no batch."""
    first(x)
    if any(part.ndim == 0 for part in tensors(x)):
        raise UserError("HampModel got a tensor of shape (): give a batch of B examples, (B, *shape)")


def only(x: Inputs) -> Tensor:
    """The only tensor of the inputs. Raises: `UserError` for several."""
    if len(tensors(x)) > 1:
        raise UserError(
            "a network with several inputs needs noise= as a function of (n, generator) that returns all of them"
        )
    return first(x)


def moved_to(noise: Inputs, like: Inputs) -> Inputs:
    """The noise on the device of a query, and in its types where both have floating-point numbers."""

    def moved(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor) or not isinstance(b, Tensor):
            return a
        return a.to(b) if a.is_floating_point() and b.is_floating_point() else a.to(b.device)

    if isinstance(noise, Mapping):
        given = like if isinstance(like, Mapping) else {}
        return {key: moved(value, given.get(key, first(like))) for key, value in noise.items()}
    if isinstance(noise, (tuple, list)):
        given = like if isinstance(like, (tuple, list)) else [first(like)] * len(noise)
        return type(noise)(moved(a, b) for a, b in zip(noise, given, strict=True))
    return moved(noise, first(like))


def concatenated(parts: list[Inputs], like: Inputs) -> Inputs:
    """Inputs of single examples as those of all."""
    kind = parts[0] if parts else like
    if isinstance(kind, Mapping):
        return {key: torch.cat([part[key] for part in parts]) for key in kind}
    if isinstance(kind, (tuple, list)):
        return type(kind)(torch.cat(column) for column in zip(*parts, strict=True))
    return torch.cat(parts) if parts else kind

"""The arguments of `HampModel`: each check returns the value, or raises an error with the value and the remedy."""

from __future__ import annotations

import math
import secrets
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from hampkit.defenses.hamp import LARGEST_BANK
from hampkit.errors import UserError, shortened

KEY_BYTES = (16, 64)  # shortest and longest secret
SEEDS = (-(2**63), 2**64 - 1)  # smallest and largest seed of a torch generator


def network_of(given: Any) -> nn.Module:
    """A network. Raises: `UserError` for everything but a `torch.nn.Module`."""
    if isinstance(given, nn.Module):
        return given
    raise UserError(
        f"model={_shown(given)} must be a torch.nn.Module; wrap a function in a module whose forward calls it, and give the"
        " module() of an exported program"
    )


def whole(name: str, given: Any, least: int, most: int, meaning: str) -> int:
    """A whole number in [least, most]. Raises: `UserError` for other values, also for True and False."""
    if isinstance(given, Integral) and not isinstance(given, bool) and least <= int(given) <= most:
        return int(given)
    raise UserError(f"{name}={_shown(given)} must be {meaning}")


def real(name: str, given: Any) -> float:
    """A finite number. Raises: `UserError` for other values, also for True and False."""
    if isinstance(given, Real) and not isinstance(given, bool) and math.isfinite(given):
        return float(given)
    raise UserError(f"{name}={_shown(given)} must be a finite number")


def bank_size(given: Any) -> int:
    """The number of answers to prepare. Raises: `UserError` for a number out of range."""
    return whole("bank", given, 0, LARGEST_BANK, f"0 or the number of answers to prepare, at most {LARGEST_BANK}")


def seed_of(given: Any) -> int:
    """The seed of fresh noise, drawn if not given. Raises: `UserError` for what torch does not take as a seed."""
    if given is None:
        return secrets.randbits(63)
    return whole("seed", given, *SEEDS, "a whole number from -2**63 to 2**64 - 1, or None to have one drawn")


def choice(name: str, given: Any) -> bool:
    """True or False. Raises: `UserError` for other values."""
    if isinstance(given, bool):
        return given
    raise UserError(f"{name}={_shown(given)} must be True or False")


def function_or_none(name: str, given: Any) -> Any:
    """A function, or None. Raises: `UserError` for other values."""
    if given is None or callable(given):
        return given
    raise UserError(f"{name}={_shown(given)} must be a function of the arguments of the call, or None")


def secret_of(given: Any) -> Tensor:
    """The secret (n,) uint8, drawn if not given. Raises: `UserError` for other types than bytes, and other lengths."""
    if given is None:
        given = secrets.token_bytes(32)
    if not isinstance(given, (bytes, bytearray)):
        raise UserError(
            f"secret of type {type(given).__name__} must be bytes, such as secrets.token_bytes(32); a text has encode()"
        )
    stored = torch.tensor(list(given), dtype=torch.uint8)
    if wrong := wrong_secret(stored):
        raise UserError(wrong)
    return stored


def wrong_secret(secret: Any) -> str:
    """Why a value is not a secret (n,) uint8 of 16 to 64 bytes; empty if it is."""
    least, most = KEY_BYTES
    if not isinstance(secret, Tensor) or secret.dtype != torch.uint8 or secret.ndim != 1:
        kind = f"{secret.dtype} {tuple(secret.shape)}" if isinstance(secret, Tensor) else type(secret).__name__
        return (
            f"secret of type {kind} must be a tensor (n,) of torch.uint8, as HampModel(…, keyed=True) makes it of bytes"
        )
    if not least <= len(secret) <= most:
        return f"secret of {len(secret)} bytes must have {least} to {most}, such as secrets.token_bytes(32)"
    return ""


def _shown(given: Any) -> str:
    return shortened(repr(given), 60)

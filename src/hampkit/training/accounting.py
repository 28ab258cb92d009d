"""The privacy budget of training with noisy gradients on Poisson samples, by Opacus's accountants."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

from hampkit.errors import UserError, one_line

NOISE = (0.01, 1e4)  # noise multipliers that the accountants can compute with
PRV_NOISE = 0.3  # lowest one of the accountant prv, which needs too much memory below it
TOLERANCE = 0.01  # how far the epsilon of a training may stay below target_epsilon


@functools.cache
def epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: str = "rdp") -> float:
    """Epsilon at delta after this many noisy steps on Poisson samples, by Opacus's accountant.

    Raises: `UserError` if Opacus is not installed.
    """
    counter = accountants().create_accountant(accountant)
    counter.history = [(noise_multiplier, sample_rate, steps)]
    with (
        warnings.catch_warnings()
    ):  # that a wider range of orders might be tighter: the result is an upper bound anyway
        warnings.simplefilter("ignore", UserWarning)
        return max(0.0, float(counter.get_epsilon(delta)))


@functools.cache
def noise_for(target: float, delta: float, sample_rate: float, steps: int, accountant: str = "rdp") -> float:
    """The smallest noise multiplier found whose epsilon at delta is at most ``target``, by bisection within `NOISE`.

    Opacus's own search has no lower limit, and its accountants fail for very small noise.

    Raises: `UserError` if the noise would lie outside `NOISE` or below `PRV_NOISE` for the accountant prv.
    """
    least = PRV_NOISE if accountant == "prv" else NOISE[0]

    def spent(noise: float) -> float:
        return epsilon(noise, sample_rate, steps, delta, accountant)

    # rdp's epsilon is an upper bound of prv's, which takes minutes to compute for the least noise
    reached = epsilon(least, sample_rate, steps, delta, "rdp")
    if reached <= target:
        raise _target_too_large(target, reached, least, accountant)
    high, found = _enough_noise(spent, target)
    if found > target:
        raise _target_too_small(target, found, lambda: epsilon(high, sample_rate, steps, delta, "prv"), accountant)
    low = 0.0
    while target - found > TOLERANCE and high - low > 1e-9 * high:
        middle = max((low + high) / 2, least)
        reached = spent(middle)
        if reached >= target:
            low = middle
        elif middle == least:
            raise _target_too_large(target, reached, least, accountant)
        else:
            high, found = middle, reached
    return high


def _enough_noise(spent: Callable[[float], float], target: float) -> tuple[float, float]:
    """A noise multiplier with an epsilon of at most ``target``, found by doubling, or the most noise; and the epsilon spent."""
    noise, most = 20.0, NOISE[1]
    while (found := spent(noise)) > target and noise < most:
        noise = min(2 * noise, most)
    return noise, found


def _target_too_small(target: float, found: float, by_prv: Callable[[], float], accountant: str) -> UserError:
    """The error for a target that no noise reaches; by_prv: the least epsilon of the tighter accountant."""
    tighter = "take defense.accountant=prv, or " if accountant == "rdp" and by_prv() <= target else "take "
    return UserError(
        f"defense.target_epsilon={target} cannot be reached with defense.accountant={accountant}, whose bound stays at"
        f" {found:.4g} with any noise; {tighter}target_epsilon={_rounded_up(found)} or more"
    )


def _rounded_up(value: float) -> str:
    """A number of two digits that is a little larger.

    >>> _rounded_up(0.1029), _rounded_up(54.09)
    ('0.11', '55')
    """
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{(math.floor(value / digit) + 1) * digit:.2g}"


def _target_too_large(target: float, reached: float, least: float, accountant: str) -> UserError:
    return UserError(
        f"defense.target_epsilon={target} is more than training spends with {least}, the least noise that"
        f" defense.accountant={accountant} can compute with (epsilon {reached:.4g}); take a smaller one"
        + (", or defense.accountant=rdp" if accountant == "prv" else "")
    )


def accountants() -> Any:
    """The module of Opacus's accountants."""
    try:
        from opacus import accountants as found
    except ImportError as error:
        raise UserError(
            f"dp-sgd computes its privacy budget with Opacus, which cannot be imported ({one_line(error)}); pip install"
            " 'hampkit[dp]'"
        ) from None
    return found

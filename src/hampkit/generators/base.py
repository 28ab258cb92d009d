"""What a generator is: it learns from the members of one model, and makes inputs that look like them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from hampkit.errors import UserError, shortened
from hampkit.types import Dataset, Domain


class Generator(ABC):
    """Subclasses are frozen dataclasses; their fields are the generator's options."""

    name: ClassVar[str]
    paper: ClassVar[str]
    about: ClassVar[str]  # one line for `hampkit list generators`

    def check(self, data: Dataset) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse what would make `sample` fail for members of these data, before a teacher is trained. Errors: `UserError`."""

    @abstractmethod
    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        """Raw inputs (count, *shape) on the CPU, in the members' dtype and domain, from nothing but these rows and the seed.

        ``members`` holds the training rows of one model; what is computed is computed on the device. Errors: `UserError`.
        """


def on_domain(x: Tensor, domain: Domain, dtype: torch.dtype) -> Tensor:
    """Rows (N, *shape) moved to the nearest inputs there are; of a one-hot group the largest column becomes 1.

    A half is rounded up: binary features become 1 at 0.5 and above, as published.
    """
    low, high, step = (t.double() for t in (domain.low, domain.high, domain.step))
    x = torch.nan_to_num(x.double()).maximum(low).minimum(high)
    stepped = low + ((x - low) / step.clamp_min(1e-12) + 0.5).floor() * step
    out = torch.where(step > 0, stepped, x)
    for start, stop in domain.groups:
        out[:, start:stop] = nn.functional.one_hot(x[:, start:stop].argmax(1), stop - start).to(out)
    return out.minimum(high).to(dtype)


def within(name: str, **options: tuple[float, float, float]) -> None:
    """Errors: `UserError` for an option, given as (value, smallest, largest), that lies outside or is no number."""
    for option, (value, least, most) in options.items():
        if not least <= value <= most:
            raise UserError(
                f"generator {name}: {option}={shortened(str(value), 40)} must be at least {least:g} and at most {most:g}"
            )

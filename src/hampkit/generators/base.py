"""The base class of generators: fitted to the members of one model, they draw synthetic inputs that resemble them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from hampkit.errors import UserError, shortened
from hampkit.types import Dataset, Domain


class Generator(ABC):
    """A source of synthetic inputs. Subclasses are frozen dataclasses, whose fields are the generator's options.

    Raises: `UserError` for an option out of its range.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    about: ClassVar[str]  # one line for `hampkit list generators`

    def check(self, data: Dataset) -> None:  # noqa: B027 - most have nothing to refuse
        """Check that members of these data can be sampled from, before a teacher is trained.

        Raises: `UserError` for whatever would make `sample` fail.
        """

    @abstractmethod
    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        """Draw raw inputs (count, *shape) on the CPU, in the members' dtype and domain, from these rows and the seed alone.

        members: the training rows of one model. device: for the computation.

        Raises: `UserError` for members that the generator cannot be fitted to.
        """


def on_domain(x: Tensor, domain: Domain, dtype: torch.dtype) -> Tensor:
    """Rows (N, *shape) moved to the nearest point of the domain; in a one-hot group the largest column becomes 1.

    Half a step is rounded up: binary features become 1 from 0.5 on, as published.
    """
    low, high, step = (t.double() for t in (domain.low, domain.high, domain.step))
    x = torch.nan_to_num(x.double()).maximum(low).minimum(high)
    stepped = low + ((x - low) / step.clamp_min(1e-12) + 0.5).floor() * step
    out = torch.where(step > 0, stepped, x)
    for start, stop in domain.groups:
        out[:, start:stop] = nn.functional.one_hot(x[:, start:stop].argmax(1), stop - start).to(out)
    return out.minimum(high).to(dtype)


def within(name: str, **options: tuple[float, float, float]) -> None:
    """Check options given as (value, smallest, largest).

    Raises: `UserError` for a value that is out of range or not a number.
    """
    for option, (value, least, most) in options.items():
        if not least <= value <= most:
            raise UserError(
                f"generator {name}: {option}={shortened(str(value), 40)} must be at least {least:g} and at most {most:g}"
            )

"""Tables from the conditional generative adversarial network of the package ctgan, which is an optional dependency."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hampkit.errors import UserError, one_line
from hampkit.generators.base import Generator, on_domain, within
from hampkit.generators.columns import Columns
from hampkit.rng import derive, forked
from hampkit.types import Dataset

CHUNK = 8192  # rows drawn at once


@dataclass(frozen=True)
class CTGAN(Generator):
    """CTGAN fitted to the members' features without their labels, as published.

    The package ctgan is source-available under the Business Source License, which is not an open-source licence; it is an
    optional dependency. The published settings are ``discrete=false`` (binary features are treated as numbers, and synthetic
    ones become 1 from 0.5 on), for Location30 with 100 epochs, batches of 128 and pac 64, for Texas100 with 50, 256 and 128.
    """

    name: ClassVar[str] = "ctgan"
    paper: ClassVar[str] = "https://arxiv.org/abs/1907.00503"
    about: ClassVar[str] = "tables: CTGAN; pip install 'hampkit[ctgan]' (source-available, not open source)"

    epochs: int = 100  # passes over the members
    batch_size: int = 128  # rows; even, and a multiple of pac
    pac: int = 64  # rows that the discriminator judges together
    discrete: bool = (
        True  # columns with at most most_values values are categories; False: all are numbers, as published
    )
    most_values: int = 32  # a column with more values is numeric

    def __post_init__(self) -> None:
        # the size of the discriminator's first layer grows with pac, and its memory with batch_size and most_values too
        ends = {"epochs": (1, 10_000), "batch_size": (2, 8192), "pac": (1, 256), "most_values": (2, 256)}
        within(self.name, **{option: (getattr(self, option), *both) for option, both in ends.items()})
        if self.batch_size % 2 or self.batch_size % self.pac:
            raise UserError(
                f"generator ctgan: batch_size={self.batch_size} must be even and a multiple of pac={self.pac}"
            )

    def check(self, data: Dataset) -> None:
        if len(data.shape) != 1 or not len(data):
            raise UserError(
                f"generator ctgan makes rows of a table; {len(data)} examples of {data.name} have shape"
                f" {data.shape}: take generator dcgan"
            )
        self._model(torch.device("cpu"))

    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        self.check(members)
        model = self._model(device)
        model.set_random_state(derive(seed, self.name) % 2**32)
        columns = Columns.of(members.domain, self.most_values)
        x = members.x.cpu()
        categories = columns.categories(x) if self.discrete else torch.empty(len(x), 0, dtype=torch.int64)
        numbers = columns.numbers(x) if self.discrete else x.double()
        with forked(derive(seed, self.name, "fit")):  # the package also draws from torch's global generator
            model.fit(torch.cat([categories, numbers], 1).numpy(), tuple(range(categories.shape[1])))
            parts = [torch.as_tensor(model.sample(n)).double() for n in _chunks(count)]
        rows = torch.cat(parts) if parts else torch.empty(0, categories.shape[1] + numbers.shape[1]).double()
        if self.discrete:
            hot, rest = rows.split([categories.shape[1], numbers.shape[1]], 1)
            rows = columns.rows(hot.round().long(), rest)
        return on_domain(rows, members.domain, members.x.dtype)

    def _model(self, device: torch.device) -> Any:
        return _model(device, epochs=self.epochs, batch_size=self.batch_size, pac=self.pac)


def _model(device: torch.device, **options: Any) -> Any:
    """The package's model on this device.

    Raises: `UserError` if the package is not installed.
    """
    try:
        import ctgan  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise UserError(
            f"generator ctgan: {one_line(error)}; pip install 'hampkit[ctgan]' (source-available, not open source), or take"
            " generator bernoulli-mixture"
        ) from error
    parameters = inspect.signature(ctgan.CTGAN).parameters
    switch = "enable_gpu" if "enable_gpu" in parameters else "cuda"  # its name until 0.11
    return ctgan.CTGAN(**options, **{switch: device.type == "cuda"})


def _chunks(count: int) -> list[int]:
    return [min(CHUNK, count - start) for start in range(0, count, CHUNK)]

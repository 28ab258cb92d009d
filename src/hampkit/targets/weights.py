"""A published checkpoint as a foreign model: weights in a file, of a network that hampkit has too.

Files are safetensors, or checkpoints of torch that are read with ``weights_only=True``, so that no code in them is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hampkit.data.table_values import listed
from hampkit.errors import UserError, one_line
from hampkit.nets.normalize import Normalize
from hampkit.targets.base import Given
from hampkit.targets.module import module_answers
from hampkit.targets.records import Records
from hampkit.types import Dataset

CHECKPOINTS = (".tar", ".pth", ".pt", ".ckpt", ".bin")
PREFIXES = ("module.", "_module.")  # of nn.DataParallel, and of Opacus
SAFE = (
    "save the state dict as safetensors where you trust the file: safetensors.torch.save_file(model.state_dict(), path)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, and the network that they are of."""

    file: Path
    net: str  # its name, for messages
    module: nn.Module  # with new weights, on the device that answers
    data: str  # the name of the data set, for messages


def given_of_weights(
    checkpoint: Checkpoint, pool: Dataset, n_members: int, title: str, notes: tuple[str, ...]
) -> Given:
    """The answers of the network with these weights about the records of a pool, of which the first ``n_members`` are members.

    Raises: `UserError` for a file that cannot be read safely, and for weights of another network.
    """
    module = with_weights(checkpoint)
    names = pool.classes or tuple(map(str, range(pool.num_classes)))
    member = np.arange(len(pool)) < n_members
    group = None if pool.group is None else pool.group.numpy()
    records = Records(pool.y.numpy(), member, names, pool.x, group, domain=pool.domain)
    name = title or checkpoint.file.name.partition(".")[0]
    answers = module_answers(module, pool.x.float())
    return Given(name, f"the answers of {name}", records, answers, "weights", "logits", notes=notes)


def with_weights(checkpoint: Checkpoint) -> nn.Module:
    """The network with the weights of the file.

    Raises: `UserError`.
    """
    state, module = read_weights(checkpoint.file), checkpoint.module
    first = module[0] if isinstance(module, nn.Sequential) else None
    if isinstance(first, Normalize) and set(state) != set(module.state_dict()):
        if first.own:
            raise UserError(
                f"{checkpoint.file} lacks the means and deviations by which data={checkpoint.data} is standardised, 0.mean and"
                " 0.std; save the state dict of the whole network"
            )
        module = module[1]  # pyright: ignore[reportIndexIssue]
    _check(checkpoint, state, module.state_dict())
    module.load_state_dict(state, strict=False)  # checked before: only counts of batches may be missing
    return checkpoint.module


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, wrapped in ``state_dict`` or not, without the prefix ``module.``.

    Raises: `UserError` for another kind of file, and for one that holds more than weights and plain values.
    """
    path = Path(file)
    found = _read(path)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} holds no state dict, from names to tensors; {SAFE}")
    state = {str(key): value for key, value in found.items()}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # of a library of its own
            raise UserError(f"cannot read {path}: {one_line(error)}; is it a complete .safetensors file?") from None
    if suffix not in CHECKPOINTS:
        raise UserError(
            f"{path} is no file of weights; give a .safetensors file, or a checkpoint of torch (.pth.tar, .pth, .pt)"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"cannot read {path} without running code in it: {one_line(error, 120)}; {SAFE}") from None


def _check(checkpoint: Checkpoint, state: Mapping[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Check names and shapes. Raises: `UserError` that names the first that differ."""
    of = f"net={checkpoint.net} for data={checkpoint.data}"
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    more = [key for key in state if key not in wanted]
    if missing or more:
        said = [f"lacks {listed(missing, 4)}"] if missing else []
        said += [f"has {listed(more, 4)} beside the weights"] if more else []
        raise UserError(f"{checkpoint.file} {' and '.join(said)} of {of}; give the network that was trained")
    shapes = {key: (tuple(state[key].shape), tuple(wanted[key].shape)) for key in wanted if key in state}
    wrong = {key: both for key, both in shapes.items() if both[0] != both[1]}
    last = next((key for key in reversed(wanted) if key.endswith(".weight")), "")
    if last in wrong and wrong[last][0][1:] == wrong[last][1][1:]:
        found, right = wrong[last]
        raise UserError(
            f"{checkpoint.file} answers {found[0]} classes, and data={checkpoint.data} has {right[0]}; give the data set"
            " that the network was trained on"
        )
    for key, (found, right) in wrong.items():
        raise UserError(
            f"{key} of {checkpoint.file} has shape {found}, and {right} in {of}; give the network that was trained"
        )

"""Networks of the package timm, an optional dependency, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hampkit.errors import UserError, did_you_mean, one_line

PREFIX = "timm:"


def timm_net(name: str) -> Callable[[tuple[int, ...], int], Any]:
    """A factory of timm's network ``name`` with untrained weights, called with shape and number of classes.

    Raises: `UserError` if timm is not installed or has no network of this name.
    """
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise UserError(f"net={PREFIX}{name}: {one_line(error)}; pip install 'hampkit[timm]'") from error
    except Exception as error:  # most often a torchvision that was built for another torch
        raise UserError(
            f"net={PREFIX}{name}: cannot import timm ({one_line(error, named=True)}); install the torchvision for your"
            " version of torch"
        ) from error
    known = timm.list_models()
    if name not in known:
        hint = did_you_mean(name, known)
        all_of_them = "timm.list_models() names all"  # over a thousand: not in one line
        raise UserError(f"unknown network {PREFIX + name!r}; {hint if hint.startswith('did') else all_of_them}")
    return lambda shape, classes: timm.create_model(name, pretrained=False, in_chans=shape[0], num_classes=classes)

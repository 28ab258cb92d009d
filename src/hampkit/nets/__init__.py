"""Networks by name, or a user's own by import path."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from hampkit.errors import UserError, did_you_mean
from hampkit.nets.mlp import MLP
from hampkit.nets.normalize import Normalize
from hampkit.registry import load_object

Factory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Net:
    about: str
    build: Callable[[tuple[int, ...], int], nn.Module]  # shape of one example, number of classes → network


def _mlp(hidden: tuple[int, ...]) -> Callable[[tuple[int, ...], int], nn.Module]:
    return lambda shape, classes: MLP(shape, classes, hidden)


NETS: dict[str, Net] = {
    "mlp": Net("tabular MLP of the publication: 1024-512-256-128, tanh", _mlp((1024, 512, 256, 128))),
    "mlp-small": Net("a modest MLP for small tables: 256-128, tanh", _mlp((256, 128))),
}


def net_factory(name: str, shape: tuple[int, ...], num_classes: int, normalize: Normalize | None = None) -> Factory:
    """A factory of fresh networks for inputs of this shape, with ``normalize`` in front where one is given."""
    build = _own(name) if ":" in name else _registered(name)
    return functools.partial(_build, build, shape, num_classes, normalize)


def _build(
    build: Callable[[tuple[int, ...], int], Any],
    shape: tuple[int, ...],
    classes: int,
    normalize: Normalize | None,
) -> nn.Module:
    net = build(shape, classes)
    if not isinstance(net, nn.Module):
        raise UserError(f"the network factory returned a {type(net).__name__}; it must return a torch.nn.Module")
    return net if normalize is None else nn.Sequential(normalize.fresh(), net)


def _registered(name: str) -> Callable[[tuple[int, ...], int], nn.Module]:
    if name not in NETS:
        raise UserError(
            f"unknown network {name!r}; {did_you_mean(name, NETS)} (one of your own: net=package.module:factory)"
        )
    return NETS[name].build


def _own(path: str) -> Callable[[tuple[int, ...], int], Any]:
    """A user's factory: called with (shape, classes) where it takes two arguments, else without any."""
    factory = load_object(path)
    if not callable(factory) or isinstance(factory, nn.Module):
        raise UserError(
            f"net={path} is a {type(factory).__name__}; it must be a function or class that makes a network"
        )
    try:
        inspect.signature(factory).bind((1,), 2)
    except (TypeError, ValueError):  # it takes no two arguments, or nobody can say which
        return lambda shape, classes: factory()
    return factory

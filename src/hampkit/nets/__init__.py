"""Network factories: registered networks by name, those of timm, and a user's own by import path."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from hampkit.errors import UserError, did_you_mean
from hampkit.nets.convnet_gn import ConvNetGN
from hampkit.nets.densenet import DenseNet
from hampkit.nets.from_timm import PREFIX, timm_net
from hampkit.nets.mlp import MLP
from hampkit.nets.normalize import Normalize
from hampkit.nets.resnet9 import ResNet9
from hampkit.nets.wideresnet import WideResNet
from hampkit.registry import load_own

Factory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Net:
    """A registered network."""

    about: str
    build: Callable[[tuple[int, ...], int], nn.Module]  # shape of one example, number of classes → network
    side: int = 0  # smallest height and width of an image network's inputs; 0: inputs of any shape


def _with(cls: type[nn.Module], **options: Any) -> Callable[[tuple[int, ...], int], nn.Module]:
    return lambda shape, classes: cls(shape, classes, **options)


NETS: dict[str, Net] = {
    "mlp": Net("tabular MLP of the publication: 1024-512-256-128, tanh", _with(MLP, hidden=(1024, 512, 256, 128))),
    "mlp-small": Net("a modest MLP for small tables: 256-128, tanh", _with(MLP, hidden=(256, 128))),
    "densenet": Net("image network of the publication: DenseNet-BC-100-12, 0.8 M weights, slow", _with(DenseNet), 8),
    "densenet-small": Net(
        "a small DenseNet for quick trials: DenseNet-BC-22-8, 33 k weights", _with(DenseNet, depth=22, growth=8), 8
    ),
    "convnet-gn": Net("small image network with group norm, 0.3 M weights; for dp-sgd", _with(ConvNetGN), 8),
    "resnet9": Net("fast image network of nine layers, 6.6 M weights", _with(ResNet9), 16),
    "wrn-16-4": Net("wide residual network for images, 2.7 M weights", _with(WideResNet, depth=16, widen=4), 8),
    "wrn-28-2": Net("wide residual network for images, 1.5 M weights", _with(WideResNet, depth=28, widen=2), 8),
    "wrn-28-10": Net("wide residual network for images, 36 M weights", _with(WideResNet, depth=28, widen=10), 8),
}


def net_factory(name: str, shape: tuple[int, ...], num_classes: int, normalize: Normalize | None = None) -> Factory:
    """A factory of new networks for inputs of this shape, with a copy of ``normalize`` in front if it is given.

    name: of a registered network, ``timm:NAME``, or ``package.module:factory``.

    Raises: `UserError` for an unknown name, a module that cannot be imported, or inputs that do not fit the network.
    """
    if name.startswith(PREFIX):
        build = timm_net(name.removeprefix(PREFIX))
        _check_images(name, shape, 1)  # the dry run finds images that are too small
    elif ":" in name:
        build = _own(name)
    else:
        build = _registered(name).build
        _check_images(name, shape, NETS[name].side)
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


def _check_images(name: str, shape: tuple[int, ...], side: int) -> None:
    if not side:
        return
    if len(shape) != 3:
        raise UserError(
            f"net={name} is for images of shape (channels, height, width); these examples have shape {shape}: take net=mlp"
        )
    if min(shape[1:]) < side:
        raise UserError(
            f"net={name} needs images of at least {side} × {side}; these have shape {shape}: take net=mlp, or larger images"
        )


def _registered(name: str) -> Net:
    if name not in NETS:
        raise UserError(
            f"unknown network {name!r}; {did_you_mean(name, NETS)} (one of your own: net=package.module:factory)"
        )
    return NETS[name]


def _own(path: str) -> Callable[[tuple[int, ...], int], Any]:
    """A user's factory: called with (shape, classes) if it takes two arguments, else without arguments."""
    factory = load_own(path)
    if not callable(factory) or isinstance(factory, nn.Module):
        raise UserError(
            f"net={path} is a {type(factory).__name__}; it must be a function or class that returns a network"
        )
    try:
        inspect.signature(factory).bind((1,), 2)
    except (TypeError, ValueError):  # it does not take two arguments, or has no signature
        return lambda shape, classes: factory()
    return factory

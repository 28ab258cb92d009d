"""Memory format of images and number of rows per forward pass: they affect the speed, not what is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hampkit.types import Stack

MOST_ROWS, FEWEST_ROWS = 4096, 16  # per forward pass
BLOCK = 2**28  # bytes of activations per forward pass


def prefers_channels_last(stack: Stack, device: torch.device) -> bool:
    """Whether channels last is faster for these networks: a single one with convolutions, on a CPU.

    Measured by ``python -m benchmarks.images``.
    """
    return device.type == "cpu" and len(stack) == 1 and any(p.ndim == 5 for p in stack.params.values())


def channels_last(t: Tensor) -> Tensor:
    """A tensor (1, A, channels, height, width) with its channels last in memory; tensors of other ranks are unchanged."""
    return t.squeeze(0).contiguous(memory_format=torch.channels_last).unsqueeze(0) if t.ndim == 5 else t


def arranged(stack: Stack, device: torch.device) -> Stack:
    """The same networks, with weights in channels-last format where that is faster."""
    if not prefers_channels_last(stack, device):
        return stack
    return replace(stack, params={k: channels_last(p) for k, p in stack.params.items()})


def rows_at_once(net: nn.Module, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> int:
    """Rows per forward pass for examples of this shape: a power of 2 whose activations take at most `BLOCK` bytes.

    The number depends on the network and not on the machine, because the last digits of a product depend on the number of rows.
    """
    size = math.prod(shape) * torch.finfo(dtype).bits // 8
    if len(shape) == 3:
        size = max(size, _activations(net, shape, dtype))
    rows = 2 ** int(math.log2(max(BLOCK // max(size, 1), 1)))
    return min(max(rows, FEWEST_ROWS), MOST_ROWS)


@torch.no_grad()
def _activations(net: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes per example of the outputs of all layers of a network, in evaluation mode."""
    found = 0

    def count(layer: nn.Module, args: object, out: object) -> None:
        nonlocal found
        found += out.numel() * out.element_size() if isinstance(out, Tensor) else 0

    training = net.training
    hooks = [layer.register_forward_hook(count) for layer in net.modules() if not list(layer.children())]
    try:
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        net.eval()(torch.zeros((2, *shape), dtype=dtype, device=device))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return found // 2

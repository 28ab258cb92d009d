"""Operations of the trainer on stacks: initialise, merge, replace single models, move to a device."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from hampkit.errors import UserError
from hampkit.nets.normalize import Normalize
from hampkit.rng import derive, forked
from hampkit.types import Stack, Task

NOT_FINITE = "its loss or its weights became infinite or NaN"


def initial(task: Task, members: list[Tensor], device: torch.device) -> Stack:
    """Untrained networks, each initialised from its model's seed; members: per model, rows (n,) of the pool.

    Raises: `UserError` for a network without trainable parameters.
    """
    nets = [_seeded(task, m, rows) for m, rows in enumerate(members)]
    first = dict(nets[0].named_parameters())
    trained = [k for k, p in first.items() if p.requires_grad]
    # frozen parameters are kept with the buffers
    held = [k for k in (*dict(nets[0].named_buffers()), *first) if k not in trained]
    params, buffers = ({k: torch.stack([_tensors(n)[k] for n in nets]) for k in names} for names in (trained, held))
    if not params:
        raise UserError(f"the network {type(nets[0]).__name__} has no parameters to train")
    return on_device(Stack(copy.deepcopy(nets[0]), params, buffers), device)


def normalises_batches(net: nn.Module) -> bool:
    """Whether a network has batch norm or instance norm. Batch norm sees padding, so its batches all have the same size."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    return any(isinstance(m, norms) for m in net.modules())


def merged(first: Tensor, a: Stack, b: Stack) -> Stack:
    """A stack with model m of a where first[m] is true, else of b; first: (M,) bool."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(first.view(-1, *(1,) * (x.ndim - 1)), x, y)

    return replace(
        a,
        params={k: pick(v, b.params[k]) for k, v in a.params.items()},
        buffers={k: pick(v, b.buffers[k]) for k, v in a.buffers.items()},
    )


def with_models(stack: Stack, places: list[int], new: Stack) -> Stack:
    """The stack with model places[j] replaced by model j of ``new``; histories list every seed that was tried.

    A model that learnt nothing is not replaced by one with infinite or NaN numbers.
    """
    params, buffers = ({k: v.clone() for k, v in group.items()} for group in (stack.params, stack.buffers))
    history = list(stack.history)
    for j, m in enumerate(places):
        tried, more = history[m].seeds, new.history[j].seeds
        if new.history[j].diverged == NOT_FINITE != history[m].diverged:
            history[m] = replace(history[m], seeds=(*tried[:-1], *more, tried[-1]))
            continue
        for group, fresh in ((params, new.params), (buffers, new.buffers)):
            for k in group:
                group[k][m] = fresh[k][j]
        history[m] = replace(new.history[j], seeds=tried + more)
    return replace(stack, params=params, buffers=buffers, history=tuple(history))


def on_device(stack: Stack, device: torch.device) -> Stack:
    """The stack with its network and all tensors (M, *shape) on the device."""
    params, buffers = ({k: v.to(device) for k, v in group.items()} for group in (stack.params, stack.buffers))
    return replace(stack, net=stack.net.to(device), params=params, buffers=buffers)


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return {k: t.detach() for k, t in (*net.named_parameters(), *net.named_buffers())}


def _seeded(task: Task, m: int, rows: Tensor) -> nn.Module:
    with forked(derive(task.seeds[m], "init")):
        net = task.net()
    for layer in net.modules():
        if isinstance(layer, Normalize) and layer.own:
            layer.fit(task.pool.x[rows.to(task.pool.x.device)].cpu())
    return net

"""A PyTorch module as a foreign model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hampkit.errors import UserError, one_line

BATCH = 1024  # rows that are asked for at once


def module_answers(net: nn.Module, x: Any) -> Any:
    """The answers (N, C) of a module in evaluation mode to inputs (N, …), on the device of its weights.

    An output with ``logits``, as Hugging Face's models give, is answered by those. The mode of the module is restored.
    Raises: `UserError` if the module cannot be run on these inputs, or answers in another shape.
    """
    if not isinstance(x, (np.ndarray, Tensor)):
        raise UserError(
            "a PyTorch module needs numbers as inputs, and the table has columns of text; give --inputs encoded, or a factory"
            " that returns a function of the data frame"
        )
    inputs = torch.as_tensor(x)
    first = next(iter([*net.parameters(), *net.buffers()]), torch.zeros(0))
    modes = [(part, part.training) for part in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            parts = [_answer(net, rows.to(first.device)) for rows in inputs.split(BATCH)]
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the module is the user's: it may raise anything
        raise UserError(
            f"{type(net).__name__} cannot answer inputs of shape {tuple(inputs.shape)}, {inputs.dtype}:"
            f" {one_line(error, named=True)}; give what it was trained on"
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    return np.concatenate(parts)


def _answer(net: nn.Module, rows: Tensor) -> Any:
    out = net(rows)
    out = getattr(out, "logits", out)
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != len(rows):
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UserError(f"{type(net).__name__} answers {found} to {len(rows)} inputs; it must be (records, classes)")
    return out.double().cpu().numpy()

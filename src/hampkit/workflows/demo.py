"""The demonstration of audits: a made-up model that memorises its training data, and one that does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hampkit.rng import derive, numpy_rng
from hampkit.targets.base import Given
from hampkit.targets.model import Foreign, given_of
from hampkit.targets.model_inputs import Rows

ROWS = 2000  # half of them members
FEATURES = 10
NOISE = 1.0  # standard deviation of what the label has beside the features, in their units


def demonstration(seed: int) -> tuple[Given, Given]:
    """What an audit gets of the two models: a forest whose trees grow to the last record, and a logistic regression.

    Both are trained on the same members. Labels are noisy, so that only memory predicts all of them: a positive control, which
    every audit must find, and a control that it must not.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    rows = _rows(seed)
    x, y = rows.inputs[rows.member], np.asarray(rows.labels)[rows.member]
    state = derive(seed, "demo") % 2**31
    models: dict[str, Any] = {
        "demo-memorises": RandomForestClassifier(100, random_state=state).fit(x, y),
        "demo-generalises": LogisticRegression().fit(x, y),
    }
    first, second = (given_of(Foreign(title, model), rows) for title, model in models.items())
    return first, second


def _rows(seed: int) -> Rows:
    rng = numpy_rng(derive(seed, "demo", "rows"))
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    y = (x[:, :3].sum(1) + NOISE * rng.normal(size=ROWS) > 0).astype(int)
    return Rows(x, torch.from_numpy(x), y.tolist(), np.arange(ROWS) < ROWS // 2)

"""The demonstration of audits: a made-up model that memorises the members, and one that was trained on other records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from hampkit.rng import derive, numpy_rng
from hampkit.targets.base import Given
from hampkit.targets.model import Foreign, given_of
from hampkit.targets.model_inputs import Rows

ROWS = 3000  # a third of them members, a third non-members, a third for the other model
FEATURES = 10


def demonstration(seed: int) -> tuple[Given, Given]:
    """What an audit gets of the two models, forests whose trees grow to the last record.

    One is trained on the members, and labels are noisy, so that it must memorise them: a positive control, which every audit must
    find. The other is trained on other records: whatever it memorises, its answers depend on no membership. At most one in twenty
    audits of such a model finds a leak.
    """
    from sklearn.ensemble import RandomForestClassifier

    x, y = _records(seed)
    third = ROWS // 3
    audited = Rows(
        x[: 2 * third], torch.from_numpy(x[: 2 * third]), y[: 2 * third].tolist(), np.arange(2 * third) < third
    )
    given = []
    for title, rows in (("demo-memorises", slice(0, third)), ("demo-other-records", slice(2 * third, ROWS))):
        forest = RandomForestClassifier(100, random_state=derive(seed, title) % 2**31).fit(x[rows], y[rows])
        given.append(replace(given_of(Foreign(title, forest), audited), way="demo"))
    first, second = given
    return first, second


def _records(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) float32 and labels (N,), half of whose variance is noise."""
    rng = numpy_rng(derive(seed, "demo", "rows"))
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    return x, (x[:, :3].sum(1) + np.sqrt(3) * rng.normal(size=ROWS) > 0).astype(int)

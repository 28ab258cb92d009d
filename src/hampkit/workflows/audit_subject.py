"""A foreign model as the attacks of an audit see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks import Shadows
from hampkit.config.sections import JudgeConfig
from hampkit.data.copies import first_alike
from hampkit.judging.case import Case, Pool, build_case
from hampkit.targets.base import Audited
from hampkit.workflows.attack import NULL_ATTACK
from hampkit.workflows.audit_attacks import Evident

NULL_OF_SCORES = "loss-per-class"  # it fits thresholds too, and published scores have no entropy


@dataclass(frozen=True)
class Subject:
    """A foreign model as the attacks see it."""

    target: Audited
    judge: JudgeConfig
    seed: int

    @cached_property
    def once(self) -> NDArray[np.bool_]:
        """(P,) the records that take part: of records with equal inputs only the first, a member if any is.

        Canaries all take part, as each has a coin of its own.
        """
        n = len(self.target.pool)
        alike = self.target.alike
        if self.target.canaries or self.judge.copies == "keep" or (alike is None and not self.target.has_inputs):
            return np.ones(n, dtype=bool)
        alike = first_alike(self.target.pool.x) if alike is None else alike
        return np.isin(np.arange(n), np.unique(alike, return_index=True)[1])

    @cached_property
    def case(self) -> Case:
        target = self.target
        group = target.pool.group  # a person may have members and non-members, which count as two groups then
        pool = Pool(target.pool, int(target.membership.sum()), self.once, None if group is None else group.numpy())
        case = build_case(pool, target.views, self.judge, self.seed)
        return case.holding(self.others, None, dict(target.probes) if target.probes else None)

    @property
    def known_group(self) -> NDArray[np.int64] | None:
        """(K,) the groups of the known records; None without groups."""
        known, group = self.case.evidence.known, self.target.pool.group
        return None if group is None or known is None or known.rows is None else group.numpy()[known.rows.numpy()]

    @cached_property
    def shadows(self) -> Shadows | None:
        """The shadow models as evidence about all records."""
        found = self.target.shadows
        if found is None:
            return None
        models, n = found.members.shape
        empty = np.empty((models, 0), dtype=np.float32)
        probes = {probe: (kept,) for probe, kept in found.probes.items()}
        return Shadows((found.signals,), found.members, empty, np.arange(n), np.arange(models), probes=probes)

    @property
    def others(self) -> Shadows | None:
        """The shadow models that attack the target: all of them, or as in leave-one-out if the target is one of them."""
        t = self.target.as_target
        return self.shadows if t is None or self.shadows is None else self.shadows.without(t)

    @property
    def answers(self) -> dict[str, Any]:
        """What an attack may use of the answers, see `hampkit.workflows.audit_attacks.unfit`."""
        return {"answers": self.target.scale.kind, "labels": self.target.has_labels}

    @property
    def evident(self) -> Evident:
        """The evidence that attacks may use."""
        target = self.target
        return Evident(self.case, self.answers, target.way == "train", target.failed, target.labels_only)

    @property
    def null_attack(self) -> str:
        """The attack that must find nothing on shuffled membership."""
        return NULL_OF_SCORES if self.target.scale.kind == "scores" else NULL_ATTACK

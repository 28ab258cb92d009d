"""An adversary's evidence about one target, and beside it the truth: candidates, known examples, the null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.attacks import Attack, Evidence, Known, Population, Reference, Shadows
from hampkit.config.sections import JudgeConfig
from hampkit.data.candidates import Candidates, candidates
from hampkit.rng import derive, numpy_rng
from hampkit.types import Dataset, Probe

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pool:
    """The rows that may be known or judged, and which of them are members."""

    data: Dataset  # P rows, members first
    n_members: int
    once: Bools | None = None  # (P,) the rows that take part, see `hampkit.data.candidates`; default: all
    # (P,) rows with one value are not independent, such as copies; default: the groups of the data. Members and non-members of
    # one unit count as two groups: what they have in common raises both sides alike, so that an AUC varies less, not more
    units: NDArray[np.int64] | None = None

    def chosen(self, judge: JudgeConfig) -> Candidates:
        """The rows that are known, and those that are judged."""
        once = np.ones(len(self.data), dtype=bool) if self.once is None else self.once
        return candidates(once, self.n_members, judge, self.data.group)

    def groups(self, rows: NDArray[np.int64], member: Bools) -> NDArray[np.int64] | None:
        """(N,) the groups of rows (N,), each of members or of non-members alone; None if there are no groups."""
        if self.units is not None:
            return _of_one_side(self.units[rows], member)
        return None if self.data.group is None else self.data.group.numpy()[rows]


@dataclass(frozen=True)
class Case:
    """An adversary's evidence and the true membership, which no attack sees."""

    evidence: Evidence
    member: Bools  # (N,) of the candidates
    known_member: Bools  # (K,) of the known examples
    group: NDArray[np.int64] | None = None  # (N,) of the candidates: groups are independent, rows of one group are not
    rows: NDArray[np.int64] | None = None  # (N,) the candidates' places in the pool

    def groups(self) -> dict[str, int]:
        """The numbers of groups of judged members and non-members; empty if there are no groups."""
        if self.group is None:
            return {}
        sides = {"members": self.member, "nonmembers": ~self.member}
        return {name: len(np.unique(self.group[side])) for name, side in sides.items()}

    def holding(
        self, shadows: Shadows | None, population: Population | None, probes: Mapping[Probe, Any] | None = None
    ) -> Case:
        """The case of an adversary who also holds shadow models of the whole pool, answers to a population, or to probes.

        probes: what each kept of the target's answers about the whole pool, (P, k).
        """
        assert self.rows is not None
        shadows = None if shadows is None else replace(shadows, rows=self.rows)
        evidence = replace(self.evidence, shadows=shadows, population=population)
        if probes is not None:
            assert evidence.known is not None
            assert evidence.known.rows is not None
            known = {probe: kept[evidence.known.rows.numpy()] for probe, kept in probes.items()}
            mine = {probe: kept[self.rows] for probe, kept in probes.items()}
            evidence = replace(evidence, probes=mine, known=replace(evidence.known, probes=known))
        return replace(self, evidence=evidence)

    def holding_reference(self, reference: Reference | None) -> Case:
        """The case of an adversary who also holds a reference model with answers to the whole pool."""
        if reference is None:
            return self
        assert self.rows is not None
        return replace(self, evidence=replace(self.evidence, reference=replace(reference, rows=self.rows)))


def build_case(pool: Pool, logits: Tensor, judge: JudgeConfig, seed: int) -> Case:
    """Candidates and known examples of a pool, in random order; logits: (P, C), the target's answers."""
    known, fit, rows = map(torch.from_numpy, pool.chosen(judge))
    # no attack may profit from the order of the candidates
    rows = rows[torch.from_numpy(numpy_rng(derive(seed, "candidates")).permutation(len(rows)))]
    x, y = pool.data.x, pool.data.y
    known_examples = Known(x[known], y[known], logits[known], known < pool.n_members, fit, known)
    evidence = Evidence(x[rows], y[rows], logits[rows], derive(seed, "attack"), known_examples)
    member, places = (rows < pool.n_members).numpy(), rows.numpy()
    return Case(evidence, member, known_examples.member.numpy(), pool.groups(places, member), places)


def _of_one_side(units: NDArray[np.int64], member: Bools) -> NDArray[np.int64] | None:
    """(N,) groups of units (N,), each of members or of non-members alone; None if each has one row."""
    groups = 2 * units + member
    return groups if len(np.unique(groups)) < len(groups) else None


def score(attack: Attack, case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The attack's scores of the candidates (N,) and of the known examples (K,), which set a threshold, from one fit."""
    scores, n = attack(everyone(case)), len(case.member)
    return scores[:n], scores[n:]


def everyone(case: Case) -> Evidence:
    """The evidence about the candidates and, behind them, about the known examples."""
    e = case.evidence
    assert e.known is not None
    return replace(
        e,
        shadows=shadows_of_everyone(e),
        reference=None
        if e.reference is None
        else replace(e.reference, rows=_rows_of_everyone(e.reference.rows, e.known)),
        x=torch.cat([e.x, e.known.x]),
        y=torch.cat([e.y, e.known.y]),
        logits=torch.cat([e.logits, e.known.logits]),
        probes=None
        if e.probes is None
        else {p: np.concatenate([kept, e.known.probes[p]]) for p, kept in e.probes.items()},
    )


def shadows_of_everyone(e: Evidence) -> Shadows | None:
    """The shadow models with the places of the candidates and, behind them, of the known examples; None without any."""
    if e.shadows is None:
        return None
    assert e.known is not None
    return replace(e.shadows, rows=_rows_of_everyone(e.shadows.rows, e.known))


def _rows_of_everyone(rows: NDArray[np.int64], known: Known) -> NDArray[np.int64]:
    """(N + K,) the candidates' places in the pool (N,) and, behind them, those of the known examples."""
    assert known.rows is not None
    return np.r_[rows, known.rows.numpy()]


def shuffled(case: Case, seed: int) -> Case:
    """The null: the same case with membership shuffled among the candidates and among the known examples.

    If there are groups, whole groups are shuffled, so the numbers of members and non-members change a little.
    """
    rng = numpy_rng(derive(seed, "null"))
    known = case.evidence.known
    assert known is not None
    known_member = rng.permutation(case.known_member)
    evidence = replace(case.evidence, known=replace(known, member=torch.from_numpy(known_member)))
    return Case(evidence, _shuffled_membership(case, rng), known_member, case.group)


def _shuffled_membership(case: Case, rng: np.random.Generator) -> Bools:
    if case.group is None:
        return rng.permutation(case.member)
    _, first, of = np.unique(case.group, return_index=True, return_inverse=True)
    return rng.permutation(case.member[first])[of]

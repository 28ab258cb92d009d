"""One defense of a comparison: its accuracy, the worst attack on it, what it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from hampkit.defenses import Plain
from hampkit.judging.seeds import judged_share, summary_of
from hampkit.judging.strongest import (
    REPEATED,
    TARGET,
    Entry,
    Halves,
    Leak,
    OnCanaries,
    flagged,
    half_of_each,
    half_of_models,
    highest,
    judged_by_halves,
    test_accuracy_of,
)
from hampkit.rng import torch_rng
from hampkit.runs.store import Run
from hampkit.targets.trained import Trained
from hampkit.workflows.problem import Problem
from hampkit.workflows.report_inputs import Evaluated, group_of
from hampkit.workflows.scores import read_scores
from hampkit.workflows.seeds import one_split
from hampkit.workflows.session import Session
from hampkit.workflows.train import train

TIMED_ROWS, LONG_ENOUGH = 256, 0.5  # asked for the inference overhead, and seconds after which it is not timed again


def entry_of(problems: Sequence[Problem], evaluated: Sequence[Evaluated], session: Session) -> Entry:
    """One defense, trained and attacked with several seeds."""
    results = [e.result for e in evaluated]
    trained = [train(p, session) for p in problems]
    first = results[0]
    accuracy = {k: float(np.mean([r.accuracy[k] for r in results])) for k in first.accuracy}
    queries, overhead = _serving(trained[0])
    return Entry(
        recipe=first.recipe,
        defense=first.defense,
        runs=tuple(e.run.name for e in evaluated),
        accuracy=accuracy,
        test=test_accuracy_of(results, one_split(problems[0].recipe.training())),
        leak=worst(problems, evaluated),
        highest={"tpr": highest(results, "tpr_at_fpr"), "tnr": highest(results, "tnr_at_fnr")},
        seconds=float(np.mean([t.history["seconds"] for t in trained])),
        queries=queries,
        overhead=overhead,
        summary=summary_of(results),
        weights=tuple(digest for r in results for digest in r.weights),
        commands=tuple(command for r in results for command in r.commands),
        started=tuple(t.history["started"] for t in trained),
    )


def on_canaries(problems: Sequence[Problem], evaluated: Sequence[Evaluated]) -> OnCanaries:
    """A defense trained with canaries with several seeds, and the worst attack on them."""
    results = [e.result for e in evaluated]
    test = test_accuracy_of(results, one_split(problems[0].recipe.training()))
    return OnCanaries(test, worst(problems, evaluated), tuple(r.canaries for r in results))


def worst(problems: Sequence[Problem], evaluated: Sequence[Evaluated]) -> Leak:
    """The worst attack: chosen on one half and judged on the other, then with the halves exchanged; the mean of both.

    The highest of several AUCs is too high if it is read from the examples on which the attack was chosen; with halves it is not.
    The halves are drawn with the run's seed. With shadow models they are halves of the models, each of which is the target once;
    otherwise they are halves of the candidates.

    On a half of the candidates the attack with the highest lower bound of the AUC is chosen, as in a verdict. By the AUC itself,
    a useless attack with scores that vary much would often come before an attack that finds a little. On a half of the shadow
    models, with many more scores, the attack with the highest AUC is chosen: the widths of intervals over a few models are
    uncertain, and most of the variation between models is common to all attacks.

    The interval is for the AUC of the worst attack, whichever that is. Its lower end is that of the chosen attacks, whose AUC is
    at most that of the worst. Its upper end is at least that of any attack on all candidates.
    """
    results = [e.result for e in evaluated]
    strict = problems[0].recipe.judge.strict  # one judge for all seeds
    overlap = judged_share(results[0], one_split(problems[0].recipe.training()))
    if all(r.of("leave-one-out") for r in results):
        cases = [_repeated_case(p, e.run, e.details) for p, e in zip(problems, evaluated, strict=True)]
        if all(case.enough() for case in cases):
            return flagged(judged_by_halves(cases, REPEATED, strict, overlap), results)
    cases = [_target_case(p, e.run, e.details) for p, e in zip(problems, evaluated, strict=True)]
    return flagged(judged_by_halves(cases, TARGET, strict, overlap), results)


def _target_case(problem: Problem, run: Run, details: dict[str, Any]) -> Halves:
    one, other = {}, {}
    for name, place in details["scores"].items():
        file = read_scores(run, place)
        scores, member, group = file["scores"], file["member"], group_of(file)
        mine = half_of_each(member, problem.recipe.seed, group)
        arrays = [scores, member, *([] if group is None else [group])]
        one[name], other[name] = (tuple(array[half] for array in arrays) for half in (mine, ~mine))
    return Halves(one, other)


def _repeated_case(problem: Problem, run: Run, details: dict[str, Any]) -> Halves:
    one, other, paired = {}, {}, problem.recipe.shadows.scheme == "paired"
    members = problem.shadow_task().masks().numpy()[:, problem.once]
    for name, (place, targets) in details["repeated"].items():
        scores = read_scores(run, place)["scores"].astype(np.float64)
        member, mine = members[targets], half_of_models(targets, paired, problem.recipe.seed)
        one[name], other[name] = (scores[mine], member[mine]), (scores[~mine], member[~mine])
    return Halves(one, other, problem.units()[problem.once])


def _serving(trained: Trained) -> tuple[float, float]:
    """Forward passes per answer, and how much longer an answer takes than the network's own; measured now."""
    x = trained.test.x[:TIMED_ROWS]
    release = trained.defense.release(trained.models.state_of(0), trained.domain)
    if isinstance(release, Plain):
        return 1.0, 1.0
    asked = 0

    def ask(rows: Any) -> Any:
        nonlocal asked
        asked += len(rows)
        return trained.trainer.predict(trained.models.stack, rows)[0]

    release(ask, x, torch_rng(0))
    passes = asked / len(x)
    plain, released = [], []
    begun = time.perf_counter()
    while len(plain) < 3 or (len(plain) < 30 and time.perf_counter() - begun < LONG_ENOUGH):
        clock = [time.perf_counter()]
        ask(x)
        clock.append(time.perf_counter())
        release(ask, x, torch_rng(0))
        clock.append(time.perf_counter())
        plain.append(clock[1] - clock[0])
        released.append(clock[2] - clock[1])
    return passes, min(released) / max(min(plain), 1e-9)  # what else the machine does only ever adds

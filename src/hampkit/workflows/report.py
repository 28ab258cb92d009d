"""What a report of several evaluated models shows, and its files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from hampkit import __version__
from hampkit.config.files import writable
from hampkit.errors import UserError
from hampkit.judging.flags import FLAGS
from hampkit.judging.results import (
    ERROR,
    AttackResult,
    Difference,
    ModelResult,
    Rate,
    Results,
    clearer,
)
from hampkit.judging.verdict import concluded
from hampkit.registry import ATTACKS, DEFENSES, Registry, check_installed
from hampkit.report import render_csv, render_html, render_markdown
from hampkit.runs.locks import reports
from hampkit.runs.store import Run, read_json, replaces, write_file, write_json
from hampkit.stats.intervals import bonferroni_level
from hampkit.workflows.arguments import checked
from hampkit.workflows.gate import Gate
from hampkit.workflows.report_inputs import Evaluated, details_of, paired_difference
from hampkit.workflows.seeds import one_for_each_recipe

REPORT_FILES = ("results.json", "report.html", "report.md", "results.csv")
RESULT_KEYS = ("recipe", "defense", "run", "seed", "data", "accuracy", "rows", "known", "judge", "attacks", "null")
__all__ = ["AttackResult", "ModelResult", "Rate", "Results", "report_on", "write_report"]


def report_on(evaluated: Sequence[Evaluated], out: Path, gate: Gate | None = None) -> Results:
    """Write results.json, report.html, report.md and results.csv of these models into a folder; returns what they show.

    Models of one recipe that differ in their seed alone are one entry. gate: limits, whose outcomes the report states.
    """
    evaluated = one_for_each_recipe(evaluated)
    models = [e.result for e in evaluated]
    results = concluded(Results(tuple(models), __version__, **_differences(evaluated)))
    results = results if gate is None else gate.applied(results)
    document = results.to_json()
    words = texts_of(models, FLAGS)
    files = {
        "json": out / "results.json",
        "html": out / "report.html",
        "markdown": out / "report.md",
        "csv": out / "results.csv",
    }
    texts = {  # all of them before the first is written
        "markdown": render_markdown(document, words),
        "csv": render_csv(document),
        "html": render_html(document, [e.details for e in evaluated], words),
    }
    with reports(out):
        replaced = tuple(files[kind] for kind, text in texts.items() if replaces(files[kind], text))
        write_json(files["json"], document)
        for kind, text in texts.items():
            write_file(files[kind], text)
    return replace(results, files=files, replaced=replaced)


def _differences(evaluated: Sequence[Evaluated]) -> dict[str, Any]:
    """Of each two models on the same candidates the `Difference`: the fields ``difference`` or ``differences`` of `Results`.

    Models of several seeds are in no pair.
    """
    pairs = list(combinations(range(len(evaluated)), 2))
    single = [(i, j) for i, j in pairs if not (evaluated[i].result.seeds or evaluated[j].result.seeds)]
    found = {(i, j): _difference(evaluated[i], evaluated[j], len(single)) for i, j in single}
    if len(evaluated) == 2:
        return {"difference": found.get((0, 1))}
    return {"differences": tuple(replace(d, models=pair) for pair, d in found.items() if d is not None)}


def _difference(first: Evaluated, second: Evaluated, pairs: int) -> Difference | None:
    """Of two models on the same candidates: by how much the one that seems to leak more does, see `Difference`.

    pairs: the number of pairs of models for which this is asked.
    """
    one, other = first.result, second.result
    found, tried = [], max(one.distinct(), other.distinct()) * pairs
    for pair in ((_surest(one), other.highest()), (one.highest(), _surest(other))):
        names = (pair[0].attack, pair[1].attack)
        spans = paired_difference(first, second, *names, levels=(0.95, bonferroni_level(ERROR, tried)))
        if not spans:
            return None
        found.append(Difference(spans[0].value, spans[0].low, spans[0].high, names, spans[1], tried))
    return clearer(*found)


def _surest(result: ModelResult) -> AttackResult:
    """The attack with the highest lower bound, as it stands: differences turn no attack around."""
    return max(result.of("target"), key=lambda a: a.deciding.low)


def texts_of(models: Sequence[ModelResult], flags: Mapping[str, str]) -> dict[str, Any]:
    """The texts about the attacks and defenses of these models, and about flags; a foreign model has no defense."""
    return {
        "attacks": _texts(ATTACKS, [a.attack for m in models for a in m.attacks]),
        "defenses": _texts(DEFENSES, [m.defense for m in models if m.defense]),
        "flags": flags,
    }


def _texts(registry: Registry, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The texts of a report about attacks or defenses: docstring and paper of each."""
    texts = {}
    for name in dict.fromkeys(names):
        cls = registry.get(name)
        summary = " ".join((cls.__doc__ or "").split())
        texts[name] = {
            "summary": summary,
            "paper": cls.paper,
            "reference": getattr(cls, "reference", ""),
            "threat": _threat(cls),
        }
    return texts


def _threat(cls: Any) -> str:
    if not hasattr(cls, "tier"):
        return ""
    answer = {
        "label": "the predicted label",
        "ranks": "the order of the classes",
        "weights": "the logits of the network behind the release",
    }.get(cls.tier, "the released logits")
    label = " and the true label"
    if "known" in cls.needs:
        label = ", the true label, and for fitting the membership of a known part of both groups"
    cut = "" if cls.threshold is not None else " The threshold of its balanced accuracy is taken from the known part."
    queries = "Several questions" if "probes" in cls.needs else "One query"
    return f"{queries} per candidate: the adversary sees {answer}{label}.{cut}"


@checked
def write_report(*runs: str | Path, out: str | Path) -> Results:
    """One report over runs that were attacked before; nothing is trained or attacked.

    runs: run folders. Runs of one recipe that differ only in their seed become one `ModelResult`. out: the folder of the report.
    Raises: `UserError` for a folder without a result, or with one of an earlier version.
    """
    found = [Run.at(Path(folder).resolve()) for folder in runs]
    for r in found:
        if not (r.folder / "result.json").is_file():
            raise UserError(f"{r.folder} was never attacked; run: hampkit attack {r.folder}")
    documents = [read_json(r.folder / "result.json", *RESULT_KEYS) for r in found]
    for r, document in zip(found, documents, strict=True):
        if not document["attacks"]:
            raise UserError(f"{r.folder / 'result.json'} holds no attacks; run: hampkit attack {r.folder}")
        rows = document["attacks"] if isinstance(document["attacks"], list) else []
        if not all("unit" in attack for attack in rows if isinstance(attack, dict)):
            raise UserError(
                f"{r.folder / 'result.json'} was written by an earlier version (results.json of schema 1); attack again:"
                f" hampkit attack {r.folder}"
            )
    writable(Path(out))
    try:
        for r, document in zip(found, documents, strict=True):
            check_installed(r.folder, document["defense"], [a["attack"] for a in document["attacks"]])
        models = [_evaluated(r, document) for r, document in zip(found, documents, strict=True)]
        return report_on(models, Path(out))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, zipfile.BadZipFile) as error:
        where = " or ".join(str(r.folder) for r in found)
        raise UserError(
            f"result.json, details.json or the scores of {where} were edited or damaged ({type(error).__name__}: {error});"
            " attack again: hampkit attack RUN"
        ) from error


def _evaluated(run: Run, document: Any) -> Evaluated:
    """What a run folder holds. Raises: `UserError` for a result that was edited or damaged."""
    try:
        return Evaluated(run, ModelResult.from_json(document), details_of(run, document))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(
            f"result.json or details.json of {run.folder} was edited or damaged ({type(error).__name__}: {error}); attack again:"
            f" hampkit attack {run.folder}"
        ) from error

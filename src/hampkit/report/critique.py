"""The critique of published evaluations: the same defenses by published attacks, by attacks that know them, and on canaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hampkit.judging.results.attacks import of_models, tier_of, tpr_at
from hampkit.judging.results.wording import percent
from hampkit.report.canaries import about_line, rate_text
from hampkit.report.markup import code, text
from hampkit.report.rows import Json

COLUMNS = (
    "defense", "test accuracy", "test accuracy with canaries", "published: highest TPR on one model", "one question: TPR",
    "knows the defense: TPR", "on canaries: TPR", "on canaries: AUC",
)  # fmt: skip
VIEWS = ("one question", "knows the defense", "canaries")  # of the picture
LEVEL = 0.001  # the false-positive rate of all TPRs


@dataclass(frozen=True)
class CritiqueRow:
    """One defense: the cells of the table, and view → TPR with its interval for the picture, where it is more than a count."""

    cells: tuple[str, ...]
    rates: dict[str, dict[str, float]]

    @property
    def defense(self) -> str:
        return self.cells[0]


def critique_rows(comparison: Json, results: Json) -> list[CritiqueRow]:
    """One row for each entry of a comparison with canaries and shadow models, of one seed; results: its results.json."""
    models = results["models"]
    assert len(models) == 2 * len(comparison["entries"]), "a model without and one with canaries for each defense"
    return [_row(entry, models[2 * i], models[2 * i + 1]) for i, entry in enumerate(comparison["entries"])]


def critique_markdown(comparison: Json, rows: Sequence[CritiqueRow], command: str) -> str:
    """The table with its explanation and its command."""
    lines = [f"# {text(title(comparison))}", "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(text(cell) for cell in row.cells) + " |" for row in rows]
    said = [f"- left out: {text(name)}: {text(why)}" for name, why in comparison["left_out"].items()]
    said += [f"- {text(e['defense'])}: {text(e['summary'])}" for e in comparison["entries"] if e["summary"]]
    return "\n".join([*lines, "", *map(text, about(comparison)), "", *said, "", f"Command: {code(command)}", ""])


def title(comparison: Json) -> str:
    """The heading of the page."""
    return f"{comparison['data']}: published evaluation, attacks that know the defense, canaries"


def about(comparison: Json) -> list[str]:
    """How the table is to be read."""
    canaries = next(e["canaries"]["about"][0] for e in comparison["entries"] if e.get("canaries"))
    return [
        f"All TPRs are at {percent(LEVEL)} false positives, with 95 % intervals.",
        "Published: the highest TPR of any attack with one question on one model, as in the published tables.",
        f"The other columns are leave-one-out over {comparison['shadows']} shadow models, each of the attack with the highest"
        " lower end of the TPR: of attacks with one question that see the answers; of all attacks; of all attacks on canaries.",
        f"Canaries: {about_line(canaries)}. DP-SGD has the noise that makes it as accurate on validation rows as the defense.",
    ]


def _row(entry: Json, clean: Json, canary: Json) -> CritiqueRow:
    assert canary.get("canaries"), canary["recipe"]
    found = {
        VIEWS[0]: _best(clean, lambda a: a.get("queries", 1) == 1 and tier_of(a) != "weights"),
        VIEWS[1]: _best(clean, lambda a: True),
        VIEWS[2]: _best(canary, lambda a: True),
    }
    name, value, resolved, count = entry["highest"]["tpr"]
    published = f"{count or percent(value)} ({name}){'' if resolved or count else ' ?'}"
    rated = [f"{rate_text(tpr_at(a, LEVEL), a['members'])} ({a['attack']})" for a in found.values()]
    auc = entry["canaries"]["leak"]["auc"]
    cells = (
        entry["defense"],
        percent(entry["accuracy"]["test"]),
        percent(entry["canaries"]["test"]["value"]),
        published,
        *rated,
        f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}] ({entry['canaries']['leak']['attack']})",
    )
    points = {view: tpr_at(attack, LEVEL) for view, attack in found.items()}
    rates = {
        view: {"value": p["value"], "low": p["outer_low"], "high": p["outer_high"]}
        for view, p in points.items()
        if not p.get("reason")
    }
    return CritiqueRow(cells, rates)


def _best(model: Json, wanted: Callable[[Json], bool]) -> Json:
    """The attack of leave-one-out with the highest lower end of the TPR."""
    return max(
        filter(wanted, of_models(model)), key=lambda a: (tpr_at(a, LEVEL)["outer_low"], tpr_at(a, LEVEL)["value"])
    )


def spans(rows: Sequence[CritiqueRow]) -> list[float]:
    """All ends of the intervals of the picture."""
    return [end for row in rows for rate in row.rates.values() for end in (rate["low"], rate["high"])]

"""Results as data: typed objects that are exactly what results.json holds. All rates are fractions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hampkit.attacks.base import family_of, option_names
from hampkit.stats.intervals import Interval, clopper_pearson
from hampkit.stats.strength import deciding, finding

ERROR = 0.05  # that any of a model's attacks is wrongly found to distinguish members from non-members
SCHEMA = 2  # of results.json
# what the numbers are of: one target, one target for each seed, or all shadow models in turn
Unit = Literal["target", "seeds", "leave-one-out"]
FPRS = (0.001, 0.01, 0.1)  # the false-positive (false-negative) rates at which every attack is read off


@dataclass(frozen=True)
class Rate(Interval):
    """A rate at a target FPR or FNR, with the counts behind it."""

    at: float  # the target FPR or FNR
    hits: int  # true positives (true negatives)
    errors: int  # false positives (false negatives)
    outer_low: float  # low and high take the threshold as given; this wider interval is for the target rate exactly
    outer_high: float
    resolved: bool  # at least ten errors were allowed, of groups where rows are in groups
    reason: str = ""  # why reports show the count of hits in place of the rate: fewer than five were


@dataclass(frozen=True)
class AttackResult:
    """One attack on T targets: one model, one for each seed, or every shadow model in turn; judged on pairs with candidates."""

    attack: str
    needs: tuple[str, ...]
    members: int  # judged pairs of a target and one of its members; of one target, judged members
    nonmembers: int
    auc: Interval  # over all pairs; of seeds the mean of the targets' own
    tpr_at_fpr: tuple[Rate, ...]
    tnr_at_fnr: tuple[Rate, ...]
    flags: tuple[str, ...]
    balanced_accuracy: Interval | None = None  # of one target
    unit: Unit = "target"
    targets: int = 1  # T
    options: dict[str, Any] = field(default_factory=dict)  # those that are not the attack's defaults
    same_as: str = (
        ""  # the attack with the same order of the examples, if it has a name before this one: both are one attack
    )
    auc_corrected: Interval | None = (
        None  # the AUC at the level 1 − ERROR / k for the best of the run's k distinct attacks
    )
    # of several seeds, the AUC of each at the level 1 − ERROR / (2 k S); auc_corrected is then at the level 1 − ERROR / (2 k)
    auc_by_seed: tuple[Interval, ...] = ()
    auc_within: Interval | None = (
        None  # of leave-one-out, the mean of the targets' own AUCs: an attacker has one target
    )
    untrained: int = 0  # shadow models that are no targets: they learnt next to nothing with every seed tried
    left_out: int = 0  # those of them that no attack uses as shadow models either
    variance: str = ""  # of the scores of shadow models on one example; several if it differs between targets
    tier: str = "probabilities"  # what of an answer the attack uses, see `hampkit.attacks.base.Tier`
    queries: int = 1  # questions about each example

    @property
    def label_only(self) -> bool:
        """Whether the attack uses the predicted label alone."""
        return self.tier == "label"

    @property
    def sees_one_draw(self) -> bool:
        """Whether the attack rests on one draw of random answers, where answers are random."""
        return self.tier == "probabilities" and self.queries == 1

    @property
    def deciding(self) -> Interval:
        """The AUC that decides, with the interval that allows for the choice among the attacks, see `strength.deciding`."""
        mean, *by_seed = (asdict(auc) for auc in (self.auc_corrected or self.auc, *self.auc_by_seed))
        return Interval(**deciding(mean, by_seed))

    @property
    def examples(self) -> int:
        """Judged examples of each target."""
        return (self.members + self.nonmembers) // self.targets

    def to_json(self) -> dict[str, Any]:
        optional = {
            "balanced_accuracy": self.balanced_accuracy,
            "auc_corrected": self.auc_corrected,
            "auc_within": self.auc_within,
        }
        counted = {"untrained": self.untrained, "left_out": self.left_out, "variance": self.variance}
        return {
            "attack": self.attack,
            "family": family_of(self.attack),
            "unit": self.unit,
            "targets": self.targets,
            "options": self.options,
            "needs": list(self.needs),
            "label_only": self.label_only,
            "tier": self.tier,
            "queries": self.queries,
            "members": self.members,
            "nonmembers": self.nonmembers,
            "auc": asdict(self.auc),
            "tpr_at_fpr": [_rate(r, "fpr", "tp", "fp") for r in self.tpr_at_fpr],
            "tnr_at_fnr": [_rate(r, "fnr", "tn", "fn") for r in self.tnr_at_fnr],
            "flags": list(self.flags),
            "same_as": self.same_as,
            **{name: asdict(interval) for name, interval in optional.items() if interval is not None},
            **({"auc_by_seed": [asdict(auc) for auc in self.auc_by_seed]} if self.auc_by_seed else {}),
            **{
                name: value for name, value in counted.items() if value or (self.unit == "leave-one-out" and value == 0)
            },
        }

    @staticmethod
    def from_json(d: dict[str, Any]) -> AttackResult:
        def interval(name: str) -> Interval | None:
            return Interval(**d[name]) if name in d else None

        plain = ("attack", "members", "nonmembers", "unit", "targets")
        later = {
            name: d[name] for name in ("same_as", "untrained", "left_out", "variance", "tier", "queries") if name in d
        }
        if "tier" not in d:  # of an earlier version
            later["tier"] = "label" if d["label_only"] else "probabilities"
        return AttackResult(
            **{name: d[name] for name in plain},
            **later,
            needs=tuple(d["needs"]),
            auc=Interval(**d["auc"]),
            tpr_at_fpr=tuple(_from_rate(r, "fpr", "tp", "fp") for r in d["tpr_at_fpr"]),
            tnr_at_fnr=tuple(_from_rate(r, "fnr", "tn", "fn") for r in d["tnr_at_fnr"]),
            flags=tuple(d["flags"]),
            balanced_accuracy=interval("balanced_accuracy"),
            options=_options(d),
            auc_corrected=interval("auc_corrected"),
            auc_within=interval("auc_within"),
            auc_by_seed=tuple(Interval(**auc) for auc in d.get("auc_by_seed", ())),
        )


@dataclass(frozen=True)
class ModelResult:
    """One trained model and all attacks on it; or one recipe, trained with several seeds."""

    recipe: str
    defense: str
    run: str  # the name of its folder; of several seeds the first
    seed: int
    data: dict[str, Any]
    accuracy: dict[str, float]
    rows: dict[str, int]  # how many examples each accuracy is over
    known: dict[str, int]  # members and nonmembers that the adversary knew, and no attack is judged on
    judge: dict[str, Any]  # how candidates were chosen and rates read off
    attacks: tuple[AttackResult, ...]  # on the target or the targets, then leave-one-out over the shadow models
    null: Interval  # AUC of an attack on shuffled membership
    null_attack: str
    off_null: bool = False  # 0.5 lies outside its 99.9 % interval
    shift: Interval | None = None  # AUC of telling members from non-members without the model
    facts: dict[str, Any] = field(default_factory=dict)  # of the defense about this model; "summary" is a line of words
    copies: dict[str, int] = field(default_factory=dict)  # nonmembers, test: with a member's features; left_out
    groups: dict[str, int] = field(default_factory=dict)  # judged members and nonmembers, where rows are in groups
    sizes: dict[str, float] = field(default_factory=dict)  # independent rows that each accuracy is worth, likewise
    runs: tuple[str, ...] = ()  # of several seeds, all folders
    seeds: tuple[int, ...] = ()  # of several, all of them
    intervals: dict[str, Interval] = field(default_factory=dict)  # of the accuracies, over several seeds
    weights: tuple[str, ...] = ()  # SHA-256 of each model's file of weights, one for each run
    audit: dict[str, Any] = field(default_factory=dict)  # of a foreign model: see `hampkit.workflows.audit`
    exposure: dict[str, Any] = field(default_factory=dict)  # with shadow models: how many records are exposed
    # that train and attack each model again; an empty text if a recipe is no shipped one
    commands: tuple[str, ...] = ()
    canaries: dict[str, Any] = field(default_factory=dict)  # if canaries are judged: see `hampkit.workflows.canaries`
    earlier: tuple[str, ...] = ()  # attacks that an earlier command made, and that stay among the run's attacks
    adaptive: tuple[str, ...] = ()  # attacks that are made for the defense
    # those of them that were left out → the reason
    skipped: dict[str, str] = field(default_factory=dict)

    def of(self, unit: Unit) -> tuple[AttackResult, ...]:
        """The attacks on the target, which are those on all targets if there are several seeds; or those of leave-one-out."""
        chosen = (unit, "seeds") if unit == "target" else (unit,)
        return tuple(a for a in self.attacks if a.unit in chosen)

    def accuracy_interval(self, part: str) -> Interval:
        """The accuracy of train, val or test, with the exact interval for as many independent rows as there are.

        Of several seeds it is the mean, with the interval of `hampkit.stats.intervals.mean_of_seeds`.
        """
        if part in self.intervals:
            return self.intervals[part]
        rate, n = self.accuracy[part], self.sizes.get(part, self.rows[part])
        return Interval(rate, *clopper_pearson(round(rate * n) if n == int(n) else rate * n, n))

    def distinct(self) -> int:
        """How many attacks there are, those of one order being one."""
        return len({a.same_as or a.attack for a in self.of("target")})

    def strongest(self, unit: Unit = "target") -> AttackResult:
        """The attack that finds most, see `hampkit.stats.strength.finding`; of equals the first.

        Its AUC may lie below 0.5: then it finds as much when it is turned around. The interval that decides allows for the
        choice among the attacks.
        """
        return max(self.of(unit), key=lambda a: finding(**vars(a.deciding)))

    def highest(self) -> AttackResult:
        """The attack with the highest AUC, which may be so by luck; of equals the first."""
        return max(self.of("target"), key=lambda a: a.auc.value)

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "defense": self.defense,
            "run": self.run,
            "seed": self.seed,
            "runs": list(self.runs or (self.run,)),
            "seeds": list(self.seeds or (self.seed,)),
            "data": self.data,
            "accuracy": self.accuracy,
            "accuracy_interval": {
                part: {"low": i.low, "high": i.high}
                for part in self.accuracy
                if self.rows.get(part)
                for i in [self.accuracy_interval(part)]
            },
            "rows": self.rows,
            "known": self.known,
            "judge": self.judge,
            "attacks": [a.to_json() for a in self.attacks],
            "null": {"auc": asdict(self.null), "attack": self.null_attack, "off": self.off_null},
            "shift": None if self.shift is None else {"auc": asdict(self.shift)},
            **({"weights": list(self.weights)} if self.weights else {}),
            **({"commands": list(self.commands)} if self.commands else {}),
            **({"earlier": list(self.earlier)} if self.earlier else {}),
            **({"adaptive": list(self.adaptive)} if self.adaptive else {}),
            **({"skipped": self.skipped} if self.skipped else {}),
            **({"audit": self.audit} if self.audit else {}),
            **({"canaries": self.canaries} if self.canaries else {}),
            **({"exposure": self.exposure} if self.exposure else {}),
            **({"facts": self.facts} if self.facts else {}),
            **({"copies": self.copies} if self.copies else {}),
            **({"groups": {**self.groups, "sizes": self.sizes}} if self.groups else {}),
        }

    @staticmethod
    def from_json(d: dict[str, Any]) -> ModelResult:
        """Raises: `ValueError` for accuracies outside [0, 1] and negative numbers of rows."""
        if not all(0 <= rate <= 1 for rate in d["accuracy"].values()) or min(d["rows"].values()) < 0:
            raise ValueError(f"accuracy {d['accuracy']} of rows {d['rows']}")
        return ModelResult(
            **{k: d[k] for k in ("recipe", "defense", "run", "seed", "data", "accuracy", "rows", "known", "judge")},
            attacks=tuple(AttackResult.from_json(a) for a in d["attacks"]),
            null=Interval(**d["null"]["auc"]),
            null_attack=d["null"]["attack"],
            off_null=d["null"]["off"],
            shift=Interval(**d["shift"]["auc"]) if d.get("shift") else None,
            facts=d.get("facts", {}),
            copies=d.get("copies", {}),
            runs=tuple(d["runs"]) if len(d.get("runs", ())) > 1 else (),
            seeds=tuple(d["seeds"]) if len(d.get("seeds", ())) > 1 else (),
            intervals=_intervals(d) if len(d.get("seeds", ())) > 1 else {},
            groups={who: n for who, n in d.get("groups", {}).items() if who != "sizes"},
            sizes=d.get("groups", {}).get("sizes", {}),
            weights=tuple(d.get("weights", ())),
            commands=tuple(d.get("commands", ())),
            earlier=tuple(d.get("earlier", ())),
            adaptive=tuple(d.get("adaptive", ())),
            skipped=d.get("skipped", {}),
            audit=d.get("audit", {}),
            canaries=d.get("canaries", {}),
            exposure=d.get("exposure", {}),
        )


@dataclass(frozen=True)
class Difference(Interval):
    """AUC of one attack on the first model minus that of another on the second, on the same candidates.

    On the model that seems to leak more it is the strongest attack, on the other one the attack with the highest AUC.
    """

    attacks: tuple[str, str]  # on the first model and on the second, chosen on the same candidates
    corrected: Interval | None = None  # at the level 1 − ERROR / k, for the best of k distinct attacks on either model
    tried: int = 1  # k; of three or more models, times the number of their pairs
    models: tuple[int, int] | None = None  # of three or more: the places of the two in `Results.models`


@dataclass(frozen=True)
class Results:
    """What `hampkit.run` returns: the content of results.json, and where the files are."""

    models: tuple[ModelResult, ...]
    version: str
    difference: Difference | None = None  # of two models on the same candidates
    differences: tuple[Difference, ...] = ()  # of three or more: of each two of them on the same candidates
    verdict: dict[str, Any] = field(
        default_factory=dict
    )  # what was found, as data and in words: `hampkit.judging.verdict`
    caveats: tuple[dict[str, Any], ...] = ()  # what changes its meaning
    policy: tuple[dict[str, Any], ...] = ()  # what became of each limit of a policy, see `hampkit.judging.policy`
    files: dict[str, Path] = field(default_factory=dict, compare=False)  # kind of file → path
    # those of the files that existed with another content
    replaced: tuple[Path, ...] = field(default=(), compare=False)

    @property
    def passed(self) -> bool:
        """Whether all limits of the policy let the models pass."""
        return all(outcome["passed"] for outcome in self.policy)

    def to_json(self) -> dict[str, Any]:
        difference = None if self.difference is None else _without_none(self.difference)
        models = [m.to_json() for m in self.models]
        said: dict[str, Any] = {"verdict": self.verdict, "caveats": list(self.caveats)} if self.verdict else {}
        said |= {"policy": list(self.policy)} if self.policy else {}
        several = {"differences": [_without_none(d) for d in self.differences]} if self.differences else {}
        return {
            "schema": SCHEMA,
            "hampkit": self.version,
            "models": models,
            "difference": difference,
            **several,
            **said,
        }


def clearer(first: Difference, second: Difference) -> Difference:
    """Which of two differences to show: the first can show that one model leaks more (above 0), the second that the other does.

    Where neither shows it, the one that comes nearer, as long as its interval does not lie on the wrong side of 0 altogether.

    >>> a = Difference(0.1, -0.1, 0.3, ("strong", "high"))
    >>> clearer(a, Difference(-0.2, -0.3, -0.1, ("high", "strong"))).attacks
    ('high', 'strong')
    """
    (low, high), (other_low, other_high) = (((d.corrected or d).low, (d.corrected or d).high) for d in (first, second))
    ranks = (high >= 0, low), (other_low <= 0, -other_high)
    return first if ranks[0] >= ranks[1] else second


def _intervals(d: dict[str, Any]) -> dict[str, Interval]:
    return {part: Interval(d["accuracy"][part], **ends) for part, ends in d["accuracy_interval"].items()}


def _without_none(difference: Difference) -> dict[str, Any]:
    document = {k: v for k, v in asdict(difference).items() if v is not None}
    return {**document, **{k: [*v] for k, v in document.items() if isinstance(v, tuple)}}


def _options(d: dict[str, Any]) -> dict[str, Any]:
    """The options of an attack's result in the order of the attack's fields; files have them in alphabetical order."""
    given = d.get("options", {})
    names = option_names(d["attack"]) if given else []
    return {name: given[name] for name in [*names, *given] if name in given}


def _rate(r: Rate, at: str, hits: str, errors: str) -> dict[str, Any]:
    return {
        at: r.at,
        "value": r.value,
        "low": r.low,
        "high": r.high,
        hits: r.hits,
        errors: r.errors,
        "outer_low": r.outer_low,
        "outer_high": r.outer_high,
        "resolved": r.resolved,
        **({"reason": r.reason} if r.reason else {}),
    }


def _from_rate(d: dict[str, Any], at: str, hits: str, errors: str) -> Rate:
    interval = (d["value"], d["low"], d["high"])
    outer = (d["outer_low"], d["outer_high"])
    return Rate(*interval, d[at], d[hits], d[errors], *outer, d["resolved"], d.get("reason", ""))

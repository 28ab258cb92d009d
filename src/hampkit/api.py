"""The public functions, each a few lines over `hampkit.workflows`; the command line adds only printing.

Every function takes the fields of a `Session` as keyword arguments (``runs_dir``, ``data_dir``, ``device``, ``launcher``,
``progress``), ``workers`` for a number of local processes, or a ``session``. None of these changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hampkit.workflows import compare as comparing
from hampkit.workflows import run as running
from hampkit.workflows import shadow as shadowing
from hampkit.workflows.arguments import checked
from hampkit.workflows.audit_arguments import AuditArguments, Common, sorted_arguments
from hampkit.workflows.audit_report import audit_to
from hampkit.workflows.canaries import canary_config
from hampkit.workflows.compare import Comparison
from hampkit.workflows.gate import Gate
from hampkit.workflows.prepare import prepare
from hampkit.workflows.recipes import Recipe, RecipeOptions, Reference, recipe
from hampkit.workflows.report import AttackResult, ModelResult, Rate, Results, write_report
from hampkit.workflows.run import Request, ShadowSource
from hampkit.workflows.session import Progress, Session, Settings, session_of
from hampkit.workflows.shadow import Plan
from hampkit.workflows.train import Trained
from hampkit.workflows.train import train as train_problem

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "AttackResult", "Comparison", "ModelResult", "Plan", "Progress", "Rate", "Recipe", "Results", "Session",
    "Trained", "attack", "audit", "compare", "plan", "recipe", "run", "shadow",
    "train", "write_report",
]  # fmt: skip

DEFAULT_RECIPES = ("digits/undefended", "digits/hamp")


@checked
def run(
    *recipes: Reference,
    options: Mapping[str, Any] | None = None,
    attacks: Sequence[str] = (),
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    out: str | Path | None = None,
    shadows: int = 0,
    shadows_from: str | Path = "",
    force: bool = False,
    canaries: int = 0,
    canary_kind: str = "mislabelled",
    policy: str | Path | None = None,
    fail_if: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Results:
    """Train every recipe, attack and judge the models, and write the report into ``out`` (default: ``runs_dir``).

    Returns: `Results` with one `ModelResult` for each recipe; what earlier calls computed is read from ``runs_dir``.

    recipes: ``DATA/DEFENSE``, ``.toml`` files, results of `hampkit.recipe`, or bare defenses together with ``data`` (a table) and
    ``label`` (its column); default: digits/undefended and digits/hamp.
    attacks: names; default: every attack whose evidence is available. seed: of split and training; default: the recipe's.
    options: ``{"train.lr": 0.1, "gamma": 0.9}``, as ``key=value`` on the command line.
    shadows: number of shadow models to train and attack with (LiRA, RMIA); ``progress.say`` gets their plan first.
    shadows_from: a run folder with the same recipe, data and split, whose shadow models are used.
    force: use them even if the recipe differs; results get the flag `mismatched`.
    canaries, canary_kind: a second model of each recipe is attacked on so many canaries (docs/canaries.md).
    policy, fail_if: limits in a file, and in short (``"auc.low>0.6"``); `Results.passed` is whether they are kept.
    settings: the fields of `Session` (``runs_dir``, ``data_dir``, ``device``, ``launcher``, ``progress``), or ``workers``.

    Raises: `UserError`; every mistake of the user is found before anything is trained or written.

    >>> results = run("digits/undefended", options={"epochs": 1})  # doctest: +SKIP
    """
    references = recipes or (("undefended", "hamp") if data else DEFAULT_RECIPES)
    source, judged = ShadowSource(shadows, shadows_from, force), canary_config(canaries, canary_kind)
    request = Request(attacks, options or {}, source, out, Gate.of(policy, fail_if), judged)
    return running.run(references, RecipeOptions(options, seed, data, label), request, session_of(settings))


@checked
def train(
    recipe: Reference,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **settings: Unpack[Settings],
) -> Trained:
    """The trained model of a recipe, which is trained unless ``runs_dir`` contains it already. Arguments: see `run`.

    Raises: `UserError`.
    """
    session = session_of(settings)
    return train_problem(prepare(RecipeOptions(options, seed, data, label).recipe(recipe), session), session)


@checked
def shadow(
    recipe: Reference,
    models: int,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **settings: Unpack[Settings],
) -> Path:
    """Train the missing shadow models of a recipe and return the run folder that contains them.

    models: number of shadow models, even and at least 4. Other arguments: see `run`.

    Raises: `UserError`.
    """
    session = session_of(settings)
    with_shadows = RecipeOptions(options, seed, data, label).shadowed("--models", recipe, models)
    return shadowing.shadow(prepare(with_shadows, session), session).folder


@checked
def plan(
    recipe: Reference,
    shadows: int,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **settings: Unpack[Settings],
) -> Plan:
    """The expected cost of shadow models and the false positive rates that they resolve, from a few measured training steps.

    Only the measurements are written, into the cache. shadows: number of shadow models. Other arguments: see `run`.

    Raises: `UserError`.
    """
    session = session_of(settings)
    with_shadows = RecipeOptions(options, seed, data, label).shadowed("--shadows", recipe, shadows)
    return shadowing.plan_shadows(prepare(with_shadows, session), session, anew=True)


@checked
def attack(
    run: str | Path | Trained,
    *attacks: str,
    options: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    shadows: int = 0,
    shadows_from: str | Path = "",
    force: bool = False,
    **settings: Unpack[Settings],
) -> Results:
    """Attack the model of a run folder and write the report into ``out`` (default: the run folder).

    attacks: names; default: every attack whose evidence the run contains.
    options: only options of the judge and of attacks, e.g. ``{"neural.epochs": 50, "judge.strict": True}``.
    shadows: number of shadow models, trained if missing; default: as many as in the run's last result. Results of attacks that
    are not named here are kept in the run folder. shadows_from, force, settings: see `run`.

    Returns: `Results` of the named attacks.

    Raises: `UserError`.
    """
    folder = Path(run.folder if isinstance(run, Trained) else run).resolve()
    request = Request(attacks, options or {}, ShadowSource(shadows, shadows_from, force), out)
    return running.attack(folder, request, session_of({**settings, "runs_dir": folder.parent}))


@checked
def audit(
    predictions: Any = None,
    *,
    attacks: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **arguments: Unpack[AuditArguments],
) -> Results:
    """Attack a model that was trained elsewhere, and judge how much it reveals about who was in its training data.

    Give one of these ways in, with at least 100 members (training records) and 100 non-members:

    - ``predictions``: a .csv, .tsv, .parquet or .npz file or a data frame, one row per record, with the columns ``label`` and
      ``member`` (1 or 0), and one column of answers per class, named after it. ``answers`` is a pattern for their names.
    - ``probabilities`` or ``logits`` (P, C), ``y`` (P,), ``member`` (P,); optionally ``x``, ``classes``, and of M shadow models
      ``shadow_probabilities`` or ``shadow_logits`` (M, P, C) and ``shadow_members`` (M, P).
    - ``predict``: a PyTorch module, an estimator with ``predict_proba``, a function of the inputs, ``"package.module:load"``,
      ``"model.onnx"`` or ``"hf:FOLDER"``, a classifier of the column ``text``; with ``members`` and ``nonmembers``, pairs (x, y)
      or tables with the column ``label``.
    - ``train``: a function (x, y, seed) that returns such a model, or ``"package.module:function"``, with ``data``, a pair (x, y)
      or a table, and ``shadows``, a number of shadow models. Models that were trained before are found again.
    - ``scores``: a folder with the published scores of shadow models, and ``target_scores``, one with those of the target, by
      default the last model. See `hampkit.targets.scores`.
    - ``weights``: a published checkpoint of the network ``net``, with ``data``, the name of a data set, and ``split``, the
      permutation that decided on its members.

    All arguments: `AuditArguments`. What you declare (``claimed_epsilon``, ``claimed_delta``, ``prior``, ``purpose``) is printed
    as such. ``policy`` and ``fail_if`` decide ``Results.passed``. out: default a folder in ``runs_dir``.
    Returns: `Results` of one model; its ``audit`` has exposure, predictive values and bounds.
    Raises: `UserError`.
    """
    return audit_to(*sorted_arguments(predictions, Common(attacks, options, seed, out), arguments))


@checked
def compare(
    dataset: str = "digits",
    *,
    defenses: Sequence[str] = (),
    shadows: int = 0,
    seeds: int = 1,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    out: str | Path | None = None,
    canaries: int = 0,
    canary_kind: str = "mislabelled",
    policy: str | Path | None = None,
    fail_if: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Comparison:
    """Train and attack every defense on one split, and write one page: accuracy against leakage, table, cost.

    Writes compare.json, compare.html, compare.md and the full report into ``out`` (default: ``runs_dir``).
    Returns: `Comparison`; ``entries[i].leak`` is the worst attack on a defense. All attacks are in results.json.

    defenses: names; default: every registered defense, except those that cannot be trained here: the page gives the reason.
    shadows: number of shadow models per defense and seed.
    seeds: number of seeds, counted from ``seed`` (default: the recipe's).
    canaries, canary_kind: every defense is also judged on so many canaries, beside DP-SGD of equal accuracy.
    data, label: the user's own table instead of a data set. policy, fail_if: limits on every attack. settings: see `run`.

    Raises: `UserError`.
    """
    given, gate = RecipeOptions(options, seed, data, label), Gate.of(policy, fail_if)
    judged = canary_config(canaries, canary_kind)
    request = comparing.ComparisonRequest(dataset, defenses, given, shadows, seeds, gate, judged)
    return comparing.compare(request, None if out is None else Path(out), session_of(settings))

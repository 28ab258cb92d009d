"""The command ``audit``: a model that was trained elsewhere, or its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hampkit.cli.gate import check_gate, ended
from hampkit.cli.options import (
    AUDIT_FLAGS,
    FLAGS,
    Canaries,
    CanaryKind,
    DataDir,
    Debug,
    Device,
    FailIf,
    Json,
    Junit,
    Policy,
    Quiet,
    RunsDir,
    ShadowCount,
    Workers,
    comma_separated,
    split,
)
from hampkit.cli.output import REPLACED, write, write_json
from hampkit.cli.progress import Bars
from hampkit.errors import UserError

if TYPE_CHECKING:
    from hampkit.api import Results

_WAYS = "Ways in"
_MEANING = "What you declare"


def _option(*names: str, panel: str, help: str, metavar: str = "") -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar or None, show_default=False)


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PREDICTIONS] [KEY=VALUE…]", show_default=False, help="A .csv, .tsv, .parquet or .npz file."
    ),
]
Label = Annotated[str, _option("--label", panel=_WAYS, help="The column with the true label.", metavar="COLUMN")]
Member = Annotated[
    str,
    _option(
        "--member",
        panel=_WAYS,
        help="The column with 1 for training records, else 0; or with VALUE for them.",
        metavar="COLUMN[=VALUE]",
    ),
]
Group = Annotated[
    str, _option("--group", panel=_WAYS, help="The column with the person of each record.", metavar="COLUMN")
]
Id = Annotated[str, _option("--id", panel=_WAYS, help="The column with your names of the records.", metavar="COLUMN")]
By = Annotated[
    str, _option("--by", panel=_WAYS, help="The column of subgroups, such as sex: an AUC for each.", metavar="COLUMN")
]
Answers = Annotated[
    str,
    _option("--answers", panel=_WAYS, help="A pattern for the columns of answers, such as 'p_*'.", metavar="PATTERN"),
]
Positive = Annotated[
    str,
    _option(
        "--positive", panel=_WAYS, help="The class whose probability the only column of answers is.", metavar="CLASS"
    ),
]
Kind = Annotated[str, _option("--kind", panel=_WAYS, help="probabilities, logits or auto.", metavar="KIND")]
Model = Annotated[
    str,
    _option(
        "--model",
        panel=_WAYS,
        help="package.module:load, a function that returns the model, a .onnx file, or hf:FOLDER, a classifier of texts.",
    ),
]
Members = Annotated[Path | None, _option("--members", panel=_WAYS, help="A table of training records.", metavar="FILE")]
NonMembers = Annotated[
    Path | None, _option("--nonmembers", panel=_WAYS, help="A table of other records.", metavar="FILE")
]
Inputs = Annotated[
    str,
    _option("--inputs", panel=_WAYS, help="What the model receives: array, frame, encoded or auto.", metavar="KIND"),
]
Text = Annotated[str, _option("--text", panel=_WAYS, help="The column that a model hf:FOLDER reads.", metavar="COLUMN")]
Train = Annotated[
    str,
    _option(
        "--train", panel=_WAYS, help="package.module:function, which makes a model of (x, y, seed).", metavar="FUNCTION"
    ),
]
Data = Annotated[
    Path | None,
    _option(
        "--data",
        panel=_WAYS,
        help="The table that --train is given, or the data set that --weights were trained on.",
        metavar="FILE|NAME",
    ),
]
Scores = Annotated[
    Path | None,
    _option("--scores", panel=_WAYS, help="A folder with published scores of shadow models.", metavar="FOLDER"),
]
TargetScores = Annotated[
    Path | None,
    _option(
        "--target-scores",
        panel=_WAYS,
        help="A folder with those of the target; default: the last shadow model is the target.",
        metavar="FOLDER",
    ),
]
Weights = Annotated[
    Path | None, _option("--weights", panel=_WAYS, help="A checkpoint: .safetensors or .pth.tar.", metavar="FILE")
]
Net = Annotated[
    str, _option("--net", panel=_WAYS, help="Its network; default: that of the data set's recipe.", metavar="NAME")
]
Split = Annotated[
    Path | None,
    _option("--split", panel=_WAYS, help="The permutation that decided on its members: .npy or .pkl.", metavar="FILE"),
]
Attacks = Annotated[
    str, typer.Option(metavar="NAME,…", help="Names, separated by commas; default: all that are possible.")
]
Epsilon = Annotated[
    float | None,
    _option("--claimed-epsilon", panel=_MEANING, help="The epsilon that was claimed; coins can refute it."),
]
Delta = Annotated[
    float | None, _option("--claimed-delta", panel=_MEANING, help="The delta that was claimed; default: 1e-5.")
]
Prior = Annotated[
    list[float] | None,
    _option("--prior", panel=_MEANING, help="Share of members among the records that an attacker tests."),
]
Title = Annotated[
    str, _option("--title", panel=_MEANING, help="The name of the model; default: that of its file.", metavar="TEXT")
]
Purpose = Annotated[str, _option("--purpose", panel=_MEANING, help="What the model is for.", metavar="TEXT")]
Membership = Annotated[
    str,
    _option(
        "--membership",
        panel=_MEANING,
        help="coin: a fair coin decided on each record; given: anything else.",
        metavar="HOW",
    ),
]
AllowEqual = Annotated[bool, typer.Option("--allow-equal", help="Accept non-members that are equal to members.")]
Demo = Annotated[
    bool, typer.Option("--demo", help="Audit two made-up models: one that memorises, and one that does not.")
]
OF_DEMO = ("out", "runs_dir", "seed", "quiet", "demo", "debug")
Seed = Annotated[int, typer.Option(help="Seed of the order of the records.")]
Out = Annotated[Path | None, typer.Option(help="Folder for page and results; default: one in the runs folder.")]


def audit(
    words: Words = None, label: Label = "", member: Member = "", group: Group = "", id: Id = "", by: By = "",
    answers: Answers = "", positive: Positive = "", kind: Kind = "auto", model: Model = "", members: Members = None,
    nonmembers: NonMembers = None, inputs: Inputs = "auto", text: Text = "", train: Train = "", data: Data = None,
    shadows: ShadowCount = 0, workers: Workers = 0, canaries: Canaries = 0, canary_kind: CanaryKind = "mislabelled",
    scores: Scores = None, target_scores: TargetScores = None, weights: Weights = None, net: Net = "", split_file: Split = None,
    attacks: Attacks = "", claimed_epsilon: Epsilon = None, claimed_delta: Delta = None, prior: Prior = None,
    title: Title = "", purpose: Purpose = "", membership: Membership = "given", allow_equal: AllowEqual = False, seed: Seed = 0,
    policy: Policy = None, fail_if: FailIf = None, junit: Junit = None, runs_dir: RunsDir = Path("runs"), out: Out = None,
    data_dir: DataDir = None, device: Device = "auto", json: Json = False, quiet: Quiet = False, demo: Demo = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Attack a model that was trained elsewhere, and judge how much it reveals about its training data.

    Give its PREDICTIONS, a table with the columns --label and --member and one column of answers per class; or the model itself,
    --model, with --members and --nonmembers, tables with the column --label; or the function that trains it, --train, with --data
    and --shadows; or published files: --scores with --target-scores, or --weights with --net, --data and --split.
    """
    given = dict(locals())
    file, options = _file(words or [])
    check_gate(junit, policy is not None or bool(fail_if))
    bars = Bars(not quiet)
    if demo:
        _check_alone(given)
        return _demonstrate(bars, out or runs_dir, seed, quiet)
    with bars.shown():
        from hampkit import api

        results = api.audit(
            file, label=label, member=member, group=group, id=id, by=by, answers=answers, positive=positive, kind=kind,
            predict=model or None, members=members, nonmembers=nonmembers, inputs=inputs, text=text,
            train=train or None, data=data, shadows=shadows, canaries=canaries, canary_kind=canary_kind, workers=workers,
            scores=scores, target_scores=target_scores, weights=weights, net=net, split=split_file,
            attacks=comma_separated(attacks), options=options,
            claimed_epsilon=claimed_epsilon, claimed_delta=claimed_delta, prior=prior or (), title=title, purpose=purpose,
            membership=membership, allow_equal=allow_equal, policy=policy, fail_if=fail_if or (), seed=seed,
            out=out, runs_dir=runs_dir, data_dir=data_dir, device=device, progress=bars.progress(),
        )  # fmt: skip
    _show(results, json, quiet)
    return ended(results.policy, junit, quiet or json)


def _check_alone(given: Mapping[str, Any]) -> None:
    """Check that the demonstration is asked for alone. given: parameter → value. Raises: `UserError`."""
    usual = ("auto", "given", "mislabelled")
    others = [name for name, value in given.items() if value and value not in usual and name not in OF_DEMO]
    if others:
        first = f"--{others[0].replace('_', '-')}" if others[0] != "words" else repr(given["words"][0])
        raise UserError(
            f"--demo takes only --out, --runs-dir, --seed and --quiet: its two models are made up; leave out {first}"
        )


def _file(words: list[str]) -> tuple[str | None, dict[str, Any]]:
    """The file of predictions among the words, and the options. Raises: `UserError` for several files."""
    files, options = split(words, flags=FLAGS | AUDIT_FLAGS)
    if len(files) > 1:
        raise UserError(
            f"audit takes one file of predictions, and got {len(files)}: {', '.join(files)}; leave out all but one"
        )
    return (files[0] if files else None), options


def _demonstrate(bars: Bars, folder: Path, seed: int, quiet: bool) -> None:
    """Audit both models of the demonstration, each into a folder of its own."""
    with bars.shown():
        from hampkit.workflows.audit_report import audit_demonstration

        found = audit_demonstration(folder, seed, bars.progress())
    for results in found:
        _show(results, False, quiet)


def _in_subgroup(attack: str, auc: str) -> str:
    """The AUC in a subgroup with its attack, or why there is none."""
    return auc if attack == "–" else f"{attack}, AUC {auc}"


def _show(results: Results, json: bool, quiet: bool) -> None:
    """The results as a table, what an audit has beside them, and where the page is; or as JSON."""
    if json:
        return write_json(results.to_json(), sort=True)
    if quiet:
        return None
    from hampkit.cli.terminal import show_results, stdout_console
    from hampkit.report.annex import bounds_line, exposure_line, subgroup_rows

    show_results(stdout_console(), results)
    found = results.models[0].audit
    lines = [f"{line}." for line in (exposure_line(found.get("exposure")), bounds_line(found)) if line]
    lines += [f"On canaries: {bounds_line(model.audit)}." for model in results.models if model.canaries]
    rows = subgroup_rows(found)
    write(*lines, *(f"subgroup {name} ({count}): {_in_subgroup(attack, auc)}" for name, count, attack, auc in rows))
    page = results.files["html"]
    return write(f"report: {page}{REPLACED if page in results.replaced else ''}")

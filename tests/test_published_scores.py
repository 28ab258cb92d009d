"""Audits of published score files: both layouts, the same numbers as the published rule, and what is left out."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
from benchmarks.score_files import OPTIONS, audited, location30, published_online, published_sweep, write_artifact

import hampkit
from hampkit import UserError
from hampkit.attacks import Shadows, ShadowScores
from hampkit.attacks.lira import LiraOffline, LiraOnline, LiraOnlineFixed, LiraOptions, lira_scores
from hampkit.attacks.rmia import Rmia
from hampkit.cli.app import guarded
from hampkit.data.splits import shadow_members
from hampkit.judging.leave_one_out import repeated_scores
from hampkit.stats.roc import auc
from hampkit.workflows.session import Session

MODELS, RECORDS = 8, 400
POSSIBLE = {
    "attack-r", "confidence", "confidence-per-class", "lira-global", "lira-offline", "lira-offline-fixed", "lira-online",
    "lira-online-fixed", "loss", "loss-per-class", "rmia", "rmia-offline",
}  # fmt: skip


def made(models=MODELS, views=0, gap=1.5, seed=0, scheme="published"):
    """Scores, masks, the target's scores and membership, labels; views: 0 for files of shape (N,)."""
    rng = np.random.default_rng(seed)
    keep = shadow_members(models, RECORDS, seed, scheme).numpy()
    member = np.arange(RECORDS) < RECORDS // 2
    ease = rng.normal(0, 2, RECORDS)
    shape = (models, RECORDS, max(views, 1))
    scores = ease[:, None] + gap * keep[..., None] + rng.normal(size=shape)
    target = ease[:, None] + gap * member[:, None] + rng.normal(size=shape[1:])
    labels = rng.integers(0, 5, RECORDS)
    return (scores, keep, target, member, labels) if views else (scores[..., 0], keep, target[:, 0], member, labels)


@pytest.fixture
def artifact(tmp_path):
    """The artifact's layout: (folder of the shadow models, folder of the target)."""
    scores, keep, target, member, labels = made()
    shadows = write_artifact(tmp_path / "lira-undefended-fullMember-1500", scores, keep, labels)
    return shadows, write_artifact(tmp_path / "lira-undefended-defense-fullMember-1500", target[None], member[None])


def experiments(folder, scores, keep, epochs=("0000000010.npy", "0000000100.npy")):
    """The layout of LiRA's code; only the last file of each model has its scores."""
    for m, (each, kept) in enumerate(zip(scores, keep, strict=True)):
        place = folder / f"experiment-{m}_{len(scores)}"
        (place / "scores").mkdir(parents=True)
        np.save(place / "keep.npy", kept)
        for epoch in epochs:
            np.save(place / "scores" / epoch, each if epoch == epochs[-1] else np.zeros_like(each))
    return folder


def aucs(results, unit="target"):
    return {a.attack: a.auc.value for a in results.models[0].of(unit)}


@pytest.mark.parametrize("variance", ["per-example", "pooled", "moderated"])
def test_the_artifacts_files_are_attacked_by_lira(artifact, variance):
    scores, keep, target, member, _ = made()
    options = {"judge.candidates": "all"}
    options |= {f"lira-{variant}.variance": variance for variant in ("online", "offline")}
    found = hampkit.audit(scores=artifact[0], target_scores=artifact[1], attacks=["lira"], options=options)
    for variant in ("online", "offline", "online-fixed", "offline-fixed", "global"):
        used = variance if variant in ("online", "offline") else "auto"
        mine = lira_scores(ShadowScores(scores, keep), target, LiraOptions(variant, used))
        # a variance of all records counts the known ones twice if all are judged
        alone = used == "per-example" or variant == "global"
        wanted = pytest.approx(auc(mine[member], mine[~member]), abs=1e-12 if alone else 1e-3)
        assert aucs(found)[f"lira-{variant}"] == wanted, variant
    assert found.models[0].audit["way"] == "scores"
    assert found.models[0].audit["exposure"]["judged"] == RECORDS


def test_an_audit_has_the_numbers_of_the_published_rule(artifact, tmp_path):
    scores, keep, target, member, _ = made()
    mine = audited(*artifact, tmp_path / "out")
    assert mine == pytest.approx(published_sweep(published_online(scores, keep, target), member), abs=1e-12)
    others = published_sweep(published_online(scores, keep, target, np.mean), member)
    assert mine != pytest.approx(others, abs=1e-6)  # the median is not the mean


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("HAMPKIT_DATA"), reason="needs $HAMPKIT_DATA with dataset_location.tgz")
def test_score_files_of_location30_have_the_numbers_of_the_published_rule(tmp_path):
    scores, keep, target, member, y = location30(Session(tmp_path / "runs"))
    shadows = write_artifact(tmp_path / "shadows", scores, keep, y)
    mine = audited(shadows, write_artifact(tmp_path / "target", target[None], member[None]), tmp_path / "out")
    assert mine == pytest.approx(published_sweep(published_online(scores, keep, target), member), abs=1e-12)


@pytest.mark.parametrize("views", [0, 3])
def test_without_a_target_each_model_is_the_target_once(tmp_path, views):
    scores, keep, _, _, labels = made(views=views, scheme="paired")  # with twins nothing is drawn in leave-one-out
    folder = experiments(
        tmp_path / "cifar10", scores, np.c_[keep, keep[:, :7]]
    )  # more records than scores, as published
    np.save(folder / "y_train.npy", np.r_[labels, labels[:7]])
    (folder / "experiment-99").mkdir()
    found = hampkit.audit(scores=folder, attacks=["lira", "rmia"], options={"judge.candidates": "all"})
    whole = Shadows(
        (scores.reshape(MODELS, RECORDS, -1),),
        keep,
        np.empty((MODELS, 0), np.float32),
        np.arange(RECORDS),
        np.arange(MODELS),
    )
    for attack in (LiraOnline(), LiraOffline(), LiraOnlineFixed(), Rmia()):
        each = repeated_scores(attack, whole)
        assert aucs(found, "leave-one-out")[attack.name] == pytest.approx(auc(each[keep], each[~keep]), abs=1e-12)
        last = each[-1]  # the last model is the target, and the sizes of the sides do not reveal its members
        # a variance of all records counts the known ones twice if all are judged
        assert aucs(found)[attack.name] == pytest.approx(auc(last[keep[-1]], last[~keep[-1]]), abs=1e-3)
    (model,) = found.models
    notes = " ".join(model.data["notes"])
    assert "1 folder experiment-* without scores left out" in notes
    assert "experiment-7_8" in notes
    assert all(attack.left_out == 0 for attack in model.attacks)
    rows = list(csv.DictReader((found.files["html"].parent / "records.csv").read_text().splitlines()))
    assert [row["label"] for row in sorted(rows, key=lambda row: int(row["record"]))] == [str(y) for y in labels]


def test_a_target_that_leaks_nothing_looks_like_one(tmp_path):
    """The target is one of the shadow models: LiRA must not see from the sizes of the sides which records it has."""
    values = []
    for seed in range(8):
        scores, keep, *_ = made(models=4, gap=0.0, seed=seed)
        folder = experiments(tmp_path / f"null-{seed}", scores, keep)
        values.append(aucs(hampkit.audit(scores=folder, attacks=["lira-online"]))["lira-online"])
    assert abs(np.mean(values) - 0.5) < 0.05  # a standard error is 0.041 / √8


def test_what_is_possible_is_made_and_the_rest_is_named(artifact, tmp_path):
    found = hampkit.audit(scores=artifact[0], target_scores=artifact[1], out=tmp_path / "out")
    (model,) = found.models
    assert {a.attack for a in model.of("target")} == POSSIBLE
    left = {name: row["why"] for row in found.verdict["not_tested"] for name in row["what"].split(", ")}
    for name in ("entropy", "modified-entropy", "neural", "correctness"):
        assert "the scaled logit of the true label alone" in left[name]
    assert model.accuracy == {}
    assert model.null_attack == "loss-per-class"
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert hampkit.ModelResult.from_json(document["models"][0]) == model
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    assert "published scores, the scaled logit of the true label" in page
    assert "Accuracy: unknown" in text
    for name, unlabelled in (("shadow_label.npy", True), ("", False)):
        if unlabelled:
            (artifact[0] / name).unlink()
            again = hampkit.audit(scores=artifact[0], target_scores=artifact[1])
            assert {a.attack for a in again.models[0].of("target")} == {n for n in POSSIBLE if "per-class" not in n}
            assert again.models[0].shift is None  # nothing is known of the records
            assert aucs(again)["loss"] == aucs(found)["loss"]


def test_results_of_scores_follow_the_schema(artifact, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    from hampkit.report import load_schema

    hampkit.audit(
        scores=artifact[0], target_scores=artifact[1], attacks=["loss"], out=tmp_path / "out", fail_if=["auc>0.6"]
    )
    jsonschema.validate(json.loads((tmp_path / "out" / "results.json").read_text()), load_schema())


def test_the_command_line_audits_scores(artifact, capsys):
    words = [
        "audit",
        "--scores",
        str(artifact[0]),
        "--target-scores",
        str(artifact[1]),
        "--attacks",
        "lira",
        "--out",
        "out",
    ]
    assert guarded([*words, "lira-online.variance=per-example", "--fail-if", "accuracy.test<0.8"]) == 3
    printed = capsys.readouterr().out
    assert "membership can be inferred" in printed
    assert "accuracy: unknown" in printed
    assert "shown to be exposed" in printed
    assert "do not have the accuracy" in printed


def spoil(path, change):
    np.save(path, change(np.load(path)))


def _text(path):
    path.write_text("no array")


BAD = {
    "no folder": (lambda s, t: shutil.rmtree(s), "is no folder"),
    "nothing there": (lambda s, t: [p.unlink() for p in s.iterdir()], "has no score files"),
    "no keep": (lambda s, t: (s / "3_keep.npy").unlink(), "3_keep.npy is missing"),
    "other records": (lambda s, t: spoil(s / "3_score.npy", lambda a: a[:-1]), r"3_score.npy has scores of shape \(399"),
    "short keep": (lambda s, t: spoil(s / "3_keep.npy", lambda a: a[:-1]), "has 399 records, and the scores beside it 400"),
    "long keep": (lambda s, t: spoil(s / "3_keep.npy", lambda a: np.r_[a, a]), "has 800 records"),
    "numbers as keep": (lambda s, t: spoil(s / "3_keep.npy", lambda a: a * 2), "one bool per record"),
    "NaN": (lambda s, t: spoil(s / "3_score.npy", lambda a: a * np.nan), "NaN or infinity in row 1"),
    "whole numbers": (lambda s, t: spoil(s / "3_score.npy", lambda a: a.astype(int)), "give scaled logits"),
    "logits": (lambda s, t: spoil(s / "3_score.npy", lambda a: np.zeros((400, 1, 5))), "give scaled logits"),
    "a text": (lambda s, t: _text(s / "3_score.npy"), "cannot read .*3_score.npy"),
    "objects": (lambda s, t: np.save(s / "3_score.npy", np.array([{}]), allow_pickle=True), "holds Python objects"),
    "an archive": (lambda s, t: np.savez((s / "3_score.npy").open("wb"), a=1), "is an archive"),
    "few models": (lambda s, t: [(s / f"{m}_score.npy").unlink() for m in range(5)], "3 shadow models are too few"),
    "one-sided": (lambda s, t: [spoil(s / f"{m}_keep.npy", np.ones_like) for m in range(8)], "fewer than two shadow models"),
    "two folders": (lambda s, t: shutil.copytree(t, s / "more"), "score files in 2 folders"),
    "two targets": (lambda s, t: [shutil.copy(t / f"0_{n}.npy", t / f"1_{n}.npy") for n in ("keep", "score")], "of 2 models"),
    "other target": (
        lambda s, t: [spoil(t / f"0_{n}.npy", lambda a: a[:300]) for n in ("keep", "score")], "300 records and 1 view"
    ),
    "no members": (lambda s, t: spoil(t / "0_keep.npy", np.zeros_like), "has no members"),
    "short labels": (lambda s, t: spoil(s / "shadow_label.npy", lambda a: a[:-1]), "one label for each of 400"),
    "text as labels": (lambda s, t: spoil(s / "shadow_label.npy", lambda a: a.astype(str)), "one whole number for each"),
    "negative label": (lambda s, t: spoil(s / "shadow_label.npy", lambda a: a - 9), "labels are 0 to"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_files_that_no_audit_can_use(artifact, capsys, case):
    change, message = BAD[case]
    change(*artifact)
    assert guarded(["audit", "--scores", str(artifact[0]), "--target-scores", str(artifact[1])]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attacks": ["neural"]}, "attack neural is not possible: published scores"),
        ({"attacks": ["entropy"]}, "the attack uses the other probabilities"),
        ({"label": "y"}, "--label has no effect with scores"),
        ({"kind": "logits"}, "--kind has no effect with scores"),
        ({"member": np.ones(3)}, "member as an array has no effect with scores"),
        ({"data": "x.csv"}, "data has no effect with scores"),
        ({"predict": lambda x: x}, "got predict .--model. and scores"),
        ({"scores": 3}, "scores=3 must be a path"),
        ({"options": {"lira-online-fixed.variance": "per-example"}}, "one variance for all examples"),
    ],
)
def test_arguments_without_a_place(artifact, more, message):
    with pytest.raises(UserError, match=message):
        hampkit.audit(**{"scores": artifact[0], "target_scores": artifact[1], **more})
    with pytest.raises(UserError, match="target_scores has no effect with predict"):
        hampkit.audit(predict=lambda x: x, target_scores=artifact[1])


def test_the_options_of_the_published_rule_are_those_of_the_audit():
    assert set(OPTIONS) == {"judge.candidates", "judge.strict", "lira-online.variance", "lira-online.center"}

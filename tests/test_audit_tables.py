"""Tables of audits in the notations of other programs, and columns of answers that are easily taken for something else."""

import json
import re

import numpy as np
import pytest

import hampkit
from hampkit.cli.app import guarded
from hampkit.errors import Notice, UserError

ROWS = 400
BASIC = ["--label", "y", "--member", "in", "--attacks", "loss"]


@pytest.fixture(scope="module")
def answers():
    """Labels, membership and the probability of class 1, to four digits."""
    rng = np.random.default_rng(0)
    y, member = rng.integers(0, 2, ROWS), np.arange(ROWS) % 2 == 0
    p = np.clip(0.5 + (y - 0.5) * (0.3 + 0.4 * member * rng.random(ROWS)), 0.01, 0.99).round(4)
    return y, member, p


def write(path, columns, separator=",", decimal="."):
    """A text file of columns: name → values."""
    rows = zip(*columns.values(), strict=True)
    lines = [separator.join(columns), *(separator.join(_text(v, decimal) for v in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _text(value, decimal):
    return f"{value:.4f}".replace(".", decimal) if isinstance(value, float) else str(value)


def columns(answers, **more):
    y, member, p = answers
    return {"y": y, "in": member.astype(int), "p_0": 1 - p, "p_1": p, **more}


def audited(path, *words, capsys):
    assert guarded(["audit", str(path), *BASIC, "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)["models"][0]


def aucs(model):
    return [attack["auc"] for attack in model["attacks"]]


def test_decimal_commas_codes_and_further_columns_give_the_same_numbers(answers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = audited(write(tmp_path / "a.csv", columns(answers)), capsys=capsys)
    commas = write(tmp_path / "b.csv", columns(answers), ";", ",")
    assert aucs(audited(commas, "decimal=,", capsys=capsys)) == aucs(plain)
    noted = write(tmp_path / "c.csv", columns(answers, note=["x"] * ROWS, row=range(ROWS)))
    assert aucs(audited(noted, "data.drop=[note, row]", capsys=capsys)) == aucs(plain)
    bare = tmp_path / "d.csv"
    bare.write_text("\n".join((tmp_path / "a.csv").read_text().splitlines()[1:]) + "\n")
    words = [
        "audit",
        str(bare),
        "--label",
        "c1",
        "--member",
        "c2",
        "--attacks",
        "loss",
        "--json",
        "header=false",
        "--answers",
    ]
    assert guarded([*words, "c[34]"]) == 2  # the names c3 and c4 are no labels
    assert "'0'" in capsys.readouterr().err


def test_a_model_receives_the_columns_that_are_left(answers, tmp_path):
    """Dropped columns reach nobody; members and non-members are read alike."""
    y, member, p = answers
    table = {"y": y, "score": p, "secret": member.astype(int)}
    for side, name in ((member, "m.csv"), (~member, "n.csv")):
        write(tmp_path / name, {k: np.asarray(v)[side].tolist() for k, v in table.items()}, ";", ",")
    seen = []

    def model(x):
        seen.append(x.shape)
        return np.c_[1 - x[:, 0], x[:, 0]]

    sides = {"members": tmp_path / "m.csv", "nonmembers": tmp_path / "n.csv", "label": "y", "attacks": ["loss"]}
    options = {"decimal": ",", "drop": ["secret"]}
    hampkit.audit(predict=model, **sides, options=options, out=tmp_path / "o", runs_dir=tmp_path)
    assert {shape[1] for shape in seen} == {1}


def test_options_of_files_are_refused_where_they_have_no_effect(answers, tmp_path):
    y, member, p = answers
    arrays = {"probabilities": np.c_[1 - p, p], "y": y, "member": member}
    with pytest.raises(UserError, match=r"data\.decimal has no effect on arrays"):
        hampkit.audit(**arrays, options={"decimal": ","}, runs_dir=tmp_path)
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(UserError, match=r"data\.drop has no effect on .*p\.npz"):
        hampkit.audit(tmp_path / "p.npz", options={"data.drop": ["y"]}, runs_dir=tmp_path)
    with pytest.raises(UserError, match=r"data\.drop is given twice"):
        hampkit.audit(tmp_path / "p.npz", options={"data.drop": ["y"], "drop": ["y"]}, runs_dir=tmp_path)


def test_the_class_of_the_only_column_is_noted(answers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y, member, p = answers
    words = np.where(y == 1, "yes", "no")
    for name, column, more, positive in (
        ("a.csv", {"p_no": 1 - p}, (), "no"),
        ("b.csv", {"score": p}, ("--positive", "yes"), "yes"),
        ("c.csv", {"score": 1 - p}, ("--positive", "no"), "no"),
    ):
        path = write(tmp_path / name, {"y": words, "in": member.astype(int), **column})
        found = audited(path, *more, capsys=capsys)
        assert any(f"as the probability of class '{positive}'" in note for note in found["data"]["notes"])
        assert found["accuracy"]["test"] > 0.9
    numbers = write(tmp_path / "d.csv", {"y": y, "in": member.astype(int), "score": p})
    assert audited(numbers, capsys=capsys)["accuracy"]["test"] > 0.9


def test_a_column_that_may_be_of_either_class_is_refused(answers, tmp_path, capsys, monkeypatch):
    """The wrong class would turn a leak into its opposite. The advice is followed, and other classes are refused."""
    monkeypatch.chdir(tmp_path)
    y, member, p = answers
    path = write(tmp_path / "a.csv", {"y": np.where(y == 1, "yes", "no"), "in": member.astype(int), "score": p})
    assert guarded(["audit", str(path), *BASIC]) == 2
    advice = re.search(r"--positive no or (--positive yes)", capsys.readouterr().err)
    assert guarded(["audit", str(path), *BASIC, *advice[1].split()]) == 0
    assert guarded(["audit", str(path), *BASIC, "--positive", "yess"]) == 2
    assert "did you mean 'yes'" in capsys.readouterr().err
    two = write(tmp_path / "b.csv", columns(answers))
    assert guarded(["audit", str(two), *BASIC, "--positive", "1"]) == 2
    assert "--positive 1 names the class of the only column" in capsys.readouterr().err


def test_predicted_labels_are_noted_and_texts_of_labels_refused(answers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y, member, p = answers
    right = (p > 0.5).astype(int)
    path = write(tmp_path / "a.csv", {"y": y, "in": member.astype(int), "p_0": 1 - right, "p_1": right})
    assert guarded(["audit", str(path), *BASIC, "--json"]) == 0
    shown = capsys.readouterr()
    assert "0 and 1 only" in shown.err
    assert any("0 and 1 only" in note for note in json.loads(shown.out)["models"][0]["data"]["notes"])
    path = write(
        tmp_path / "b.csv", {"y": np.where(y, "a", "b"), "in": member.astype(int), "said": np.where(right, "a", "b")}
    )
    assert guarded(["audit", str(path), *BASIC]) == 2
    assert "holds labels, not probabilities" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["commas", "note"])
def test_the_advice_for_a_column_of_text_can_be_followed(answers, tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.csv"
    if kind == "commas":
        write(path, columns(answers), ";", ",")
    else:
        write(path, columns(answers, note=["x"] * ROWS))
    assert guarded(["audit", str(path), *BASIC]) == 2
    error = capsys.readouterr().err
    found = re.search("'(decimal=,)'" if kind == "commas" else r"(drop=\S+)", error)
    assert guarded(["audit", str(path), *BASIC, found[1].rstrip(",.") if kind == "note" else found[1]]) == 0


def test_compare_trains_what_run_trained_on_a_table(answers, tmp_path):
    """The split of a table without further options is the same in both, and so is the name of the run."""
    y, _, p = answers
    path = write(tmp_path / "t.csv", {"y": y, "score": p, "other": np.arange(ROWS) % 7})
    options = {"epochs": 1, "neural.epochs": 1}
    found = hampkit.run("undefended", data=path, label="y", options=options, runs_dir=tmp_path, attacks=["loss"])
    hampkit.compare(data=path, label="y", defenses=["undefended", "round"], options=options, runs_dir=tmp_path)
    trained = [folder.name for folder in tmp_path.iterdir() if folder.name.startswith("t-undefended")]
    assert trained == [found.models[0].run.rsplit("/", 1)[-1]]


def test_the_value_of_members_may_be_named(answers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y, member, p = answers
    sides = np.where(member, "Training", "Validierung")
    path = write(tmp_path / "a.csv", {"y": y, "in": sides, "p_0": 1 - p, "p_1": p})
    plain = audited(write(tmp_path / "b.csv", columns(answers)), capsys=capsys)
    assert guarded(["audit", str(path), *BASIC]) == 2
    assert "--member COLUMN=VALUE" in capsys.readouterr().err
    words = ["audit", str(path), "--label", "y", "--attacks", "loss", "--json", "--member"]
    assert guarded([*words, "in=Training"]) == 0
    assert aucs(json.loads(capsys.readouterr().out)["models"][0]) == aucs(plain)
    assert guarded([*words, "in=Test"]) == 2
    assert "there are 'Training', 'Validierung'" in capsys.readouterr().err


def test_columns_without_numbers_are_named_together(answers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y, member, p = answers
    more = {"note": ["x"] * ROWS, "date": ["a day"] * ROWS}
    path = write(tmp_path / "a.csv", {"y": y, "in": member.astype(int), "score": p, **more})
    assert guarded(["audit", str(path), *BASIC]) == 2
    error = capsys.readouterr().err
    assert "'note', 'date'" in error
    advice = re.search(r"such as (--answers \S+)$", error.strip())[1]
    assert guarded(["audit", str(path), *BASIC, *advice.split()]) == 0
    percent = write(tmp_path / "b.csv", {"y": y, "in": member.astype(int), "p_1": [f"{100 * v:.1f}%" for v in p]})
    assert guarded(["audit", str(percent), *BASIC]) == 2
    assert "holds percentages" in capsys.readouterr().err


def test_a_model_is_warned_of_decimal_commas(answers, tmp_path):
    y, member, p = answers
    for side, name in ((member, "m.csv"), (~member, "n.csv")):
        write(tmp_path / name, {"y": y[side], "score": p[side]}, ";", ",")
    sides = {"members": tmp_path / "m.csv", "nonmembers": tmp_path / "n.csv", "label": "y", "attacks": ["loss"]}
    with pytest.warns(Notice, match="decimal commas, such as .* 'decimal=,' reads them as numbers"):
        hampkit.audit(predict=lambda x: np.full((len(x), 2), 0.5), **sides, inputs="encoded", out=tmp_path / "o")


WRONG = {
    "epsilon": ({"claimed_epsilon": "3"}, "claimed_epsilon='3' must be a number"),
    "a truth": ({"claimed_delta": True}, "claimed_delta=True must be a number"),
    "a switch": ({"allow_equal": "no"}, "allow_equal='no' must be True or False"),
    "policy": ({"policy": ["a"]}, r"policy=\['a'\] must be the path"),
    "classes": ({"classes": ["a", "a"]}, "has a name twice"),
    "inputs": ({"inputs": "frame"}, "inputs=frame has no effect"),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_arguments_of_other_types_are_refused(answers, case):
    y, member, p = answers
    given, message = WRONG[case]
    with pytest.raises(UserError, match=message):
        hampkit.audit(probabilities=np.c_[1 - p, p], y=y, member=member, **given)


def test_the_answers_of_shadow_models_are_named(answers):
    """The first bad answer, with its model."""
    y, member, p = answers
    both = np.c_[1 - p, p]
    half = np.random.default_rng(0).random((3, ROWS)) < 0.5
    given = {"probabilities": both, "y": y, "member": member, "shadow_members": np.concatenate([half, ~half])}
    shadow = np.tile(both, (6, 1, 1))
    for value, message in (
        (np.nan, "NaN or infinity in data row 9 of model 3"),
        (7.0, "no probabilities in data row 9 of model 3"),
    ):
        bad = shadow.copy()
        bad[2, 8, 0] = value
        with pytest.raises(UserError, match=rf"\(shadow models\) has {message}"):
            hampkit.audit(**given, shadow_probabilities=bad, kind="probabilities")
    with pytest.raises(UserError, match=r"beyond 1e\+30"):
        hampkit.audit(logits=both * 1e300, y=y, member=member)


def test_a_label_that_is_no_class_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="300 different values in 300 rows, so it is no class"):
        hampkit.audit(train=lambda x, y, seed: None, data=(rng.normal(size=(300, 2)), rng.normal(size=300)), shadows=4)

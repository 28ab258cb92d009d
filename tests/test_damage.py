"""Run folders that were edited, damaged or cannot be read: one clear line, and nothing that is whole is thrown away."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

import hampkit
from hampkit.errors import UserError
from hampkit.runs.store import MANIFEST, Run, read_json

QUICK = ["toy/hamp", "rows=300", "features=48", "classes=3", "epochs=1", "neural.epochs=1"]


@pytest.fixture
def run(cli):
    cli("run", *QUICK, "--quiet")
    (folder,) = Path("runs").glob("toy-hamp-*")
    return folder


def change(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("judge", []),
        ("attacks", []),
        ("attacks", {"neural": 3}),
        ("attacks", 3),
        ("judge", None),
        ("shadows", 3),
        ("", 0),
    ],
)
def test_local_json_of_another_shape_or_none_costs_no_training(cli, run, refused, key, value):
    before = (run / "local.json").read_bytes()
    weights = next(run.glob("models/*/stack.safetensors")).stat().st_mtime_ns
    if key:
        change(run / "local.json", lambda d: d.update({key: value}))
    else:
        (run / "local.json").unlink()
    said = cli("attack", run, "loss")
    refused(said, "local.json", key or "is missing", "run again with the recipe of that folder")
    assert "delete" not in said[2]
    assert cli("run", *QUICK, "--quiet") == (0, "", ""), "as it says"
    assert (run / "local.json").read_bytes() == before
    assert cli("attack", run, "loss", "--quiet") == (0, "", "")
    assert next(run.glob("models/*/stack.safetensors")).stat().st_mtime_ns == weights


RESULT = {
    "no auc": lambda d: d["attacks"][0].pop("auc"),
    "no null auc": lambda d: d["null"].pop("auc"),
    "no attacks": lambda d: d.update(attacks=[]),
    "attacks no list": lambda d: d.update(attacks=3),
    "null a number": lambda d: d.update(null=3),
}


@pytest.mark.parametrize("name", RESULT)
def test_a_damaged_result(cli, run, refused, name):
    change(run / "result.json", RESULT[name])
    refused(cli("report", run, "--out", "o"), "result.json", "hampkit attack")
    assert not list(Path("o").glob("*"))


def test_a_result_of_schema_1_is_refused_as_such(cli, run, refused):
    change(run / "result.json", lambda d: [attack.pop("unit") for attack in d["attacks"]])
    refused(cli("report", run, "--out", "o"), "written by an earlier version", f"hampkit attack {run.resolve()}")


DETAILS = {
    "a curve is a number": lambda d: d.update(curves=dict.fromkeys(d["curves"], 3)),
    "a curve without its rates": lambda d: d.update(curves={key: {"fpr": [0, 1]} for key in d["curves"]}),
    "provenance is a number": lambda d: d.update(provenance=3),
}


@pytest.mark.parametrize("name", DETAILS)
def test_damaged_details(cli, run, refused, name):
    change(run / "details.json", DETAILS[name])
    refused(cli("report", run, "--out", "o"), "details.json", "hampkit attack")
    assert not list(Path("o").glob("*"))


def test_a_json_file_with_nan(tmp_path):
    (tmp_path / "x.json").write_text('{"a": NaN}')
    with pytest.raises(UserError, match="it contains NaN"):
        read_json(tmp_path / "x.json")


@pytest.fixture
def step(tmp_path):
    """A run with one step, and how often it was made."""
    made = []

    def make(folder):
        made.append(folder)
        (folder / "a").write_text("a")
        (folder / "b").write_text("b")

    def again():
        Run(tmp_path / "x-00000000").step("answers", make)
        return len(made)

    again()
    return tmp_path / "x-00000000" / "answers", again


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"a": "x"}', "only a"])
def test_a_manifest_that_does_not_list_the_files_is_damage(step, content):
    folder, again = step
    if content == "only a":
        change(folder / MANIFEST, lambda d: d.pop("b"))
    else:
        (folder / MANIFEST).write_text(content)
    assert again() == 2
    assert again() == 2


def test_a_file_too_many_is_damage_unless_it_is_hidden(step):
    folder, again = step
    (folder / ".DS_Store").write_text("")
    assert again() == 1
    (folder / "c").write_text("")
    assert again() == 2


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_is_not_thrown_away(step, monkeypatch, number):
    import hampkit.runs.store

    folder, again = step

    def fail(path):
        raise OSError(number, "cannot", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(hampkit.runs.store, "file_hash", fail)
        with pytest.raises(UserError, match=r"cannot read .*nothing was changed"):
            again()
    assert (folder / "a").read_text() == "a"
    assert again() == 1


def test_what_a_killed_process_left_beside_a_run_goes(cli, run):
    left, other = run.parent / f".{run.name}.abc123.partial", run.parent / ".toy-hamp-00000000.abc123.partial"
    left.mkdir()
    other.mkdir()
    assert cli("run", *QUICK, "--quiet")[0] == 0
    assert (left.exists(), other.exists()) == (False, True)


def test_an_attack_tries_its_output_folder_first(cli, run, refused, monkeypatch):
    from hampkit.workflows import run as running

    Path("file").write_text("")
    monkeypatch.setattr(running, "evaluate", lambda *a, **k: pytest.fail("it worked before it looked"))
    refused(cli("attack", run, "--out", "file/out"), "file/out", "another folder")


@pytest.mark.parametrize("name", ["split.npz", "local.json", "env.json"])
def test_what_follows_from_the_recipe_is_written_again_and_nothing_is_trained_again(cli, run, name):
    before = (run / name).read_bytes()
    weights = next(run.glob("models/*/stack.safetensors")).stat().st_mtime_ns
    for damage in (Path.unlink, lambda p: p.write_bytes(before[:40])):
        damage(run / name)
        code, _, err = cli("run", *QUICK, "--quiet")
        assert code == 0, err
        assert (run / name).read_bytes() == before
    assert next(run.glob("models/*/stack.safetensors")).stat().st_mtime_ns == weights


@pytest.mark.parametrize("change", ["another row", "another type", "an array less", "the end is cut off", "no archive"])
def test_a_split_that_is_not_the_recipes_is_written_again(cli, run, change):
    path = run / "split.npz"
    before, arrays = path.read_bytes(), dict(np.load(path))
    if change == "another row":
        arrays["rows_members"][0] += 1
    elif change == "another type":  # who borrows its models would refuse it
        arrays["rows_members"] = arrays["rows_members"].astype(np.int32)
    elif change == "an array less":
        arrays.pop("rows_test")
    if change == "the end is cut off":
        path.write_bytes(before[:-50])
    elif change == "no archive":
        np.save(path.open("wb"), arrays["members"])
    else:
        np.savez(path, **arrays)
    assert path.read_bytes() != before
    assert cli("run", *QUICK, "--quiet") == (0, "", "")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda d: d.pop("attacks"), lambda d: d.pop("judge")])
def test_a_result_that_lacks_something_is_made_again(cli, run, damage):
    before = (run / "result.json").read_bytes()
    change(run / "result.json", damage)
    code, _, err = cli("run", *QUICK, "--quiet")
    assert code == 0, err
    assert (run / "result.json").read_bytes() == before


EARLIER = {
    "no list": lambda d: d.update(attacks=3),
    "no rows": lambda d: d.update(attacks=[3, None]),
    "no name": lambda d: [row.pop("attack") for row in d["attacks"]],
    "a name that is none": lambda d: [row.update(attack=["loss"]) for row in d["attacks"]],
    "an unknown option": lambda d: [row.update(options={"speed": 3}) for row in d["attacks"]],
    "options no section": lambda d: [row.update(options=3) for row in d["attacks"]],
    "options null": lambda d: [row.update(options=None) for row in d["attacks"]],
}


@pytest.mark.parametrize("name", EARLIER)
def test_what_a_result_says_of_earlier_attacks_is_left_aside_where_it_was_edited(cli, run, name):
    change(run / "result.json", EARLIER[name])
    code, _, err = cli("attack", run, "loss", "--quiet")
    assert code == 0, err
    assert [row["attack"] for row in read_json(run / "result.json")["attacks"]] == ["loss"]


@pytest.mark.parametrize("name", ["result.json", "details.json"])
@pytest.mark.parametrize("change", ["value", "removed", "added"])
def test_an_edited_result_is_noticed_by_its_checksum_and_attacking_again_mends_it(tmp_path, name, change):
    results = hampkit.run("toy/undefended", options={"rows": 200, "epochs": 1}, attacks=["loss"], runs_dir=tmp_path)
    run = tmp_path / results.models[0].run
    hampkit.write_report(run, out=tmp_path / "out")
    document = json.loads((run / name).read_text())
    if change == "added":
        document["extra"] = 1
    elif name == "result.json":
        document["attacks"][0]["auc"] |= {"value": 0.5}
        if change == "removed":
            del document["shift"]
    else:
        document["curves"]["loss"]["tpr"][0] = 0.25
        if change == "removed":
            del document["checksum"]
    (run / name).write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"was edited, .*attack again: hampkit attack {run}"):
        hampkit.write_report(run, out=tmp_path / "out")
    hampkit.attack(run, "loss", out=tmp_path / "out")
    hampkit.write_report(run, out=tmp_path / "out")

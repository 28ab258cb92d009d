"""Small files that went wrong once, and what the tool answers to them now."""

import csv
import io
import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import hampkit
from hampkit.config.command_line import option, read_value
from hampkit.config.preamble import SEPARATORS
from hampkit.data import memory
from hampkit.data.base import Place
from hampkit.data.table import File
from hampkit.errors import UserError

TABLES = Path(__file__).parent / "cases" / "tables"
FILES = TABLES.parent / "files"


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, tmp_path)


@pytest.mark.parametrize(("name", "label"), [("onehot", "one-hot"), ("ycol", "in one column")])
def test_labels_that_are_one_hot_or_a_column_are_those_of_the_classes(name, label, place):
    arrays = np.load(TABLES / f"{name}.npz")
    given = arrays["y"].argmax(1) if name == "onehot" else arrays["y"][:, 0]
    loaded = File(str(TABLES / f"{name}.npz")).load(place)
    assert np.array_equal(loaded.y.numpy(), np.unique(given, return_inverse=True)[1]), label
    assert loaded.num_classes == 3


@pytest.mark.parametrize(("name", "channels"), [("nhwc1", 1), ("nhwc3", 3)])
def test_channels_that_come_last_are_moved_to_the_front_with_a_notice(name, channels, place):
    given = np.load(TABLES / f"{name}.npz")["x"]
    loaded = File(str(TABLES / f"{name}.npz")).load(place)
    assert loaded.shape == (channels, 12, 12)
    assert np.array_equal(loaded.x.numpy(), given.transpose(0, 3, 1, 2))
    (note,) = loaded.notes
    assert "(300, 12, 12" in note
    assert "channels last" in note


@pytest.mark.parametrize(
    "y", [np.full((40, 3), 1 / 3), np.ones((40, 3)), np.zeros((40, 2, 2)), np.eye(41)[:40, :, None]]
)
def test_labels_of_other_shapes_are_refused_by_their_shape(y, tmp_path, place):
    np.savez(tmp_path / "t.npz", x=np.random.default_rng(0).random((40, 5)), y=y)
    with pytest.raises(UserError, match=r"array 'y' of .*give whole numbers or text of shape \(40,\)"):
        File(str(tmp_path / "t.npz")).load(place)


def test_images_with_their_channels_first_stay_as_they_are(tmp_path, place):
    x = np.random.default_rng(0).random((60, 3, 8, 3)).astype(np.float32)
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(60) % 2)
    loaded = File(str(tmp_path / "t.npz")).load(place)
    assert np.array_equal(loaded.x.numpy(), x)
    assert not loaded.notes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, place, suffix):
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a pipe or a device"):
        File(str(path), "y").load(place)


# --- tables --------------------------------------------------------------------------------------------------------


def load(name: str, label: str, place: Place, **options):
    return File(str(TABLES / name), label, **options).load(place)


def refusal(name: str, label: str, place: Place, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        load(name, label, place, **options)
    message = str(caught.value)
    assert len(message) - len(str(TABLES)) < 400, message
    assert message.isprintable()
    return caught.value


def followed(message: str) -> dict[str, dict]:
    """The options that a message advises, by their words: each word KEY=VALUE as a shell and the command line read it."""
    found = {}
    for word in shlex.split(message.replace(",", " , ").replace("= , ", "=,").replace(";", " ; ")):
        key, equals, text = word.partition("=")
        hints = get_type_hints(File)
        if equals and key in hints:
            value = read_value(text, hints[key])
            found[word] = {
                key: tuple(value) if isinstance(value, list) else (value,) if "tuple" in str(hints[key]) else value
            }
    return found


@pytest.mark.parametrize("name", ["NULL", "empty", "space", "hash"])
def test_a_missing_value_is_named_and_each_remedy_works(name, place):
    message = str(refusal(f"null-{name}.csv", "y", place))
    assert "column 'v' of" in message
    assert "has no value in data row 251 of 400;" in message
    advice = followed(message)
    assert set(advice) == {"missing=drop", "missing=median", "missing=category", "drop=v"}
    for options in advice.values():
        if options == {"drop": ("v",)}:
            continue  # the only feature
        loaded = load(f"null-{name}.csv", "y", place, **options)
        assert len(loaded) == (399 if options["missing"] == "drop" else 400)
        assert loaded.x.isfinite().all()
        (done,) = loaded.done
        assert done.startswith(f"missing={options['missing']}")
        assert "'v' (1)" in done


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("None", "None"),
        ("comma", "1,5"),
        ("dash", "-"),
        ("euro", "€5"),
        ("pct", "12%"),
        ("thousand", "1.234,5"),
        ("unknown", "unknown"),
    ],
)
def test_one_cell_that_is_no_number_is_refused_and_its_remedy_works(name, cell, place):
    message = str(refusal(f"null-{name}.csv", "y", place))
    assert f"holds numbers, but not in data row 251 of 400: {cell!r};" in message
    assert "categories=" not in message, "400 numbers are too many categories"
    assert len(load(f"null-{name}.csv", "y", place, na=(cell,), missing="drop")) == 399
    assert "missing=drop" in message
    assert option("na", cell) in message


def test_infinity_is_refused_and_may_be_read_as_missing(place):
    message = str(refusal("null-inf.csv", "y", place))
    assert "has inf in data row 251 of 400: not a finite number" in message
    assert len(load("null-inf.csv", "y", place, na=("inf",), missing="drop")) == 399


@pytest.mark.parametrize(("name", "cell"), [("90plus", "90+"), ("unknown", "unknown")])
def test_one_bad_cell_never_turns_numbers_into_categories_silently(name, cell, place):
    message = str(refusal(f"one-bad-cell-{name}.csv", "y", place))
    assert (
        f"column 'age' of {TABLES / f'one-bad-cell-{name}.csv'} holds numbers, but not in data row 400 of 400"
        in message
    )
    assert cell in message
    advice = followed(message)
    assert {"categories=age", "drop=age", f"na={cell}", "missing=drop"} <= set(advice)
    categories = load(f"one-bad-cell-{name}.csv", "y", place, **advice["categories=age"])
    assert len(categories.domain.groups) == 1, "the user asked for categories"
    numbers = load(f"one-bad-cell-{name}.csv", "y", place, **(advice[f"na={cell}"] | advice["missing=drop"]))
    assert len(numbers) == 399
    assert not numbers.domain.groups
    assert load(f"one-bad-cell-{name}.csv", "y", place, **advice["drop=age"]).shape == (1,)


def test_the_median_and_the_category_of_missing_values(tmp_path, place):
    lines = [f"{k if k % 4 else ''},{'abc'[k % 3] if k % 5 else ''},{k % 2}" for k in range(80)]
    (tmp_path / "t.csv").write_text("number,word,y\n" + "\n".join(lines) + "\n")
    numbers = np.array([k for k in range(80) if k % 4])
    words = [("abc"[k % 3] if k % 5 else None) for k in range(80)]
    often = max("abc", key=words.count)

    filled = File(str(tmp_path / "t.csv"), "y", missing="median").load(place)
    assert filled.shape == (4,)
    assert filled.x[0, 0] == np.floor(np.median(numbers))
    assert filled.x[0, 1:].tolist() == [float(often == w) for w in "abc"]
    assert filled.x[1:4, 0].tolist() == [1, 2, 3], "other values stay"

    marked = File(str(tmp_path / "t.csv"), "y", missing="category").load(place)
    assert marked.shape == (2 + 4,)
    assert marked.x[:, 1].tolist() == [float(k % 4 == 0) for k in range(80)]
    assert marked.x[:, 2:].sum(1).tolist() == [1] * 80
    assert len({tuple(row) for row, word in zip(marked.x[:, 2:].tolist(), words, strict=True) if word is None}) == 1
    assert marked.domain.groups == ((2, 6),)

    left = File(str(tmp_path / "t.csv"), "y", missing="drop").load(place)
    assert len(left) == sum(1 for k in range(80) if k % 4 and k % 5)
    assert left.done == (
        "missing=drop left out 32 of 80 rows of t.csv: 36 missing values in 'number' (20), 'word' (16)",
    )


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_records_have_the_row_numbers_of_the_file(kind, tmp_path, monkeypatch):
    """A risk officer looks up the person in the file, not among the rows that missing=drop left."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y, x = np.arange(240) % 3, rng.random((240, 4)).round(6)
    x[rng.random(240) < 0.3, 2] = np.nan
    if kind == "csv":
        lines = [
            ",".join("" if np.isnan(v) else str(v) for v in row) + f",class{c}" for row, c in zip(x, y, strict=True)
        ]
        Path("t.csv").write_text("a,b,c,d,y\n" + "\n".join(lines))
    else:
        np.savez("t.npz", x=x, y=y)
    options = {"epochs": 1, "neural.epochs": 1, "missing": "drop"}
    results = hampkit.run("undefended", data=f"t.{kind}", label="y", options=options, shadows=4, workers=1)
    with (Path("runs") / results.models[0].run / "records.csv").open() as file:
        records = list(csv.DictReader(file))
    rows = [int(record["row"]) for record in records]
    assert len(set(rows)) == len(rows) > 50
    assert max(rows) > 200, "rows are counted in the file"
    assert not np.isnan(x[rows]).any()
    assert [record["label"].removeprefix("class") for record in records] == [str(y[row]) for row in rows]


def test_a_column_with_two_problems_has_two_lines(tmp_path, place):
    lines = [f"{'' if k == 3 else '?' if k == 9 else k / 4},{k % 2}" for k in range(90)]
    (tmp_path / "t.csv").write_text("a,y\n" + "\n".join(lines))
    with pytest.raises(UserError, match=r"1 of 2 columns of .*: 'a'; decide") as caught:
        File(str(tmp_path / "t.csv"), "y").load(place)
    first, second = caught.value.report
    assert first.startswith("column 'a' has no value in data row 4 of 90; ")
    assert second.startswith("column 'a' holds numbers, but not in data row 10 of 90: '?'; ")


@pytest.mark.parametrize(("repeats", "group", "advised"), [(2, "", True), (1, "", False), (2, "person", False)])
def test_a_group_is_only_advised_where_it_can_help(repeats, group, advised, tmp_path, place):
    lines = [f"name {k // repeats},{k % 9},{k // 3},{k % 2}" for k in range(240)]
    (tmp_path / "t.csv").write_text("name,a,person,y\n" + "\n".join(lines))
    with pytest.raises(UserError, match=r"text with [0-9]+ distinct values") as caught:
        File(str(tmp_path / "t.csv"), "y", group=group).load(place)
    assert ("--group name" in str(caught.value)) == advised


def test_an_option_that_is_given_twice_is_advised_as_a_list(cli, refused):
    result = cli("train", "undefended", "--data", "t.csv", "--label", "y", "drop=id", "drop=admitted")
    refused(result, "drop is given twice", "give a list: drop=[id,admitted]")


def test_missing_labels_can_only_be_left_out(tmp_path, place):
    (tmp_path / "t.csv").write_text("a,y\n" + "\n".join(f"{k},{k % 2 if k % 10 else ''}" for k in range(80)))
    for missing in ("error", "median", "category"):
        with pytest.raises(UserError, match=r"label column 'y' .* in data row 1 and 7 more of 80; .*missing=drop"):
            File(str(tmp_path / "t.csv"), "y", missing=missing).load(place)
    assert len(File(str(tmp_path / "t.csv"), "y", missing="drop").load(place)) == 72


def test_all_problems_of_a_file_stand_in_one_report(tmp_path, place):
    columns = {
        "fine": lambda k: k,
        "hole": lambda k: "" if k in (3, 9) else k / 4,
        "word": lambda k: "old" if k == 5 else k,
        "big": lambda k: "inf" if k == 7 else 0.5,
        "when": lambda k: f"2024-01-{k % 28 + 1:02}",
        "name": lambda k: f"person {k}",
        "euro": lambda k: f'"{k},5"',
        "empty": lambda k: "",
        "y": lambda k: "" if k == 11 else k % 2,
    }
    rows = [",".join(columns), *(",".join(str(value(k)) for value in columns.values()) for k in range(200))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(UserError) as caught:
        File(str(tmp_path / "t.csv"), "y").load(place)
    text, report = str(caught.value), caught.value.report
    assert "8 of 9 columns of" in text
    assert "\n" not in text
    expected = [
        "column 'hole' has no value in data row 4 and 1 more of 200; ",
        "column 'word' holds numbers, but not in data row 6 of 200: 'old'; ",
        "column 'big' has inf in data row 8 of 200",
        "column 'when' is neither numbers nor categories (type date32",
        "column 'name' is text with 200 distinct values such as 'person 0'",
        "column 'euro' has '0,5': numbers with decimal commas; ",
        "column 'empty' has no value in any row; ",
        "label column 'y' has no value in data row 12 of 200; ",
    ]
    assert len(report) == len(expected)
    for line, start in zip(report, expected, strict=True):
        assert line.startswith(start), line
        assert "\n" not in line
    assert caught.value.__notes__ == list(report), "a traceback shows them"
    options = {"na": ("old", "inf"), "missing": "drop", "drop": ("when", "name", "euro", "empty")}
    assert len(File(str(tmp_path / "t.csv"), "y", **options).load(place)) == 200 - 5


def test_many_columns_with_one_problem_are_one_line(tmp_path, place):
    """300 columns: a row without values, and another one that holds words."""
    names = [f"number {k}" for k in range(300)]
    rows = [[str((k * r) % 17 / 4) for k in range(300)] for r in range(60)]
    rows[5], rows[7] = ["" if k % 2 else each for k, each in enumerate(rows[5])], ["oops"] * 300
    lines = [",".join([*names, "y"]), *(",".join([*row, str(r % 2)]) for r, row in enumerate(rows))]
    (tmp_path / "wide.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="300 of 301 columns") as caught:
        File(str(tmp_path / "wide.csv"), "y").load(place)
    gaps, words = sorted(caught.value.report)[::-1]
    assert words.startswith(
        "column 'number 0' holds numbers, but not in data row 8 of 60: 'oops' (the same in 299 more columns:"
    )
    assert gaps.startswith(
        "column 'number 1' has no value in data row 6 of 60 (the same in 149 more columns: 'number 3', …,"
    )
    assert "missing=drop" in gaps
    assert "na=oops missing=drop" in words
    assert len(File(str(tmp_path / "wide.csv"), "y", na=("oops",), missing="drop").load(place)) == 58


def test_the_command_line_prints_the_report_below_the_error(tmp_path, cli):
    (tmp_path / "t.csv").write_text(
        "a,b,y\n" + "\n".join(f"{k if k else ''},{k if k - 3 else 'x'},{k % 2}" for k in range(99))
    )
    code, out, err = cli("train", "undefended", "--data", str(tmp_path / "t.csv"), "--label", "y")
    first, *rest = err.splitlines()
    assert (code, out) == (2, "")
    assert first.startswith("hampkit: error: 2 of 3 columns of")
    assert [line.split(" ", 4)[2:4] for line in rest] == [["column", "'a'"], ["column", "'b'"]]


def test_a_record_in_the_place_of_a_header_is_refused_and_the_remedy_works(tmp_path, place):
    message = str(refusal("headerless.csv", "1", place))
    assert "looks like a record, not like names: it has numbers ('51', '0', '0.2', '1')" in message
    assert "give header=false (the columns are then c1 to c4)" in message
    loaded = load("headerless.csv", "c4", place, header=False)
    assert len(loaded) == len((TABLES / "headerless.csv").read_text().splitlines())
    assert load("headerless.csv", "1", place, header=True).num_classes == 2

    flowers = (f"{k / 7},{k % 5},{['setosa', 'virginica'][k % 2]}\n" for k in range(60))
    (tmp_path / "iris.csv").write_text("150,4,setosa\n" + "".join(flowers))
    words = (f"{['red', 'blue'][k % 2]},{['cat', 'dog'][k // 2 % 2]}\n" for k in range(60))
    (tmp_path / "words.csv").write_text("".join(words))
    for name in ("iris.csv", "words.csv"):
        with pytest.raises(UserError, match=r"looks like a record, not like names: .*header=false"):
            File(str(tmp_path / name), "c2").load(place)
    with pytest.raises(UserError, match=r"values of their own columns \('red', 'cat'\)"):
        File(str(tmp_path / "words.csv"), "c2").load(place)


@pytest.mark.parametrize("header", ["0,1,2,y", "2019,2020,2021,y", "a,b,red,y", "year,1,x,y"])
def test_names_that_are_no_record_are_taken(header, tmp_path, place):
    lines = [f"{k},{k / 3},{['red', 'blue'][k % 2]},{k % 3}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join([header, *lines]))
    assert len(File(str(tmp_path / "t.csv"), "y").load(place)) == 60


@pytest.mark.parametrize(
    ("name", "label", "options", "features"),
    [
        ("commahead.csv", "form", {"drop": ("chord, full",)}, {"timesig", "bar"}),
        ("semicomma.csv", "y", {"decimal": ","}, {"a", "b, in EUR"}),
        ("mv.csv", "form", {"drop": ("chord",)}, {"timesig", "bar"}),
        ("mv.tsv", "form", {"drop": ("chord",)}, {"timesig", "bar"}),
        ("mv.tsv", "form", {"drop": ("chord",), "separator": "tab"}, {"timesig", "bar"}),
    ],
)
def test_the_separator_is_that_of_most_lines(name, label, options, features, place):
    loaded = load(name, label, place, **options)
    lines = (TABLES / name).read_text().splitlines()
    assert len(loaded) == len(lines) - 1
    assert set(lines[0].split(";" if ";" in lines[0] else "\t")) == features | {label, *options.get("drop", ())}


@pytest.mark.parametrize("separator", SEPARATORS)
def test_each_separator_is_found_although_others_stand_in_values(separator, tmp_path, place):
    other = next(s for s in SEPARATORS if s != separator)
    lines = [separator.join(["a", f'"b{other}c"', "y"])]
    lines += [separator.join([str(k), f'"x{other * (k % 3)}"', str(k % 2)]) for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert File(str(tmp_path / "t.csv"), "y").load(place).shape == (1 + 3,)


@pytest.mark.parametrize("separator", [";;", '"'])
def test_separators_that_cannot_be(separator, place):
    assert "one character" in str(refusal("mv.csv", "form", place, separator=separator))


def test_decimal_commas_are_recognised(place):
    message = str(refusal("semicomma.csv", "y", place))
    assert "column 'a' of" in message
    assert "has '0,0': numbers with decimal commas; read them with 'decimal=,'" in message


def test_a_column_that_determines_the_label_is_named_and_the_advice_works(place):
    loaded = load("label-told-by-a-column.csv", "outcome", place)
    (note,) = loaded.notes
    assert "column 'outcome_text' of" in note
    assert "alone determines the label 'outcome' of 300 of 300 rows" in note
    assert note.endswith("leave it out with drop=outcome_text")
    assert not load("label-told-by-a-column.csv", "outcome", place, drop=("outcome_text",)).notes


@pytest.mark.parametrize("kind", ["numbers", "threshold", "words", "nearly"])
def test_columns_that_tell_the_label_in_other_forms(kind, tmp_path, place):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    told = {
        "numbers": y * 7 - 3,
        "threshold": y + rng.random(600) / 2,
        "words": np.array(["red", "green", "blue"])[y],
        "nearly": np.where(np.arange(600) < 2, 0, y) + 10,
    }[kind]
    lines = [f"{a},{b},{c}" for a, b, c in zip(rng.random(600), told, y, strict=True)]
    (tmp_path / "t.csv").write_text("noise,told,y\n" + "\n".join(lines))
    (note,) = File(str(tmp_path / "t.csv"), "y").load(place).notes
    assert "column 'told' of" in note


@pytest.mark.parametrize("seed", range(5))
def test_columns_of_noise_do_not_tell_the_label(seed, tmp_path, place):
    """Null: many columns of all kinds, of 50 to 500 rows, and labels of which one is rare."""
    rng = np.random.default_rng(seed)
    n = (50, 100, 200, 300, 500)[seed]
    y = (rng.random(n) < 0.06).astype(int)
    y[:2] = 0, 1
    columns = [rng.integers(0, k, n) for k in (2, 5, n // 10, n // 3)] + [rng.random(n)]
    columns += [np.array([f"w{k}" for k in rng.integers(0, k, n)]) for k in (2, 20, min(n // 2, 100))]
    lines = [",".join(map(str, row)) for row in zip(*columns, y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join([",".join([*(f"c{k}" for k in range(len(columns))), "y"]), *lines]))
    assert not File(str(tmp_path / "t.csv"), "y").load(place).notes


def test_classes_that_differ_only_by_blanks_are_named(tmp_path, place):
    (tmp_path / "t.csv").write_text("x,z,y\n" + "1,1, a\n4,2,b\n3,3,a\n5,6,b \n" * 30)
    (note,) = (note for note in File(str(tmp_path / "t.csv"), "y").load(place).notes if "blanks" in note)
    assert "label column 'y' of" in note
    assert "' a'" in note
    assert "'b '" in note
    (tmp_path / "t.csv").write_text("x,z,y\n" + "1,1, a\n4,2,b c\n" * 30)
    assert not [note for note in File(str(tmp_path / "t.csv"), "y").load(place).notes if "blanks" in note]


def test_names_of_any_text_can_be_dropped(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["", "id, code", 'the "old" one', "a b", " c ", "it's", "[x]"]
    quoted_names = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in [*names, "kept", "y"]]
    lines = [",".join([*(str(k) for _ in names), str(k / 7), str(k % 2)]) for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join([",".join(quoted_names), *lines]))
    (word,) = shlex.split(option("drop", *names))
    assert cli("train", "undefended", "--data", "t.csv", "--label", "y", "epochs=1", word)[::2] == (0, "")
    trained = hampkit.train("undefended", data="t.csv", label="y", options={"epochs": 1, "drop": names})
    assert trained.folder.exists()
    for wrong in (["", "idcode"], "idcode", ("a  b",)):
        with pytest.raises(UserError, match=r"no column '.*' \(data.drop\) in t.csv"):
            hampkit.train("undefended", data="t.csv", label="y", options={"drop": wrong})


def test_a_name_like_no_column_lists_the_last_columns_too(tmp_path, place):
    (tmp_path / "t.csv").write_text(
        ",".join([*(f"gene{k}" for k in range(50)), "diagnosis"]) + "\n" + "1," * 50 + "1\n"
    )
    with pytest.raises(
        UserError, match=r"no column 'zzz' .*'gene0', .*…, 'gene48', 'gene49', 'diagnosis' \(51 in all\)"
    ):
        File(str(tmp_path / "t.csv"), "zzz").load(place)


@pytest.mark.parametrize("label", [lambda k: k * 3, lambda k: k / 7])
def test_a_label_with_nearly_as_many_values_as_rows_is_called_a_regression_target(label, tmp_path, place):
    (tmp_path / "t.csv").write_text("a,y\n" + "\n".join(f"{k % 5},{label(k)}" for k in range(90)))
    with pytest.raises(UserError, match="regression target"):
        File(str(tmp_path / "t.csv"), "y").load(place)


@pytest.mark.parametrize("rows", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_rows_longer_than_a_block_are_read_and_the_process_ends(rows, tmp_path):
    """A row of 1.2 MB is longer than the reader's usual block of 1 MB; an error must leave no thread behind."""
    path = tmp_path / "wide.csv"
    values = ",".join(str(k / 7)[:18] for k in range(60_000))
    names = ",".join(f"f{k}" for k in range(60_000)) + ",y"
    path.write_text(names + "\n" + "".join(f"{values},{k % 2}\n" for k in range(rows)))
    code = (
        "from pathlib import Path; from hampkit.data.table_csv import read_csv; from hampkit.data.table_values import"
        f" TableOptions; t, _ = read_csv(Path({str(path)!r}), TableOptions(label='y')); print(t.num_rows, t.num_columns)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == (f"{rows} 60001\n", "")


def test_line_breaks_inside_quotes_are_read(tmp_path, place):
    lines = [f'"note {k}\nof two lines",{k % 9},{k % 2}' for k in range(60)]
    (tmp_path / "t.csv").write_text("text,a,y\n" + "\n".join(lines))
    assert len(File(str(tmp_path / "t.csv"), "y", drop=("text",)).load(place)) == 60


def test_wide_tables_and_rare_classes_are_read(place):
    assert load("wide-240x400.csv", "y", place).shape == (400,)
    assert load("rare-class.csv", "kind", place).classes == ("a", "b", "z")


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("toml-deep.toml", "brackets nested too deeply"),
        ("toml-huge_int_epochs.toml", "a number of too many digits"),
    ],
)
def test_damaged_recipes_are_one_line(file, text, cli, refused):
    refused(cli("train", str(FILES / file)), file, text)


def test_a_byte_order_mark_is_no_part_of_a_recipe():
    assert hampkit.recipe(FILES / "toml-bom.toml").title == "digits/undefended"


def test_a_member_of_an_archive_that_is_no_array(cli, refused):
    refused(
        cli("train", "undefended", "--data", str(FILES / "plainmember.npz")),
        "its member 'x' is no array",
        "numpy.savez",
    )


@pytest.mark.parametrize(
    ("name", "label"), [("inj-5.csv", "y"), ("inj-6.csv", "y"), ("inj-id.csv", "y"), ("inj-id.csv", "nope")]
)
def test_control_characters_of_names_never_reach_the_terminal(name, label, cli):
    code, out, err = cli("train", "undefended", "--data", str(FILES / name), "--label", label, "epochs=1")
    assert code == (0 if (name, label) == ("inj-id.csv", "y") else 2)
    for line in (out + err).splitlines():
        assert line.isprintable(), ascii(line)


# --- memory --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, place, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet

    np.savez(tmp_path / "t.npz", x=np.zeros((1000, 50)), y=np.arange(1000) % 2)
    pyarrow.parquet.write_table(pa.table({"a": np.zeros(100_000), "y": np.arange(100_000) % 2}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("a,y\n" + "0.123456789,1\n0.5,0\n" * 20_000)
    for name in ("t.npz", "t.parquet", "t.csv"):
        assert len(File(str(tmp_path / name), "y").load(place))
        with monkeypatch.context() as small:
            small.setattr(memory, "free_memory", lambda: 3e5)
            with pytest.raises(UserError, match=r"needs 0\.0 GB of memory, and 0\.0 GB are free"):
                File(str(tmp_path / name), "y").load(place)


def test_archives_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    from hampkit.data.fetch import read_member
    from hampkit.data.tables100 import Texas100

    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("member")
        info.size = 10_000
        tar.addfile(info, io.BytesIO(bytes(10_000)))
    np.savez(
        tmp_path / "texas100.npz",
        features=np.zeros((10_000, 6169), np.uint8),
        labels=np.eye(100)[np.arange(10_000) % 100],
    )
    monkeypatch.setattr(memory, "free_memory", lambda: 9e3)
    with pytest.raises(UserError, match=r"a\.tgz needs .* of memory"):
        read_member(tmp_path / "a.tgz", "member")
    with pytest.raises(UserError, match=r"texas100\.npz needs .* of memory"):
        Texas100().load(Place(tmp_path, tmp_path / "cache", download=False))


def test_a_declared_size_that_no_machine_has_is_refused_by_its_number(tmp_path, place):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 10)})
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
        archive.writestr("y.npy", header.getvalue() + bytes(100))
    with pytest.raises(UserError, match=r"needs 2\d\d,\d\d\d\.\d GB of memory, and [\d.,]+ GB are free"):
        File(str(tmp_path / "t.npz")).load(place)


def test_categories_that_make_too_many_columns_are_refused_by_name(tmp_path, place, monkeypatch):
    lines = [",".join(f"w{(k + c) % 90}" for c in range(20)) + f",{k % 2}" for k in range(400)]
    (tmp_path / "t.csv").write_text(",".join([*(f"c{c}" for c in range(20)), "y"]) + "\n" + "\n".join(lines))
    size = (tmp_path / "t.csv").stat().st_size
    monkeypatch.setattr(memory, "free_memory", lambda: 4.0 * size)
    with pytest.raises(UserError, match="leave out columns such as 'c0' with 90 categories"):
        File(str(tmp_path / "t.csv"), "y").load(place)


def test_free_memory_is_a_number_on_linux():
    free = memory.free_memory()
    assert free is None or free > 0


# --- networks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def nets(monkeypatch):
    monkeypatch.syspath_prepend(str(TABLES.parent))
    return "nets:{}".format


@pytest.mark.parametrize("name", ["inplace_gn", "frozen", "embed", "ownln", "bn"])
def test_networks_of_all_kinds_train(name, nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = hampkit.train("toy/hamp", options={"net": nets(name), "train.epochs": 1})
    assert set(trained.accuracy) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("softmaxed", "returns probabilities .* leave the last softmax out"),
        ("tupled", "returns a tuple for 2 rows"),
        ("sigmoid1", r"returns shape \(2, 1\) for 2 rows"),
    ],
)
def test_networks_that_return_no_logits_are_refused(name, text, nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=text):
        hampkit.train("toy/undefended", options={"net": nets(name), "train.epochs": 1})
    assert not list(tmp_path.iterdir())


def test_a_network_that_forgets_its_input_is_flagged(nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"rows": 300, "train.epochs": 2, "neural.epochs": 1}
    results = hampkit.run("toy/undefended", "toy/hamp", options=options | {"net": nets("gn_erase")})
    for model in results.models:
        assert all("constant" in attack.flags for attack in model.attacks)
    (caveat,) = (c for c in results.to_json()["caveats"] if c["flag"] == "constant")
    assert "the same answer to every input" in caveat["text"]
    plain = hampkit.run("toy/undefended", options=options)
    assert not any("constant" in attack.flags for attack in plain.models[0].attacks)


@pytest.mark.parametrize("key", ["train.augment", "shadows.views"])
def test_flips_and_shifts_are_refused_on_channels_last(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("t.npz", x=rng.random((200, 8, 8, 5)), y=np.arange(200) % 2)  # 5 channels: not recognised
    options = {key: "flip"} if key == "train.augment" else {key: 2, "shadows.models": 4}
    with pytest.raises(UserError, match=r"shape \(8, 8, 5\), with the channels last"):
        hampkit.train("undefended", data="t.npz", options={"net": "mlp", "train.epochs": 1, **options})


def test_what_was_done_to_a_table_stands_in_its_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"epochs": 1, "na": ["30"], "missing": "median"}
    with pytest.warns(hampkit.Notice, match="alone determines the label") as noticed:
        results = hampkit.run(
            "undefended", data=TABLES / "label-told-by-a-column.csv", label="outcome", options=options
        )
    (model,) = results.to_json()["models"]
    done, warned = model["data"]["notes"]
    assert any(str(w.message) == done for w in noticed), "it is printed too"
    assert done.startswith("missing=median filled 7 missing values in 'age' (7) of label-told-by-a-column.csv")
    assert "alone determines the label" in warned

"""Every advice in an error of the table loader is followed, as a user would who pastes it; and tables of unusual kinds."""

import datetime
import decimal
import re
import shlex
from typing import get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import hampkit
from hampkit.config.command_line import read_value
from hampkit.data.base import Place
from hampkit.data.table import File
from hampkit.errors import UserError

N = 120


def table(**columns) -> str:
    """A .csv text of N rows with these columns, a column z of numbers and a label y."""
    cells = {**columns, "z": lambda k: k * 7 % 11, "y": columns.get("y", lambda k: "ab"[k % 3 % 2])}
    names = ",".join('"' + name.replace('"', '""') + '"' for name in cells)
    return "\n".join([names, *(",".join(str(value(k)) for value in cells.values()) for k in range(N))]) + "\n"


def one(bad, otherwise=lambda k: k / 4):
    return lambda k: bad if k == 5 else otherwise(k)


def columns_of(values, **more) -> pa.Table:
    """A table of Parquet with these values in the column x."""
    return pa.table(
        {"x": values, "z": pa.array([k * 7 % 11 for k in range(N)]), "y": ["ab"[k % 3 % 2] for k in range(N)], **more}
    )


def words(message: str) -> list[list[str]]:
    """The options that a message advises, as a shell reads them; those that stand together belong together."""
    text = message.partition("; ")[2]
    found = re.findall(r"""(?:(?:'[a-z]+=(?:[^']|'"'"')*'|\b[a-z]+=[^\s,;)]+|--[a-z]+ '[^']*')\s?)+""", text)
    return [shlex.split(each) for each in found]


def given(advice: list[str], options: dict) -> dict:
    hints = get_type_hints(File)
    pairs = [word.partition("=")[::2] for word in advice if not word.startswith("--")]
    values = {key: read_value(text, hints[key]) for key, text in pairs}
    lists = {key for key, hint in hints.items() if "tuple" in str(hint)}
    return options | {
        key: (tuple(v) if isinstance(v, list) else (v,)) if key in lists else v for key, v in values.items()
    }


def faults(data, place) -> tuple[str, ...]:
    """The lines of the error that loading raises; none if it succeeds."""
    try:
        data.load(place)
    except UserError as error:
        return (str(error), *error.report)
    return ()


def write(path, content):
    if isinstance(content, str):
        path.write_bytes(content.encode())
    else:
        pyarrow.parquet.write_table(content, path)


D = decimal.Decimal
dates = [datetime.date(2020, 1, 1 + k % 28) for k in range(N)]
CASES = {
    "empty cell": (table(v=one("")), {}),
    "empty cell, strange name": (table(**{'id, "code"': one("")}), {}),
    "empty cell, no name": (table(**{"": one("")}), {}),
    "no value at all": (table(**{"": lambda k: ""}), {}),
    "a word among numbers": (table(v=one("it's")), {}),
    "a word among few numbers": (table(v=one("unknown", lambda k: k % 9)), {}),
    "a word that looks like a list": (table(v=one("[a]")), {}),
    "both infinities": (table(v=lambda k: {3: "inf", 5: "-inf"}.get(k, k / 4)), {}),
    "too large": (table(v=one("1e39")), {}),
    "dates": (table(v=lambda k: dates[k]), {}),
    "times": (table(v=lambda k: f"10:00:{k % 60:02}"), {}),
    "decimal commas, few": (table(v=lambda k: f'"{k % 10},5"'), {}),
    "decimal commas, three digits": (table(v=lambda k: f'"0,{k + 100}"'), {}),
    "decimal commas, many": (table(v=lambda k: f'"{k},25"'), {}),
    "thousands, few": (table(v=lambda k: f'"{k % 9 + 1},234"'), {}),
    "thousands": (table(v=lambda k: f'"{k + 1:},234"'), {}),
    "thousands with points": (table(v=lambda k: f'"1.{k + 100},5"'), {}),
    "dollars": (table(v=lambda k: f"${k % 30}"), {}),
    "per cent": (table(v=lambda k: f"{k % 30}%"), {}),
    "names": (table(v=lambda k: f"person {k}"), {}),
    "too many categories": (table(v=lambda k: k / 4), {"categories": ("v",)}),
    "several": (table(v=one(""), w=one("x"), u=lambda k: f"{k % 8}%"), {}),
    "label": (table(y=one("", lambda k: k % 2)), {}),
    "a record": (table(**{"0.5": lambda k: k / 4, "1": lambda k: k % 2}), {}),
    "twice": (table(v=lambda k: k).replace('"v"', '"z"'), {}),
    "lists": (columns_of([[k] for k in range(N)]), {"categories": ("x",), "missing": "drop"}),
    "lists with nulls": (columns_of([None, *([k] for k in range(1, N))]), {}),
    "date type": (columns_of(pa.array(dates)), {}),
    "null decimals": (columns_of(pa.array([None, *(D(k) / 4 for k in range(1, N))], pa.decimal128(10, 2))), {}),
    "null dictionary": (columns_of(pa.array([None, *("uvw"[k % 3] for k in range(1, N))]).dictionary_encode()), {}),
    "large text with a word": (columns_of(pa.array(["x", *(str(k) for k in range(1, N))], pa.large_string())), {}),
    "numbers as text": (columns_of(pa.array([str(k) for k in range(N)])), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_advice_works_when_it_is_pasted(name, tmp_path):
    content, options = CASES[name]
    path = tmp_path / ("t.csv" if isinstance(content, str) else "t.parquet")
    write(path, content)
    place = Place(tmp_path, tmp_path)
    with pytest.raises(UserError) as caught:
        File(str(path), "y", **options).load(place)
    lines = caught.value.report or (str(caught.value),)
    for line in lines:
        assert len(line) - len(str(path)) < 400, line
        if "data.categories" in line:
            continue
        advised = words(line)
        assert advised, line
        for advice in advised:
            assert line not in faults(File(str(path), "y", **given(advice, options)), place), advice


def load(tmp_path, content, label="y", **options):
    path = tmp_path / ("t.csv" if isinstance(content, str) else "t.parquet")
    write(path, content)
    return File(str(path), label, **options).load(Place(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("values", "number"),
    [(lambda k: f'"{k % 10},5"', "decimal commas"), (lambda k: f'"{k % 9 + 1},234"', "a separator of thousands"),
     (lambda k: f"${k % 9}", "a currency"), (lambda k: f"{k % 9}%", "a per cent sign"),
     (lambda k: f"{k % 9 + 1} 000", "thousands")],
)  # fmt: skip
def test_numbers_in_another_notation_never_become_categories_silently(values, number, tmp_path):
    with pytest.raises(UserError, match=number):
        load(tmp_path, table(v=values))
    assert len(load(tmp_path, table(v=values), categories=("v",)).domain.groups) == 1


@pytest.mark.parametrize("values", [lambda k: f"{k % 9}-{k % 9 + 1}", lambda k: f"<{k % 9}", lambda k: f"{k % 9} kg",
                                    lambda k: f"1.2.{k % 9}", lambda k: f"A{k % 9}", lambda k: "ab"[k % 2]])  # fmt: skip
def test_texts_with_digits_are_categories(values, tmp_path):
    assert len(load(tmp_path, table(v=values)).domain.groups) == 1


def test_decimal_commas_in_quotes_are_read_between_commas(tmp_path):
    loaded = load(tmp_path, table(v=lambda k: f'"{k},25"'), decimal=",")
    assert np.array_equal(loaded.x[:, 0].numpy(), np.arange(N) + 0.25)


def test_a_column_without_a_name_is_a_feature(tmp_path):
    """As pandas writes its index; without --group it was taken for the group, and left out."""
    loaded = load(tmp_path, table(**{"": lambda k: k}))
    assert loaded.x[:, 0].tolist() == list(range(N))
    (note,) = loaded.notes
    assert "column '' of" in note
    assert note.endswith("""leave it out with 'drop=[""]'""")
    assert loaded.group is None


@pytest.mark.parametrize("kind", [pa.decimal128(20, 2), pa.decimal256(50, 2), pa.float16(), pa.float32(), pa.int64()])
@pytest.mark.parametrize("missing", ["median", "category"])
def test_medians_of_every_type_of_numbers(kind, missing, tmp_path):
    numbers = [float(k % 5) for k in range(N)]
    whole = [int(v) for v in numbers] if pa.types.is_integer(kind) or pa.types.is_decimal(kind) else numbers
    cells = pa.array([None, *(np.float16(v) if pa.types.is_float16(kind) else v for v in whole[1:])], kind)
    loaded = load(tmp_path, columns_of(cells), missing=missing)
    assert loaded.x[:, 0].tolist() == [2.0, *numbers[1:]]


def test_the_median_of_large_whole_numbers_is_exact_and_codes_get_the_most_frequent(tmp_path):
    codes = [None, *(2**60 + (k % 4 == 0) for k in range(1, N))]
    loaded = load(tmp_path, columns_of(pa.array(codes)), categories=("x",), missing="median")
    assert loaded.x[:, :2].sum(0).tolist() == [sum(c != 2**60 + 1 for c in codes), sum(c == 2**60 + 1 for c in codes)]
    assert load(tmp_path, columns_of(pa.array([None, *(2**62 + k for k in range(1, N))])), missing="median")
    few = [None, *(10 * (k % 2) for k in range(1, N - 1)), 0]
    filled = load(tmp_path, columns_of(pa.array(few)), categories=("x",), missing="median")
    assert filled.shape == (2 + 1,), "the median, 5, is no code"


@pytest.mark.parametrize(
    ("names", "label"),
    [("1990,2000,2010,y", "y"), ("400.5,402.5,404.5,y", "y"), ("0,0.25,0.5,y", "y"), ("a,b,7,y", "y")],
)
def test_names_that_rise_by_equal_steps_are_names(names, label, tmp_path):
    lines = [f"{k / 7},{k / 3},{k / 9},{k % 2}" for k in range(N)]
    assert len(load(tmp_path, "\n".join([names, *lines]), label)) == N


@pytest.mark.parametrize("names", ["5.1,3.5,1.4,setosa", "1,0.5,0.25,setosa", "3,2,1,setosa", "7,7,7,setosa"])
def test_numbers_that_do_not_are_a_record(names, tmp_path):
    lines = [f"{k / 7},{k / 3},{k / 9},{['setosa', 'other'][k % 2]}" for k in range(N)]
    with pytest.raises(UserError, match="looks like a record"):
        load(tmp_path, "\n".join([names, *lines]), "setosa")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("made today\n" + table(), ("data row 1 of", "has 2 values", "first line has 1", "delete lines above")) ,
        (table().replace("\n", "\n1,2,3\n", 3), ("data row 1 of", "has 3 values, and the first line has 2")),
        (table() + "   \n", (f"data row {N + 1} of", "has 1 value, and")),
        ("z;y\n" + "1,2;a\n" * N + "1,2;a;4\n", (f"data row {N + 1} of", "'1,2;a;4'")),
    ],
)  # fmt: skip
def test_a_row_of_another_length_is_named(text, parts, tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    for part in parts:
        assert part in str(caught.value)


def test_other_encodings_are_named(tmp_path):
    for data, part in (
        (table().encode("utf-16"), "text in UTF-16 or UTF-32; save it in UTF-8"),
        ("é,y\n1,a\n".encode("latin-1"), "the header of .* is not in UTF-8; save"),
        (table(v=lambda k: "éè"[k % 2]).encode("latin-1"), "not in UTF-8, in column 'v'; save"),
    ):
        (tmp_path / "t.csv").write_bytes(data)
        with pytest.raises(UserError, match=part):
            File(str(tmp_path / "t.csv"), "y").load(Place(tmp_path, tmp_path))


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;"])
def test_the_line_of_excel_that_declares_the_separator_is_no_row(first, tmp_path):
    lines = ["a;b,c;y", *(f"{i};{i % 7};{i % 2}" for i in range(80))]
    plain, excel = tmp_path / "plain.csv", tmp_path / "excel.csv"
    plain.write_text("\n".join(lines))
    excel.write_text("\n".join([first, *lines]), encoding="utf-8")
    wanted, found = (
        File(file=str(path), label="y", separator=";" * (path == plain)).load(Place(tmp_path, tmp_path))
        for path in (plain, excel)
    )
    assert found.sha256 == wanted.sha256
    excel.write_text("\n".join([first, *lines[:6], "1;2", *lines[5:]]), encoding="utf-8")
    with pytest.raises(UserError, match=r"data row 6 of .* has 2 values, and the first line has 3"):
        File(file=str(excel), label="y").load(Place(tmp_path, tmp_path))


def test_codes_of_missing_values_beyond_53_bits_are_compared_exactly(tmp_path):
    """As floats 2^53 and 2^53 + 1 are the same number."""
    path, gap = tmp_path / "x.csv", 2**53
    path.write_text("\n".join(["a,b,y", *(f"{gap + i % 2},{i},{i // 2 % 2}" for i in range(100))]))
    found = File(file=str(path), label="y", na=(str(gap + 1), "5.0"), missing="drop").load(Place(tmp_path, tmp_path))
    assert len(found.x) == 50, "the rows with 2^53 + 1; the 5 of b is in one of them"


@pytest.mark.parametrize("key", ["drop", "data.drop", "missing"])
def test_none_is_no_value_of_an_option_that_has_no_none(key):
    with pytest.raises(UserError, match=f"data.{key.split('.')[-1]}=None is no value; leave {key} out"):
        hampkit.recipe("undefended", {key: None}, data="x.csv", label="y")


def test_none_is_the_value_of_an_option_that_may_be_none():
    assert hampkit.recipe("digits/hamp", {"grid": None}).defense.options["grid"] is None

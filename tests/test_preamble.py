"""Lines above the names of the columns: comments, and what a result tells about them."""

import numpy as np
import pytest

from hampkit.config.preamble import SAMPLE, Preamble, first_lines, preamble_of
from hampkit.data.base import Place
from hampkit.data.table import File
from hampkit.errors import Notice, UserError
from hampkit.targets.model_inputs import TableColumns, rows_of_file, rows_of_tables
from hampkit.targets.predictions import Columns, from_file
from hampkit.workflows.bound import bound_of_file

ROWS = [f"{k % 7},{'ab'[k % 3 % 2]},{k % 2}" for k in range(60)]
NAMES = "n,kind,y"


def load(path, lines, label="y", **options):
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return File(str(path), label, **options).load(Place(path.parent, path.parent))


def skipped(n):
    return (
        f"{n} line{'s' if n > 1 else ''} of comments (#) above the table in t.csv {'were' if n > 1 else 'was'} skipped",
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.csv"


ABOVE = {
    "one line": (["# exported by somebody"], 1),
    "several": (["#", "# a, b, c, d", "# x"], 3),
    "with empty lines": (["# x", "", "# z", ""], 2),
    "below sep=": (["sep=,", "# x"], 1),
    "after a mark of UTF-8": (["\ufeff# x"], 1),
    "as a sheet saves it": (["# made by hand,,"], 1),
    "as many cells as the table": (["# made, by, hand"], 1),
    "as many as the sample": (["# x"] * 2 * SAMPLE, 2 * SAMPLE),
}


@pytest.mark.parametrize("above", ABOVE)
def test_comments_above_the_names_are_skipped_and_reported(path, above):
    lines, comments = ABOVE[above]
    found = load(path, [*lines, NAMES, *ROWS])
    assert found.sha256 == load(path, [NAMES, *ROWS]).sha256
    assert found.done == skipped(comments)


@pytest.mark.parametrize("above", [name for name in ABOVE if name != "as many cells as the table"])
def test_comments_above_records_without_names_are_skipped_too(path, above):
    lines, comments = ABOVE[above]
    found = load(path, [*lines, *ROWS], "c3", header=False)
    assert found.sha256 == load(path, [NAMES, *ROWS]).sha256
    assert found.done == skipped(comments)


@pytest.mark.parametrize("separator", ["", ",", ";", "tab"])
def test_the_separator_is_that_of_the_table_below(path, separator):
    plain = [NAMES, *ROWS]
    lines = [line.replace(",", {"tab": "\t"}.get(separator, separator or ";")) for line in plain]
    found = load(path, ["# a, b, c", "# d, e, f", *lines], separator=separator)
    assert (found.sha256, found.done) == (load(path, plain).sha256, skipped(2))


NAMES_IN_COMMENTS = {
    "directly behind": (["#n,kind,y"], 0),
    "behind a blank": (["# n,kind,y"], 0),
    "below others": (["# made by hand", "# n, kind, of it", "#n,kind,y"], 2),
    "below one of a sheet": (["# made by hand,,", "#n,kind,y"], 1),
}


@pytest.mark.parametrize("case", NAMES_IN_COMMENTS)
def test_the_last_comment_may_hold_the_names(path, case):
    above, comments = NAMES_IN_COMMENTS[case]
    found = load(path, [*above, *ROWS])
    assert found.sha256 == load(path, [NAMES, *ROWS]).sha256, "no row is lost"
    assert found.done == (skipped(comments) if comments else ())


@pytest.mark.parametrize("above", ["# made by hand,here,", "# a,b,b"])
def test_a_comment_without_names_does_not_become_them(path, above):
    with pytest.raises(UserError, match="looks like a record"):
        load(path, [above, *ROWS])


def test_a_label_behind_a_hash_is_offered(path):
    with pytest.raises(UserError, match=r"no column 'y' .*did you mean '# y'\?"):
        load(path, ["# y,kind,n", *ROWS])


def test_records_may_begin_with_a_hash(path):
    rows = [f"#{k % 5}f,{k % 7},{k % 2}" for k in range(60)]
    mixed = [*rows[:3], *(row.lstrip("#") for row in rows[3:])]
    wanted = load(path, ["colour,n,y", *mixed])
    assert len(load(path, ["colour,n,y", *rows])) == len(wanted) == 60
    for found in (load(path, ["#colour,n,y", *mixed]), load(path, mixed, "c3", header=False)):
        assert (found.sha256, found.done) == (wanted.sha256, ())
    found = load(path, ["# made by hand", *mixed], "c3", header=False)
    assert (found.sha256, found.done) == (wanted.sha256, skipped(1))


@pytest.mark.parametrize("above", [["# x"], ["# x", "# y"], ["sep=,", "# x"], ["# x", "", "# y"]])
def test_rows_are_counted_below_what_is_skipped(path, above):
    with pytest.raises(UserError, match=r"data row 3 of .* has 2 values, and the first line has 3"):
        load(path, [*above, NAMES, *ROWS[:2], "1,2", *ROWS])


@pytest.mark.parametrize("text", ["", "# x\n", "sep=;\n", "#\n#\n", "sep=;", "\n\n", "# x\n\n"])
def test_files_of_nothing_but_comments_and_of_nothing_are_refused(path, text):
    path.write_text(text)
    assert isinstance(preamble_of(first_lines(path)), Preamble)
    with pytest.raises(UserError):
        File(str(path), "y").load(Place(path.parent, path.parent))


def test_no_more_lines_are_looked_at_than_the_sample(path):
    path.write_text("# x\n" * 5 + "a,b\n" * 9 * SAMPLE)
    assert len(first_lines(path)) == 5 + SAMPLE
    assert first_lines(path, 6) == ["# x\n", "# "]


def test_audits_report_what_they_skipped(path, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{k % 3},{k % 2},{p:.3f},{1 - p:.3f},{k}" for k, p in enumerate(rng.random(300))]
    path.write_text("\n".join(["# by the service", "y,member,p_0,p_1,id", *lines]))
    path.write_text(
        "\n".join(["# by the service", "y,member,0,1,id", *(f"{k % 2}{line[1:]}" for k, line in enumerate(lines))])
    )
    given = from_file(path, Columns(label="y", member="member", id="id"))
    assert given.notes[0] == skipped(1)[0]
    path.write_text("\n".join(["# x", NAMES, *ROWS]))
    (tmp_path / "plain.csv").write_text("\n".join([NAMES, *ROWS]))
    assert rows_of_file(path, TableColumns("y", inputs="encoded")).notes[:1] == skipped(1)
    assert rows_of_tables(tmp_path / "plain.csv", path, TableColumns("y", inputs="encoded")).notes[:1] == skipped(1)
    path.write_text("\n".join(["# x", "score,included", *(f"{k / 7},{k % 2}" for k in range(60))]))
    with pytest.warns(Notice, match="1 line of comments"):
        bound_of_file(path, "included", "", 1e-5, 0.95, 0)

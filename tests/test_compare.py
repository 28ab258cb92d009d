"""``hampkit compare``: one split for all, the worst attack chosen on one half and judged on the other, one page."""

import csv
import html
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import hampkit
from hampkit import registry
from hampkit.cli.terminal import show_comparison
from hampkit.config.recipe import load_recipe
from hampkit.errors import UserError
from hampkit.judging import seeds
from hampkit.judging import strongest as comparison
from hampkit.judging.flags import FLAGS, SAMPLING
from hampkit.judging.results import ModelResult, Rate
from hampkit.judging.strongest import TARGET, Halves, judged_by_halves
from hampkit.report.comparison import (
    COLUMNS,
    comparison_rows,
    paper_layout,
    render_comparison_html,
    render_comparison_markdown,
)
from hampkit.rng import derive
from hampkit.runs.store import read_json
from hampkit.stats.metrics import Interval, auc_interval
from hampkit.workflows import compare as comparing
from hampkit.workflows.open_run import open_run
from hampkit.workflows.session import Session

OPTIONS = {"rows": 400, "epochs": 2, "neural.epochs": 2}
QUICK = ["toy", *(f"{k}={v}" for k, v in OPTIONS.items())]
SEEDS = (3, 4)
FLAGS_AT = COLUMNS.index("flags")


@pytest.fixture(scope="module")
def found(tmp_path_factory, _own_cache):
    """Three defenses with two seeds, one of which needs reference rows: (Comparison, folder)."""
    folder = tmp_path_factory.mktemp("compare")
    defenses = ["round", "advreg", "undefended"]
    return hampkit.compare("toy", defenses=defenses, options=OPTIONS, runs_dir=folder, seeds=2, seed=SEEDS[0]), folder


def no_constant(name):
    raise AssertionError(f"{name} in compare.json")


def plain_auc(scores, member):
    """The share of pairs whose member has the higher score; a tie counts half."""
    a, b = scores[member], scores[~member]
    return float(np.mean([(x > b).mean() + (x == b).mean() / 2 for x in a]))


def test_every_defense_has_the_same_members_and_the_baseline_comes_first(found):
    comparison, folder = found
    assert [e.defense for e in comparison.entries] == ["undefended", "round", "advreg"]
    assert comparison.seeds == SEEDS
    for s in range(2):
        splits = [np.load(folder / e.runs[s] / "split.npz") for e in comparison.entries]
        for other in splits[1:]:
            assert set(other.files) == set(splits[0].files)
            for name in other.files:
                assert np.array_equal(other[name], splits[0][name]), name
        assert len(splits[0]["rows_reference"]) >= 16
        sets = [set(splits[0][name].tolist()) for name in splits[0].files if name.startswith("rows_")]
        assert sum(map(len, sets)) == len(set().union(*sets)), "no row plays two parts"
    first, second = (np.load(folder / run / "split.npz")["rows_members"] for run in comparison.entries[0].runs)
    assert not np.array_equal(np.sort(first), np.sort(second)), "every seed draws its own split"


def test_the_worst_attack_is_chosen_on_each_half_and_judged_on_the_other(found):
    """All of it again by hand, from the scores that lie in the runs."""
    comparison, folder = found
    flattered = 0
    for entry in comparison.entries:
        one, other, lows, members = {}, {}, ({}, {}), 0
        for run, seed in zip(entry.runs, SEEDS, strict=True):
            for name, place in read_json(folder / run / "details.json")["scores"].items():
                file = np.load(folder / run / place)
                member = file["member"]
                mine = np.zeros(len(member), dtype=bool)
                for side, word in ((True, "members"), (False, "non-members")):
                    rows = np.flatnonzero(member == side)
                    order = np.random.default_rng(derive(derive(seed, word), "choosing half")).permutation(len(rows))
                    mine[rows[order < len(rows) // 2]] = True
                    assert mine[rows].sum() == len(rows) // 2
                one.setdefault(name, []).append(plain_auc(file["scores"][mine], member[mine]))
                other.setdefault(name, []).append(plain_auc(file["scores"][~mine], member[~mine]))
                for low, part in zip(lows, (mine, ~mine), strict=True):
                    low.setdefault(name, []).append(auc_interval(file["scores"][part], member[part]).low)
            members += int(member.sum())
        first, second = (max(half, key=lambda name, half=half: np.mean(half[name]).round(12)) for half in lows)
        assert entry.leak.attack == " / ".join(dict.fromkeys((first, second)))
        assert entry.leak.auc.value == pytest.approx(np.mean([other[first], one[second]]), abs=1e-12)
        assert entry.leak.judged == TARGET
        assert entry.leak.members == members
        assert entry.leak.auc.low <= entry.leak.auc.value <= entry.leak.auc.high
        flattered += np.mean([max(map(np.mean, half.values())) for half in (one, other)]) > entry.leak.auc.value + 1e-9
    assert flattered, "in none of these is the judging half's best another one: this test shows nothing"


def test_the_judging_half_has_no_say_in_the_choice():
    rng = np.random.default_rng(0)
    member = np.arange(80) % 2 == 0

    def scores(gap):
        return rng.normal(size=80) + gap * member, member

    quiet, loud = scores(0.0), scores(5.0)
    middle = scores(1.0)
    case = Halves({"a": scores(3.0), "b": middle}, {"a": quiet, "b": loud})
    leak = judged_by_halves([case], TARGET)
    assert leak.attack == "a / b", "the first half chooses a, the second b"
    assert leak.auc.value == pytest.approx((plain_auc(*quiet) + plain_auc(*middle)) / 2)
    assert (leak.members, leak.nonmembers) == (80, 80)
    # over several seeds one attack is chosen for all, by its mean; an attack that one of them lacks is no candidate
    other = Halves({"b": scores(4.0), "a": scores(0.0), "c": loud}, {"b": loud, "a": quiet, "c": loud})
    assert judged_by_halves([case, other], TARGET).attack == "b"
    both = judged_by_halves([case, case], TARGET)
    assert both.auc.value == pytest.approx(leak.auc.value)
    assert both.auc.value - both.auc.low == pytest.approx((leak.auc.value - leak.auc.low) / 2**0.5), (
        "no spread, some doubt"
    )
    assert both.members == 160


def test_an_attack_that_scatters_is_not_chosen_before_one_that_surely_finds_a_little():
    """Labels alone give an AUC of 0.535 with a narrow interval; the highest of nine useless AUCs is often higher."""
    rng, member, found = np.random.default_rng(0), np.arange(810) < 162, []
    for seed in range(20):
        labels = (member | (rng.random(810) >= 0.07)).astype(float)
        attacks = {"correctness": labels, **{f"useless-{k}": rng.standard_normal(810) for k in range(9)}}
        mine = comparison.half_of_each(member, seed)
        case = Halves(*({name: (s[part], member[part]) for name, s in attacks.items()} for part in (mine, ~mine)))
        found.append(judged_by_halves([case], TARGET).auc.value)
    assert np.mean(found) > 0.525, "0.51 where the AUC chooses"


@pytest.mark.parametrize("judged", [comparison.TARGET, comparison.REPEATED])
def test_the_judging_half_counts_as_strictly_as_the_recipe_says(judged):
    member = np.arange(2000) % 2 == 0
    scores = np.where(member, 1.0, 0.0)
    scores[1] = 2.0  # one of 1000 non-members lies above all members: exactly one per mille
    half = (np.stack([scores] * 2), np.stack([member] * 2)) if judged == comparison.REPEATED else (scores, member)
    case = Halves({"lira-online": half}, {"lira-online": half})
    assert [judged_by_halves([case], judged, strict).tpr.value for strict in (False, True)] == [1.0, 0.0]


def test_compare_judges_as_strictly_as_asked(tmp_path, monkeypatch):
    asked = []
    plain = comparison.rates_of

    def rates_of(pairs):
        asked.append(pairs.strict)
        return plain(pairs)

    monkeypatch.setattr(comparison, "rates_of", rates_of)
    options = OPTIONS | {"judge.strict": True}
    hampkit.compare("toy", defenses=["undefended"], options=options, runs_dir=tmp_path)
    assert asked == [True, True], "both halves"


@pytest.mark.parametrize("n", [2, 3, 10, 99])
def test_halves_are_halves_and_follow_from_the_seed(n):
    half = comparison._half(n, 7)
    assert half.sum() == n // 2
    assert np.array_equal(half, comparison._half(n, 7))
    assert n < 10 or not np.array_equal(half, comparison._half(n, 8))


def test_members_and_nonmembers_are_halved_each():
    member = np.arange(50) % 5 == 0  # 10 members, 40 others
    half = comparison.half_of_each(member, 3)
    assert (half[member].sum(), half[~member].sum()) == (5, 20)
    with pytest.raises(UserError, match="1 judged members"):
        comparison.half_of_each(np.arange(9) == 4, 3)


def test_an_attack_on_nothing_is_judged_as_nothing():
    """Halves that part twins would make the luckiest attack of the choosing half the unluckiest of the other."""
    recipe, rng, judged = load_recipe("toy/undefended"), np.random.default_rng(0), []
    assert recipe.shadows.scheme == "paired"
    for trial in range(200):
        member = rng.permuted(np.arange(100) % 2 == 0)
        members = np.stack([member, ~member] * 2)
        mine = comparison.half_of_models([0, 1, 2, 3], recipe.shadows.scheme == "paired", trial)
        names = ("lira-online", "lira-offline", "lira-global", "rmia", "attack-r", "attack-p")
        scores = {name: np.tile(rng.normal(size=100), (4, 1)) for name in names}
        chosen = {k: (s[mine], members[mine]) for k, s in scores.items()}
        rest = {k: (s[~mine], members[~mine]) for k, s in scores.items()}
        judged.append(judged_by_halves([Halves(chosen, rest)], comparison.REPEATED).auc.value)
    assert abs(np.mean(judged) - 0.5) < 0.005


@pytest.mark.parametrize("judged", [comparison.TARGET, comparison.REPEATED])
@pytest.mark.parametrize("place", ["target", "leave-one-out"])
def test_a_row_says_where_any_attack_points_the_wrong_way(judged, place):
    """The AUC of 0.08 is never chosen; beside a useless attack the row would look harmless."""
    half = Interval(0.508, 0.4, 0.6)
    rate = Rate(0.0, 0.0, 0.1, 0.001, 0, 0, 0.0, 0.1, False)
    leak = comparison.Leak("loss", judged, half, rate, rate, 50, 50)

    def flags(turned):
        """Of a useless attack and one that may be turned around, in both units."""
        attacks = [SimpleNamespace(attack="loss", flags=("tied",), unit=unit) for unit in ("target", "leave-one-out")]
        attacks += [SimpleNamespace(attack="entropy", flags=turned, unit=place)]
        result = SimpleNamespace(attacks=attacks, of=lambda unit: [a for a in attacks if a.unit == unit])
        return comparison.flagged(leak, [result]).flags

    assert flags(()) == ("tied",)
    assert flags(("inverted", *SAMPLING)) == ("tied", "inverted")


def test_flags_of_the_worst_attack_stand_in_the_row(tmp_path):
    found = hampkit.compare("toy", defenses=["undefended", "top1"], options=OPTIONS, runs_dir=tmp_path)
    by = {e.defense: e.leak for e in found.entries}
    result = read_json(tmp_path / found.entries[1].runs[0] / "result.json")
    flags = {a["attack"]: a["flags"] for a in result["attacks"]}
    mine = [f for name in by["top1"].attack.split(" / ") for f in flags[name] if f not in SAMPLING]
    assert set(by["top1"].flags) == set(mine)
    assert "tied" in by["top1"].flags
    assert "tied" in (tmp_path / "compare.md").read_text()


def test_what_the_defense_says_is_that_of_every_seed(found):
    one = seeds.summary_of
    results = [ModelResult.from_json(read_json(found[1] / run / "result.json")) for run in found[0].entries[0].runs]
    mute, words = [replace(r, facts={}) for r in results], ("kept: epoch 3", "kept: epoch 9")
    assert [r.seed for r in results] == list(SEEDS)
    assert one(mute) == ""
    assert one([replace(r, facts={"summary": words[0]}) for r in results]) == words[0]
    both = [replace(r, facts={"summary": said}) for r, said in zip(results, words, strict=True)]
    assert one(both) == f"seed 3: {words[0]}; seed 4: {words[1]}"
    assert one([*both, replace(both[0], seed=9)]) == f"seeds 3, 9: {words[0]}; seed 4: {words[1]}"
    assert one([both[0], mute[1]]) == f"seed 3: {words[0]}; seed 4: nothing"


def test_a_single_model_on_a_side_is_no_half():
    one = (np.zeros((1, 5)), np.arange(5)[None] % 2 == 0)
    two = (np.zeros((2, 5)), np.arange(10).reshape(2, 5) % 2 == 0)
    assert not Halves({"a": one}, {"a": two}).enough()
    assert Halves({"a": two}, {"a": two}).enough()


def test_compare_takes_the_seed_of_the_recipe_unless_another_is_asked_for(tmp_path):
    found = hampkit.compare("toy", defenses=["undefended"], options={**OPTIONS, "seed": 5}, runs_dir=tmp_path)
    assert found.seeds == (5,)


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(cli, tmp_path, monkeypatch):
    def offline(place, file):
        raise UserError(f"no file {file.name}")

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("hampkit.data.fetch._download", offline)
    for words, said in (
        (("toy", "nosuch"), "nosuch"),
        (("toy", "location30", "--data-dir", tmp_path / "empty"), "dataset_location.tgz"),
        (("toy", "digits", "rows=300"), "rows"),
        (("toy", "--defenses", ","), "--defenses is empty"),
        (("toy", "known_train=0.9", "known_val=0.099", "rows=100"), "two of each"),
    ):
        code, _, err = cli("compare", *words)
        assert code == 2, words
        assert said in err
        assert not list(tmp_path.glob("runs/*/models"))
        assert not (tmp_path / "runs" / "nosuch").exists()


def test_shadow_models_are_halved_by_model(tmp_path):
    (entry,) = hampkit.compare("toy", defenses=["undefended"], shadows=6, options=OPTIONS, runs_dir=tmp_path).entries
    folder = tmp_path / entry.runs[0]
    membership = open_run(folder, Session(runs_dir=tmp_path)).shadow_task().masks().numpy()
    chosen, judged = {}, {}
    for name, (place, targets) in read_json(folder / "details.json")["repeated"].items():
        scores, member = np.load(folder / place)["scores"].astype(float), membership[targets]
        assert scores.shape == member.shape == (6, member.shape[1])
        pairs = np.random.default_rng(derive(0, "choosing half")).permutation(3) < 1
        mine = pairs.repeat(2)  # twins stay together
        chosen[name] = plain_auc(scores[mine].ravel(), member[mine].ravel())
        judged[name] = plain_auc(scores[~mine].ravel(), member[~mine].ravel())
        assert (entry.leak.members, entry.leak.nonmembers) == (member.sum(), (~member).sum())
    assert entry.leak.judged == comparison.REPEATED
    names = entry.leak.attack.split(" / ")
    first, second = names[0], names[-1]
    assert chosen[first] == pytest.approx(max(chosen.values()), abs=1e-9)
    assert judged[second] == pytest.approx(max(judged.values()), abs=1e-9)
    assert entry.leak.auc.value == pytest.approx((judged[first] + chosen[second]) / 2, abs=1e-9)


def shown(cell):
    """What a reader sees of a cell."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split())


def test_the_page_holds_the_numbers_of_the_table(found):
    comparison, folder = found
    document = json.loads((folder / "compare.json").read_text(encoding="utf-8"), parse_constant=no_constant)
    assert document == json.loads(json.dumps(comparison.to_json()))
    page, text = ((folder / name).read_text(encoding="utf-8") for name in ("compare.html", "compare.md"))
    table = re.search(r"<tbody[^>]*>(.*?)</tbody>", page, re.DOTALL)
    assert table
    cells = [
        [shown(c) for c in re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", r, re.DOTALL)] for r in table[1].split("</tr>")
    ]
    cells = [[cell.replace(" ", ", ") if k == FLAGS_AT else cell for k, cell in enumerate(row)] for row in cells]
    assert cells[:3] == comparison_rows(document)
    for entry, row in zip(comparison.entries, cells, strict=False):
        assert row[0] == entry.defense
        assert f"{entry.leak.auc.value:.3f}" in row[4]
        assert f"{100 * entry.accuracy['test']:.1f}%" in row[1]
        assert "| " + " | ".join(row).replace("[", "\\[").replace("]", "\\]") + " |" in text
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', page, re.DOTALL)[1])  # pyright: ignore[reportOptionalSubscript]
    points = data["charts"]["tradeoff"]["views"]["auc"]["data"]
    assert [p["y"] for p in points] == [[e.leak.auc.value] for e in comparison.entries]
    assert [p["x"] for p in points] == [[e.accuracy["test"]] for e in comparison.entries]
    rows = list(csv.DictReader(io.StringIO(data["csv"])))
    assert [float(row["auc_high"]) for row in rows] == [e.leak.auc.high for e in comparison.entries]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.split("<script>")[0])
    assert (folder / "report.html").exists()


def test_the_same_comparison_leaves_its_page_as_it_is(found):
    """The times of answers are measured anew, and differ each time."""
    first, folder = found

    def pages():
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    before = pages()
    again = {"defenses": ["round", "advreg", "undefended"], "runs_dir": folder, "seeds": 2, "seed": SEEDS[0]}
    same = hampkit.compare("toy", options=OPTIONS, **again)
    assert same == first
    assert same.replaced == ()
    assert before == pages()
    other = replace(first, command="another")
    assert comparing._as_before(other, folder) is other


@pytest.mark.parametrize("damage", ["{", "[]", '{"entries": 3}', '{"entries": [{}, {}, {}]}', '{"entries": []}'])
def test_a_damaged_comparison_is_written_anew(found, damage, tmp_path):
    (tmp_path / "compare.json").write_text(damage)
    assert comparing._as_before(found[0], tmp_path) is found[0]


def test_few_seeds_are_the_reason_of_wide_intervals(found, capsys):
    comparison = found[0]
    sentence = (
        "With 2 seeds Student's interval is very wide, up to [0, 1], whatever the attacks find, because so few values hardly show"
        " how much seeds differ; five or more seeds help"
    )
    for seeds_, there in (((3, 4), True), (tuple(range(5)), False), ((3,), False)):
        one = replace(comparison, seeds=seeds_)
        show_comparison([one], paper=False)
        terminal = " ".join(capsys.readouterr().out.split())
        document = one.to_json()
        page = html.unescape(render_comparison_html(document))
        for text in (terminal, render_comparison_markdown(document), page):
            assert (sentence in " ".join(text.split())) == there


def test_the_published_layout_has_the_highest_rates(found):
    comparison, folder = found
    head, *body = paper_layout([comparison.to_json(), comparison.to_json() | {"data": "other", "entries": []}])
    assert head[:4] == ["defense", "toy TPR@0.1%FPR", "toy TNR@0.1%FNR", "toy test accuracy"]
    for entry, row in zip(comparison.entries, body, strict=True):
        results = [read_json(folder / run / "result.json") for run in entry.runs]
        for column, curve in ((1, "tpr_at_fpr"), (2, "tnr_at_fnr")):
            means = {}
            for result in results:
                for attack in result["attacks"]:
                    means.setdefault(attack["attack"], []).append(attack[curve][0])
            value_of = {name: np.mean([point["value"] for point in points]) for name, points in means.items()}
            name = max(value_of, key=value_of.__getitem__)
            hits = sum(point[curve[:2]] for point in means[name])
            judged = sum(result["attacks"][0]["members" if column == 1 else "nonmembers"] for result in results)
            assert row[column] == f"{hits} of {judged} ({name})", "too few examples: the count"
        assert row[4:] == ["–"] * 3
    document = comparison.to_json()
    document["entries"][0]["highest"]["tpr"] = ("loss", 0.25, True, "")
    document["entries"][0]["highest"]["tnr"] = ("loss", 0.25, False, "")
    assert paper_layout([document])[1][1:3] == ["25.00% (loss)", "25.00% (loss) ?"], "not resolved"


def test_an_unknown_defense_is_one_line(cli, refused, nothing_written):
    refused(cli("compare", *QUICK, "--defenses", "undefended, memgard"), "'memgard'", "memguard")
    refused(cli("compare", *QUICK, "--defenses", "undefended", "--seeds", "0"), "seeds=0")
    nothing_written()


def test_a_defense_that_cannot_train_is_left_out_unless_it_was_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    said = []
    with pytest.raises(hampkit.UserError, match="Opacus"):
        hampkit.compare("toy", defenses=["undefended", "dp-sgd"], options=OPTIONS, runs_dir=tmp_path)
    monkeypatch.setattr(comparing, "_names", lambda defenses: ["undefended", "dp-sgd"])
    found = hampkit.compare("toy", options=OPTIONS, runs_dir=tmp_path, progress=hampkit.Progress(say=said.append))
    assert [e.defense for e in found.entries] == ["undefended"]
    assert list(found.left_out) == ["dp-sgd"]
    assert any("left out: dp-sgd" in line and "Opacus" in line for line in said)
    for name in ("compare.html", "compare.md", "compare.json"):
        assert "pip install" in (tmp_path / name).read_text(encoding="utf-8"), name


def test_a_training_that_fails_costs_the_others_nothing(tmp_path, monkeypatch):
    real, said = comparing.evaluate, []

    def failing(problem, settings, *rest):
        if problem.recipe.defense.name == "round":
            raise UserError("it diverged")
        return real(problem, settings, *rest)

    monkeypatch.setattr(comparing, "evaluate", failing)
    with pytest.raises(UserError, match=r"^round: it diverged"):
        hampkit.compare("toy", defenses=["undefended", "round"], options=OPTIONS, runs_dir=tmp_path)
    monkeypatch.setattr(comparing, "_names", lambda defenses: ["undefended", "round", "top1"])
    found = hampkit.compare("toy", options=OPTIONS, runs_dir=tmp_path, progress=hampkit.Progress(say=said.append))
    assert [e.defense for e in found.entries] == ["undefended", "top1"]
    assert found.left_out == {"round": "it diverged"}
    assert "left out: round: it diverged" in said


def test_the_page_says_what_was_run_and_what_its_flags_mean(tmp_path):
    said = []
    options = {**OPTIONS, "defense.alpha": 0.5}
    names = ["undefended", "hamp", "relaxloss"]
    found = hampkit.compare(
        "toy", defenses=names, options=options, runs_dir=tmp_path, progress=hampkit.Progress(say=said.append)
    )
    assert any("defense.alpha is an option of several defenses, and reaches hamp, relaxloss" in line for line in said)
    flags = {flag for entry in found.entries for flag in entry.leak.flags}
    assert "randomised" in flags
    for name in ("compare.html", "compare.md"):
        text = html.unescape((tmp_path / name).read_text(encoding="utf-8"))
        assert "Options: rows=400 epochs=2 neural.epochs=2 defense.alpha=0.5; all others as in the recipes." in text
        assert all(FLAGS[flag] in text for flag in flags | {*SAMPLING})
        assert "highest lower bound of the AUC on one half of the candidates, judged on the other half" in text
        assert "The interval is for the worst attack, whichever it is; read its upper end" in text
        assert "wall time while other trainings ran" in text
    assert comparing._shared({"epochs": 2, "alpha": 1, "gamma": 1}, names) == {"alpha": ["hamp", "relaxloss"]}


def test_the_networks_own_answers_cost_what_they_cost(found):
    costs = {e.defense: (e.queries, e.overhead) for e in found[0].entries}
    assert costs["undefended"] == (1.0, 1.0)
    assert costs["round"][0] == 1.0


OWN = '''
from dataclasses import dataclass
from hampkit.defenses import Defense, Models
from hampkit.training import CROSS_ENTROPY

@dataclass(frozen=True)
class Mine(Defense):
    """A defense of one's own, from a package of one's own."""
    name = "mine-for-test"
    paper = "https://example.org"
    def fit(self, task, trainer):
        return Models(trainer.fit(task, CROSS_ENTROPY))
'''


def test_a_defense_from_another_package_appears_everywhere(cli, monkeypatch):
    Path("mydefense_for_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(".")
    real = importlib.metadata.entry_points
    point = importlib.metadata.EntryPoint("mine", "mydefense_for_test:Mine", "hampkit.defenses")
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **k: [point] if k["group"] == point.group else real(**k)
    )
    registry._scan.cache_clear()
    try:
        assert re.search(r"^mine-for-test\s+A defense of one's own", cli("list", "defenses")[1], re.MULTILINE)
        code, out, err = cli("compare", *QUICK, "--defenses", "mine-for-test,undefended", "--json")
        assert (code, err) == (0, "")
        compared = json.loads(out)
        assert [e["defense"] for e in compared["entries"]] == ["undefended", "mine-for-test"]
        assert compared["entries"][0]["accuracy"] == compared["entries"][1]["accuracy"], "it trains as the baseline"
        assert "mine-for-test" in Path("runs/compare.html").read_text(encoding="utf-8")
        code, out, err = cli("run", "toy/mine-for-test", *QUICK[1:], "--json")
        assert code == 0, err
        assert "mine-for-test" in out
        assert "A defense of one" in Path("runs/report.html").read_text(encoding="utf-8")
    finally:
        registry._scan.cache_clear()


@pytest.mark.slow
def test_a_defense_from_another_package_passes_the_contract_tests(tmp_path):
    """Installed as pip leaves a package: a module, and a folder that says which entry points it has."""
    (tmp_path / "mydefense_for_test.py").write_text(OWN)
    info = tmp_path / "mydefense_for_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mydefense-for-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hampkit.defenses]\nmine = mydefense_for_test:Mine\n")
    tests = Path(__file__).parent
    words = ["-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", "mine-for-test"]
    place = {"cwd": tests.parent, "env": os.environ | {"PYTHONPATH": str(tmp_path)}}
    command = [sys.executable, *words, tests / "test_contracts.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 10  # pyright: ignore[reportOptionalSubscript]


def test_the_same_data_set_twice_is_compared_once(cli):
    code, out, err = cli("compare", "toy", *QUICK, "--defenses", "undefended")
    assert code == 0, err
    assert out.count("page: ") == 1
    assert Path("runs/compare.html").exists()


def test_the_command_prints_both_layouts(cli):
    table = cli("compare", *QUICK, "--defenses", "undefended")
    assert table[0] == 0, table[2]
    assert "worst attack" in table[1]
    assert "compare.html" in table[1]
    paper = cli("compare", *QUICK, "--defenses", "undefended", "--paper")
    assert paper[0] == 0
    assert "by luck too" in paper[1]

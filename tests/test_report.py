"""The report: its schema, its three forms, and the page in a real browser."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

from hampkit.judging.results.attacks import strongest
from hampkit.report import RESULTS_SCHEMA, charts, load_schema, percent, render_csv, render_html, render_markdown, rows
from hampkit.stats.metrics import clopper_pearson

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
HOSTILE = "</script><script>alert(1)</script>\"'|`<b>$x$&=1"


def spoken(text: str, caveat: str = "", limits: str = "") -> dict[str, Any]:
    """The verdict and the caveats of results, as their document has them."""
    found = {"text": text, "models": [], "comparison": "", "leaks_less": "", "limits": limits}
    return {"verdict": found, "caveats": [{"flag": "tied", "models": [], "text": caveat}] if caveat else []}


VERDICT = "Undefended, the model gives away members; with HAMP no attack tells them apart at 0.1% FPR."
ATTACKS = {"confidence": ["known"], "loss": ["known"], "lira-online": ["shadows"], "label-only": ["known", "oracle"]}
NORMAL = NormalDist()


def example_results(n: int = 400) -> dict[str, Any]:
    """Three models under four attacks, with flags, unresolved rates and a null; numbers are made up but consistent."""
    specs = [("digits/undefended", "undefended", 1.0), ("digits/hamp", "hamp", 0.2), ("digits/selena", "selena", 0.45)]
    return {
        "schema": 2,
        "hampkit": "0.1.0",
        "models": [_model(*spec, n, i) for i, spec in enumerate(specs)],
        **spoken(VERDICT),
    }


def example_details(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Curves, histograms and provenance for example_results, in its order."""
    return [_detail(model) for model in results["models"]]


def example_texts() -> dict[str, Any]:
    """Texts as the registries of attacks, defenses and flags would give them."""
    paper = "https://arxiv.org/abs/2307.01610"
    about = {"summary": "One sentence about it.", "threat": "Black box.", "paper": paper, "reference": "Somebody, 2024"}
    return {
        "attacks": {name: about | {"summary": f"What {name} does."} for name in ATTACKS},
        "defenses": {name: about | {"summary": f"How {name} trains."} for name in ("undefended", "hamp", "selena")},
        "flags": {name: f"What {name} means." for name in ("unresolved", "tied", "masked", "shifted")},
    }


def _model(recipe: str, defense: str, shift: float, n: int, seed: int) -> dict[str, Any]:
    attacks = [_attack(name, needs, shift * (1 - 0.12 * i), n) for i, (name, needs) in enumerate(ATTACKS.items())]
    attacks[0]["flags"] = ["unresolved", "tied"]
    attacks[3]["flags"] = ["unresolved", "masked"] if defense == "hamp" else []
    accuracy = {"train": 1.0 - 0.01 * seed, "val": 0.92 - 0.04 * seed, "test": 0.914 + 0.004 * seed}
    counts = {"train": 600, "val": 50, "test": 500}
    return {
        "recipe": recipe,
        "defense": defense,
        "run": f"runs/{recipe.replace('/', '-')}-1a2b3c4{seed}",
        "seed": seed,
        "data": {"name": "digits", "rows": 1797, "features": 64, "classes": 10, "sha256": "9f" * 32},
        "accuracy": accuracy,
        "rows": counts,
        "accuracy_interval": {part: _exact(rate, counts[part]) for part, rate in accuracy.items()},
        "known": {"members": 200, "nonmembers": 250},
        "judge": {"known_train": 0.3, "known_val": 0.03, "candidates": "held-out", "strict": False},
        "attacks": attacks,
        "null": {"auc": {"value": 0.497, "low": 0.457, "high": 0.537}, "attack": "confidence", "off": False},
        "shift": {"auc": {"value": 0.5, "low": 0.46, "high": 0.54}},
    }


def _exact(rate: float, n: int) -> dict[str, float]:
    low, high = clopper_pearson(round(rate * n), n)
    return {"low": low, "high": high}


def _roc(shift: float) -> tuple[list[float], list[float]]:
    cuts = [4.5 - 0.1 * i for i in range(91)]
    inner = [(NORMAL.cdf(-cut), NORMAL.cdf(shift - cut)) for cut in cuts]
    return [0.0, *(x for x, _ in inner), 1.0], [0.0, *(y for _, y in inner), 1.0]


def _estimate(value: float, n: int) -> dict[str, float]:
    half = 1.96 * math.sqrt(max(value * (1 - value), 1 / n) / n)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def _attack(name: str, needs: list[str], shift: float, n: int) -> dict[str, Any]:
    fpr, tpr = _roc(shift)
    points = []
    for level in (0.001, 0.01, 0.1):
        hits = math.floor(n * max(y for x, y in zip(fpr, tpr, strict=True) if x <= level))
        wrong = math.floor(level * n)
        inner = _estimate(hits / n, n)
        wider = {"outer_low": inner["low"] * 0.7, "outer_high": min(1.0, inner["high"] * 1.3)}
        caution = {
            "resolved": level * n >= 10,
            **({} if level * n >= 5 else {"reason": f"{n} judged, {5 / level:g} needed"}),
        }
        points.append((level, hits, wrong, inner | wider | caution))
    return {
        "attack": name,
        "unit": "target",
        "targets": 1,
        "options": {"epochs": 4} if name == "confidence" else {},
        "needs": needs,
        "label_only": False,
        "members": n,
        "nonmembers": n,
        "auc": _estimate(NORMAL.cdf(shift / math.sqrt(2)), n),
        "tpr_at_fpr": [{"fpr": x, **e, "tp": k, "fp": w} for x, k, w, e in points],
        "tnr_at_fnr": [{"fnr": x, **e, "tn": k, "fn": w} for x, k, w, e in points],
        "balanced_accuracy": _estimate(NORMAL.cdf(shift / 2), n),
        "flags": [],
    }


def _detail(model: dict[str, Any]) -> dict[str, Any]:
    shift = {"undefended": 1.0, "hamp": 0.2, "selena": 0.45}.get(model["defense"], 0.5)
    rocs = ((name, *_roc(shift * (1 - 0.12 * i))) for i, name in enumerate(ATTACKS))
    before, after = _histogram(2.4, 1.1), _histogram(0.8, 0.75)
    released = model["defense"] == "hamp"
    return {
        "curves": {name: {"fpr": fpr, "tpr": tpr} for name, fpr, tpr in rocs},
        "histogram": {"signal": "loss", "unit": "nats", "before": before, "after": after if released else before},
        "release": "confidences of random inputs, reordered" if released else "nothing is changed",
        "provenance": {
            "recipe": {"data": "digits", "defense": {"name": model["defense"], "gamma": 0.95, "alpha": 0.005}},
            "versions": {"python": "3.11.7", "torch": "2.9.0", "numpy": "2.3.5"},
            "device": "cpu",
            "started": "2026-11-24T03:50:00Z",
            "seconds": 83.4,
        },
    }


def _histogram(members: float, nonmembers: float) -> dict[str, Any]:
    edges = [0.15 * i for i in range(41)]
    left = [[400 * math.exp(-rate * x) for x in edges] for rate in (members, nonmembers)]
    counts = [[round(a - b) for a, b in pairwise(tail)] for tail in left]
    return {"edges": edges, "members": counts[0], "nonmembers": counts[1]}


@contextmanager
def open_page(path: Path, scheme: str = "light", size: tuple[int, int] = (1280, 900)) -> Iterator[Any]:
    """A file in headless Chromium under a colour scheme; skips where Debian's Chromium is missing. Gives the driver."""
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        pytest.skip(f"needs {CHROMIUM} and {CHROMEDRIVER} (apt install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        set_scheme(driver, scheme)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)  # a window cannot be narrower than 500
        driver.get(path.resolve().as_uri())
        yield driver
    finally:
        driver.quit()


def set_scheme(driver: Any, scheme: str) -> None:
    """What the system prefers: light or dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait_drawn(driver: Any, times: int = 1) -> None:
    """Until all charts have been drawn so many times."""
    from selenium.webdriver.support.ui import WebDriverWait

    count = "return Number(document.documentElement.dataset.drawn || 0)"
    WebDriverWait(driver, 60).until(lambda d: d.execute_script(count) >= times)


@pytest.mark.parametrize("audited", [False, True])
def test_every_chart_of_a_page_has_its_element(audited: bool):
    """A chart without one would stop the script, and all other charts with it."""
    results = one_model(400)
    if audited:
        results["models"][0]["audit"] = {
            "way": "predictions",
            "answers": "logits",
            "declared": {},
            "ppv": [],
            "bounds": {},
        }
        results["models"][0]["defense"] = ""
    page = render_html(results, example_details(results), example_texts())
    content = next(part for part in split(page)[1] if 'id="page-data"' in part.partition(">")[0])
    charts_of = json.loads(content.partition(">")[2].rpartition("</script>")[0])["charts"]
    assert ("tradeoff" in charts_of) == (not audited)
    assert len(charts_of) > 1
    for name in charts_of:
        assert f'id="{name}"' in page, name


BREAKS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {  # results, its first attack → a mistake in them
    "rate of 1.5": lambda _, attack: attack["auc"].update(value=1.5),
    "negative rate": lambda _, attack: attack["tpr_at_fpr"][0].update(low=-0.1),
    "rate as text": lambda _, attack: attack["balanced_accuracy"].update(value="0.5"),
    "missing key": lambda _, attack: attack.pop("tnr_at_fnr"),
    "missing interval": lambda _, attack: attack["auc"].pop("high"),
    "missing models": lambda results, _: results.pop("models"),
    "wrong schema": lambda results, _: results.update(schema=1),
    "flag with a space": lambda _, attack: attack["flags"].append("not ok"),
    "unknown key on top": lambda results, _: results.update(extra=1),
    "rate without the outer interval": lambda _, attack: attack["tpr_at_fpr"][0].pop("outer_low"),
    "null without a judgement": lambda results, _: results["models"][0]["null"].pop("off"),
    "known of one side only": lambda results, _: results["models"][0]["known"].pop("members"),
    "accuracy over nobody knows how many": lambda results, _: results["models"][0].pop("rows"),
    "candidates of another kind": lambda results, _: results["models"][0]["judge"].update(candidates="some"),
    "half a member": lambda _, attack: attack["tpr_at_fpr"][0].update(tp=0.5),
}


def numbers(results: dict[str, Any]) -> set[str]:
    """Every number that a table of these results must show at 0.1 %."""
    shown: set[str] = set()
    for model in results["models"]:
        shown |= {percent(model["accuracy"][part]) for part in ("train", "test")}
        for attack in model["attacks"]:
            shown |= {"{value:.3f}".format(**attack["auc"]), "{low:.3f}–{high:.3f}".format(**attack["auc"])}
            shown |= {
                percent(attack["balanced_accuracy"]["value"]),
                f"{attack['members']:,} + {attack['nonmembers']:,}",
            }
            for point, hits in ((attack["tpr_at_fpr"][0], "tp"), (attack["tnr_at_fnr"][0], "tn")):
                rate = {percent(point["value"], 2), percent(point["outer_high"], 2)}
                few = {f"{point[hits]:,} of {attack['members']:,}", point["reason"]} if point.get("reason") else set()
                shown |= few or rate
    return shown


def split(html: str) -> tuple[str, list[str]]:
    """A page without its scripts and style, and these."""
    found = r"<(script|style)\b.*?</\1>"
    return re.sub(found, "", html, flags=re.DOTALL), [m.group(0) for m in re.finditer(found, html, re.DOTALL)]


def text_of(html: str) -> str:  # what a reader of the page sees
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", split(html)[0])).split())


def links_of(html: str) -> list[tuple[str, str]]:
    """What the elements of the page refer to: (tag, address)."""
    return re.findall(r'<(\w+)[^>]*?\s(?:src|href)="([^"]*)"', split(html)[0])


@pytest.fixture(scope="module")
def html() -> str:
    results = example_results()
    inputs = (results, example_details(results), example_texts())
    kept = copy.deepcopy(inputs)
    page = render_html(*inputs)
    assert inputs == kept
    return page


@pytest.fixture(scope="module")
def page_file(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def test_schema_takes_the_example_and_is_itself_valid():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(load_schema())
    Draft202012Validator(RESULTS_SCHEMA).validate(json.loads(json.dumps(example_results())))


@pytest.mark.parametrize("change", BREAKS)
def test_schema_refuses(change: str):
    from jsonschema import Draft202012Validator

    results = example_results()
    BREAKS[change](results, results["models"][0]["attacks"][0])
    assert not Draft202012Validator(RESULTS_SCHEMA).is_valid(results)


def test_percent_never_rounds_to_nothing_or_to_all():
    rates = [(0, 1), (1, 1), (1e-3, 2), (1e-6, 2), (0.99996, 2), (0.5, 0)]
    assert [percent(*rate) for rate in rates] == ["0.0%", "100.0%", "0.10%", "<0.01%", ">99.99%", "50%"]


@pytest.mark.parametrize("n", [400, 7_000, 20_000])
def test_html_shows_every_number(n: int):
    text = text_of(page_of(example_results(n)))
    assert {number for number in (VERDICT, *numbers(example_results(n))) if number not in text} == set()
    for flag, why in example_texts()["flags"].items():
        assert flag in text
        assert why in text


def test_html_requests_nothing(html: str):
    assert {tag for tag, link in links_of(html) if "//" in link} == {"a"}
    style, *scripts = split(html)[1]
    assert not re.search(r"@import|url\(", style)
    assert not [script for script in scripts if re.match(r"<script[^>]*\ssrc", script)]
    assert "default-src 'none'" in html


def test_hostile_names_are_escaped():
    results = example_results()
    model = results["models"][0]
    model["recipe"] = model["defense"] = model["data"]["name"] = model["attacks"][0]["attack"] = HOSTILE
    texts = example_texts() | {"flags": {"tied": HOSTILE}}
    texts["attacks"]["loss"]["paper"] = "javascript:alert(1)"
    details = example_details(results)
    details[0] |= {"release": HOSTILE, "curves": {HOSTILE: details[0]["curves"]["loss"]}}
    results |= spoken(HOSTILE)
    page = render_html(results, details, texts)
    assert len(split(page)[1]) == 4  # the style, the data, Plotly, the page's own script
    assert "<script" not in split(page)[0]
    assert text_of(page).count(HOSTILE) > 5
    assert not [link for _, link in links_of(page) if link.startswith("javascript")]
    markdown = render_markdown(results, texts)
    assert "<script" not in markdown
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")}) == 1
    model["data"]["name"] = "=cmd()"
    assert next(csv.DictReader(io.StringIO(render_csv(results))))["data"] == "'=cmd()"


@pytest.mark.parametrize("n", [400, 7_000, 20_000])
def test_markdown_shows_every_number(n: int):
    results = example_results(n)
    markdown = render_markdown(results, example_texts())
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(rows) == 3 * (2 + 4)  # for each model: head, alignment, four attacks
    assert all(len(row) == 7 for row in rows)
    # a table's head has the unit, its cells have not
    shown = {number if number in markdown else number.replace("%", "") for number in numbers(results)}
    assert [number for number in shown if number.replace("<", "&lt;").replace(">", "&gt;") not in markdown] == []
    assert rows[0][1:5] == ["TPR @ 0.1% FPR, %", "TNR @ 0.1% FNR, %", "AUC, 0.5 = guessing", "Balanced accuracy, %"]
    assert not any("%" in cell for row in rows[1:6] for cell in row)
    assert rows[2][3].startswith(f"{results['models'][0]['attacks'][0]['auc']['value']:.3f} (")
    assert [line for line in markdown.splitlines() if line.startswith("## digits")] == [
        f"## {model['recipe']}" for model in results["models"]
    ]


def test_too_few_examples_show_a_count_and_no_rate_in_any_form():
    """Below 5/FPR; from 5/FPR to 10/FPR the rate is shown with a mark, above without one."""
    for n, cell in ((400, "few"), (7_000, "unresolved"), (20_000, "")):
        results = one_model(n)
        attack = results["models"][0]["attacks"][0]
        point = attack["tpr_at_fpr"][0]
        shown = rows.blocks(results)[0].rows[0].tpr["0.1%"]
        assert (shown.caution, shown.value) == (
            cell,
            f"{point['tp']} of 400" if cell == "few" else percent(point["value"], 2),
        )
        (row, *_) = csv.DictReader(io.StringIO(render_csv(results)))
        assert (row["tpr_at_fpr_0.001"] == "") == (row["tpr_at_fpr_0.001_outer_low"] == "") == (cell == "few")
        assert (row["tpr_at_fpr_0.001_reason"] != "") == (cell == "few")
        assert int(row["tpr_at_fpr_0.001_tp"]) == point["tp"]
        page, line = text_of(page_of(results)), render_markdown(results, example_texts())
        assert (f"{point['tp']} of 400 400 judged, 5000 needed" in page) == (cell == "few")
        assert (f"*{point['tp']} of 400* (400 judged, 5000 needed)" in line) == (cell == "few")
        assert ("(unresolved)" in page) == (cell == "unresolved")


def test_csv_gives_the_numbers_back():
    results = example_results(20_000)
    rows = list(csv.DictReader(io.StringIO(render_csv(results))))
    pairs = [(model, attack) for model in results["models"] for attack in model["attacks"]]
    for row, (model, attack) in zip(rows, pairs, strict=True):
        assert (row["recipe"], row["attack"]) == (model["recipe"], attack["attack"])
        assert float(row["auc_low"]) == attack["auc"]["low"]
        assert float(row["tpr_at_fpr_0.001"]) == attack["tpr_at_fpr"][0]["value"]
        assert float(row["tpr_at_fpr_0.001_high"]) == attack["tpr_at_fpr"][0]["high"]
        assert float(row["tpr_at_fpr_0.001_outer_high"]) == attack["tpr_at_fpr"][0]["outer_high"]
        assert (row["accuracy_test_n"], row["known_members"], row["null_off"]) == ("500", "200", "false")
        assert float(row["accuracy_test_low"]) == pytest.approx(
            clopper_pearson(round(500 * model["accuracy"]["test"]), 500)[0]
        )
        assert row["options"] == ("epochs=4" if attack["attack"] == "confidence" else "")
        assert int(row["tnr_at_fnr_0.1_tn"]) == attack["tnr_at_fnr"][2]["tn"]
        assert row["flags"].split() == attack["flags"]


@pytest.mark.parametrize("models", [0, 1])
def test_few_models_and_missing_parts(models: int):
    results = example_results()
    results["models"] = results["models"][:models]
    for model in results["models"]:
        del model["null"], model["accuracy"]["val"]
        model["attacks"][0]["tpr_at_fpr"] = []
    empty: dict[str, Any] = {"attacks": {}, "defenses": {}, "flags": {}}
    assert "<h1>" in render_html(results, [{} for _ in results["models"]], empty)
    assert VERDICT in render_markdown(results, empty)
    render_csv(results)


def page_of(results: dict[str, Any], details: list[dict[str, Any]] | None = None) -> str:
    """What a reader sees of the page of these results."""
    details = example_details(results) if details is None else details
    return text_of(render_html(results, details, example_texts()))


def one_model(n: int = 400) -> dict[str, Any]:
    results = example_results(n)
    return results | {"models": results["models"][:1]}


def markdown_of(results: dict[str, Any]) -> str:
    return render_markdown(results, example_texts())


def test_the_null_is_marked_by_its_flag_and_not_by_the_interval_shown():
    for off, interval in [(False, (0.51, 0.60)), (True, (0.51, 0.60)), (False, (0.45, 0.55))]:
        results = one_model()
        results["models"][0]["null"] = {
            "auc": {"value": 0.52, "low": interval[0], "high": interval[1]}, "attack": "loss", "off": off
        }  # fmt: skip
        for text in (page_of(results), markdown_of(results)):
            assert bool(re.search("99.9 ?% interval does not contain 0.5", text)) == off
            assert bool(re.search("99.9 ?% interval contains 0.5", text)) == (not off)
            assert ("do not use" in text) == off
            assert re.search(r"20 correct runs", text)
        assert ("✗" in page_of(results)) == off


def test_an_accuracy_has_its_n_and_exact_interval_and_a_model_its_numbers():
    results = one_model()
    for text in (page_of(results), markdown_of(results)):
        assert "n = 500" in text
        assert "88.6–93.7%" in text
        assert "600 members, 200 known to the adversary, 400 judged" in text
        assert "650 non-members, 250 known to the adversary, 400 judged" in text
    results["models"][0]["judge"]["candidates"] = "all"  # the known ones are judged too
    assert "400 members, 200 known to the adversary, 400 judged" in page_of(results)


def test_every_table_says_whose_interval_it_shows():
    for text in (page_of(example_results()), markdown_of(example_results())):
        assert "outer" in text
        assert "uncertainty of the threshold" in text
        assert "Jeffreys" in text
        assert "effective number of examples" in text
        assert "chosen on the known examples" in text


def test_options_stand_with_the_attack():
    for text in (page_of(one_model()), markdown_of(one_model())):
        assert "confidence (epochs=4)" in text
        assert "loss (" not in text.split("Attacks and defenses")[0].split("## Flags")[0].replace("loss (nats)", "")
    assert rows.need_words({"needs": []}) == "answers and true labels"
    assert "examples of the same kind" in rows.need_words({"needs": ["population"]})


def test_there_is_one_strongest_attack():
    from hampkit.judging.results import ModelResult

    results = one_model()
    model = results["models"][0]
    for attack, (value, low) in zip(model["attacks"], [(0.6, 0.55), (0.7, 0.58), (0.8, 0.58), (0.9, 0.3)], strict=True):
        attack["auc"] = {"value": value, "low": low, "high": 0.95}
    best = strongest(model["attacks"])
    assert best is model["attacks"][1]
    assert ModelResult.from_json(model).strongest().attack == best["attack"]
    assert [row.name for row in rows.blocks(results)[0].rows if row.strongest] == [best["attack"]]
    (point,) = charts.tradeoff_chart(results, charts.styles([model["recipe"]]))["views"]["auc"]["data"]
    assert point["customdata"][0][1] == best["attack"]
    assert list(point["y"]) == [0.7]


def test_the_strongest_attack_is_so_with_the_choice_among_the_attacks_taken_into_account():
    """As in the verdict, so that its sentence, the bold row and the chart name one attack."""
    from hampkit.judging.results import ModelResult

    results = one_model()
    model = results["models"][0]
    for attack, (low, corrected) in zip(
        model["attacks"], [(0.55, 0.4), (0.53, 0.51), (0.5, 0.5), (0.5, 0.5)], strict=True
    ):
        attack["auc"] = {"value": 0.6, "low": low, "high": 0.95}
        attack["auc_corrected"] = {"value": 0.6, "low": corrected, "high": 0.96}
    name = model["attacks"][1]["attack"]
    assert ModelResult.from_json(model).strongest().attack == name
    assert [row.name for row in rows.blocks(results)[0].rows if row.strongest] == [name]
    (point,) = charts.tradeoff_chart(results, charts.styles([model["recipe"]]))["views"]["auc"]["data"]
    assert point["customdata"][0][1] == name
    chosen = model["attacks"][1]["auc_corrected"]
    ends = point["y"][0] - point["error_y"]["arrayminus"][0], point["y"][0] + point["error_y"]["array"][0]
    assert ends == pytest.approx((chosen["low"], chosen["high"])), "the interval of the verdict"


def test_the_trade_off_shows_the_outer_interval_and_opens_where_it_means_something():
    few = charts.tradeoff_chart(one_model(), charts.styles(["digits/undefended"]))["views"]
    assert list(few) == ["auc"], "no view without a point"
    results = one_model(7_000)
    (point,) = charts.tradeoff_chart(results, charts.styles(["digits/undefended"]))["views"]["tpr"]["data"]
    highest = max(attack["tpr_at_fpr"][0]["outer_high"] for attack in results["models"][0]["attacks"])
    assert point["y"][0] + point["error_y"]["array"][0] == pytest.approx(highest)
    lowest = max(attack["tpr_at_fpr"][0]["outer_low"] for attack in results["models"][0]["attacks"])
    assert lowest > 0
    assert point["y"][0] - point["error_y"]["arrayminus"][0] == pytest.approx(lowest)
    assert (charts.opening(one_model()), charts.opening(one_model(10_000))) == ("auc", "tpr")
    shown = 'data-view="{}" data-group="tradeoff" aria-pressed="true"'
    for n, name in ((7_000, "auc"), (10_000, "tpr")):
        results = one_model(n)
        assert shown.format(name) in render_html(results, example_details(results), example_texts())


def test_the_legend_promises_nothing_that_is_not_resolved():
    few, some, many = (page_of(one_model(n)) for n in (50, 400, 10_000))
    assert "Guessing finds" not in few
    assert "Guessing finds 10%" in some, "the page opens at the smallest rate that is more than a count"
    assert "Guessing finds 0.1%" in many
    assert "No rate of this page is resolved" in few
    assert "resolved for every attack: TPR @ 10% FPR, TNR @ 10% FNR" in some
    members = one_model()
    for attack in members["models"][0]["attacks"]:
        attack["tpr_at_fpr"][1]["resolved"] = True
    assert "resolved for every attack: TPR @ 1% FPR, TNR @ 10% FNR" in page_of(members)
    assert "Read a higher error rate" not in few + some + many


def test_provenance_explains_what_nobody_chose():
    results = one_model()
    details = example_details(results)
    details[0]["provenance"] |= {"seeds": [123456789]}
    details[0]["provenance"]["recipe"] = {
        "schema": 1, "version": 77, "data": {"file": ""}, "split": {"seed": -1, "permutation": ""}, "train": {"label": ""},
        "attacks": {}, "defense": {"modify": True, "distill": {"lr": 0.1}},
    }  # fmt: skip
    text = page_of(results, details).split("Provenance")[-1]
    assert "Model seed 123456789 (derived from seed 0)" in text
    assert "split.seed the recipe's" in text
    assert "Took 1 min 23 s" in text
    assert "defense.modify true defense.distill.lr 0.1" in text
    for word in ("schema", "version 77", "data.file", "permutation", "seed -1", "attacks"):
        assert word not in text, word
    assert "train.label" in text


def test_the_verdicts_lines_are_set_apart():
    results, texts = one_model() | spoken("Found.", "Caveats [x]", "Limits."), example_texts()
    page = render_html(results, example_details(results), texts)
    for line in ("<p>Found.</p>", "<li>Caveats [x].</li>", "<b>Not tested.</b> Limits.</p>"):
        assert line in page
    markdown = render_markdown(results, texts)
    assert "Found.\n\nCaveats \\[x\\].\n\nLimits.\n" in markdown


def test_importing_is_quick():
    code = "import sys, hampkit.report; sys.exit(bool({'plotly', 'selenium'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_page_in_a_browser(page_file: Path):
    with open_page(page_file) as driver:
        wait_drawn(driver)
        plots = driver.execute_script(
            "return [...document.querySelectorAll('.js-plotly-plot')].map(p => [p.id, p.data.length])"
        )
        assert dict(plots) == {
            "tradeoff": 3,
            **{f"roc-{i}": 5 for i in range(3)},
            "histogram-0-before": 2,
            "histogram-1-before": 2,
            "histogram-1-after": 2,
            "histogram-2-before": 2,
        }
        assert len(driver.find_elements("css selector", "svg.main-svg")) >= len(plots)
        assert driver.find_elements("css selector", ".chart:not([aria-label])") == []
        tools = driver.execute_script(
            "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title || b.ariaLabel || '')"
        )
        assert tools
        assert not re.search(r"cloud|link|share|upload", " ".join(tools), re.IGNORECASE)
        pressed = driver.find_element("css selector", "button[data-choose][aria-pressed='true']")
        assert pressed.get_attribute("data-choose") == rows.opening_level(example_results())
        driver.find_element("css selector", "button[data-choose='0.1%']").click()
        text = driver.find_element("css selector", "table.results").text
        assert [number for number in numbers(example_results()) if number not in text] == []
        assert severe(driver) == []


@pytest.mark.slow
def test_the_page_of_an_audit_in_a_browser(tmp_path: Path):
    """It has no picture of several models, and all its other charts; the console is silent."""
    results = one_model()
    results["models"][0] |= {"audit": {"way": "predictions", "answers": "logits", "declared": {}}, "defense": ""}
    (tmp_path / "report.html").write_text(render_html(results, example_details(results), example_texts()), "utf-8")
    with open_page(tmp_path / "report.html") as driver:
        wait_drawn(driver)
        plots = driver.execute_script("return [...document.querySelectorAll('.js-plotly-plot')].map(p => p.id)")
        assert plots == ["roc-0", "histogram-0-before"]
        assert severe(driver) == []


@pytest.mark.slow
def test_light_dark_and_buttons(page_file: Path):
    with open_page(page_file, "light") as driver:
        wait_drawn(driver)
        light = colours(driver)
        set_scheme(driver, "dark")
        wait_drawn(driver, 2)
        dark = colours(driver)
        assert all(light[part] != dark[part] for part in ("page", "chart"))
        click(driver, "button[data-theme=light]")
        wait_drawn(driver, 3)
        assert colours(driver) == light
        click(driver, "button[data-choose='10%']")
        point = example_results()["models"][0]["attacks"][0]["tpr_at_fpr"][2]
        assert percent(point["value"], 2) in driver.find_element("css selector", "table.results").text
        title = "return document.getElementById('roc-0').layout.xaxis.title.text"
        hidden = "return document.getElementById('roc-0').data.filter(t => !t.visible).map(t => t.meta)"
        assert driver.execute_script(title) == "FPR"
        click(driver, "button[data-view=tnr]")
        wait_drawn(driver, 4)
        click(driver, "button[data-trace=loss]")
        wait_drawn(driver, 5)
        assert driver.execute_script(title) == "FNR"
        assert driver.execute_script(hidden) == ["loss"]
        assert severe(driver) == []


@pytest.mark.slow
def test_narrow_page_does_not_overflow(page_file: Path):
    with open_page(page_file, size=(360, 800)) as driver:
        wait_drawn(driver)
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert severe(driver) == []


def severe(driver: Any) -> list[dict[str, Any]]:
    """What the browser's console complains about."""
    return [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def colours(driver: Any) -> dict[str, str]:
    """The colour of the page and of the text in a chart."""
    return driver.execute_script(
        "const tick = document.querySelector('#roc-0 .xtick text');"
        "return {page: getComputedStyle(document.body).backgroundColor, chart: getComputedStyle(tick).fill}"
    )


def click(driver: Any, selector: str) -> None:
    """By script, as the sticky bar may lie above an element."""
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)

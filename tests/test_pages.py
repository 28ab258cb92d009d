"""The pages: what comes first, what is folded, what no name of a user can do, and that both pages are of one kind."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from tests.test_report import (
    example_details,
    example_results,
    example_texts,
    open_page,
    set_scheme,
    severe,
    split,
    text_of,
    wait_drawn,
)

from hampkit.judging.headlines import WORDS
from hampkit.judging.results.attacks import leaders, ranked, shown_first
from hampkit.report import charts, load_schema, render_comparison_html, render_html, render_markdown
from hampkit.report.comparison import COLUMNS, comparison_rows, render_comparison_csv, render_comparison_markdown
from hampkit.report.findings import TONES, findings
from hampkit.report.logit_axis import logit_ticks
from hampkit.report.page import with_code

FAMILIES = {"confidence": "threshold", "loss": "threshold", "lira-online": "lira", "label-only": "label-only"}
HIDDEN = "a\x1b[31mb\u202ec\u200f\x07d"  # escape, right-to-left override and mark, bell
SMALL = ["10<sup>−15</sup>", "10<sup>−10</sup>", "10<sup>−5</sup>"]
MARKUP = "<i>&\"'`x`"


def results_with_verdict() -> dict[str, Any]:
    """The example with families, commands, hashes, and a verdict on each of its three models."""
    results = example_results()
    said = []
    for i, (model, word) in enumerate(zip(results["models"], ("Leak found", "Unclear", "Nothing found"), strict=True)):
        for attack in model["attacks"]:
            attack["family"] = FAMILIES[attack["attack"]]
        model["weights"], model["commands"] = [f"{i}a" * 32], [f"hampkit run {model['recipe']} --seed {i}"]
        auc = {**model["attacks"][0]["auc"], "turned": False}
        finding = "members found" if word == "Leak found" else "nothing found"
        said.append({"model": model["recipe"], "finding": finding, "word": word, "sentence": f"Sentence {i}"})
        said[-1] |= {"attack": "confidence", "auc": auc, "text": f"In technical words {i}"}
    results["verdict"]["models"] = said
    return results


def details_with_records(results: dict[str, Any]) -> list[dict[str, Any]]:
    details = example_details(results)
    record = {"row": "17", "label": "cat", "attack": "lira-online", "mu": "3.1", "low": "1", "high": "5"}
    record |= {"low_all": "-0.0697", "high_all": "6.99", "adjusted_p": "0.0123", "exposed": "yes"}
    record |= {"found_at_0.1%_fpr": "2", "in_models": "4", "out_models": "4"}
    summary = {"of": "records", "exposed": 190, "judged": 432, "false_discovery_rate": 0.05}
    details[0]["records"] = {"first": [record], "summary": summary}
    details[0]["provenance"]["file"] = "data/customers.csv"
    return details


def page(results: dict[str, Any] | None = None) -> str:
    results = results_with_verdict() if results is None else results
    return render_html(results, details_with_records(results), example_texts())


def comparison() -> dict[str, Any]:
    """A comparison of eight defenses; numbers are made up."""
    names = ["undefended", "hamp", "advreg", "memguard", "selena", "mixup", "round", "top1"]
    return {
        "schema": 2,
        "hampkit": "0.1.0",
        "data": "digits",
        "seeds": [0],
        "shadows": 0,
        "entries": [_entry(name, i) for i, name in enumerate(names)],
        "left_out": {"dp-sgd": "it needs `opacus`"},
        "options": {"epochs": "3"},
        "flags": {"unresolved": "Too few.", "tied": "Equal scores."},
    }


def _entry(name: str, i: int) -> dict[str, Any]:
    def rate(value: float) -> dict[str, Any]:
        return {"value": value, "outer_low": value / 2, "outer_high": value * 2, "resolved": i % 2 == 0}

    auc = {"value": 0.9 - 0.05 * i, "low": 0.85 - 0.05 * i, "high": 1.0}
    leak = {"attack": "loss", "judged": "target", "auc": auc, "tpr": rate(0.02), "tnr": rate(0.01)}
    leak |= {"members": 100, "nonmembers": 300, "flags": ["tied"] if i == 1 else []}
    test = {"value": 1 - 0.01 * i, "low": 0.9 - 0.01 * i, "high": 1.0}
    return {
        "recipe": f"digits/{name}",
        "defense": name,
        "runs": [f"digits-{name}-0a1b2c3d"],
        "accuracy": {"train": 1.0, "test": test["value"]},
        "test": test,
        "leak": leak,
        "highest": {"tpr": ["loss", 0.02, False, ""], "tnr": ["loss", 0.01, False, ""]},
        "seconds": 1.5,
        "queries": 1.0,
        "overhead": 1.0,
        "summary": "facts of `hamp`" if name == "hamp" else "",
    }


def page_data(html: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'id="page-data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def repeated_ids(html: str) -> set[str]:
    """The ids that two elements of a page have: a chart would be drawn into the first."""
    ids = re.findall(r'<[a-z0-9]+ [^>]*?\bid="([^"]*)"', html)
    return {name for name in ids if ids.count(name) > 1}


def test_no_two_elements_have_one_id():
    for html in (page(), render_comparison_html(comparison())):
        assert not repeated_ids(html)


def tables(html: str) -> list[str]:
    """The tables of results as HTML."""
    return re.findall(r'<table class="results.*?</table>', split(html)[0], re.DOTALL)


def attacks_of(table: str) -> list[str]:
    """The attacks of a table's rows."""
    return re.findall(r'<a href="#attack-([^"]*)">', table)


def test_the_verdict_comes_first_then_the_picture_then_the_table():
    parts = ['id="verdict"', 'id="tradeoff-section"', 'id="results"', 'id="roc"', 'id="signals"', 'id="records"']
    parts += ['id="methods"', 'id="flags"', 'id="provenance"']
    body = split(page())[0]
    places = [body.index(part) for part in parts]
    assert places == sorted(places)


def test_each_model_has_a_word_with_a_colour_a_sentence_and_a_number():
    results = results_with_verdict()
    cards = re.findall(r'<article class="finding tone-(\w+)">(.*?)</article>', page(results), re.DOTALL)
    assert [tone for tone, _ in cards] == ["bad", "warn", "plain"]
    for (_, card), model, found in zip(cards, results["models"], findings(results), strict=True):
        text = text_of(card)
        auc = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**model["attacks"][0]["auc"])
        assert text.startswith(f"{found.word} {model['recipe']} Sentence")
        assert f"AUC {auc}" in text
        assert "strongest attack: confidence" in text
        assert "n = 500" in text
    assert set(TONES) == set(WORDS)
    models = load_schema()["properties"]["verdict"]["properties"]["models"]
    assert models["items"]["properties"]["word"]["enum"] == list(WORDS)


def test_markdown_begins_with_the_same_words_and_numbers():
    results = results_with_verdict()
    markdown = render_markdown(results, example_texts()).replace("\\", "")
    for found in findings(results):
        assert f"- **{found.title}: {found.word}.** {found.sentence}. {found.number}." in markdown


def test_the_short_table_has_the_strongest_of_each_family_and_the_folded_one_has_all():
    results = results_with_verdict()
    short, full = tables(page(results))
    every = [attack["attack"] for model in results["models"] for attack in model["attacks"]]
    assert attacks_of(full) == every
    assert attacks_of(short) == [a["attack"] for model in results["models"] for a in leaders(model["attacks"])]
    assert attacks_of(short) == ["confidence", "lira-online", "label-only"] * 3
    folded = re.search(r'<details class="all">.*?</details>', page(results), re.DOTALL)
    assert folded
    assert tables(folded[0]) == [full]
    flags = {flag for model in results["models"] for attack in model["attacks"] for flag in attack["flags"]}
    assert flags == {"unresolved", "tied", "masked"}
    assert all(f'href="#flag-{flag}"' in full and f'id="flag-{flag}"' in page(results) for flag in flags)


def test_a_table_in_which_every_attack_leads_is_not_folded():
    results = results_with_verdict()
    for model in results["models"]:
        model["attacks"] = model["attacks"][1:]
    html = page(results)
    assert len(tables(html)) == 1
    assert '<details class="all">' not in html


def attack(name: str, value: float, half: float = 0.02, **more: Any) -> dict[str, Any]:
    return {
        "attack": name,
        "unit": "target",
        "auc": {"value": value, "low": value - half, "high": value + half},
        **more,
    }


def test_the_curves_shown_at_once_are_those_of_the_strongest_attacks_of_every_model():
    first = [attack(f"a{i}", 0.9 - 0.01 * i) for i in range(6)] + [attack("copy", 0.9, same_as="a0")]
    second = [attack("b", 0.2), attack("a0", 0.6), attack("a5", 0.5)]
    models = [{"attacks": first}, {"attacks": second}]
    assert shown_first(models) == ["a0", "b", "a1", "a2", "a5"]
    assert [a["attack"] for a in ranked(first)] == [f"a{i}" for i in range(6)]  # one order, one curve
    assert shown_first([]) == []


def test_further_curves_are_on_demand(monkeypatch: pytest.MonkeyPatch):
    from hampkit.report import html

    monkeypatch.setattr(html, "MOST_CURVES", 2)
    pressed = dict(re.findall(r'data-trace="([^"]*)" data-group="roc" aria-pressed="(\w+)"', page()))
    assert [name for name, state in pressed.items() if state == "true"] == ["confidence", "loss"]
    assert set(pressed) == set(FAMILIES)


def axes_of(html: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (name, axis, figure["layout"][axis])
        for name, chart in page_data(html)["charts"].items()
        for figure in chart["views"].values()
        for axis in ("xaxis", "yaxis")
    ]


def test_no_axis_of_a_rate_goes_beyond_100_percent():
    results = results_with_verdict()
    for model in results["models"]:
        model["accuracy"]["test"], model["accuracy_interval"]["test"] = 1.0, {"low": 0.99, "high": 1.0}
        for each in model["attacks"]:
            each["auc"] = {"value": 1.0, "low": 0.98, "high": 1.0}
            for point in each["tpr_at_fpr"]:
                point |= {"value": 1.0, "low": 0.9, "high": 1.0, "outer_low": 0.9, "outer_high": 1.0}
    for html in (page(results), render_comparison_html(comparison())):
        for name, which, axis in axes_of(html):
            low, high = axis["range"]
            if axis.get("type") == "log":
                assert high <= 0, (name, which)  # log10 of 100 %
            elif not (name.startswith("histogram") and which == "xaxis"):
                assert 0 <= low < high <= 1, (name, which)


def test_both_pages_have_the_same_axes_the_same_way_round():
    titles = [
        [figure["layout"][axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
        for html in (page(), render_comparison_html(comparison()))
        for figure in [page_data(html)["charts"]["tradeoff"]["views"]["auc"]]
    ]
    assert titles[0] == titles[1] == ["test accuracy", "AUC (0.5 = guessing)"]


def test_both_pages_have_the_switch_of_the_theme_and_downloads_that_exist():
    for html in (page(), render_comparison_html(comparison())):
        assert re.findall(r'data-theme="(\w+)"', split(html)[0]) == ["auto", "light", "dark"]
        wanted = re.findall(r'data-download="(\w+)" data-file="([\w.]+)"', html)
        assert len(wanted) == 2
        assert {what for what, _ in wanted} <= set(page_data(html))
        assert "default-src 'none'" in html


def test_what_is_downloaded_is_what_the_page_was_made_of():
    results, document = results_with_verdict(), comparison()
    assert page_data(page(results))["results"] == json.loads(json.dumps(results))
    data = page_data(render_comparison_html(document))
    assert data["results"] == json.loads(json.dumps(document))
    assert data["csv"] == render_comparison_csv(document)


def test_the_comparison_page_markdown_and_csv_have_the_same_numbers():
    document = comparison()
    text, markdown = text_of(render_comparison_html(document)), render_comparison_markdown(document)
    for row in comparison_rows(document):
        for cell in row:
            assert cell in text
            assert cell in markdown.replace("\\", "")
    assert all(f'data-label="{name}"' in render_comparison_html(document) for name in COLUMNS[1:])


def test_no_two_defenses_look_alike():
    styles = charts.styles([f"defense-{i}" for i in range(36)])
    assert len({(style["color"], style["symbol"]) for style in styles.values()}) == 36
    assert len({style["color"] for style in list(styles.values())[:6]}) == 6


def test_provenance_is_open_and_has_command_files_hashes_and_versions():
    results = results_with_verdict()
    section = split(page(results))[0].split('id="provenance"')[1]
    assert "<details" not in section
    text = text_of(section)
    for model in results["models"]:
        assert f"<pre><code>{model['commands'][0]}</code></pre>" in section
        assert model["weights"][0] in text
    for word in ("Data file customers.csv", "models/000-000/stack.safetensors", "9f" * 32, "torch 2.9.0", "cpu"):
        assert word in text, word
    assert text.count("torch 2.9.0") == 1  # the same for all models
    results["models"][0]["commands"] = [""]
    assert text_of(page(results)).count("trains the model again") == 2


def test_the_most_exposed_records_stand_on_the_page_where_there_are_any():
    text = text_of(page()).split("Most exposed records")[1]
    assert "17 cat 3.10 [−0.07, 6.99] 0.012 yes 2 of 4" in text
    assert "190 of 432 records are shown to be exposed; of such claims at most 5% are wrong in expectation." in text
    assert "runs/digits-undefended-1a2b3c40/records.csv" in text
    results = results_with_verdict()
    assert "Most exposed records" not in render_html(results, example_details(results), example_texts())


def test_backticks_are_rendered_as_code():
    results, texts = results_with_verdict(), example_texts()
    results["caveats"] = [{"flag": "tied", "models": [], "text": "see `judge.copies`"}]
    results["models"][0]["facts"] = {"summary": "kept by ``stop_after``"}
    texts["flags"]["tied"] = "with `judge.strict` and `<b>`"
    texts["attacks"]["loss"]["summary"] = "by `train.lr`"
    html = render_html(results, details_with_records(results), texts)
    for code in ("judge.copies", "stop_after", "judge.strict", "&lt;b&gt;", "train.lr"):
        assert f"<code>{code}</code>" in html
    assert "`" not in text_of(html)
    assert "<code>opacus</code>" in render_comparison_html(comparison())
    assert "by `train.lr`" in render_markdown(results, texts)
    assert str(with_code("`a` and ` alone")) == "<code>a</code> and ` alone"


def hostile(value: Any, text: str) -> Any:
    """A document with a text appended to every text that a user may choose."""
    chosen = ("recipe", "defense", "run", "name", "title", "text", "model", "attack", "summary", "label", "file", "device",
              "release", "sentence", "comparison", "limits", "data", "runs", "commands")  # fmt: skip
    if isinstance(value, dict):
        return {key: _appended(each, text) if key in chosen else hostile(each, text) for key, each in value.items()}
    return [hostile(each, text) for each in value] if isinstance(value, list) else value


def _appended(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value + text
    return [_appended(each, text) for each in value] if isinstance(value, list) else hostile(value, text)


@pytest.mark.parametrize("text", [HIDDEN, MARKUP])
def test_no_text_of_a_user_reaches_a_page_raw(text: str):
    results = hostile(results_with_verdict(), text)
    details = [hostile(detail, text) for detail in details_with_records(results_with_verdict())]
    for detail in details:
        detail["curves"] = {name + text: curve for name, curve in detail["curves"].items()}
    document = hostile(comparison(), text)
    document["left_out"] = {"dp-sgd" + text: "why" + text}
    texts = {kind: {n + text: t for n, t in example_texts()[kind].items()} for kind in ("attacks", "defenses")}
    forms = [render_html(results, details, texts | {"flags": {}}), render_comparison_html(document)]
    for html in forms:
        assert not any(c in html for c in "\x1b\u202e\u200f\x07")
        assert "<i>" not in split(html)[0]
        assert len(split(html)[1]) == 4  # the style, the data, Plotly, the page's own script
        assert "digits/undefended" in html
    for markdown in (render_markdown(results, texts | {"flags": {}}), render_comparison_markdown(document)):
        assert not any(c in markdown for c in "\x1b\u202e\u200f\x07")
        assert "<i>" not in markdown
    drawn = [trace["name"] for html in forms for chart in page_data(html)["charts"].values()
             for figure in chart["views"].values() for trace in figure["data"] if trace.get("name")]  # fmt: skip
    assert drawn
    assert not any(c in unescape(name) for name in drawn for c in "\x1b\u202e\u200f\x07")
    assert not any("<i>" in name for name in drawn)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (-3, 5, ["10%", "50%", "90%", "99%"]),
        (-1.2, 0.1, ["30%", "40%", "50%"]),
        (4, 12, ["99%", "99.9%", "99.99%", "1 − 10<sup>−5</sup>"]),
        (-0.01, 0.01, ["49.8%", "50%", "50.2%"]),
        (-40, 40, [*SMALL, "50%", *(f"1 − {text}" for text in reversed(SMALL))]),
    ],
)  # fmt: skip
def test_a_logit_axis_has_a_few_ticks_wherever_it_lies(low: float, high: float, texts: list[str]):
    ticks = logit_ticks(low, high)
    assert ticks["ticktext"] == texts
    assert all(low <= at <= high for at in ticks["tickvals"])


def test_the_loss_is_drawn_on_a_logit_axis():
    results = results_with_verdict()
    details = example_details(results)
    for part in ("before", "after"):
        details[1]["histogram"][part]["edges"] = [-4 + 0.2 * i for i in range(41)]
    details[1]["histogram"]["scale"] = "logit"
    figures = page_data(render_html(results, details, example_texts()))["charts"]
    axis = figures["histogram-1-after"]["views"]["only"]["layout"]["xaxis"]
    assert axis["ticktext"] == ["10%", "50%", "90%"]
    assert "logit" in axis["title"]["text"]
    older = figures["histogram-0-before"]["views"]["only"]["layout"]["xaxis"]  # of a run of an earlier version
    assert older["title"]["text"] == "loss (nats)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {"report": folder / "report.html", "compare": folder / "compare.html"}
    found["report"].write_text(page(), encoding="utf-8")
    found["compare"].write_text(render_comparison_html(comparison()), encoding="utf-8")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_page_is_readable_at_390_pixels(pages: dict[str, Path], name: str):
    with open_page(pages[name], size=(390, 800)) as driver:
        wait_drawn(driver)
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert severe(driver) == []
        cut = "return [...document.querySelectorAll('.results td, .results th, .finding')]"
        cut += ".filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.trim())"
        assert driver.execute_script(cut) == []


@pytest.mark.slow
def test_a_comparison_has_a_dark_side_and_a_switch(pages: dict[str, Path]):
    with open_page(pages["compare"], "light") as driver:
        wait_drawn(driver)
        colour = "return getComputedStyle(document.body).backgroundColor"
        light = driver.execute_script(colour)
        set_scheme(driver, "dark")
        wait_drawn(driver, 2)
        assert driver.execute_script(colour) != light
        driver.execute_script("document.querySelector('button[data-theme=light]').click()")
        wait_drawn(driver, 3)
        assert driver.execute_script(colour) == light
        driver.execute_script("document.querySelector('button[data-trace=hamp]').click()")
        wait_drawn(driver, 4)
        hidden = "return document.getElementById('tradeoff').data.filter(t => !t.visible).map(t => t.meta)"
        assert driver.execute_script(hidden) == ["hamp"]


@pytest.mark.slow
def test_paper_has_all_attacks_and_legends_beside_the_charts(pages: dict[str, Path]):
    with open_page(pages["report"]) as driver:
        wait_drawn(driver)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
        shown = "return [...document.querySelectorAll('table.results')].filter(t => t.offsetParent).length"
        assert driver.execute_script(shown) == 1
        assert driver.execute_script("return document.querySelector('details.all table').offsetHeight > 0")
        beside = "const at = (part, name) => part.querySelector(name).getBoundingClientRect();"
        beside += "return [...document.querySelectorAll('.beside')]"
        beside += ".every(part => at(part, '.legend').left >= at(part, 'figure').right)"
        assert driver.execute_script(beside)

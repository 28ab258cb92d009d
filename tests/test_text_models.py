"""Audits of classifiers of texts that transformers has saved: offline, from safetensors, with a tiny made-up model."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hampkit
from hampkit import UserError
from hampkit.cli.app import guarded

transformers = pytest.importorskip("transformers", reason="needs transformers (hampkit[hf])")

ROWS, WORDS, LENGTH = 240, 300, 12
FEW = ("loss", "correctness")
TEXTS = [f"w{k} w{(7 * k) % 50} w{(k * k) % 50}{' w3 w4' * (k % 3)}" for k in range(ROWS)]  # of 3, 5 and 7 words
Y = np.random.default_rng(0).integers(0, 2, ROWS)  # random: only a model that has memorised a text predicts its label
MEMBER = np.random.default_rng(1).permutation(ROWS) < ROWS // 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a classifier that has memorised the members."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("hf") / "tiny"
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{f"w{k}": k + 2 for k in range(WORDS)}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]")
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=LENGTH, num_labels=2, pad_token_id=0, id2label={0: "bad", 1: "good"},
        label2id={"bad": 0, "good": 1}, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    batch = tokenizer([t for t, m in zip(TEXTS, MEMBER, strict=True) if m], padding=True, return_tensors="pt")
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        model(**batch, labels=torch.from_numpy(Y[MEMBER])).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the folder, beside two tables."""
    for name, side in (("a.csv", MEMBER), ("b.csv", ~MEMBER)):
        with open(tmp_path / name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "review", "note", "y"])
            writer.writerows([f"r{k}", TEXTS[k], "same", ("bad", "good")[Y[k]]] for k in np.flatnonzero(side))
    return shutil.copytree(saved, tmp_path / "tiny")


def audited(folder, **more):
    given = {
        "members": "a.csv",
        "nonmembers": "b.csv",
        "label": "y",
        "text": "review",
        "id": "id",
        "attacks": FEW,
        **more,
    }
    return hampkit.audit(predict=f"hf:{folder}", **given)


def numbers(results):
    return [a.auc.value for a in results.models[0].attacks]


def direct(folder):
    """The logits (P, 2) of the model, one text after the other."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS]).double().numpy()


def test_a_folder_answers_as_its_model(folder, capsys):
    logits = direct(folder)
    wanted = hampkit.audit(logits=logits, y=Y, member=MEMBER, attacks=FEW)
    capsys.readouterr()
    found = audited(folder)
    assert np.allclose(numbers(found), numbers(wanted), atol=1e-6)
    assert capsys.readouterr() == ("", "")  # transformers prints nothing
    (model,) = found.models
    assert model.audit["way"] == "hf"
    assert model.data["features"] == 7  # tokens
    assert model.accuracy == wanted.models[0].accuracy
    assert found.verdict["models"][0]["word"] == "Leak found"
    assert "attacks that change the inputs" in {row["what"] for row in found.verdict["not_tested"]}
    pairs = {
        name: ([t for t, m in zip(TEXTS, side, strict=True) if m], Y[side])
        for name, side in (("a", MEMBER), ("b", ~MEMBER))
    }
    arrays = hampkit.audit(predict=f"hf:{folder}", members=pairs["a"], nonmembers=pairs["b"], attacks=FEW)
    assert numbers(arrays) == numbers(found)


def test_the_only_column_of_texts_is_read(folder, tmp_path):
    for name in ("a.csv", "b.csv"):
        rows = list(csv.reader((tmp_path / name).open()))
        with open(tmp_path / name, "w", newline="") as file:
            csv.writer(file).writerows([[row[0], row[1], row[3]] for row in rows])
    assert numbers(audited(folder, text="")) == numbers(audited(folder))


def test_long_texts_are_cut_and_noted(folder):
    texts = [f"{text} {'w1 ' * 20}" for text in TEXTS]
    sides = [([t for t, m in zip(texts, side, strict=True) if m], Y[side]) for side in (MEMBER, ~MEMBER)]
    found = hampkit.audit(predict=f"hf:{folder}", members=sides[0], nonmembers=sides[1], attacks=FEW)
    assert f"240 texts fill the model's {LENGTH} tokens" in " ".join(found.models[0].data["notes"])


def test_the_command_line_audits_texts(folder, capsys):
    words = [
        "audit",
        "--model",
        "hf:tiny",
        "--members",
        "a.csv",
        "--nonmembers",
        "b.csv",
        "--label",
        "y",
        "--text",
        "review",
    ]
    assert guarded([*words, "--attacks", "loss", "--out", "out"]) == 0
    assert "membership can be inferred" in capsys.readouterr().out
    assert "numbers of tokens, padded" in Path("out/results.json").read_text()


def edit(file, change):
    path = Path("tiny") / file
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def pickled():
    torch.save({}, "tiny/pytorch_model.bin")
    Path("tiny/model.safetensors").unlink()


def headless():
    from safetensors.torch import load_file, save_file

    state = {k: v for k, v in load_file("tiny/model.safetensors").items() if not k.startswith("classifier")}
    save_file(state, "tiny/model.safetensors", {"format": "pt"})


def no_padding():
    edit("tokenizer_config.json", lambda c: c.pop("pad_token"))
    edit("tokenizer.json", lambda c: c.update(padding=None))


def own_code():
    Path("tiny/own.py").write_text("open('ran', 'w')\n")
    edit("config.json", lambda c: c.update(model_type="mine", auto_map={
        "AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}))  # fmt: skip


BAD = {
    "no folder": (lambda: None, {"predict": "hf:nothing"}, "is no folder.*nothing is downloaded"),
    "a name": (lambda: None, {"predict": "hf:bert-base-uncased"}, "nothing is downloaded"),
    "no config": (lambda: Path("tiny/config.json").unlink(), {}, "has no config.json"),
    "a pickle": (pickled, {}, "has no .safetensors file.*can run any code"),
    "damaged weights": (lambda: Path("tiny/model.safetensors").write_bytes(b"x"), {}, "cannot read .*tiny"),
    "own code": (own_code, {}, "cannot read .*without code of its own"),
    "no head": (headless, {}, "lacks the weights classifier.bias"),
    "several labels": (lambda: edit("config.json", lambda c: c.update(problem_type="multi_label_classification")), {},
                       "several labels to one text"),
    "no padding": (no_padding, {}, "no padding token"),
    "no tokenizer": (lambda: [p.unlink() for p in Path("tiny").glob("tokenizer*")], {}, "has no tokenizer"),
    "two columns": (lambda: None, {"text": ""}, "have the columns of texts 'review', 'note'; .*--text"),
    "unknown column": (lambda: None, {"text": "reviews"}, r"no column 'reviews' \(--text\)"),
    "no label": (lambda: None, {"label": ""}, "give --label COLUMN"),
    "inputs": (lambda: None, {"inputs": "frame"}, "inputs=frame has no effect on a model of texts"),
    "arrays": (lambda: np.savez("a.npz", x=np.zeros((3, 2)), y=np.zeros(3)), {"members": "a.npz"}, "the model reads texts"),
    "numbers": (lambda: None, {"members": (np.zeros(120), Y[MEMBER]), "nonmembers": (["a"], [0])}, "must be a list of texts"),
    "few labels": (lambda: None, {"members": (["a", "b"], [1]), "nonmembers": (["a"], [0])}, "one label for each"),
    "one text": (lambda: None, {"members": ("abc", [0, 1, 0]), "nonmembers": (["a"], [0])}, "must be a list of texts"),
    "text elsewhere": (lambda: None, {"predict": lambda x: x}, "has no effect without a model of texts"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_what_is_no_classifier_of_texts(folder, case):
    change, more, message = BAD[case]
    change()
    given = {
        "predict": "hf:tiny",
        "members": "a.csv",
        "nonmembers": "b.csv",
        "label": "y",
        "text": "review",
        "id": "id",
        **more,
    }
    with pytest.raises(UserError) as caught:
        hampkit.audit(**given, attacks=FEW)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"hampkit\[hf\]"):
        audited(folder)

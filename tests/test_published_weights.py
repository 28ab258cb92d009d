"""Audits of published checkpoints: files that are read safely, weights that must fit, and the split by the protocol."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import hampkit
from hampkit import UserError
from hampkit.cli.app import guarded
from hampkit.data.safe_pickle import NotPlain, read_numbers
from hampkit.data.splits import LAYOUTS
from hampkit.nets import net_factory
from hampkit.nets.normalize import Normalize
from hampkit.targets.weights import Checkpoint, read_weights, with_weights

ROWS, FEATURES, CLASSES = 1797, 64, 10
SIZE = 240  # T of digits/undefended
FEW = ("loss", "correctness")


@pytest.fixture(scope="module")
def digits():
    from hampkit.data.embedded import Digits

    data = Digits().load(None)  # pyright: ignore[reportArgumentType]
    assert (len(data), data.shape, data.num_classes) == (ROWS, (FEATURES,), CLASSES)
    return data


@pytest.fixture(scope="module")
def permutation():
    return np.random.default_rng(5).permutation(ROWS)


def scaled(digits, rows):
    """The inputs (n, D) as the published network gets them: hampkit scales digits by public constants."""
    return (digits.x[rows].float() - digits.mean[0]) / digits.std[0]


@pytest.fixture(scope="module")
def state(digits, permutation):
    """The weights of a network that has learnt its members by heart."""
    torch.manual_seed(0)
    net = net_factory("mlp-small", digits.shape, CLASSES)()
    rows = torch.from_numpy(permutation[: int(0.9 * SIZE)])
    x, y = scaled(digits, rows), digits.y[rows]
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return {key: value.detach() for key, value in net.state_dict().items()}


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


FORMS = {
    "w.safetensors": lambda path, s: save_file(s, path),
    "w.pth.tar": lambda path, s: torch.save({"epoch": 3, "state_dict": s, "optimizer": {"lr": 0.1}}, path),
    "bare.pth": lambda path, s: torch.save(s, path),
    "parallel.pt": lambda path, s: torch.save({"state_dict": prefixed(s, "module.")}, path),
    "opacus.pth.tar": lambda path, s: torch.save(prefixed(s, "_module."), path),
    "old.pth.tar": lambda path, s: torch.save({"state_dict": s}, path, _use_new_zipfile_serialization=False),
}


@pytest.fixture
def files(tmp_path, state, permutation):
    np.save(tmp_path / "p.npy", permutation)
    permutation.dump(tmp_path / "p.pkl")
    for name, write in FORMS.items():
        write(tmp_path / name, state)
    return tmp_path


def audited(file, **more):
    return hampkit.audit(
        **{"weights": file, "data": "digits", "net": "mlp-small", "split": "p.npy", "attacks": FEW, **more}
    )


def numbers(results):
    return [a.auc.value for a in results.models[0].attacks]


def test_every_file_of_weights_gives_the_answers_of_the_network(files, state, digits, permutation):
    p, layout = int(0.9 * SIZE), LAYOUTS["digits"].sizes(SIZE)
    start = sum(layout[:-1])
    rows = torch.from_numpy(np.r_[permutation[:p], permutation[start : start + layout[-1]]])
    net = net_factory("mlp-small", digits.shape, CLASSES)()
    net.load_state_dict(state)
    with torch.no_grad():
        logits = net.eval()(scaled(digits, rows)).double().numpy()
    member = np.arange(len(rows)) < p
    wanted = hampkit.audit(logits=logits, y=digits.y[rows], member=member, x=digits.x[rows], attacks=FEW)
    for name in FORMS:
        read = read_weights(name)
        assert read.keys() == state.keys(), name
        assert all(torch.equal(read[key], state[key]) for key in state), name
    found = audited("parallel.pt")
    assert np.allclose(numbers(found), numbers(wanted), atol=1e-6)
    assert found.models[0].accuracy == wanted.models[0].accuracy
    model = found.models[0]
    assert model.audit["way"] == "weights"
    assert (model.rows["train"], model.rows["test"]) == (p, layout[-1])
    assert found.verdict["models"][0]["word"] == "Leak found"
    assert numbers(audited("w.pth.tar", split="p.pkl")) == numbers(found)


def test_without_a_permutation_the_split_is_ours_and_the_page_notes_it(files):
    with pytest.warns(hampkit.Notice, match="no permutation was given"):
        found = audited("w.pth.tar", split=None)
    assert "needs the permutation" in " ".join(found.models[0].data["notes"])
    assert numbers(found) != numbers(audited("w.pth.tar"))  # the members are others


def test_images_are_scaled_in_front_of_the_published_network(tmp_path):
    """The weights of a DenseNet fit into the network behind the scaling layer, and counts of batches may be missing."""
    scale = Normalize(torch.full((3, 1, 1), 2.0), torch.full((3, 1, 1), 4.0))
    torch.manual_seed(0)
    published = net_factory("densenet-small", (3, 16, 16), 10)().eval()
    kept = {key: value for key, value in published.state_dict().items() if "num_batches" not in key}
    assert {"conv1.weight", "dense1.0.bn1.running_mean", "trans2.conv1.weight", "bn.bias", "fc.weight"} <= set(kept)
    torch.save({"state_dict": kept}, tmp_path / "w.pth.tar")
    module = net_factory("densenet-small", (3, 16, 16), 10, scale)()
    loaded = with_weights(Checkpoint(tmp_path / "w.pth.tar", "densenet-small", module, "cifar10")).eval()
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(loaded(x), published((x - 2) / 4), atol=1e-6)
    own = net_factory(
        "densenet-small", (3, 16, 16), 10, Normalize(torch.zeros(3, 16, 16), torch.ones(3, 16, 16), own=True)
    )()
    with pytest.raises(UserError, match="lacks the means and deviations"):
        with_weights(Checkpoint(tmp_path / "w.pth.tar", "densenet-small", own, "mine"))


class Evil:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def change(name, edit):
    """A file of weights after a change of its state dict."""
    found = torch.load("w.pth.tar", weights_only=True)["state_dict"]
    torch.save({"state_dict": edit(dict(found))}, name)


def without(key):
    return lambda s: {k: v for k, v in s.items() if k != key}


def make_text(name):
    Path(name).write_text("no weights")


BAD = {
    "missing file": (lambda: None, {"weights": "none.pth.tar"}, "is no file"),
    "pickle": (lambda: Path("w.pkl").write_bytes(b""), {"weights": "w.pkl"}, "give a .safetensors file"),
    "exported program": (lambda: Path("w.pt2").write_bytes(b""), {"weights": "w.pt2"}, "give a .safetensors file"),
    "hostile": (lambda: torch.save({"state_dict": Evil("ran")}, "evil.pth"), {"weights": "evil.pth"},
                "without running code in it.*safetensors.torch.save_file"),
    "whole module": (lambda: torch.save(torch.nn.Linear(2, 2), "m.pth"), {"weights": "m.pth"}, "save the state dict"),
    "text": (lambda: make_text("t.pth"), {"weights": "t.pth"}, "cannot read t.pth"),
    "no safetensors": (lambda: make_text("t.safetensors"), {"weights": "t.safetensors"}, "complete .safetensors"),
    "numbers": (lambda: torch.save({"epoch": 3}, "n.pth"), {"weights": "n.pth"}, "holds no state dict"),
    "a tensor": (lambda: torch.save(torch.zeros(3), "n.pth"), {"weights": "n.pth"}, "holds no state dict"),
    "missing key": (lambda: change("c.pth", without("classifier.bias")), {"weights": "c.pth"}, "lacks 'classifier.bias'"),
    "further key": (lambda: change("c.pth", lambda s: {**s, "more": torch.zeros(1)}), {"weights": "c.pth"},
                    "has 'more' beside the weights"),
    "wide": (lambda: None, {"net": "mlp"}, "lacks .*net=mlp for data=digits"),
    "other shape": (lambda: change("c.pth", lambda s: {**s, "features.0.weight": torch.zeros(256, 63)}), {"weights": "c.pth"},
                    r"features.0.weight of c.pth has shape \(256, 63\), and \(256, 64\)"),
    "other classes": (lambda: change("c.pth", lambda s: {**s, "classifier.weight": torch.zeros(30, 128)}), {"weights": "c.pth"},
                      "answers 30 classes, and data=digits has 10"),
    "NaN": (lambda: change("c.pth", lambda s: {**s, "classifier.bias": torch.full((10,), torch.nan)}), {"weights": "c.pth"},
            "NaN or infinity"),
    "no data": (lambda: None, {"data": None}, "give --data NAME"),
    "a table": (lambda: None, {"data": "x.csv"}, "is a table"),
    "unknown data": (lambda: None, {"data": "digit"}, "did you mean 'digits'"),
    "unknown net": (lambda: None, {"net": "mlp-smal"}, "did you mean 'mlp-small'"),
    "an image network": (lambda: None, {"net": "densenet"}, "is for images"),
    "no split": (lambda: None, {"split": "q.npy"}, "is no file"),
    "short split": (lambda: np.save("q.npy", np.arange(9)), {"split": "q.npy"}, "1797 rows"),
    "hostile split": (lambda: Path("q.pkl").write_bytes(pickle.dumps(Evil("ran"))), {"split": "q.pkl"}, "nothing of it was run"),
    "a column": (lambda: None, {"label": "y"}, "--label has no effect with weights"),
    "members": (lambda: None, {"members": "a.csv"}, "members has no effect with weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_files_that_no_audit_can_use(files, capsys, case):
    write, given, message = BAD[case]
    write()
    options = {"weights": "w.pth.tar", "data": "digits", "net": "mlp-small", "split": "p.npy", **given}
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    assert guarded(["audit", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    assert re.search(message, error), error
    assert not Path("ran").exists()


def test_net_and_split_belong_to_weights(files):
    for name in ("net", "split"):
        with pytest.raises(
            UserError, match=f"{name} has no effect with predict .--model.; leave it out, or give weights"
        ):
            hampkit.audit(predict=lambda x: x, **{name: "mlp"})


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<i4", "<u8"])
def test_an_array_of_whole_numbers_is_read_from_a_pickle(protocol, dtype):
    order = np.random.default_rng(0).permutation(500).astype(dtype)
    assert np.array_equal(read_numbers(pickle.dumps(order, protocol)), order)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(5.0), np.arange(5) > 2, np.arange(6).reshape(2, 3), np.array([{}]), [1, 2], {"a": np.arange(3)}, 7,
        np.array(["a"]), np.arange(3).astype("M8[s]"), np.int64(3), Evil("ran"),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "dtype", "")),
)  # fmt: skip
def test_anything_else_in_a_pickle_is_refused(value):
    with pytest.raises(NotPlain):
        read_numbers(pickle.dumps(value, 4))
    assert not Path("ran").exists()


def test_weights_that_hampkit_trained_have_the_numbers_of_their_run(tmp_path):
    options = {"epochs": 2, "judge.candidates": "all"}
    trained = hampkit.train("digits/undefended", options={"epochs": 2})
    (run,) = hampkit.run("digits/undefended", options=options, attacks=FEW).models
    net = trained.network()[1]  # behind the scaling layer
    torch.save({"state_dict": prefixed(net.state_dict(), "module.")}, "own.pth.tar")
    with pytest.warns(hampkit.Notice, match="no permutation"):
        found = audited("own.pth.tar", net="", split=None, options={"judge.candidates": "all"})
    assert {a.attack: a.auc.value for a in found.models[0].attacks} == pytest.approx(
        {a.attack: a.auc.value for a in run.attacks}, abs=1e-6
    )
    assert found.models[0].accuracy["train"] == pytest.approx(run.accuracy["train"])

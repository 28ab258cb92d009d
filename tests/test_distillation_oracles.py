"""SELENA and DMP: which sub-model saw what, what the student is taught, and inputs from a file."""

import pickle
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch

from hampkit.config.recipe import load_recipe
from hampkit.config.sections import TrainOverrides
from hampkit.data import Place
from hampkit.data.splits import _read_permutation
from hampkit.data.table import File
from hampkit.defenses.dmp import Dmp, lowest_entropy, read_inputs
from hampkit.defenses.selena import Selena, soft_targets
from hampkit.errors import UserError
from hampkit.nets import net_factory
from hampkit.training import Trainer

pytestmark = pytest.mark.numeric


@pytest.fixture
def network(toy):
    return net_factory("mlp-small", toy.shape, toy.num_classes)


@pytest.fixture
def watched(monkeypatch):
    """Every training that a defense asks for: (task, targets, stack)."""
    seen, real = [], Trainer.fit

    def fit(self, task, objective, targets=None):
        stack = real(self, task, objective, targets)
        seen.append((task, targets, stack))
        return stack

    monkeypatch.setattr(Trainer, "fit", fit)
    return seen


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def soft_label(logits, left_out, usable):
    """The label of one member by a loop: logits (K, C)."""
    total, count = np.zeros(logits.shape[1]), 0
    for k in range(len(logits)):
        if left_out[k] and usable[k]:
            total, count = total + logits[k], count + 1
    if not count:
        total, count = logits[left_out].sum(0), int(left_out.sum())
    return softmax(total / count)


@pytest.mark.parametrize("useless", [[], [1], [0, 2, 4]])
def test_soft_labels_are_those_of_a_loop_over_samples(useless):
    rng = np.random.default_rng(len(useless))
    logits, left = rng.normal(size=(5, 30, 4)) * 3, rng.random((30, 5)).argsort(-1) < 2
    usable = np.array([k not in useless for k in range(5)])
    ours = soft_targets(*map(torch.from_numpy, (logits, left, usable)))
    loop = np.stack([soft_label(logits[:, i], left[i], usable) for i in range(30)])
    assert np.allclose(ours.numpy(), loop, atol=1e-12)
    if useless:
        rest = soft_targets(torch.from_numpy(logits), torch.from_numpy(left), torch.ones(5, dtype=torch.bool))
        assert not torch.allclose(ours, rest)


def test_no_sub_model_saw_a_member_that_it_labels(task, short, watched):
    defense = Selena(submodels=5, left_out=2)
    three = task.only([0, 3, 6])
    models = defense.fit(three, Trainer(replace(short, epochs=2), width=10))  # two models at once, then one
    *teachers, (final, targets, _) = watched
    assert [len(t) for t, _, _ in teachers] == [10, 5]
    seen = torch.cat([t.members for t, _, _ in teachers]).view(3, 5, -1)
    assert not (seen & ~three.members.unsqueeze(1)).any(), "a sub-model learns from its model's members only"
    assert torch.equal(seen.sum(1), 3 * three.members.long()), "each member is left out of exactly two of five"
    assert len({s for t, _, _ in teachers for s in t.seeds} | set(three.seeds)) == 18
    assert not torch.equal(seen[0].sum(-1), seen[1].sum(-1)), "each model draws its own sub-sets"
    logits = [Trainer(short).predict(stack, three.pool.x) for _, _, stack in teachers]
    logits = torch.cat(logits).view(3, 5, len(three.pool), -1).double().numpy()
    usable = np.array([not h.diverged for _, _, stack in teachers for h in stack.history]).reshape(3, 5)
    assert torch.equal(final.members, three.members)
    for m in range(3):
        for i in three.members[m].nonzero().flatten().tolist():
            label = soft_label(logits[m, :, i], ~seen[m, :, i].numpy(), usable[m])
            assert np.allclose(targets[m, i].numpy(), label, atol=1e-5)
    assert not targets[~three.members].any()
    assert models.facts[0]["submodels"] == 5


def test_a_useless_sub_model_has_no_say(task, short, monkeypatch):
    seen, real = [], Trainer.fit

    def fit(self, task, objective, targets=None):
        stack = real(self, task, objective, targets)
        if not seen:  # the sub-models: the second one's answers are far off, and it is said to be no use
            stack.params["classifier.bias"][1] += 50 * torch.arange(4)
            history = [replace(h, diverged="") for h in stack.history]
            history[1] = replace(history[1], diverged="it learnt nothing")
            stack = replace(stack, history=tuple(history))
        seen.append((task, targets, stack))
        return stack

    monkeypatch.setattr(Trainer, "fit", fit)
    one = task.only([2])
    models = Selena(submodels=4, left_out=2).fit(one, Trainer(replace(short, epochs=2)))
    (first, _, teachers), (_, targets, _) = seen
    mine = one.members[0]
    left = ~first.members[:, mine].T.numpy()
    logits = Trainer(short).predict(teachers, one.pool.x[mine]).double().numpy()
    usable = np.array([True, False, True, True])
    loop = np.stack([soft_label(logits[:, i], left[i], usable) for i in range(len(left))])
    assert np.allclose(targets[0, mine].numpy(), loop, atol=1e-5)
    assert models.facts[0]["useless"] == 1
    assert "1 left out" in models.facts[0]["summary"]


def test_the_student_of_dmp_learns_the_teachers_answers_and_sees_no_member(task, short, watched):
    pair = task.only([1, 5])
    models = Dmp(synthetic=90, keep=0.4).fit(pair, Trainer(replace(short, epochs=2), width=2))
    (first, none, teachers), (second, targets, _) = watched
    assert none is None
    assert torch.equal(first.members, pair.members)
    assert second.members.sum(-1).tolist() == [36, 36]
    assert not (second.members[0] & second.members[1]).any()
    predict = Trainer(short).predict(teachers, second.pool.x)
    for m in (0, 1):
        mine = second.members[m]
        for target, z in zip(targets[mine].numpy(), predict[m, mine].double().numpy(), strict=True):
            assert np.allclose(target, softmax(z), atol=1e-5)
        assert torch.equal(second.pool.y[mine], predict[m, mine].argmax(-1))
        made = Dmp(synthetic=90)._inputs(pair, m, Trainer(short))
        p = Trainer(short).predict(teachers.take([m]), made)[0].double().softmax(-1).numpy()
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
        chosen = sorted(sorted(range(90), key=lambda i: entropy[i])[:36])
        assert torch.equal(second.pool.x[mine], made[chosen])
    assert models.facts[0] | {"summary": ""} == {"synthetic": 36, "generator": "bernoulli-mixture", "summary": ""}


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_the_kept_answers_are_those_of_least_entropy(share):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 5)) * rng.choice([0.3, 3.0, 200.0], (60, 1))
    entropies = [-sum(q * np.log(q) for q in softmax(z) if q > 0) for z in logits]
    kept = lowest_entropy(torch.from_numpy(logits), share).tolist()
    assert kept == sorted(kept)
    assert len(kept) == max(1, round(share * 60))
    rest = [entropies[i] for i in range(60) if i not in kept]
    assert not rest or max(entropies[i] for i in kept) <= min(rest) + 1e-12


class Trap:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


def bits(rows=50, columns=24):
    return np.random.default_rng(1).integers(0, 2, (rows, columns))


BAD = {
    "shape": (bits(columns=23), "(50, 23)"),
    "flat": (bits()[0], "(24,)"),
    "number": (np.array(1.0), "()"),
    "empty": (bits()[:0], "(0, 24)"),
    "nan": (np.where(bits() == 1, np.nan, 0.0), "NaN"),
    "infinite": (np.where(bits() == 1, np.inf, 0.0), "finite"),
    "text": (bits().astype(str), "<U"),
    "complex": (bits().astype(complex), "complex128"),
    "objects": (bits().astype(object), "cannot be read"),
    "out of the domain": (bits() * 2, "outside the data's bounds"),
    "negative": (bits() - 1.0, "outside the data's bounds"),
    "fractions": (bits() * 0.5, "whole numbers"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_inputs_that_cannot_be_used_are_refused(toy, tmp_path, case, kind):
    array, said = BAD[case]
    path = tmp_path / f"inputs.{kind}"
    np.save(path, array) if kind == "npy" else np.savez(path, x=array)
    with pytest.raises(UserError) as caught:
        read_inputs(str(path), toy)
    assert f"defense.file={path}" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def unreadable(kind):
    if kind == "pickle":
        return pickle.dumps(Trap())
    written = BytesIO()
    if kind == "pickle in npy":
        np.save(written, np.array([Trap()] * 3, dtype=object), allow_pickle=True)
        return written.getvalue()
    np.savez_compressed(written, **({"y": bits()} if kind == "no x" else {"x": bits()}))
    whole = written.getvalue()
    return {"cut npz": whole[: len(whole) // 2], "no x": whole, "nothing": b"", "damaged": damaged(whole)}[kind]


def damaged(whole):
    spoilt = bytearray(whole)
    for i in range(60, 110):
        spoilt[i] ^= 0xFF
    return bytes(spoilt)


@pytest.mark.parametrize(
    "kind", ["pickle", "pickle in npy", "cut npz", "no x", "nothing", "damaged", "missing", "folder"]
)
def test_a_file_that_cannot_be_read_is_one_clear_line_and_runs_nothing(toy, tmp_path, capsys, kind):
    path = tmp_path / "inputs.npz"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(unreadable(kind))
    with pytest.raises(UserError, match=r"cannot be read|is no file|is a folder") as caught:
        read_inputs(str(path), toy)
    assert "\n" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["u1", "b1", "i8", "u8", "f2", "f4", ">f8", ">i4", "longdouble"])
def test_every_kind_of_number_is_read_as_the_data_are(toy, tmp_path, dtype):
    np.save(tmp_path / "inputs.npy", np.asfortranarray(bits().astype(dtype)))
    x = read_inputs(str(tmp_path / "inputs.npy"), toy)
    assert x.dtype == toy.x.dtype
    assert np.array_equal(x.numpy(), bits())


def test_inputs_from_a_file_teach_every_student_the_same_questions(task, short, watched, tmp_path):
    np.savez(tmp_path / "inputs.npz", x=bits(40))
    models = Dmp(file=str(tmp_path / "inputs.npz")).fit(task.only([1, 5]), Trainer(replace(short, epochs=2)))
    (_, _, _), (second, _, _) = watched
    for m in (0, 1):
        assert np.array_equal(second.pool.x[second.members[m]].numpy(), bits(40))
    assert models.facts[0]["generator"] == "file"


def test_what_selena_cannot_split_is_refused_before_anything_is_trained(task, short):
    few = replace(task.only([0]), members=task.members[:1] & (torch.arange(320) < 12))
    with pytest.raises(UserError, match="has no members"):
        Selena(submodels=500, left_out=499).check(few, Trainer(short))


def test_an_option_of_the_student_is_named_as_such(task, short):
    with pytest.raises(UserError, match=r"defense\.distill\.lr=-1"):
        Selena(distill=TrainOverrides(lr=-1.0)).check(task, Trainer(short))


def broken_arrays(folder):
    """Files that numpy refuses with other errors than those of a file."""
    whole = BytesIO()
    np.savez(whole, x=np.zeros((3, 24), np.float32), y=np.zeros(3, np.int64))
    content = bytearray(whole.getvalue())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + at] |= 1  # encrypted
            place = content.find(mark, place + 1)
    (folder / "locked.npz").write_bytes(content)
    (folder / "zip.npy").write_bytes(b"PK\x03\x04 and no more")
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**14,)})
    (folder / "huge.npy").write_bytes(header.getvalue())
    return [folder / name for name in ("locked.npz", "zip.npy", "huge.npy")]


def test_files_that_numpy_cannot_read_are_named(tmp_path, task):
    for path in broken_arrays(tmp_path):
        with pytest.raises(UserError, match=path.name) as caught:
            read_inputs(str(path), task.pool)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match=path.name):
            _read_permutation(str(path), 3)
    with pytest.raises(UserError, match="locked"):
        File(file=str(tmp_path / "locked.npz")).load(Place(None, tmp_path))


def test_the_same_name_with_other_inputs_is_another_run(tmp_path):
    path = tmp_path / "made.npy"
    np.save(path, np.zeros((40, 24), np.float32))
    recipe = load_recipe("toy/dmp", {"defense.file": str(path)})
    before = recipe.folder()
    assert load_recipe("toy/dmp", {"defense.file": str(path)}).folder() == before
    np.save(path, np.ones((40, 24), np.float32))
    assert load_recipe("toy/dmp", {"defense.file": str(path)}).folder() != before


def test_a_file_of_inputs_is_found_from_other_folders_too(cli, refused, tmp_path, monkeypatch):
    np.save("made.npy", np.random.default_rng(0).integers(0, 2, (60, 16)))
    quick = ["rows=300", "features=16", "classes=3", "epochs=1", "neural.epochs=1", "defense.file=made.npy", "--quiet"]
    code, _, err = cli("run", "toy/dmp", *quick)
    assert code == 0, err
    (run,) = (tmp_path / "runs").glob("toy-dmp-*")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    code, _, err = cli("attack", run, "loss", "--quiet")
    assert code == 0, err
    assert cli("train", "toy/dmp", *quick[:-2], "defense.file=../made.npy", "--runs-dir", "../runs")[0] == 0
    assert list((tmp_path / "runs").glob("toy-dmp-*")) == [run], "the same file by another name is the same run"
    assert str(tmp_path) not in (run / "recipe.json").read_text()
    moved = (tmp_path / "made.npy").rename(tmp_path / "other" / "moved.npy")
    assert cli("run", "toy/dmp", *quick[:-2], f"defense.file={moved}", "--runs-dir", "../runs", "--quiet")[0] == 0
    assert list((tmp_path / "runs").glob("toy-dmp-*")) == [run], "where a file lies is not what it holds"
    refused(cli("train", "toy/dmp", "defense.file=~nobody-of-that-name/x.npy"), "~nobody-of-that-name", "names no file")


def test_a_generator_that_cannot_make_the_inputs_is_refused_before_a_teacher_is_trained(task, short):
    with pytest.raises(UserError, match="makes images"):
        Dmp(generator="dcgan").check(task, Trainer(short))

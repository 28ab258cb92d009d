"""Audits of models that were trained elsewhere: every way in, what each refuses, and whether the verdict is right."""

import csv
import hashlib
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import hampkit
from hampkit.cli.app import guarded
from hampkit.data.splits import shadow_members
from hampkit.errors import UserError
from hampkit.judging.exposed import exposed_records
from hampkit.judging.predictive_value import ppv, predictive
from hampkit.judging.subgroups import subgroups
from hampkit.stats import grouped
from hampkit.stats.exposure import exposure
from hampkit.targets.answers import scale_of
from hampkit.targets.records import Records

FEW = ("loss", "confidence-per-class")  # attacks that take no time
ROWS, FEATURES = 600, 6


class Forest:
    """An estimator that memorises: it answers a training record by its label, and others by a rule."""

    classes_ = (0, 1)

    def __init__(self, x, y):
        self.seen = {row.tobytes(): int(label) for row, label in zip(np.asarray(x, dtype=np.float32), y, strict=True)}

    def predict_proba(self, x):
        rows = np.asarray(x, dtype=np.float32)
        p = 1 / (1 + np.exp(-rows[:, 0]))
        for i, row in enumerate(rows):
            if (label := self.seen.get(row.tobytes())) is not None:
                p[i] = 0.97 if label else 0.03
        return np.stack([1 - p, p], axis=1).round(6)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).round(4).astype(np.float32)
    y = rng.integers(0, 2, ROWS)  # random labels: whoever predicts them has memorised them
    member = np.arange(ROWS) % 2 == 0
    return x, y, member


@pytest.fixture(scope="module")
def forest(problem):
    x, y, member = problem
    return Forest(x[member], y[member])


def pairs(problem):
    x, y, member = problem
    return {"members": (x[member], y[member]), "nonmembers": (x[~member], y[~member])}


def write_csv(path, names, columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
    return path


def predictions(path, problem, p, extra=()):
    _, y, member = problem
    columns = {"y": y, "in": member.astype(int), "p_0": p[:, 0], "p_1": p[:, 1], **dict(extra)}
    return write_csv(path, list(columns), list(columns.values()))


def audited(*args, **kwargs):
    return hampkit.audit(*args, **{"attacks": FEW, **kwargs})


def aucs(results):
    return [a.auc.value for a in results.models[0].attacks]


class Frame:
    """A table with the Arrow stream protocol, as data frames have it."""

    def __init__(self, columns):
        import pyarrow as pa

        self.table = pa.table(columns)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_every_way_in_gives_the_same_numbers(problem, forest, tmp_path):
    x, y, member = problem
    p = forest.predict_proba(x)
    (tmp_path / "factory.py").write_text(
        "import numpy as np\ndef load():\n    return lambda x: np.load('p.npy')[: len(x)]\n"
    )
    order = np.r_[np.flatnonzero(member), np.flatnonzero(~member)]
    np.save(tmp_path / "p.npy", p[order])
    names = [f"f{k}" for k in range(FEATURES)]
    for name, side in (("a.csv", member), ("b.csv", ~member)):
        write_csv(tmp_path / name, [*names, "y"], [*x[side].T, y[side]])
    np.savez(tmp_path / "p.npz", probabilities=p, y=y, member=member)
    import pyarrow as pa

    table = pa.table({"y": y, "in": member, "p_0": p[:, 0], "p_1": p[:, 1]})
    frames = [Frame(dict(zip([*names, "y"], [*x[side].T, y[side]], strict=True))) for side in (member, ~member)]
    alone = [(Frame(dict(zip(names, x[side].T, strict=True))), y[side]) for side in (member, ~member)]
    group = np.arange(len(y))
    ways = {
        "csv": audited(predictions(tmp_path / "p.csv", problem, p), label="y", member="in"),
        "npz": audited(tmp_path / "p.npz"),
        "arrow": audited(table, label="y", member="in"),
        "arrays": audited(probabilities=p, y=y, member=member),
        "tensors": audited(probabilities=torch.tensor(p), y=torch.tensor(y), member=torch.tensor(member)),
        "logits": audited(logits=np.log(p), y=y, member=member),
        "estimator": audited(predict=forest, **pairs(problem)),
        "function": audited(predict=forest.predict_proba, **pairs(problem)),
        "tables": audited(predict=forest, members=tmp_path / "a.csv", nonmembers=tmp_path / "b.csv", label="y"),
        "factory": audited(predict="factory:load", **pairs(problem)),
        "frames": audited(predict=forest, members=frames[0], nonmembers=frames[1], label="y"),
        "frame and file": audited(predict=forest, members=frames[0], nonmembers=tmp_path / "b.csv", label="y"),
        "frames with y": audited(predict=forest, members=alone[0], nonmembers=alone[1], inputs="array"),
        "groups of one": audited(predict=forest, **pairs(problem), group=group, id=group),
    }
    first = aucs(ways["csv"])
    assert first[0] > 0.9
    for name, found in ways.items():
        assert np.allclose(aucs(found), first, atol=1e-9), name
    assert ways["tables"].models[0].data["features"] == FEATURES
    assert ways["csv"].models[0].data["features"] == 0


def test_groups_and_names_belong_to_pairs_too(problem, forest):
    """In the order of members, then non-members; a model that is trained by a function has its data's."""
    _, y, member = problem
    order = np.r_[np.flatnonzero(member), np.flatnonzero(~member)]
    person = np.arange(len(y)) // 4
    p = forest.predict_proba(problem[0])
    wanted = audited(probabilities=p, y=y, member=member, group=person).models[0]
    found = audited(predict=forest, **pairs(problem), group=person[order]).models[0]
    assert found.groups == wanted.groups
    assert found.attacks[0].auc.low == pytest.approx(wanted.attacks[0].auc.low)
    with pytest.raises(UserError, match=r"group has 3 values, and there are .* rows; give one for each, members first"):
        audited(predict=forest, **pairs(problem), group=[1, 2, 3])
    with pytest.raises(UserError, match="y as an array has no effect with predict"):
        audited(predict=forest, **pairs(problem), y=y)
    with pytest.raises(UserError, match="both be tables, or both be pairs"):
        audited(predict=forest, members=pairs(problem)["members"], nonmembers=Frame({"a": y, "y": y}), label="y")


class Net(nn.Module):
    """A network with batch norm, which answers otherwise in training mode."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
        )

    def forward(self, x):
        return self.body(x)


def test_a_module_is_asked_in_evaluation_mode_and_left_as_it_was(problem):
    x, y, member = problem
    torch.manual_seed(0)
    net = Net().train()
    net.body[0].eval()
    found = audited(predict=net, **pairs(problem))
    assert net.training
    assert not net.body[0].training
    with torch.no_grad():
        logits = net.eval()(torch.from_numpy(x)).double().numpy()
    assert np.allclose(aucs(found), aucs(audited(logits=logits, y=y, member=member)), atol=1e-9)
    assert found.models[0].audit["answers"] == "logits"


def test_an_onnx_file_answers_as_its_module(problem, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = Net().eval()
    batch = {0: torch.export.Dim("n", min=2)}
    torch.onnx.export(net, (torch.zeros(4, FEATURES),), tmp_path / "net.onnx", dynamic_shapes=(batch,), dynamo=True)
    found = audited(predict=str(tmp_path / "net.onnx"), **pairs(problem))
    assert np.allclose(aucs(found), aucs(audited(predict=net, **pairs(problem))), atol=1e-4)
    assert found.models[0].audit["way"] == "onnx"


class Whole(nn.Module):
    """A network of whole numbers, such as bytes of images."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(FEATURES, 2)

    def forward(self, x):
        return self.body(x.float())


@pytest.mark.parametrize(("kind", "suffix"), [(torch.uint8, ".onnx"), (torch.int32, ".ONNX"), (torch.float32, ".onnx")])
def test_an_onnx_file_of_whole_numbers_and_of_a_fixed_number_of_rows(problem, tmp_path, kind, suffix):
    """The last rows are fewer than the 7 that the model was exported for."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    x, y, member = problem
    whole, net, file = np.abs(np.round(10 * x)).astype(np.uint8), Whole().eval(), tmp_path / f"net{suffix}"
    assert len(x) % 7
    torch.onnx.export(net, (torch.zeros(7, FEATURES, dtype=kind),), file, dynamo=True)
    sides = {"members": (whole[member], y[member]), "nonmembers": (whole[~member], y[~member])}
    found, wanted = (audited(predict=model, **sides) for model in (str(file), net))
    assert np.allclose(aucs(found), aucs(wanted), atol=1e-4)
    if kind != torch.float32:
        with pytest.raises(UserError, match="takes whole numbers"):
            audited(predict=str(file), **pairs(problem))


def test_a_memorising_model_is_found_and_an_innocent_one_is_not(problem, forest):
    x, _, _ = problem
    verdict = audited(predict=forest, **pairs(problem)).verdict["models"][0]
    assert verdict["word"] == "Leak found"
    innocent = audited(predict=Forest(x[:0], []), **pairs(problem))
    assert innocent.verdict["models"][0]["word"] in ("Nothing found", "Unclear")
    assert all(a.deciding.low < 0.5 for a in innocent.models[0].attacks)


def test_the_order_does_not_depend_on_how_both_sides_are_mixed():
    rng = np.random.default_rng(0)
    member, group = rng.random(300) < 0.5, rng.integers(0, 90, 300)
    y = np.arange(300)
    sorted_rows = np.r_[np.flatnonzero(member), np.flatnonzero(~member)]
    for groups in (None, group):
        mixed = Records(y, member, ("a",), group=groups)
        apart = Records(
            y[sorted_rows], member[sorted_rows], ("a",), group=None if groups is None else groups[sorted_rows]
        )
        assert np.array_equal(y[mixed.order(7)], y[sorted_rows][apart.order(7)])
        order = mixed.order(7)
        assert member[order[: member.sum()]].all()
        assert sorted(order) == list(range(300))
        if groups is not None:  # rows of one group are neighbours
            side = groups[order[: member.sum()]]
            assert len(np.flatnonzero(np.diff(side))) + 1 == len(np.unique(side))


def made_shadows(rng, n, models, gap):
    members = np.zeros((models, n), bool)
    for k in range(0, models, 2):
        members[k] = rng.permutation(n) < n // 2
        members[k + 1] = ~members[k]
    return members, rng.normal(size=(models, n)) + gap * members


def test_shadow_models_in_arrays_give_lira_exposure_and_leave_one_out(tmp_path):
    rng = np.random.default_rng(1)
    n, models = 400, 8
    members, margin = made_shadows(rng, n, models, 3.0)
    member, y = rng.random(n) < 0.5, rng.integers(0, 2, n)
    target = rng.normal(size=n) + 3.0 * member

    def logits(margins):
        sign = np.where(y == 1, 1, -1)
        return np.stack([np.zeros_like(margins), sign * margins], axis=-1)

    ids = [f"person {k}" for k in range(n)]
    found = hampkit.audit(
        logits=logits(target), y=y, member=member, id=ids, shadow_logits=logits(margin), shadow_members=members,
        attacks=("loss", "lira"), out=tmp_path / "out",
    )  # fmt: skip
    model = found.models[0]
    assert {a.unit for a in model.attacks} == {"target", "leave-one-out"}
    assert min(a.auc.value for a in model.attacks if a.attack == "lira-online") > 0.95
    rows = list(csv.DictReader((tmp_path / "out" / "records.csv").read_text().splitlines()))
    assert len(rows) == n
    assert rows[0]["record"].startswith("person ")
    assert model.audit["exposure"]["exposed"] == sum(row["exposed"] == "yes" for row in rows) > n // 2
    by_name = {row["record"]: row for row in rows}
    reference = exposure(margin.astype(np.float32), members)
    for k in (0, 57, n - 1):
        assert float(by_name[ids[k]]["mu"]) == pytest.approx(reference.mu[k], rel=1e-4)
        assert int(by_name[ids[k]]["in_models"]) == members[:, k].sum()
    lines = (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == len(list((tmp_path / "out").iterdir())) - 1 - len(list((tmp_path / "out").glob(".*")))
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest


def test_a_person_has_one_row_and_pays_for_its_records():
    rng = np.random.default_rng(2)
    n, models = 60, 16
    members, scores = made_shadows(rng, n, models, 1.5)
    found, group = exposure(scores, members), np.repeat(np.arange(20), 3)
    persons = exposed_records(found, [f"r{k}" for k in range(n)], ["0"] * n, group)
    assert len(persons) == 20
    assert persons.of == "persons"
    for k, name in enumerate(persons.names):
        row = int(name[1:])
        mine = found.p[group == group[row]]
        assert found.p[row] == mine.min()
        assert persons.exposure.p[k] == pytest.approx(min(1.0, 3 * mine.min()))


def test_claims_about_persons_are_rare_without_a_leak():
    """Each of 200 repeats: no record depends on its membership; a claim about any person occurs in at most 5 % of repeats."""
    rng = np.random.default_rng(3)
    claims = 0
    for _ in range(200):
        members, scores = made_shadows(rng, 60, 8, 0.0)
        found = exposed_records(exposure(scores, members), ["r"] * 60, ["0"] * 60, np.repeat(np.arange(20), 3))
        claims += found.exposed > 0
    assert claims <= 18  # 99 % of Bin(200, 0.05)


def test_predictive_value_is_bayes_rule_with_thresholds_from_the_known_records():
    assert ppv(0.9, 0.01, 0.01) == pytest.approx(0.476, abs=5e-4)
    rng = np.random.default_rng(4)
    known_member, member = np.arange(2000) < 1000, np.arange(2000) < 1000
    known, scores = rng.normal(size=2000) + 2 * known_member, rng.normal(size=2000) + 2 * member
    found = predictive({"loss": (scores, known), "guess": (-scores, -known)}, member, known_member, (0.5, 0.1))
    assert {value.attack for value in found} == {"loss"}
    assert [value.target_fpr for value in found] == [0.1, 0.01]  # 0.001 of 1,000 allows one error: too few
    for value in found:
        threshold = np.sort(known[1000:])[::-1][int(value.target_fpr * 1000)]
        tpr, fpr = (scores[side] > threshold for side in (member, ~member))
        assert value.tpr.value == tpr.mean()
        assert value.fpr.value == fpr.mean()
        for prior, interval in value.at:
            assert interval.value == pytest.approx(ppv(tpr.mean(), fpr.mean(), prior))
            assert interval.low <= interval.value <= interval.high


def test_answers_below_guessing_ask_for_the_order_of_the_columns(problem, forest, tmp_path):
    """A table whose columns of answers are in the other order; right answers have no such note."""
    _, y, member = problem
    p = forest.predict_proba(problem[0])
    given = {"y": y, "member": member, "attacks": FEW}
    with pytest.warns(hampkit.errors.Notice, match="less than by guessing among 2 classes: are the columns of answers"):
        swapped = hampkit.audit(probabilities=p[:, ::-1], **given)
    assert any("are the columns of answers in the order" in note for note in swapped.models[0].data["notes"])
    assert not any("guessing" in note for note in hampkit.audit(probabilities=p, **given).models[0].data["notes"])


def test_subgroups_are_judged_apart(tmp_path):
    """One subgroup leaks and the other does not; the third is too small. By a column, an array and a table of inputs."""
    rng = np.random.default_rng(1)
    x, y, member = rng.normal(size=(1200, 3)), rng.integers(0, 2, 1200), rng.random(1200) < 0.5
    sex = np.where(np.arange(len(y)) % 2, "w", "m").astype(object)
    sex[:30] = "other"
    margin = np.where(y == 1, 1, -1) * (rng.normal(size=len(y)) + 3.0 * (member & (sex == "w")))
    logits = np.stack([np.zeros(len(y)), margin], axis=1)
    table = Frame({"y": y, "in": member, "sex": sex.tolist(), "p_0": logits[:, 0], "p_1": logits[:, 1]})
    found = hampkit.audit(
        table, label="y", member="in", by="sex", kind="logits", attacks=FEW,
        fail_if=["group.w.auc.low>0.6", "group.m.auc.low>0.6", "group.other.auc.low>0.6"], out=tmp_path,
    )  # fmt: skip
    of = {each["name"]: each for each in found.models[0].audit["subgroups"]}
    assert of["w"]["auc"]["low"] > 0.7
    assert of["m"]["auc"]["low"] < 0.5 < of["m"]["auc"]["high"]
    assert "50 of each needed" in of["other"]["reason"]
    assert sum(each["members"] for each in of.values()) == found.models[0].attacks[0].members
    assert [each["status"] for each in found.policy] == ["failed", "passed", "unresolved"]
    assert "too few records in subgroup 'other'" in found.policy[2]["text"]
    with pytest.raises(UserError, match="subgroup 'x', and there is none of this name; known: m, other, w"):
        hampkit.audit(table, label="y", member="in", by="sex", kind="logits", fail_if=["group.x.auc.low>0.6"])
    with pytest.raises(UserError, match="name their column by --by"):
        hampkit.audit(table, label="y", member="in", kind="logits", answers="p_*", fail_if=["group.w.auc.low>0.6"])
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "Subgroups" in page.split("<script")[0]
    assert "- w (" in text
    by_array = hampkit.audit(logits=logits, y=y, member=member, by=sex, attacks=FEW)
    assert by_array.models[0].audit["subgroups"] == found.models[0].audit["subgroups"]
    sides = [Frame({"a": x[s, 0], "sex": sex[s].tolist(), "y": y[s]}) for s in (member, ~member)]
    seen = []
    hampkit.audit(
        predict=lambda rows: seen.append(rows) or np.full((len(rows), 2), 0.5), members=sides[0], nonmembers=sides[1],
        label="y", by="sex", inputs="encoded", attacks=["loss"],
    )  # fmt: skip
    assert seen[0].shape[1] == 4, "the column stays a feature: a number and three values"


def test_the_interval_of_a_subgroup_allows_for_all_of_them():
    """Two subgroups of five, three attacks of which two have one order: the level is 1 − 0.05 / (2 · 2)."""
    rng = np.random.default_rng(0)
    member, by = np.arange(400) % 2 == 0, np.repeat(["a", "b"], 200)
    scores = {"one": rng.normal(size=400) + member, "two": rng.normal(size=400)}
    (a, b) = subgroups({**scores, "again": 2 * scores["one"]}, member, by)
    assert a["attack"] == "one"
    for each, rows in ((a, by == "a"), (b, by == "b")):
        wanted = grouped.auc_interval(scores[each["attack"]][rows], member[rows], None, 1 - 0.05 / 4)
        assert each["auc"] == vars(wanted)


def test_percentages_are_no_logits(problem, forest):
    _, y, member = problem
    given = {"y": y, "member": member, "attacks": FEW}
    table = Frame({"y": y, "in": member, **{f"p_{k}": 100 * forest.predict_proba(problem[0])[:, k] for k in (0, 1)}})
    with pytest.raises(UserError, match="rows that sum to 100: percentages"):
        hampkit.audit(table, label="y", member="in", attacks=FEW)
    assert hampkit.audit(logits=100 * forest.predict_proba(problem[0]), **given).models[0].audit["answers"] == "logits"


def test_shadow_models_that_collapsed_are_left_out_and_named(problem):
    """A model that gives every record the same answer: the numbers are those without it."""
    _, y, member = problem
    rng = np.random.default_rng(5)
    members = shadow_members(8, len(y), 0, "paired").numpy()
    answers = rng.normal(size=(8, len(y), 2)) + 2.0 * np.eye(2)[y] * (0.5 + members[..., None])
    own = rng.normal(size=(len(y), 2)) + 2.0 * np.eye(2)[y] * (0.5 + member[:, None])
    given = {"logits": own, "y": y, "member": member, "attacks": ["lira-online"]}
    one = np.broadcast_to(np.array([0.3, -1.0]), (2, len(y), 2)) + np.array([0.0, 5.0])[:, None, None]  # up to a shift
    both = np.concatenate([answers[:4], one, answers[4:]]), np.concatenate([members[:4], members[:2], members[4:]])
    (wanted,) = hampkit.audit(**given, shadow_logits=answers, shadow_members=members).models
    (found,) = hampkit.audit(**given, shadow_logits=both[0], shadow_members=both[1]).models
    assert [a.auc for a in found.attacks] == [a.auc for a in wanted.attacks]
    assert found.audit["exposure"] == wanted.audit["exposure"]
    assert any("2 of 10 shadow models give every record of a class the same answer" in n for n in found.data["notes"])
    few = np.concatenate([answers[:3], one, one, one[:1]])
    (left,) = hampkit.audit(**given, shadow_logits=few, shadow_members=members).models
    assert any("5 of 8" in note and "they stay" in note for note in left.data["notes"])


def test_predictive_values_of_groups_have_wider_intervals():
    """Rows of one group are one piece of evidence: the ends are those of the rates by group."""
    rng = np.random.default_rng(4)
    member, group = np.arange(2000) < 1000, np.arange(2000) // 20
    known, scores = (rng.normal(size=2000) + 2 * member + 3 * rng.normal(size=100)[group] for _ in range(2))
    (alone, *_) = predictive({"loss": (scores, known)}, member, member)
    (by_group,) = predictive({"loss": (scores, known)}, member, member, groups=(group, group))
    assert by_group.target_fpr == 0.1, "50 groups allow five errors at 10 %, and none at 1 %"
    assert (by_group.tpr.value, by_group.fpr.value) == (alone.tpr.value, alone.fpr.value)
    for narrow, wide in ((alone.tpr, by_group.tpr), (alone.fpr, by_group.fpr)):
        assert wide.low < narrow.low
        assert wide.high > narrow.high
    assert not predictive({"loss": (scores, known)}, member, member, groups=(group, np.arange(2000) // 50))


def test_bounds_need_coins(problem, forest):
    x, y, member = problem
    p = forest.predict_proba(x)
    bounds = audited(probabilities=p, y=y, member=member).models[0].audit["bounds"]
    assert "not randomised" in bounds["reason"]
    assert "epsilon" not in bounds
    coins = audited(probabilities=p, y=y, member=member, membership="coin").models[0].audit["bounds"]
    assert coins["canaries"] == ROWS
    assert coins["attack"] == "loss"
    assert coins["epsilon"] > 1
    assert coins["mu"] > 0


def test_the_verdict_names_what_was_measured_declared_and_not_tested(problem, forest, tmp_path):
    found = hampkit.audit(
        predict=forest, **pairs(problem), attacks=FEW, claimed_epsilon=8.0, prior=[0.01], purpose="a test", out=tmp_path
    )
    document = json.loads((tmp_path / "results.json").read_text())
    verdict = document["verdict"]
    assert {row["attack"] for row in verdict["measured"]} == set(FEW)
    assert all({"tier", "members", "nonmembers", "models", "auc"} <= set(row) for row in verdict["measured"])
    assert verdict["declared"] == {"claimed_epsilon": 8.0, "prior": [0.01], "purpose": "a test"}
    left = " ".join(row["what"] for row in verdict["not_tested"])
    assert "lira-online" in left
    assert "neural" in left
    why = {name: row["why"] for row in verdict["not_tested"] for name in row["what"].split(", ")}
    assert why["neural"] == why["entropy"] == "not asked for"
    assert "no shadow models" in why["lira-online"]
    page = (tmp_path / "report.html").read_text()
    for text in ("Declared by the user", "a test", "Not tested", "not randomised"):
        assert text in page
    assert hampkit.ModelResult.from_json(document["models"][0]) == found.models[0]


def test_zeros_have_a_logarithm_of_one_scale():
    p = np.array([[0.0, 1.0], [0.25, 0.75], [0.5, 0.5]])
    scale = scale_of("p", p, "auto")
    assert scale.floor == 0.125
    assert np.allclose(scale.logits(p)[0], np.log([0.125, 1.0]))
    assert scale.notes
    assert scale_of("p", p[1:], "auto").notes == ()
    assert scale_of("p", p[1:], "auto", np.array([[[0.0, 1.0], [0.125, 0.875]]])).floor == 0.0625


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("names", [("p_no", "p_yes"), ("no", "yes"), ("prob.no", "prob.yes")])
def test_columns_of_answers_are_named_after_classes(problem, forest, tmp_path, names, suffix):
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    x, y, member = problem
    p = forest.predict_proba(x)
    labels = np.where(y == 1, "yes", "no")
    table = pa.table({"truth": labels, names[1]: p[:, 1], names[0]: p[:, 0], "in": np.where(member, "train", "test")})
    path = tmp_path / f"p.{suffix}"
    (pyarrow.csv.write_csv if suffix == "csv" else pyarrow.parquet.write_table)(table, path)
    found = audited(path, label="truth", member="in")
    assert np.allclose(aucs(found), aucs(audited(probabilities=p, y=y, member=member)), atol=1e-9)


def test_one_column_is_the_probability_of_one_of_two_classes(problem, forest, tmp_path):
    x, y, member = problem
    p = forest.predict_proba(x)
    wanted = aucs(audited(probabilities=p, y=y, member=member))
    for name, column in (("score", p[:, 1]), ("p_1", p[:, 1]), ("p_0", p[:, 0])):
        path = write_csv(tmp_path / f"{name}.csv", ["y", "in", name], [y, member.astype(int), column])
        assert np.allclose(aucs(audited(path, label="y", member="in")), wanted, atol=1e-6), name


def changed(problem, change):
    _, y, member = problem
    p = np.full((ROWS, 2), 0.5)
    return {"probabilities": p, "y": y, "member": member.astype(int), **change(p.copy(), y.copy(), member.copy())}


def with_value(p, row, value):
    p[row] = value
    return p


BAD = {
    "NaN": (lambda p, y, m: {"probabilities": with_value(p, 7, np.nan)}, r"NaN or infinity in data row 8 \(1 such"),
    "infinite": (lambda p, y, m: {"probabilities": with_value(p, 0, np.inf)}, "data row 1"),
    "no probabilities": (lambda p, y, m: {"probabilities": 3 * p}, "--kind logits"),
    "one odd row": (lambda p, y, m: {"probabilities": with_value(p, 3, 0.9)}, "data row 4"),
    "one class": (lambda p, y, m: {"probabilities": p[:, :1]}, "of at least two"),
    "one axis": (lambda p, y, m: {"probabilities": p[:, 0]}, "one column per class"),
    "text": (lambda p, y, m: {"probabilities": p.astype(str)}, "give numbers"),
    "few rows of y": (lambda p, y, m: {"y": y[:-1]}, r"y of the arrays has 599 rows"),
    "few rows of member": (lambda p, y, m: {"member": m[:-1]}, "member of the arrays has 599 rows"),
    "label outside": (lambda p, y, m: {"y": with_value(y, 4, 2)}, "2 in data row 5.*labels are 0 to 1"),
    "negative label": (lambda p, y, m: {"y": with_value(y, 4, -1)}, "-1 in data row 5"),
    "fraction": (lambda p, y, m: {"y": y + 0.5}, "0.5 in data row|1.5 in data row"),
    "one-hot y": (lambda p, y, m: {"y": np.eye(2)[y]}, "one whole number for each record"),
    "member of 2": (lambda p, y, m: {"member": m.astype(int) * 2}, "2 in data row 1; give 1 for members"),
    "no members": (lambda p, y, m: {"member": np.zeros(ROWS)}, "has no members"),
    "no others": (lambda p, y, m: {"member": np.ones(ROWS)}, "has no non-members"),
    "few members": (lambda p, y, m: {"member": np.arange(ROWS) < 99}, "99 members and 501 non-members"),
    "both kinds": (lambda p, y, m: {"logits": p}, "got probabilities and logits"),
    "unknown class": (lambda p, y, m: {"classes": ["a", "b"]}, "no such class"),
    "shadows alone": (lambda p, y, m: {"shadow_probabilities": p[None].repeat(4, 0)}, "no shadow_members"),
    "members alone": (lambda p, y, m: {"shadow_members": m[None].repeat(4, 0)}, "no shadow_probabilities"),
    "other kind of shadows": (
        lambda p, y, m: {"shadow_logits": p[None].repeat(4, 0), "shadow_members": m[None].repeat(4, 0)},
        "answers of one kind",
    ),
    "three shadows": (
        lambda p, y, m: {"shadow_probabilities": p[None].repeat(3, 0), "shadow_members": m[None].repeat(3, 0)},
        "3 shadow models are too few",
    ),
    "shape of shadows": (
        lambda p, y, m: {"shadow_probabilities": p[None, :-1].repeat(4, 0), "shadow_members": m[None].repeat(4, 0)},
        r"\(models, records, classes\)",
    ),
    "equal inputs": (lambda p, y, m: {"x": np.zeros((ROWS, 2))}, "300 of 300 non-members.*--allow-equal"),
    "equal names": (lambda p, y, m: {"id": ["same"] * ROWS}, "300 of 300 non-members.*the name of a member"),
    "few groups": (lambda p, y, m: {"group": np.arange(ROWS) // 40}, "15 groups of members and 15 of non-members"),
    "ragged": (lambda p, y, m: {"probabilities": [[0.5, 0.5], [0.5]]}, "different lengths"),
    "one-sided shadows": (
        lambda p, y, m: {"shadow_probabilities": p[None].repeat(4, 0), "shadow_members": np.ones((4, ROWS))},
        "600 of 600 records have fewer than two shadow models",
    ),
    "x of text": (lambda p, y, m: {"x": np.full((ROWS, 1), "a")}, "give numbers of shape"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_arrays_that_no_audit_can_use(problem, tmp_path, case):
    change, message = BAD[case]
    with pytest.raises(UserError, match=message):
        audited(**changed(problem, change), out=tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()


WORDS = {
    "nothing": ([], "an audit needs one way in"),
    "two files": (["a.csv", "b.csv"], "audit takes one file of predictions"),
    "no label": (["p.csv", "--member", "in"], "needs --label COLUMN"),
    "no member": (["p.csv", "--label", "y"], "needs --member COLUMN"),
    "unknown label": (["p.csv", "--label", "why", "--member", "in"], "no column 'why' \\(--label\\)"),
    "unknown id": (["p.csv", "--label", "y", "--member", "in", "--id", "who"], "no column 'who' \\(--id\\)"),
    "member is a class": (["p.csv", "--label", "in", "--member", "y", "--kind", "none"], "kind='none' must be one of"),
    "no such answers": (["p.csv", "--label", "y", "--member", "in", "--answers", "q_*"], "no column of answers that matches"),
    "missing file": (["q.csv", "--label", "y", "--member", "in"], "no file q.csv"),
    "suffix": (["p.txt", "--label", "y", "--member", "in"], "suffix"),
    "pickle": (["--model", "m.pkl", "--members", "a.csv", "--nonmembers", "b.csv"], "safetensors"),
    "torch file": (["--model", "m.pt2", "--members", "a.csv", "--nonmembers", "b.csv"], "can run any code"),
    "no members": (["--model", "m:load", "--label", "y"], "members is missing"),
    "members without a model": (["p.csv", "--label", "y", "--member", "in", "--members", "a.csv"], "members has no effect"),
    "two ways": (["p.csv", "--model", "m:load"], "predictions and predict"),
    "unknown attack": (["p.csv", "--label", "y", "--member", "in", "--attacks", "los"], "did you mean 'loss'"),
    "lacking attack": (["p.csv", "--label", "y", "--member", "in", "--attacks", "lira"], "needs shadows"),
    "unknown key": (["p.csv", "--label", "y", "--member", "in", "train.lr=1"], "unknown key 'train.lr'"),
    "prior": (["p.csv", "--label", "y", "--member", "in", "--prior", "1"], "prior=1.0 must lie between 0 and 1"),
    "delta": (["p.csv", "--label", "y", "--member", "in", "--claimed-delta", "1"], "claimed_delta=1.0"),
    "epsilon": (["p.csv", "--label", "y", "--member", "in", "--claimed-epsilon", "-1"], "claimed_epsilon=-1.0"),
    "membership": (["p.csv", "--label", "y", "--member", "in", "--membership", "dice"], "must be given or coin"),
    "no module": (["--model", "nothere:load", "--members", "p.csv", "--nonmembers", "p.csv", "--label", "y"], "cannot import"),
    "text answers": (["t.csv", "--label", "y", "--member", "in"], "holds no numbers .*--answers"),
    "empty cell": (["e.csv", "--label", "y", "--member", "in"], "no value in data row 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS, ids=str)
def test_the_command_line_refuses_in_one_line(problem, forest, tmp_path, capsys, case):
    x, _, _ = problem
    predictions(tmp_path / "p.csv", problem, forest.predict_proba(x))
    predictions(tmp_path / "t.csv", problem, forest.predict_proba(x), {"name": ["a"] * ROWS}.items())
    predictions(
        tmp_path / "e.csv", problem, forest.predict_proba(x), {"p_2": ["0.1", "", *["0.1"] * (ROWS - 2)]}.items()
    )
    words, message = WORDS[case]
    before = sorted(p.name for p in tmp_path.rglob("*"))
    assert guarded(["audit", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error
    after = [name for name in sorted(p.name for p in tmp_path.rglob("*")) if name != "__pycache__"]
    assert [name for name in after if name not in before] == []


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("attacks", "loss", UserError),
        ("seed", "x", UserError),
        ("out", 3, UserError),
        ("fail_if", "auc.low>0.6", UserError),
        ("prior", "x", UserError),
        ("kind", 3, UserError),
        ("labl", "y", TypeError),
        ("shadows", 1.5, UserError),
        ("workers", "two", UserError),
    ],
)
def test_arguments_of_wrong_types_are_one_line(problem, name, value, error):
    with pytest.raises(error, match=name):
        hampkit.audit(**changed(problem, lambda p, y, m: {}), **{name: value})


def test_persons_with_members_and_non_members_are_noted(problem):
    group = np.arange(ROWS) // 6
    found = audited(**changed(problem, lambda p, y, m: {}), group=group)
    assert any("100 of 100 groups have members and non-members" in note for note in found.models[0].data["notes"])
    assert found.models[0].groups["members"] <= 51


@pytest.mark.slow
def test_noise_is_rarely_called_a_leak():
    """100 audits of answers that do not depend on membership: at most 5 % say that membership can be inferred."""
    rng = np.random.default_rng(0)
    wrong = 0
    for k in range(100):
        n = int(rng.choice([200, 400, 1000]))
        p = rng.dirichlet(np.ones(3), size=n)
        names = ("loss", "confidence-per-class", "entropy", "modified-entropy-per-class", "correctness")
        found = hampkit.audit(
            probabilities=p, y=rng.integers(0, 3, n), member=np.arange(n) % 2 == 0, attacks=names, seed=k
        )
        wrong += found.verdict["models"][0]["word"] == "Leak found"
    assert wrong <= 11  # 99 % of Bin(100, 0.05)


def test_the_command_line_prints_a_verdict_and_where_the_page_is(problem, forest, tmp_path, capsys):
    x, _, _ = problem
    predictions(tmp_path / "p.csv", problem, forest.predict_proba(x))
    assert guarded(["audit", "p.csv", "--label", "y", "--member", "in", "--attacks", "loss", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert "membership can be inferred" in printed
    assert "not randomised" in printed
    assert "out/report.html" in printed
    assert (tmp_path / "out" / "report.html").is_file()


def nearest(x, y, seed):
    """A training function whose model remembers all records, with a little noise that depends on the seed."""
    noise = np.random.default_rng(seed).normal(scale=0.1, size=2)

    def model(rows):
        p = Forest(x, y).predict_proba(rows)
        return np.log(p) + noise

    return model


TRAINER = """
import numpy as np

class Model:
    classes_ = (0, 1)
    def __init__(self, x, y, seed):
        self.seen = {row.tobytes(): int(label) for row, label in zip(x, y)}
        self.shift = np.random.default_rng(seed).normal(scale=0.05)
    def predict_proba(self, x):
        p = np.array([{0: 0.1, 1: 0.9, None: 0.5}[self.seen.get(row.tobytes())] for row in x])
        p = np.clip(p + self.shift, 0.01, 0.99)
        return np.stack([1 - p, p], axis=1)

def fit(x, y, seed):
    with open("calls.txt", "a") as file:
        file.write(f"{seed} {len(x)}\\n")
    return Model(x, y, seed)

def broken(x, y, seed):
    raise ValueError("out of luck")
"""


def test_a_training_function_is_audited_with_shadow_models(problem, tmp_path):
    x, y, _ = problem
    with pytest.warns(hampkit.Notice, match="one after another"):
        found = audited(train=nearest, data=(x, y), shadows=6, attacks=("loss", "lira-online"))
    model = found.models[0]
    assert model.audit["way"] == "train"
    assert {a.unit for a in model.attacks} == {"target", "leave-one-out"}
    assert min(a.auc.value for a in model.attacks if a.attack == "lira-online") > 0.9
    assert model.audit["exposure"]["exposed"] > ROWS // 2
    assert model.audit["bounds"]["epsilon"] > 1  # the target's records were drawn by coins
    assert found.files["html"].parent.name == model.run


def test_models_of_an_importable_function_are_trained_once(problem, tmp_path):
    x, y, _ = problem
    (tmp_path / "own_trainer.py").write_text(TRAINER)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    words = [
        "audit",
        "--train",
        "own_trainer:fit",
        "--data",
        "data.npz",
        "--shadows",
        "4",
        "--attacks",
        "loss",
        "--quiet",
    ]
    assert guarded(words) == 0
    calls = (tmp_path / "calls.txt").read_text().split("\n")[:-1]
    assert len(set(calls)) == 5
    (folder,) = (tmp_path / "runs").glob("audit-fit-*")
    first = json.loads((folder / "results.json").read_text())
    (step,) = (folder / "models").glob("002-*")
    (step / "answers.npy").write_bytes(b"damaged")
    assert guarded(words) == 0
    again = (tmp_path / "calls.txt").read_text().split("\n")[:-1]
    assert again[:5] == calls
    assert len(again) == 6  # the damaged model alone
    assert json.loads((folder / "results.json").read_text())["models"] == first["models"]


@pytest.mark.parametrize("where", ["inline", "processes"])
def test_a_training_function_that_fails_names_the_seed(problem, tmp_path, monkeypatch, where):
    x, y, _ = problem
    (tmp_path / "own_broken.py").write_text(TRAINER)
    train = "own_broken:broken"
    if where == "inline":

        def train(x, y, seed):
            raise ValueError("out of luck")

    with pytest.raises(UserError, match=r"fails with seed \d+: ValueError: out of luck"):
        audited(train=train, data=(x, y), shadows=4)
    assert not list((tmp_path / "runs").rglob("answers.npy"))


def test_functions_with_values_of_their_own_are_trained_anew(problem, tmp_path):
    """A closure or an object may do anything else the next time: its models are not taken for those of another one."""
    x, y, _ = problem

    def made(depth):
        calls.append(depth)
        return lambda x, y, seed: lambda rows: np.full((len(rows), 2), 0.5 + 0 * depth)

    calls = []
    first, second = (audited(train=made(depth), data=(x, y)).models[0].run for depth in (1, 2))
    assert first != second
    again = [audited(train=nearest, data=(x, y)).models[0].run for _ in range(2)]
    assert again[0] == again[1]


def test_classes_that_are_numbers_have_the_order_of_numbers(problem):
    x, _, member = problem
    y = np.arange(ROWS) % 10 + 1

    def perfect(rows):
        right = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
        return np.stack([np.eye(10)[right[row.tobytes()] - 1] * 0.9 + 0.01 for row in rows])

    found = audited(predict=perfect, members=(x[member], y[member]), nonmembers=(x[~member], y[~member]))
    assert found.models[0].accuracy == {"train": 1.0, "test": 1.0}


def test_probabilities_rounded_to_two_digits_stay_probabilities():
    p = np.random.default_rng(0).dirichlet(np.ones(10), size=500).round(2)
    assert scale_of("p", p, "auto").kind == "probabilities"
    with pytest.raises(UserError, match="--kind logits"):
        scale_of("p", np.full((500, 3), 0.9), "auto")
    assert scale_of("p", np.full((500, 3), 0.9), "logits").kind == "logits"


def test_what_has_no_effect_is_refused(problem, forest, tmp_path):
    x, y, member = problem
    p = forest.predict_proba(x)
    np.savez(tmp_path / "p.npz", probabilities=p, y=y, member=member)
    sides = {"members": Frame({"a": x[:, 0], "y": y}), "nonmembers": Frame({"a": x[:, 0], "y": y}), "label": "y"}
    with pytest.raises(UserError, match="group as an array has no effect with predict"):
        audited(predict=forest, group=np.arange(ROWS), **sides)
    with pytest.raises(UserError, match="--group has no effect"):
        audited(tmp_path / "p.npz", group="person")
    with pytest.raises(UserError, match="one column is named twice"):
        audited(predictions(tmp_path / "p.csv", problem, p), label="y", member="y")
    numbered = {"number": np.arange(ROWS), "0": p[:, 0], "1": p[:, 1], "y": y, "in": member.astype(int)}
    path = write_csv(tmp_path / "n.csv", list(numbered), list(numbered.values()))
    with pytest.raises(UserError, match="'number' would be answers"):
        audited(path, label="y", member="in")
    assert audited(path, label="y", member="in", id="number").models[0].data["classes"] == 2


def test_a_class_is_not_a_trained_model(problem, tmp_path):
    (tmp_path / "netmod.py").write_text("class Net:\n    def predict_proba(self, x):\n        return None\n")
    with pytest.raises(UserError, match="is a class"):
        audited(predict="netmod:Net", **pairs(problem))


def test_copies_have_no_coins_of_their_own(problem):
    x, y, member = problem
    places = np.arange(ROWS)
    places[:60] = places[:60] // 2 * 2
    found = audited(
        probabilities=np.full((ROWS, 2), 0.5), y=y, member=member, x=x[places], membership="coin", allow_equal=True
    )
    assert "records with equal inputs" in found.models[0].audit["bounds"]["reason"]


def test_a_model_that_changes_its_inputs_changes_nobody_elses(problem):
    x, y, _ = problem

    def fit(rows, labels, seed):
        assert np.abs(rows).sum() > 0

        def model(asked):
            asked *= 0
            return np.full((len(asked), 2), 0.5)

        return model

    audited(train=fit, data=(x, y), shadows=4)


def test_files_of_an_earlier_audit_do_not_stay(problem, forest, tmp_path):
    for limits in (("auc.low>0.1",), ()):
        audited(predict=forest, **pairs(problem), fail_if=limits, out=tmp_path / "out")
        assert (tmp_path / "out" / "junit.xml").exists() == bool(limits)


def test_what_a_training_function_must_give(problem):
    x, y, _ = problem
    for train, message in (
        (lambda x, y, seed: None, "returned nothing"),
        (lambda x, y, seed: lambda rows: np.zeros((len(rows), 3)), "answers 3 classes, and the labels have 2"),
        (lambda x, y, seed: 7, "int is no model"),
        ("json:loads", "fails with seed"),
        (3, "is no function"),
    ):
        with pytest.raises(UserError, match=message):
            audited(train=train, data=(x, y))
    with pytest.raises(UserError, match="needs data"):
        audited(train=nearest)
    with pytest.raises(UserError, match="shadows has no effect"):
        audited(predict=nearest, shadows=4, **pairs(problem))
    with pytest.raises(UserError, match="even number of at least 4"):
        audited(train=nearest, data=(x, y), shadows=3)

"""Attacks that know a defense, and canaries, on a user's own training function."""

import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from tests.test_pages import repeated_ids

import hampkit
from hampkit.attacks.probes import NoisyCopies
from hampkit.cli.app import guarded
from hampkit.config.sections import CanaryConfig
from hampkit.errors import UserError
from hampkit.registry import ATTACKS
from hampkit.targets.encoding import Encoding, Place
from hampkit.targets.model_inputs import TableColumns, rows_of_file, rows_of_pair
from hampkit.targets.probing import questions
from hampkit.targets.training_function import About, Fitted, kept_answers
from hampkit.workflows.audit import AuditRequest, audit
from hampkit.workflows.audit_attacks import asked_attacks
from hampkit.workflows.own_canaries import own_with_canaries
from hampkit.workflows.own_training import OwnTraining, given_of_training
from hampkit.workflows.session import Session

ROWS, FEATURES = 700, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, FEATURES)).astype(np.float32)
Y = RNG.integers(0, 3, ROWS)  # random labels: whoever predicts them has memorised them
DATA = (X, Y)
pytestmark = pytest.mark.filterwarnings("ignore::hampkit.Notice")


def nearest(x, y, seed):
    """A model that gives the label of the nearest training record, and nothing but the label."""
    model = KNeighborsClassifier(1).fit(x, y)
    return lambda rows: np.eye(3)[model.predict(rows)]


def blurred(x, y, seed):
    """The same, with probabilities that are drawn anew for every answer."""
    model, rng = KNeighborsClassifier(1).fit(x, y), np.random.default_rng(seed)

    def answer(rows):
        logits = 2 * np.eye(3)[model.predict(rows)] + rng.normal(scale=3.0, size=(len(rows), 3))
        return logits - logits.max(1, keepdims=True)

    return answer


def ignorant(x, y, seed):
    """A model that does not depend on its training records."""
    weights = np.random.default_rng(seed).normal(size=(FEATURES, 3))
    return lambda rows: rows @ weights


def audited(train, data=DATA, **more):
    quick = {"shadows": 8, "options": {"neural.epochs": 1}}
    return hampkit.audit(**{"train": train, "data": data, **quick, **more})


def auc(model, attack, unit="leave-one-out"):
    return next(a.auc for a in model.attacks if (a.attack, a.unit) == (attack, unit))


def test_a_model_that_answers_with_labels_is_attacked_by_label_only():
    found = audited(nearest, attacks=["label-only", "rank", "lira-online"]).models[0]
    assert auc(found, "label-only").low > 0.7
    assert auc(found, "label-only", "target").low > 0.6
    queries = {a.attack: a.queries for a in found.attacks}
    assert queries == {"label-only": 32, "rank": 32, "lira-online": 1}
    assert {a.tier for a in found.attacks if a.attack == "label-only"} == {"label"}


def test_repeated_questions_average_a_random_release_away_and_are_left_out_without_one():
    model = audited(blurred, kind="logits").models[0]
    assert auc(model, "repeated").low > auc(model, "lira-online").high
    assert model.skipped == dict.fromkeys(("stripped-lira", "stripped-rmia"), model.skipped["stripped-lira"])
    fixed = audited(nearest)
    assert fixed.models[0].skipped["repeated"] == "equal questions have equal answers"
    assert {a.attack for a in fixed.models[0].attacks} >= {"label-only", "lira-online"}
    said = {line["what"]: line["why"] for line in fixed.verdict["not_tested"]}
    assert said["repeated"] == "equal questions have equal answers"
    assert "network" in said["stripped-lira, stripped-rmia"]
    assert "label-only attacks" not in " ".join(said)


def test_what_a_probe_keeps_is_what_a_slow_loop_keeps():
    encoding = rows_of_pair(DATA).encoding
    rows = np.arange(0, ROWS, 7)
    about, probe = About(encoding, Y, rows, 3), NoisyCopies(6)
    model = Fitted(ignorant(None, None, 3), 3, 3)
    kept = kept_answers(model, probe, about, model.answers(X), "logits")
    slow = []
    for block, asked in questions(probe, about.data, about.space):
        for row, copies in zip(rows[block], asked, strict=True):
            answers = model.answers(copies.numpy())
            slow.append([int((each > each[Y[row]]).sum()) for each in answers])
    assert np.array_equal(kept, np.array(slow, dtype=np.float32))


@pytest.mark.parametrize("name", ["stripped-lira", "rank", "rnk", "quantile", "repeated"])
def test_attacks_that_are_not_possible_are_refused_before_anything_is_trained(name):
    calls = []

    def train(x, y, seed):
        calls.append(seed)
        return nearest(x, y, seed)

    messages = {"rank": "add --shadows 16", "rnk": "did you mean 'rank'", "quantile": "no further records"}
    messages |= {"stripped-lira": "no network behind it", "repeated": "add --shadows 16"}
    with pytest.raises(UserError, match=messages[name]):
        audited(train, attacks=[name], shadows=8 if name in ("stripped-lira", "rnk", "quantile") else 0)
    assert not calls


def test_a_repeated_question_that_is_asked_for_by_name_is_refused_without_random_answers():
    with pytest.raises(UserError, match="repeated is not possible: equal questions have equal answers"):
        audited(nearest, attacks=["repeated"])


COUNTED = """
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

def fit(x, y, seed):
    with open("calls.txt", "a") as file:
        file.write(f"{seed}\\n")
    model = KNeighborsClassifier(1).fit(x, y)
    return lambda rows: np.eye(3)[model.predict(rows)] * 0.8 + 0.0666667
"""


@pytest.mark.slow
def test_models_answer_later_questions_without_a_training_if_an_audit_of_all_attacks_came_first(tmp_path):
    (tmp_path / "own_counted.py").write_text(COUNTED)
    calls = tmp_path / "calls.txt"
    every = audited("own_counted:fit", workers=1)
    assert len(calls.read_text().split()) == 9
    for names in (["rank"], ["lira-online"], ["label-only", "loss"]):
        some = audited("own_counted:fit", attacks=names, workers=1)
        assert auc(some.models[0], names[0]) == auc(every.models[0], names[0])
    assert len(calls.read_text().split()) == 9
    audited("own_counted:fit", attacks=["near-duplicate"], workers=1)
    assert len(calls.read_text().split()) == 18, "another question"


@pytest.mark.slow
def test_processes_and_this_process_find_the_same(tmp_path):
    (tmp_path / "own_counted.py").write_text(COUNTED)
    space = {}
    exec(COUNTED, space)
    one = audited("own_counted:fit", attacks=["rank", "label-only"], workers=2).models[0]
    other = audited(space["fit"], attacks=["rank", "label-only"]).models[0]
    assert one.attacks == other.attacks


def test_a_model_that_accepts_no_changed_records_is_audited_without_questions():
    given = {row.tobytes() for row in X}

    def picky(x, y, seed):
        model = nearest(x, y, seed)

        def answer(rows):
            if not {row.tobytes() for row in rows} <= given:
                raise ValueError("an unknown record")
            return model(rows)

        return answer

    found = audited(picky).models[0]
    assert "an unknown record" in found.skipped["label-only"]
    assert auc(found, "lira-online").value > 0.7
    with pytest.raises(UserError, match=r"rank is not possible: .*an unknown record"):
        audited(picky, attacks=["rank"])


def test_answers_to_changed_records_that_are_no_numbers_are_no_answers():
    def train(x, y, seed):
        model = nearest(x, y, seed)
        return lambda rows: np.where(len(rows) > ROWS, np.nan, model(rows))

    assert "NaN or infinity" in audited(train).models[0].skipped["label-only"]


def test_an_audit_that_was_killed_goes_on_and_finds_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(OwnTraining, "_code", lambda own: "the same code")  # a closure is never found again otherwise
    made = []

    def train(x, y, seed):
        made.append(seed)
        if len(made) == 5:
            raise MemoryError("killed")
        return KNeighborsClassifier(1).fit(x, y)

    def given(folder):
        own = OwnTraining(train, rows_of_pair(DATA), 8, asked=asked_attacks((), {}, 8))
        return given_of_training(own, Session(runs_dir=tmp_path / folder))

    with pytest.raises(UserError, match="killed"):
        given("runs")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("answers.npy")}
    assert len(before) == 4
    again = given("runs")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(made) == 5 + 5
    whole = given("others")
    assert np.array_equal(again.shadow_answers, whole.shadow_answers)
    for probe, kept in whole.probed.shadows.items():
        assert np.array_equal(kept, again.probed.shadows[probe])


# what a model receives


def test_arrays_are_given_back_to_the_bit_where_nothing_changed_and_missing_values_stay_missing():
    inputs = np.array([[0.1, np.nan], [0.3, 5.0]], dtype=np.float32)
    encoding = Encoding(inputs, torch.tensor([[0.1, 5.0], [0.3, 5.0]]))
    asked = torch.tensor([[0.1, 6.0], [0.25, 5.0], [0.3, 7.0]])
    found = encoding.decoded(asked, np.array([0, 0, 1]))
    assert np.array_equal(
        found, np.array([[0.1, np.nan], [0.25, np.nan], [0.3, 7.0]], dtype=np.float32), equal_nan=True
    )
    assert found.dtype == np.float32


@pytest.mark.parametrize("last", [False, True])
def test_images_are_shifted_and_mirrored_wherever_their_channels_are(last):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16)).astype(np.float32)
    inputs = np.moveaxis(images, 1, -1) if last else images
    about = About(rows_of_pair((inputs, np.arange(4) % 2)).encoding, np.arange(4) % 2, np.arange(4), 2)
    assert about.data.shape == (3, 16, 16)
    ((_, asked),) = questions(NoisyCopies(18), about.data, about.space)
    found = about.encoding.decoded(asked.flatten(0, 1), np.arange(4).repeat(18))
    assert found.shape == (72, *inputs.shape[1:])
    mirrored = {image.tobytes() for image in np.flip(images, 3)}
    got = np.moveaxis(found, -1, 1) if last else found
    assert mirrored <= {np.ascontiguousarray(image).tobytes() for image in got}
    blank = own_with_canaries(
        OwnTraining(nearest, rows_of_pair((np.repeat(inputs, 200, 0), np.arange(800) % 2)), 0),
        CanaryConfig(300, "blank"),
    )
    made = blank.rows.inputs[blank.audited]
    flat = made.reshape(300, -1, 3) if last else made.reshape(300, 3, -1).swapaxes(1, 2)
    assert (flat == flat[:, :1]).all()
    assert blank.rows.x.shape[1:] == inputs.shape[1:]


def test_a_data_frame_is_given_with_its_own_types(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "age": [30, 40, 2**40 + 1, 50],
            "score": [0.1, None, 0.3, 0.4],
            "city": ["Rome", "Oslo", "Rome", "Bonn"],
            "active": [True, False, True, True],
            "y": [0, 1, 0, 1],
        }
    )
    rows = rows_of_file(frame, TableColumns("y"))
    assert [place.column for place in rows.places] == [0, 1, 2, 3]
    assert rows.encoding.domain.groups == ((2, 5),)
    same = rows.encoding.decoded(rows.x, np.arange(4))
    pandas.testing.assert_frame_equal(same, rows.inputs)
    changed = rows.x[[0, 1, 2, 3]].clone()
    changed[0, 0] += 2.4
    changed[:, 1] += 1.0
    changed[0, 2:5] = torch.tensor([0.0, 1.0, 0.0])  # cities in the order of their names: Bonn, Oslo, Rome
    changed[3, 5] = 0.0
    found = rows.encoding.decoded(changed, np.arange(4))
    assert found["age"].tolist() == [32, 40, 2**40 + 1, 50]
    assert found["age"].dtype == rows.inputs["age"].dtype
    assert np.allclose(found["score"], [1.1, np.nan, 1.3, 1.4], equal_nan=True)
    assert found["city"].tolist() == ["Oslo", "Oslo", "Rome", "Bonn"]
    assert found["active"].tolist() == [True, False, True, False]


def test_a_column_that_attacks_do_not_see_keeps_its_value():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"name": [f"n{k}" for k in range(150)], "a": range(150), "y": [0, 1] * 75})
    rows = rows_of_file(frame, TableColumns("y"))
    assert rows.places == (Place(1, 0, 1, False),)
    found = rows.encoding.decoded(rows.x[:3] + 1, np.array([7, 8, 9]))
    assert found["name"].tolist() == ["n7", "n8", "n9"]
    assert found["a"].tolist() == [1, 2, 3]


def test_a_table_of_texts_is_attacked_with_questions():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"f{k}" for k in range(FEATURES)])
    frame["city"] = np.array(["Rome", "Oslo", "Bonn"])[np.random.default_rng(1).integers(0, 3, ROWS)]
    frame["y"] = Y

    def train(x, y, seed):
        assert x["city"].isin(["Rome", "Oslo", "Bonn"]).all()
        model = KNeighborsClassifier(1).fit(x.drop(columns="city"), y)

        def answer(rows):
            assert rows["city"].isin(["Rome", "Oslo", "Bonn"]).all()
            return np.eye(3)[model.predict(rows.drop(columns="city"))]

        return answer

    found = audited(train, data=frame, label="y", canaries=220, canary_kind="near-duplicate")
    assert auc(found.models[0], "label-only").low > 0.7
    assert [bool(model.canaries) for model in found.models] == [False, True]


# canaries


def own_of(train=nearest, shadows=8, **more):
    return OwnTraining(train, rows_of_pair(DATA), shadows, **more)


@pytest.mark.parametrize("kind", ["mislabelled", "out-of-support", "near-duplicate"])
def test_records_outside_the_canaries_are_always_in_training_and_canaries_in_half_of_the_models(kind):
    own = own_with_canaries(own_of(), CanaryConfig(240, kind))
    masks, at = own.masks, own.audited
    assert own.canaries is not None
    n = ROWS if kind != "mislabelled" else ROWS - 240
    assert masks.shape == (9, n + 240)
    assert masks[:, :n].all()
    assert np.array_equal(masks[0, at], own.canaries.included)
    assert (masks[1:, at].sum(0) == 4).all()
    assert (masks[1::2, at] == ~masks[2::2, at]).all()
    y, _ = own.labels
    assert np.array_equal(y[at], own.canaries.y.numpy())
    inputs = own.rows.inputs
    if kind == "mislabelled":
        assert own.canaries.rows is not None
        places = own.canaries.rows.numpy()
        assert np.array_equal(inputs[at], X[places])
        assert (y[at] != Y[places]).all()
        assert not {row.tobytes() for row in inputs[:n]} & {row.tobytes() for row in X[places]}
        assert np.array_equal(own.true_labels, Y[places])
    else:
        assert np.array_equal(inputs[:n], X)
        assert not {row.tobytes() for row in X} & {row.tobytes() for row in inputs[at]}


def test_canaries_are_judged_beside_the_data_set():
    results = audited(nearest, canaries=300, claimed_epsilon=1.0, fail_if=())
    clean, canary = results.models
    assert clean.canaries == {}
    assert canary.canaries["count"] == 300
    assert canary.canaries["included"] == int(canary.rows["train"]) - (ROWS - 300)
    assert len(canary.canaries["sha256"]) == 64
    assert auc(canary, "label-only").low > 0.7
    assert canary.skipped["rank"] == "the answers are predicted labels, and the other classes have no order"
    bounds = canary.audit["bounds"]
    assert bounds == canary.canaries["bounds"]
    assert 1 < bounds["epsilon"] <= bounds["most"]["epsilon"]
    assert canary.accuracy["train"] == 1.0
    assert "not attacked alike" not in results.verdict["text"]
    page, text = (results.files[kind].read_text() for kind in ("html", "markdown"))
    for form in (page, text):
        assert "300 mislabelled canaries" in form
        assert canary.canaries["sha256"][:12] in form
    assert "The claimed epsilon of 1 is refuted: epsilon is at least" in results.verdict["text"]
    assert page.count("claimed epsilon of 1 is refuted") == 3, (
        "in the verdict, beside it, and in the annex of the canaries"
    )
    assert '"canary-chart"' in page, "the picture"
    (records,) = [results.files["records"].read_text()]
    assert records.count("\n") == ROWS + 1, "exposure of the records of the data set"


def test_the_test_accuracy_own_with_canaries_is_that_of_records_that_no_model_saw():
    x = np.concatenate([X + 20 * np.eye(FEATURES, dtype=np.float32)[k] for k in range(3)])
    data = (x, np.repeat(np.arange(3), ROWS))  # three clusters: a model of the others is right about each
    clean, canary = audited(nearest, data, canaries=300, shadows=0, attacks=["loss"], canary_kind="mislabelled").models
    assert clean.accuracy["test"] == 1.0
    assert canary.accuracy["test"] > 0.8
    other = audited(nearest, data, canaries=300, shadows=0, attacks=["loss"], canary_kind="out-of-support").models[1]
    assert other.accuracy == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"canaries": 10}, "canaries.count=10 must lie between"),
        ({"canaries": 80}, r"of 80 canaries \d+ are in training .* take --canaries 200 or more"),
        ({"canaries": 400}, "canaries=400 must be at most half of the 700 records"),
        ({"canaries": 300, "canary_kind": "blank"}, "blank is for images"),
        ({"canary_kind": "blank"}, "has no effect without canaries"),
        ({"canaries": 2.5}, "canaries=2.5 must be"),
    ],
)
def test_canaries_that_cannot_be_made_are_refused_before_anything_is_trained(given, message):
    calls = []

    def train(x, y, seed):
        calls.append(seed)
        return nearest(x, y, seed)

    with pytest.raises(UserError, match=message):
        audited(train, **{"canaries": 0, **given})
    assert not calls


def test_canaries_have_no_effect_on_predictions():
    with pytest.raises(UserError, match="canaries has no effect with"):
        hampkit.audit(probabilities=np.full((ROWS, 3), 1 / 3), y=Y, member=np.arange(ROWS) % 2, canaries=300)


@pytest.mark.slow
def test_the_command_line_has_bounds_of_canaries(tmp_path, capsys):
    (tmp_path / "own_counted.py").write_text(COUNTED)
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    words = ["audit", "--train", "own_counted:fit", "--data", "d.npz", "--shadows", "4", "--canaries", "300"]
    assert guarded([*words, "--claimed-epsilon", "1", "--attacks", "lira-online,label-only"]) == 0
    out = capsys.readouterr().out
    assert "300 mislabelled canaries" in out
    assert "On canaries: A fair coin was drawn" in out
    assert "claimed epsilon of 1 is refuted" in out.split("On canaries")[1]
    (folder,) = (tmp_path / "runs").glob("audit-fit-*/results.json")
    assert len(json.loads(folder.read_text())["models"]) == 2


@pytest.mark.slow
def test_canaries_prove_nothing_about_a_model_that_never_saw_them(tmp_path):
    """A null through the whole audit: the nominal error is 5 %, of 60 audits at most 8 (99.9 % of Bin(60, 0.05))."""
    above = 0
    for seed in range(60):
        own = own_with_canaries(own_of(ignorant, 4, seed=seed, kind="logits"), CanaryConfig(300, seed=seed))
        session = Session(runs_dir=tmp_path / str(seed))
        request = AuditRequest(("lira-online", "rmia", "loss"), seed=seed)
        result, _, _ = audit(given_of_training(own, session), request, session)
        above += result.canaries["bounds"]["epsilon"] > 0
    assert above <= 8


def test_every_usual_attack_is_one_that_asks():
    for attack in asked_attacks((), {}, 8).attacks:
        assert "probes" in ATTACKS.get(attack.name).needs
        assert attack.shadow_probes()
    assert asked_attacks((), {}, 0).attacks == ()


def test_limits_on_accuracy_and_subgroups_are_those_of_the_model_without_canaries():
    by = np.array(["a", "b"])[np.arange(ROWS) % 2]
    limits = ["group.a.auc.low>0.99", "accuracy.test<0.1", "auc.low>0.5"]
    found = audited(nearest, canaries=300, shadows=0, attacks=["loss"], by=by, fail_if=limits).policy
    names = [(each["limit"]["what"], each["model"]) for each in found]
    canaries = "nearest · 300 mislabelled canaries"
    assert names == [
        ("group.a.auc.low", "nearest"),
        ("accuracy.test", "nearest"),
        ("auc.low", "nearest"),
        ("auc.low", canaries),
    ]


# what an outsider found


def test_two_attacks_may_ask_the_same_kind_of_question_with_other_numbers():
    options = {"neural.epochs": 1, "rank.copies": 64}
    found = audited(ignorant, kind="logits", options=options).models[0]
    assert {a.attack: a.queries for a in found.attacks if a.attack in ("rank", "label-only")} == {
        "rank": 64,
        "label-only": 32,
    }
    only = audited(ignorant, kind="logits", options=options, attacks=["rank"]).models[0]
    assert auc(only, "rank") == auc(found, "rank")


def frames():
    pandas = pytest.importorskip("pandas")
    numbers = pandas.DataFrame(X[:, :3])
    yield "names that are numbers", numbers
    named = numbers.rename(columns=str)
    named["count"] = np.arange(ROWS) % 50
    named["flag"] = np.arange(ROWS) % 3 == 0
    yield "nullable", named.convert_dtypes()
    missing = named.convert_dtypes()
    missing.loc[::7, "count"] = pandas.NA
    yield "nullable with missing values", missing
    large = named.assign(count=np.iinfo(np.int64).max - np.arange(ROWS))
    yield "large whole numbers", large
    yield "unsigned", named.assign(count=np.uint64(2**64 - 1) - np.arange(ROWS, dtype=np.uint64))
    yield (
        "texts and categories",
        named.assign(
            city=pandas.Categorical(np.array(["a", "b"])[np.arange(ROWS) % 2]), word=np.array(["x", None] * (ROWS // 2))
        ),
    )
    yield "what attacks do not see", pandas.DataFrame({"name": [f"n{k}" for k in range(ROWS)]})


def test_data_frames_of_all_kinds_are_asked_about():
    for what, frame in frames():
        dtypes = []

        def train(x, y, seed, dtypes=dtypes):
            dtypes.append(x.dtypes.tolist())

            def answer(rows):
                dtypes.append(rows.dtypes.tolist())
                return np.full((len(rows), 3), 1 / 3)

            return answer

        found = audited(train, data=(frame, Y), attacks=["label-only", "loss"], shadows=4)
        assert auc(found.models[0], "label-only").value == 0.5, what
        assert all(each == dtypes[0] for each in dtypes), what


def test_values_of_copies_stay_between_the_least_and_the_largest_and_missing_texts_stay_missing():
    for what, frame in frames():
        rows = rows_of_pair((frame, Y))
        about = About(rows.encoding, Y, np.arange(ROWS), 3)
        for block, asked in questions(NoisyCopies(4), about.data, about.space):
            found = rows.encoding.decoded(asked.flatten(0, 1), np.arange(ROWS)[block].repeat(4))
            for name in found.columns:
                given = rows.inputs[name]
                assert found[name].dtype == given.dtype, what
                assert (found[name].isna().to_numpy() == given.isna().to_numpy()[block].repeat(4)).all(), what
                if given.dtype.kind in "iuf" and name == "count":
                    assert found[name].min() >= given.min(), what
                    assert found[name].max() <= given.max(), what


def test_a_class_that_only_canaries_had_keeps_its_number():
    y = np.repeat(np.arange(200), 4)
    x = np.eye(200, dtype=np.float32)[y]

    def train(x, y, seed):
        return lambda rows: rows

    clean, canary = audited(train, (x, y), canaries=300, shadows=0, attacks=["loss"], kind="logits").models
    assert canary.accuracy["test"] == clean.accuracy["test"] == 1.0
    assert canary.data["classes"] == 200


def test_a_function_that_ends_the_process_does_not_pass_a_gate(tmp_path, capsys):
    (tmp_path / "own_exit.py").write_text("import sys\ndef fit(x, y, seed):\n    sys.exit(0)\n")
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    assert guarded(["audit", "--train", "own_exit:fit", "--data", "d.npz", "--fail-if", "auc.low>0.5"]) == 2
    assert "SystemExit" in capsys.readouterr().err


def test_zeros_among_the_answers_to_further_questions_are_no_infinity():
    def train(x, y, seed):
        rng = np.random.default_rng(seed)

        def answer(rows):
            p = rng.dirichlet(np.ones(3), size=len(rows))
            return np.where((len(rows) > ROWS) & (rng.random((len(rows), 1)) < 0.01), np.eye(3)[0], p)

        return answer

    assert np.isfinite(auc(audited(train).models[0], "repeated").value)


def test_another_kind_of_answers_asks_again():
    found = [
        auc(audited(blurred, kind=kind, attacks=["repeated"]).models[0], "repeated") for kind in ("logits", "auto")
    ]
    assert found[0] == found[1], "logits, taken as such twice"

    def train(x, y, seed):
        rng = np.random.default_rng(seed)
        return lambda rows: rng.dirichlet(np.ones(3), size=len(rows))

    own = [
        OwnTraining(train, rows_of_pair(DATA), 4, kind=kind, asked=asked_attacks((), {}, 4))
        for kind in ("logits", "auto")
    ]
    steps = {each.models.step(1, each.asked.probes).place for each in own}
    assert len(steps) == 2


def test_too_little_memory_ends_the_audit_and_another_try_goes_on(monkeypatch):
    monkeypatch.setattr(OwnTraining, "_code", lambda own: "the same code")
    broken = [True]

    def train(x, y, seed):
        model = nearest(x, y, seed)

        def answer(rows):
            if broken[0] and len(rows) > ROWS:
                raise MemoryError("no room")
            return model(rows)

        return answer

    with pytest.raises(UserError, match="no room"):
        audited(train)
    broken[0] = False
    assert "label-only" not in audited(train).models[0].skipped


def test_encoded_texts_stay_categories():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"city": np.array(list("abcde"))[np.arange(ROWS) % 5], "y": Y})
    own = OwnTraining(nearest, rows_of_file(frame, TableColumns("y", inputs="encoded")), 0)
    about = own.models.about
    for block, asked in questions(NoisyCopies(4), about.data, about.space):
        copies = about.encoding.decoded(asked.flatten(0, 1), np.arange(ROWS)[block].repeat(4))
        assert (copies.sum(1) == 1).all()
    canaries = own_with_canaries(own, CanaryConfig(300, "out-of-support"))
    assert (canaries.rows.inputs[canaries.audited].sum(1) == 1).all()


def test_a_near_duplicate_differs_even_where_values_are_missing():
    x = X.copy()
    x[np.random.default_rng(0).random(x.shape) < 0.7] = np.nan
    frame = pytest.importorskip("pandas").DataFrame(x, columns=[f"f{k}" for k in range(FEATURES)]).assign(y=Y)
    rows = rows_of_file(frame, TableColumns("y", inputs="array"))
    own = own_with_canaries(OwnTraining(nearest, rows, 0), CanaryConfig(300, "near-duplicate"))
    made = own.canaries
    assert made is not None
    assert made.rows is not None
    same = np.isclose(own.rows.inputs[own.audited], x[made.rows.numpy()], equal_nan=True).all(1)
    assert same.mean() < 0.02


def test_copies_share_a_coin_and_one_of_them_is_judged():
    x = X.copy()
    x[1] = x[0]
    found = audited(nearest, (x, Y), attacks=["lira-online", "loss"]).models[0]
    assert found.copies == {"left_out": 1}
    assert found.audit["bounds"]["canaries"] == ROWS - 1
    same = np.repeat(X[:1], ROWS, axis=0)
    with pytest.raises(UserError, match=r"an audit needs at least 100 of each|has no"):
        audited(nearest, (same, Y))


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="seed=-1 must be at least 0"):
        audited(nearest, seed=-1)


def test_a_frame_with_mixed_values_is_refused_in_one_line():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, "x"] * (ROWS // 2)})
    with pytest.raises(UserError, match="values of one kind"):
        audited(nearest, (frame, Y))


def test_predicted_labels_get_a_remedy():
    with pytest.raises(UserError, match=r"numpy.eye\(classes\)\[labels\]"):
        audited(lambda x, y, seed: lambda rows: np.zeros(len(rows), dtype=int), shadows=0)


def test_the_page_names_the_model_with_canaries_and_separates_reasons():
    found = audited(nearest, canaries=300, attacks=[])
    page = found.files["html"].read_text()
    assert "nearest · 300 mislabelled canaries: 300 examples" in page
    assert page.count("All records: <code>records.csv</code>") == 1, "the file has the records, and no canaries"
    assert "equal answers.</span>" in page
    assert not repeated_ids(page)

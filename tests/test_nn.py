"""What a user drops into a loop of their own."""

import copy
import math
import pickle
import re
import warnings

import pytest
import torch
from torch import nn

import hampkit.nn
from hampkit.defenses.hamp import ranked_like, soft_labels
from hampkit.errors import Notice, UserError
from hampkit.types import Domain

pytestmark = pytest.mark.numeric


def test_loss_equals_the_published_formula():
    g = torch.Generator().manual_seed(1)
    logits, y = 4 * torch.randn(9, 5, generator=g, dtype=torch.float64), torch.randint(5, (9,), generator=g)
    loss = hampkit.nn.HampLoss(5, gamma=0.7, alpha=0.05)(logits, y)
    t, p = soft_labels(y, 5, 0.7), torch.softmax(logits, -1)
    expected = (t * (t.log() - p.log())).sum() / (9 * 5) + 0.05 * (p * p.log()).sum(-1).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    batchmean = hampkit.nn.HampLoss(5, gamma=0.7, alpha=0.25, kl="batchmean")(logits, y)
    assert batchmean.item() == pytest.approx(5 * expected.item(), abs=1e-9), (
        "alpha · C for the one is alpha for the other"
    )


def test_loss_trains_to_the_optimum_of_the_publication():
    """Protocol 3.2b: for Location30 the best top-1 probability of the per-sample objective is 0.653."""
    logits = torch.zeros(1, 30, dtype=torch.float64, requires_grad=True)
    loss = hampkit.nn.HampLoss(30, gamma=0.5, alpha=0.001, grid=0.01)
    # with steps of free length the search overshoots on some processors, and never returns
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(logits, torch.tensor([4]))
        value.backward()
        return value

    optimizer.step(closure)
    p = torch.softmax(logits.detach(), -1)[0]
    assert p[4].item() == pytest.approx(0.653, abs=2e-3)
    assert -(p * p.log()).sum().item() / math.log(30) == pytest.approx(0.534, abs=2e-3)


def test_loss_refuses_what_does_not_fit():
    loss = hampkit.nn.HampLoss(5, gamma=0.5, alpha=0.1)
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        loss(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(UserError, match="gamma"):
        hampkit.nn.HampLoss(5, gamma=1.0, alpha=0.1)
    with pytest.raises(UserError, match="kl"):
        hampkit.nn.HampLoss(5, gamma=0.5, alpha=0.1, kl="sum")  # pyright: ignore[reportArgumentType]


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))


NOISES = {
    "bernoulli": "bernoulli",
    "uniform": "uniform",
    "domain": Domain.grid((8,), -2, 2, 0),
    "inputs": torch.randn(50, 8),
    "function": lambda n, rng: torch.randn(n, 8, generator=rng),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("options", [{}, {"bank": 20}, {"keyed": True}, {"bank": 20, "keyed": True}], ids=str)
def test_model_keeps_labels_and_evaluates_whatever_its_mode(noise, options):
    model = make_model().train()
    statistics = model[1].running_mean.clone()
    released = hampkit.nn.HampModel(model, NOISES[noise], seed=3, **options)
    x = torch.randn(200, 8)
    out = released(x)
    assert model.training
    assert torch.equal(model[1].running_mean, statistics), "no batch statistics were touched"
    own = model.eval()(x)
    assert torch.equal(out.argmax(-1), own.argmax(-1))
    assert not torch.allclose(out, own)
    assert not out.requires_grad
    if options.get("keyed"):
        assert torch.equal(released(x), out)
    else:
        assert not torch.equal(released(x), out)


def test_model_does_not_move_the_global_generator():
    released = hampkit.nn.HampModel(make_model(), "uniform", seed=0)
    state = torch.random.get_rng_state()
    released(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_model_refuses_unknown_noise():
    with pytest.raises(UserError, match="noise='gauss'"):
        hampkit.nn.HampModel(make_model(), "gauss")
    with pytest.raises(UserError, match="bank=-1"):
        hampkit.nn.HampModel(make_model(), bank=-1)


def test_images_in_and_label_order_kept():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.rand(10, 3, 2, 2)
    assert torch.equal(hampkit.nn.HampModel(model, "uniform")(x).argmax(-1), model(x).argmax(-1))


def test_class_weights_and_ignored_labels_are_those_of_cross_entropy():
    """The oracle: the rows' losses one by one, weighted as torch does it."""
    g = torch.Generator().manual_seed(2)
    logits, y = torch.randn(12, 3, generator=g, dtype=torch.float64), torch.randint(3, (12,), generator=g)
    y[4] = y[7] = -100
    weight = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    found = hampkit.nn.HampLoss(3, 0.5, 0.1, weight=weight, ignore_index=-100)(logits, y)
    single = hampkit.nn.HampLoss(3, 0.5, 0.1)
    kept = [b for b in range(12) if y[b] >= 0]
    rows = [(weight[y[b]], single(logits[b : b + 1], y[b : b + 1])) for b in kept]
    assert found.item() == pytest.approx((sum(w * r for w, r in rows) / sum(w for w, _ in rows)).item())
    assert hampkit.nn.HampLoss(3, 0.5, 0.1, ignore_index=-100)(logits, torch.full((12,), -100)).item() == 0
    with pytest.raises(ValueError, match="must be integers"):
        single(logits, torch.rand(12))
    for wrong in (torch.ones(4), torch.tensor([1.0, -1.0, 1.0]), torch.zeros(3)):
        with pytest.raises(UserError, match="weight"):
            hampkit.nn.HampLoss(3, 0.5, 0.1, weight=wrong)


def plain(inputs=8, classes=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, classes)).eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("options", [{}, {"keyed": True}, {"bank": 8}], ids=str)
def test_labels_hold_in_every_precision(dtype, options):
    """Half precision has many equal logits: the first of them is the label, before and after."""
    model, x = plain().to(dtype), torch.rand(300, 8).to(dtype)
    released = hampkit.nn.HampModel(model, "uniform", **options)(x)
    assert released.dtype == dtype
    assert torch.equal(released.argmax(-1), model(x).argmax(-1))


def test_labels_hold_under_autocast():
    model, x = plain(), torch.rand(300, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        released = hampkit.nn.HampModel(model, "uniform")(x)
        assert torch.equal(released.argmax(-1), model(x).argmax(-1))


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [{}, {"keyed": True, "secret": b"s" * 32}, {"bank": 8}], ids=str)
def test_a_compiled_model_answers_as_the_module_does(backend, options):
    x = torch.rand(50, 8)
    mine, compiled = (hampkit.nn.HampModel(plain(), "uniform", seed=3, **options) for _ in range(2))
    answers = torch.compile(compiled, backend=backend)
    for rows in (x, x + 0.001, torch.rand(20, 8)):
        assert torch.allclose(answers(rows.clamp(0, 1)), mine(rows.clamp(0, 1)), atol=1e-5)


def test_traces_and_exports_of_the_module_are_refused_with_the_way_out():
    """They would answer every query with the noise of one."""
    released, x = hampkit.nn.HampModel(plain(), "uniform"), torch.rand(5, 8)
    with pytest.raises(UserError, match="exportable"):
        torch.jit.trace(released, x)
    with pytest.raises(Exception, match="exportable"):
        torch.export.export(released, (x,))


@pytest.mark.parametrize("options", [{}, {"keyed": True}, {"bank": 8}, {"bank": 8, "keyed": True}], ids=str)
def test_the_exportable_release_answers_as_the_module_does_on_other_inputs(options):
    model, x, other = plain(), torch.rand(5, 8), torch.rand(1000, 8)
    released = hampkit.nn.HampModel(model, "uniform", **options)
    if "bank" in options:
        with pytest.raises(UserError, match="call the HampModel with inputs before"):
            released.exportable()
        released(x)
    alone = released.exportable()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(alone, (x, released.noise_for(x)), dynamic_shapes=({0: batch}, {0: batch})).module()
    traced = torch.jit.trace(alone, (x, released.noise_for(x)))
    noise = released.noise_for(other)
    wanted = alone(other, noise)
    assert torch.equal(wanted.argmax(-1), model(other).argmax(-1))
    for found in (exported(other, noise), traced(other, noise)):
        assert torch.allclose(found, wanted, atol=1e-5)
        assert torch.equal(found.argmax(-1), wanted.argmax(-1))
    if options.get("keyed"):
        assert torch.allclose(wanted, released(other), atol=1e-5)


def test_onnx_answers_as_the_module_does_on_other_inputs(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x, other = plain(), torch.rand(5, 8), torch.rand(1000, 8)
    released, batch = hampkit.nn.HampModel(model, "uniform"), torch.export.Dim("batch")
    alone, path = released.exportable(), str(tmp_path / "released.onnx")
    shapes = ({0: batch}, {0: batch})
    torch.onnx.export(alone, (x, released.noise_for(x)), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session, noise = runtime.InferenceSession(path), released.noise_for(other)
    names = [i.name for i in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (other.numpy(), noise.numpy()), strict=True)))
    assert torch.allclose(torch.from_numpy(found), alone(other, noise), atol=1e-5)
    assert torch.equal(torch.from_numpy(found).argmax(-1), model(other).argmax(-1))


def test_equal_logits_are_ranked_alike_by_sorting_and_by_comparing():
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        z = torch.randint(0, 4, (200, 7), generator=g).to(dtype)
        r = torch.randint(-2, 3, (200, 7), generator=g).to(dtype)
        one, other = (ranked_like(z, r, exported) for exported in (False, True))
        assert torch.equal(one, other)
        assert torch.equal(one.argmax(-1), z.argmax(-1))
        assert (one.sort(-1).values[:, -1] > one.sort(-1).values[:, -2]).all(), "one maximum, in every precision"


def test_replicas_answer_alike_by_their_state_or_by_the_secret():
    x, secret = torch.rand(40, 8), b"0123456789abcdef"
    first = hampkit.nn.HampModel(plain(), "uniform", keyed=True, bank=16)
    answers = first(x)
    replica = hampkit.nn.HampModel(plain(), "uniform", keyed=True, bank=16)
    assert not torch.equal(replica(x), answers)
    replica.load_state_dict(first.state_dict())
    assert torch.equal(replica(x), answers)
    fresh = hampkit.nn.HampModel(plain(), "uniform", keyed=True, bank=16)
    fresh.load_state_dict(first.state_dict())
    assert torch.equal(fresh(x), answers), "also before its first call"
    two = [hampkit.nn.HampModel(plain(), "uniform", keyed=True, secret=secret)(x) for _ in range(2)]
    assert torch.equal(*two)
    for wrong in (b"", b"short", b"x" * 65):
        with pytest.raises(UserError, match="secret of"):
            hampkit.nn.HampModel(plain(), "uniform", keyed=True, secret=wrong)


class Output(dict):
    """As Hugging Face's outputs: fields that are also items."""

    def __init__(self, logits=None, hidden_states=None):
        super().__init__(logits=logits, hidden_states=hidden_states)
        self.logits, self.hidden_states = logits, hidden_states


class Text(nn.Module):
    """Token numbers and a mask → an object with logits and hidden states."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        hidden = self.embed(input_ids) * attention_mask[..., None]
        return Output(self.head(hidden.sum(1)), hidden)


def words(n, rng):
    return {"input_ids": torch.randint(30, (n, 6), generator=rng), "attention_mask": torch.ones(n, 6, dtype=torch.long)}


@pytest.mark.parametrize("options", [{}, {"keyed": True}, {"bank": 8}], ids=str)
def test_a_text_model_with_several_inputs_releases_its_logits_alone(options):
    model, texts = Text(), words(20, torch.Generator().manual_seed(1))
    released = hampkit.nn.HampModel(model, words, **options)
    found = released(**texts)
    assert isinstance(found, Output)
    assert found.hidden_states is None
    assert torch.equal(found.logits.argmax(-1), model(**texts).logits.argmax(-1))
    assert not torch.allclose(found.logits, model(**texts).logits)
    tokens = hampkit.nn.HampModel(
        model, words, preprocess=lambda rows: {"input_ids": rows, "attention_mask": rows.ne(0).long()}
    )
    assert torch.equal(
        tokens(texts["input_ids"]).logits.argmax(-1),
        model(texts["input_ids"], texts["input_ids"].ne(0).long()).logits.argmax(-1),
    )
    with pytest.raises(UserError, match="needs noise= as a function"):
        hampkit.nn.HampModel(model, "uniform")(**texts)
    with pytest.raises(UserError, match="by position or by name"):
        released(texts["input_ids"], attention_mask=texts["attention_mask"])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (plain(classes=1), "one logit"),
        (nn.Sequential(plain(), nn.Unflatten(1, (2, 2))), r"\(3, 2, 2\)"),
        (nn.LSTM(8, 4), "returns a tuple"),
    ],
)
def test_networks_without_a_ranking_are_refused(model, reason):
    with pytest.raises(UserError, match=reason):
        hampkit.nn.HampModel(model, "uniform")(torch.rand(3, 8))


def test_fitted_noise_lies_between_the_extremes_of_the_data_and_others_are_warned_of():
    data = torch.stack([torch.randn(50) * 3, torch.randint(0, 5, (50,)).float()], 1)
    released = hampkit.nn.HampModel(plain(inputs=2), "fit", data=data)
    noise = released.noise_for(data)
    assert (noise >= data.amin(0)).all()
    assert (noise <= data.amax(0)).all()
    assert torch.equal(noise[:, 1], noise[:, 1].round())
    assert not torch.equal(noise[:, 0], noise[:, 0].round())
    with pytest.warns(Notice, match="2 of 3 inputs lie outside"):
        released(torch.tensor([[0.0, 1.0], [100.0, 1.0], [0.0, -1.0]]))
    with pytest.warns(Notice, match="1 of 1 inputs"):
        hampkit.nn.HampModel(plain(), "bernoulli")(torch.full((1, 8), 3.0))
    for wrong in (
        {"data": data},
        {"noise": "fit"},
        {"noise": "fit", "data": data[:0]},
        {"noise": "fit", "data": data * torch.inf},
    ):
        with pytest.raises(UserError, match="data"):
            hampkit.nn.HampModel(plain(inputs=2), **wrong)


def test_a_keyed_bank_is_saved_only_once_it_is_prepared():
    first, second = (hampkit.nn.HampModel(nn.Linear(4, 3), noise="uniform", bank=10, keyed=True) for _ in range(2))
    with pytest.raises(UserError, match="call the HampModel with inputs before its state is saved"):
        first.state_dict()
    x = torch.rand(20, 4)
    answers = first(x)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), answers)
    hampkit.nn.HampModel(nn.Linear(4, 3), noise="uniform", bank=10).state_dict()  # fresh noise: nothing to agree on


def test_replicas_with_other_data_answer_alike_once_they_loaded_the_state():
    network = nn.Linear(4, 3)
    first = hampkit.nn.HampModel(network, noise="fit", data=torch.rand(50, 4) * 7, keyed=True)
    second = hampkit.nn.HampModel(network, noise="fit", data=torch.rand(50, 4), keyed=True)
    x = torch.rand(20, 4)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
    assert torch.equal(first.noise_for(x), second.noise_for(x))
    third = hampkit.nn.HampModel(
        network, noise="fit", data=torch.rand(50, 4), keyed=True, secret=bytes(first.secret.tolist())
    )
    assert not torch.equal(first.noise_for(x), third.noise_for(x)), "without the state the bounds differ"


MADE = {
    "plain": {"noise": "uniform"},
    "keyed": {"noise": "uniform", "keyed": True},
    "fitted": {"noise": "fit", "data": torch.eye(4)},
    "bank": {"noise": "uniform", "keyed": True, "bank": 5},
    "large bank": {"noise": "uniform", "keyed": True, "bank": 6},
}


@pytest.mark.parametrize(
    ("stored", "into", "said"),
    [
        ("keyed", "plain", "the state was made with keyed=True, and the HampModel without"),
        ("plain", "keyed", "the HampModel was made with keyed=True, and the state without"),
        ("fitted", "plain", "the state was made with noise='fit', and the HampModel without"),
        ("plain", "fitted", "the HampModel was made with noise='fit', and the state without"),
        ("bank", "keyed", "a bank of 5 answers, and the HampModel has bank=0; give bank=5"),
        ("keyed", "bank", "a bank of 0 answers, and the HampModel has bank=5; give bank=0"),
        ("bank", "large bank", "give bank=5"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_state_of_other_options_is_one_line_with_the_remedy(stored, into, said, nested):
    """Torch's own error lists keys; a bank that is not used makes replicas differ without any error."""
    first, second = (hampkit.nn.HampModel(nn.Linear(4, 3), **MADE[name]) for name in (stored, into))
    first(torch.rand(2, 4))
    if nested:
        first, second = nn.Sequential(first), nn.Sequential(second)
    with pytest.raises(UserError, match=re.escape(said)):
        second.load_state_dict(first.state_dict())


def test_a_state_of_the_network_alone_is_sent_to_the_network():
    released = hampkit.nn.HampModel(nn.Linear(4, 3), noise="uniform")
    with pytest.raises(UserError, match=r"load it into the network, HampModel\(…\).model"):
        released.load_state_dict(nn.Linear(4, 3).state_dict())
    released.load_state_dict({}, strict=False)


@pytest.mark.parametrize(("stored", "into"), [("plain", "keyed"), ("plain", "fitted"), ("keyed", "bank")])
def test_without_strict_a_state_may_lack_what_the_release_has(stored, into):
    """The network's weights are loaded; the secret, the bounds and the bank are those of the release itself."""
    first, second = (hampkit.nn.HampModel(nn.Linear(4, 3), **MADE[name]) for name in (stored, into))
    x = torch.rand(2, 4)
    first(x), second(x)
    bounds, bank, secret = second.noise_low, second.bank, second.secret
    second.load_state_dict(first.state_dict(), strict=False)
    weight, loaded = (next(iter(released.model.parameters())) for released in (first, second))
    assert torch.equal(weight, loaded)
    if stored == "plain":
        assert second.secret is secret
        assert second.noise_low is bounds
    second(x)
    assert bank is None or not torch.equal(torch.as_tensor(second.bank), bank), (
        "the bank holds answers of the new network"
    )
    with pytest.raises(UserError, match=r"the HampModel was made with|a bank of 0 answers"):
        second.load_state_dict({k: t for k, t in first.state_dict().items() if k != "bank"})


@pytest.mark.parametrize(
    ("stored", "into"), [("keyed", "plain"), ("fitted", "plain"), ("bank", "keyed"), ("bank", "large bank")]
)
def test_without_strict_too_a_state_that_has_more_than_the_release_is_refused(stored, into):
    first, second = (hampkit.nn.HampModel(nn.Linear(4, 3), **MADE[name]) for name in (stored, into))
    first(torch.rand(2, 4))
    with pytest.raises(UserError, match=r"the state (was made with|has a bank of 5)"):
        second.load_state_dict(first.state_dict(), strict=False)


def test_bernoulli_noise_for_inputs_between_0_and_1_is_warned_of_once():
    released = hampkit.nn.HampModel(nn.Linear(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        released(torch.eye(4))
    with pytest.warns(Notice, match="1 of 2 inputs has values between 0 and 1.*noise='uniform'"):
        released(torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.5, 0.0, 1.0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        released(torch.rand(5, 4))
        hampkit.nn.HampModel(nn.Linear(4, 3), noise="uniform")(torch.rand(5, 4))


def test_a_secret_without_a_key_is_refused():
    with pytest.raises(UserError, match="no effect without keyed=True"):
        hampkit.nn.HampModel(nn.Linear(4, 3), secret=b"x" * 32)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": None}, "model=None must be a torch.nn.Module"),
        ({"model": torch.relu}, "must be a torch.nn.Module"),
        ({"bank": 1.5}, "bank=1.5 must be 0 or the number"),
        ({"bank": True}, "bank=True must be 0 or the number"),
        ({"bank": 10**12}, "at most 10000000"),
        ({"keyed": b"0123456789abcdef"}, "keyed=b'0123456789abcdef' must be True or False"),
        ({"keyed": True, "secret": "0123456789abcdef"}, "secret of type str must be bytes"),
        ({"keyed": True, "secret": 16}, "secret of type int must be bytes"),
        ({"seed": "x"}, "seed='x' must be a whole number"),
        ({"seed": 2**70}, f"seed={2**70} must be a whole number"),
        ({"seed": True}, "seed=True must be a whole number"),
        ({"preprocess": "x"}, "preprocess='x' must be a function"),
        ({"noise": torch.zeros(0, 4)}, "noise (0, 4) must be finite inputs"),
        ({"noise": torch.full((3, 4), torch.nan)}, "noise (3, 4) must be finite inputs"),
        ({"noise": torch.tensor(1.0)}, "noise () must be finite inputs"),
        ({"noise": "fit", "data": [[1.0]]}, "data of type list must be a tensor"),
        ({"noise": "fit", "data": torch.tensor(1.0)}, "data () must be finite inputs"),
        ({"noise": Domain.grid((4,), 0, math.inf, 0)}, "bounds must be finite"),
        ({"noise": Domain.grid((4,), 1, 0, 0)}, "low must be at most high"),
        ({"noise": torch.zeros(2000).tolist()}, "must be 'bernoulli'"),
    ],
)
def test_a_wrong_argument_is_one_line_with_the_remedy(wrong, said):
    with pytest.raises(UserError, match=re.escape(said)):
        hampkit.nn.HampModel(**{"model": nn.Linear(4, 3), "noise": "uniform"} | wrong)


@pytest.mark.parametrize("noise", ["uniform", "bernoulli", Domain.grid((8,), 0, 1, 0), torch.rand(5, 8)], ids=str)
@pytest.mark.parametrize("options", [{}, {"keyed": True}, {"bank": 8}], ids=str)
def test_wrong_inputs_are_one_line_with_the_remedy(noise, options):
    released = hampkit.nn.HampModel(plain(), noise, **options)
    for wrong, said in (
        (torch.ones(8), r"x\[None\]"),
        (torch.tensor(1.0), r"shape \(\)"),
        (None, "a NoneType and no tensor"),
        (1.0, "a float and no tensor"),
        ([[1.0] * 8], "a list and no tensor"),
        (torch.ones(2, 8, dtype=torch.long), r"inputs are torch.int64; give inputs.to\(torch.float32\)"),
        (torch.ones(2, 8, dtype=torch.float64), r"inputs are torch.float64; give inputs.to\(torch.float32\)"),
    ):
        with pytest.raises(UserError, match=said):
            released(wrong)
    with pytest.raises(UserError, match="and no tensor"):
        released()
    released(torch.ones(2, 8))


@pytest.mark.parametrize(
    "wrong", [torch.ones(8), None, torch.ones(2, 8, dtype=torch.long)], ids=["one", "none", "integers"]
)
def test_wrong_inputs_of_a_compiled_release_are_one_line_too(wrong):
    with pytest.raises(UserError, match=r"x\[None\]|no tensor|inputs.to"):
        torch.compile(hampkit.nn.HampModel(plain(), "uniform"), backend="eager")(wrong)


def test_inputs_of_another_shape_than_the_domain_are_refused_also_after_a_warning():
    released = hampkit.nn.HampModel(nn.Flatten(), Domain.grid((2, 2), 0, 1, 0))
    with pytest.warns(Notice, match="outside"):
        released(torch.full((1, 2, 2), 9.0))
    for wrong in (torch.zeros(2, 2), torch.zeros(3, 4), torch.zeros(3, 2, 1)):
        with pytest.raises(UserError, match=r"must be \('B', 2, 2\)"):
            released(wrong)


def test_numbers_of_a_network_of_tokens_are_not_floats():
    network = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 4))
    released = hampkit.nn.HampModel(network, torch.randint(9, (20, 2)))
    assert released(torch.ones(5, 2, dtype=torch.long)).shape == (5, 4)
    with pytest.raises(UserError, match=r"inputs.long\(\)"):
        released(torch.ones(5, 2))
    ones = hampkit.nn.HampModel(nn.Embedding(9, 3), torch.arange(9))
    assert ones(torch.arange(9)).shape == (9, 3), "one number for each example is a batch"


def test_an_error_of_the_network_that_has_another_cause_is_its_own():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        hampkit.nn.HampModel(plain(), "uniform")(torch.ones(2, 7))
    network = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        hampkit.nn.HampModel(network, torch.ones(5, 2).long())(torch.ones(5, 3).long())


@pytest.mark.parametrize("weight", [None, torch.ones(5)])
@pytest.mark.parametrize("label", [7, 5, -1, -100])
def test_labels_out_of_range_are_named(weight, label):
    """A negative label would be a class counted from the last."""
    loss, y = hampkit.nn.HampLoss(5, 0.5, 0.1, weight=weight, ignore_index=-2), torch.tensor([0, -2, label])
    with pytest.raises(ValueError, match=f"1 of 3 labels lie outside 0 to 4, the first is {label}"):
        loss(torch.zeros(3, 5), y)


def test_the_loss_compiles_into_one_graph():
    loss, logits, y = (
        hampkit.nn.HampLoss(5, 0.5, 0.1, ignore_index=-100),
        torch.randn(4, 5),
        torch.tensor([0, 1, -100, 4]),
    )
    assert torch.allclose(torch.compile(loss, backend="eager", fullgraph=True)(logits, y), loss(logits, y))


def test_labels_of_every_type_of_integers_are_class_numbers():
    """A uint8 tensor would be a mask of rows."""
    logits, y = torch.randn(4, 5), torch.tensor([0, 1, 1, 4])
    loss = hampkit.nn.HampLoss(5, 0.5, 0.1, weight=torch.arange(1.0, 6.0))
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert torch.equal(loss(logits, y.to(dtype)), loss(logits, y))
    with pytest.raises(ValueError, match="must be integers"):
        loss(logits, y.bool())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"num_classes": 1}, "num_classes=1 must be"),
        ({"num_classes": 5.5}, "num_classes=5.5 must be"),
        ({"num_classes": "5"}, "num_classes='5' must be"),
        ({"gamma": "x"}, "gamma='x' must be a finite number"),
        ({"gamma": True}, "gamma=True must be a finite number"),
        ({"alpha": math.nan}, "alpha=nan must be a finite number"),
        ({"grid": "x"}, "grid='x' must be a finite number"),
        ({"weight": [1.0] * 5}, "weight of type list must be a tensor (5,)"),
        ({"weight": torch.full((5,), math.inf)}, "weight (5,) must be a tensor (5,)"),
        ({"ignore_index": 1.5}, "ignore_index=1.5 must be a whole number"),
    ],
)
def test_a_wrong_option_of_the_loss_is_one_line(wrong, said):
    with pytest.raises(UserError, match=re.escape(said)):
        hampkit.nn.HampLoss(**{"num_classes": 5, "gamma": 0.5, "alpha": 0.1} | wrong)


def state_of(released):
    return {key: value.clone() for key, value in released.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one
    )


FULL = {"noise": "fit", "data": torch.eye(8), "keyed": True, "bank": 10}
WRONG = {
    "weights of another shape": ({"model.0.weight": torch.zeros(16, 9)}, RuntimeError, "size mismatch"),
    "an unknown name": ({"model.9.weight": torch.zeros(1)}, RuntimeError, "Unexpected key"),
    "a wide bank": ({"bank": torch.zeros(10, 3)}, UserError, r"the bank \(10, 3\) has answers of 3 classes"),
    "a flat bank": ({"bank": torch.zeros(10)}, UserError, r"bank of type torch.float32 \(10,\) must be logits"),
    "a bank of integers": ({"bank": torch.zeros(10, 4).long()}, UserError, "bank of type torch.int64"),
    "a bank of NaN": ({"bank": torch.full((10, 4), torch.nan)}, UserError, "answers that are NaN"),
    "a list": ({"bank": [1.0]}, UserError, "bank of type list"),
    "a short secret": (
        {"secret": torch.zeros(3).byte()},
        UserError,
        "the state's secret of 3 bytes must have 16 to 64",
    ),
    "a long secret": ({"secret": torch.zeros(65).byte()}, UserError, "the state's secret of 65 bytes"),
    "a secret of floats": ({"secret": torch.zeros(32)}, UserError, "secret of type torch.float32"),
    "a secret of rows": ({"secret": torch.zeros(32, 1).byte()}, UserError, r"secret of type torch.uint8 \(32, 1\)"),
    "a secret of bytes": ({"secret": b"x" * 32}, UserError, "secret of type bytes must be a tensor"),
    "infinite bounds": ({"noise_high": torch.full((8,), torch.inf)}, UserError, "its bounds must be finite"),
    "NaN bounds": ({"noise_low": torch.full((8,), torch.nan)}, UserError, "its bounds must be finite"),
    "bounds in the wrong order": ({"noise_low": torch.full((8,), 9.0)}, UserError, "low must be at most high"),
    "bounds of different shapes": ({"noise_low": torch.zeros(7)}, UserError, "tensors of one shape"),
    "bounds of other inputs": (
        {f"noise_{name}": torch.zeros(7) for name in ("low", "high", "step")},
        UserError,
        r"the state's noise is of inputs \(7,\), and the HampModel's of \(8,\)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("assign", [False, True])
def test_a_refused_state_changes_nothing(wrong, assign):
    changes, error, said = WRONG[wrong]
    released, x = hampkit.nn.HampModel(plain(), **FULL), torch.eye(8)
    with torch.no_grad():
        released.model[2].weight.mul_(2)
    answers, before = released(x), state_of(released)
    other = hampkit.nn.HampModel(plain(), **FULL)
    other(x)
    for strict in (True, False):
        if said == "Unexpected key" and not strict:
            continue
        with pytest.raises(error, match=said):
            released.load_state_dict({**other.state_dict(), **changes}, strict=strict, assign=assign)
        assert same(state_of(released), before)
        assert torch.equal(released(x), answers)
    released.load_state_dict(other.state_dict(), assign=assign)
    assert torch.equal(released(x), other(x)), "a right state is accepted afterwards"


@pytest.mark.parametrize("wrong", [name for name in WRONG if WRONG[name][1] is UserError])
def test_a_release_that_is_part_of_a_module_refuses_before_it_changes(wrong):
    changes, error, said = WRONG[wrong]
    released = hampkit.nn.HampModel(plain(), **FULL)
    released(torch.eye(8))
    before = state_of(released)
    with pytest.raises(error, match=said):
        nn.Sequential(released).load_state_dict({f"0.{k}": v for k, v in {**before, **changes}.items()})
    assert same(state_of(released), before)


def test_a_bank_of_a_wrong_width_is_named_by_a_release_that_has_not_answered_yet():
    first, fresh = (hampkit.nn.HampModel(plain(), **FULL) for _ in range(2))
    first(torch.eye(8))
    fresh.load_state_dict({**first.state_dict(), "bank": torch.zeros(10, 3)})
    with pytest.raises(UserError, match=r"the bank \(10, 3\) has answers of 3 classes, and the network has 4"):
        fresh(torch.eye(8))
    fresh.load_state_dict(first.state_dict())
    assert torch.equal(fresh(torch.eye(8)), first(torch.eye(8)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("made", [torch.float32, torch.float64], ids=str)
def test_bounds_and_secret_keep_their_type_and_values(dtype, made):
    data = torch.rand(100, 8, dtype=made) * 1e5
    released = hampkit.nn.HampModel(plain(), "fit", data=data, keyed=True)
    secret = released.secret.clone()
    for module in (released.to(dtype), nn.Sequential(released).to(dtype)[0], released.type(dtype)):
        assert next(module.model.parameters()).dtype == dtype
        assert torch.equal(module.noise_low, data.amin(0))
        assert torch.equal(module.noise_high, data.amax(0))
        assert module.noise_high.dtype == made
        assert torch.equal(module.secret, secret)
        assert module.secret.dtype == torch.uint8
    replica = hampkit.nn.HampModel(plain(), "fit", data=torch.rand(3, 8), keyed=True)
    replica.load_state_dict(released.state_dict())
    x = data.float()
    assert torch.equal(replica.noise_high, data.amax(0))
    assert replica.noise_high.dtype == made
    assert torch.equal(replica(x).argmax(-1), replica.model(x).argmax(-1))
    assert replica(x).isfinite().all()


def test_bounds_that_were_saved_in_half_precision_are_kept_in_single():
    released = hampkit.nn.HampModel(plain(), "fit", data=torch.rand(9, 8))
    state = {k: v.half() if k.startswith("noise") else v for k, v in released.state_dict().items()}
    for assign in (False, True):
        released.load_state_dict(state, assign=assign)
        assert released.noise_high.dtype == torch.float32
        assert torch.equal(released.noise_high, state["noise_high"].float())


@pytest.mark.parametrize("noise", [{"noise": "fit", "data": torch.eye(8) * 1e5}, {"noise": torch.eye(8) * 1e5}])
def test_noise_that_the_type_of_the_inputs_cannot_hold_is_refused(noise):
    """It would be infinite, and the answers NaN."""
    released, x = hampkit.nn.HampModel(plain(), **noise).half(), torch.eye(8).half()
    with pytest.raises(UserError, match=r"torch.float16 hold numbers to 65504, and the noise has numbers to 100000"):
        released(x)
    assert released.bfloat16()(x.bfloat16()).isfinite().all()


CHANGES = {
    "a state of the network": lambda net, new: net.load_state_dict(new.state_dict()),
    "its tensors": lambda net, new: net.load_state_dict(new.state_dict(), assign=True),
    "a step of training": lambda net, new: net[0].weight.data_ptr() and torch.no_grad()(net[0].weight.add_)(1.0),
    "a new layer": lambda net, new: net.__setitem__(2, new[2]),
}


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_bank_is_prepared_anew_once_the_weights_changed(change, keyed):
    released, x = hampkit.nn.HampModel(plain(), "uniform", bank=6, keyed=keyed), torch.rand(20, 8)
    released(x)
    old, new = released.bank, plain()
    with torch.no_grad():
        new[2].bias.add_(100.0)
    CHANGES[change](released.model, new)
    with pytest.raises(UserError, match="call the HampModel with inputs before"):
        released.exportable()
    if keyed:
        with pytest.raises(UserError, match="also after the network's weights changed"):
            released.state_dict()
    released(x)
    assert not torch.equal(released.bank, old)
    assert released(x).sort(-1).values.unique(dim=0).shape[0] <= 6, "all answers come from the new bank"
    again = released.bank
    released(x)
    assert released.bank is again


def test_a_keyed_bank_that_is_prepared_anew_is_announced():
    released, x = hampkit.nn.HampModel(plain(), "uniform", bank=6, keyed=True), torch.rand(20, 8)
    released(x)
    released.model.load_state_dict(plain().state_dict())
    with pytest.warns(Notice, match="the bank is prepared anew: replicas answer alike again once they load"):
        released(x)


KEPT = {
    "type": lambda released: released.double(),
    "type of the network": lambda released: (released.model.double(), released)[1],
    "device": lambda released: released.to("cpu"),
    "copy": copy.deepcopy,
    "pickle": lambda released: pickle.loads(pickle.dumps(released)),
    "training mode": lambda released: released.train(),
    "gradients": lambda released: released.requires_grad_(False),
    "load of a state": lambda released: (released.load_state_dict(released.state_dict()), released)[1],
    "load within a module": lambda released: (
        (outer := nn.Sequential(released)).load_state_dict(outer.state_dict()),
        released,
    )[1],
}


@pytest.mark.parametrize("change", KEPT)
def test_a_bank_remains_while_the_weights_do(change):
    released, x = hampkit.nn.HampModel(plain(), "uniform", bank=6, keyed=True), torch.rand(20, 8)
    released(x)
    bank = released.bank.clone()
    kept = KEPT[change](released)
    kept(x.to(next(kept.model.parameters()).dtype))
    assert torch.equal(kept.bank.float(), bank)
    with torch.no_grad():
        kept.model[2].bias.add_(1.0)
    kept(x.to(next(kept.model.parameters()).dtype))
    assert not torch.equal(kept.bank.float(), bank), "a change is noticed afterwards"


def test_a_network_with_another_number_of_classes_takes_a_state_of_that_number():
    network, x = plain(), torch.rand(20, 8)
    released = hampkit.nn.HampModel(network, "uniform", bank=6, keyed=True)
    released(x)
    other = hampkit.nn.HampModel(plain(classes=3), "uniform", bank=6, keyed=True)
    answers = other(x)
    network[2] = nn.Linear(16, 3)
    released.load_state_dict(other.state_dict())
    assert torch.equal(released(x), answers)


def test_a_state_without_a_bank_makes_a_prepared_release_prepare_anew():
    """Only a keyed release has to agree with others on the bank."""
    saved, released = (hampkit.nn.HampModel(plain(), "uniform", bank=6) for _ in range(2))
    released(torch.rand(3, 8))
    released.load_state_dict({k: v for k, v in saved.state_dict().items() if k != "bank"})
    assert released.bank is None
    released(torch.rand(3, 8))


def test_a_compiled_release_notices_new_weights():
    released, x = hampkit.nn.HampModel(plain(), "uniform", bank=6), torch.rand(20, 8)
    compiled = torch.compile(released, backend="eager")
    compiled(x)
    old = released.bank
    with torch.no_grad():
        released.model[2].bias.add_(100.0)
    assert torch.equal(compiled(x).argmax(-1), released.model(x).argmax(-1))
    assert not torch.equal(released.bank, old)

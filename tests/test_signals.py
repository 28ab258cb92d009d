"""Signals against 50-digit arithmetic, at extremes, and in both kinds of arrays."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hampkit.signals import SIGNALS

EXTREMES = [
    [0.0, 0.0],
    [1e4, -1e4],
    [-1e4, 1e4],
    [1e4, 1e4, -1e4],
    [40.0, 0.0, -3.0],
    [1e-9, 0.0, -1e-9],
    [800.0, 0.0, 1.0],
    [0.3, -2.0, 5.0, 5.0, 4.999999],
    [1e4, 9999.5, -1e4, 0.0],
]


def reference(name: str, logits: list[float], y: int) -> float:
    """The definitions as they stand in the papers, with 60 digits more than the smallest probability has zeros."""
    with mpmath.workdps(60 + int((max(logits) - min(logits)) / math.log(10))):
        z = [mpmath.mpf(v) for v in logits]
        total = mpmath.fsum(mpmath.exp(v) for v in z)
        p = [mpmath.exp(v) / total for v in z]
        rest = mpmath.fsum(q for j, q in enumerate(p) if j != y)
        others = [v for j, v in enumerate(z) if j != y]
        value = {
            "correct": lambda: mpmath.mpf(int(z.index(max(z)) == y)),
            "confidence": lambda: p[y],
            "loss": lambda: -mpmath.log(p[y]),
            "entropy": lambda: -mpmath.fsum(q * mpmath.log(q) for q in p),
            "modified_entropy": lambda: (
                -rest * mpmath.log(p[y])
                - mpmath.fsum(
                    q * mpmath.log(mpmath.fsum(p[k] for k in range(len(p)) if k != j))
                    for j, q in enumerate(p)
                    if j != y
                )
            ),
            "scaled_logit": lambda: mpmath.log(p[y]) - mpmath.log(rest),
            "hinge": lambda: z[y] - max(others),
        }[name]()
        return float(value)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("logits", EXTREMES, ids=str)
def test_signal_equals_the_definition_at_extremes(name, logits):
    for y in range(len(logits)):
        got = float(SIGNALS[name](np.array(logits), np.array(y)))
        assert got == pytest.approx(reference(name, logits, y), rel=1e-9, abs=1e-300), (logits, y)


@settings(max_examples=60, deadline=None)
@given(logits=st.lists(st.floats(-50, 50), min_size=2, max_size=6), data=st.data())
def test_signal_equals_the_definition(logits, data):
    y = data.draw(st.integers(0, len(logits) - 1))
    for name, signal in SIGNALS.items():
        got = float(signal(np.array(logits), np.array(y)))
        assert got == pytest.approx(reference(name, logits, y), rel=1e-9, abs=1e-12), name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_signals_are_finite_for_logits_up_to_ten_thousand(rows):
    logits = np.array(rows)
    for name, signal in SIGNALS.items():
        values = signal(logits, np.arange(len(rows)) % 4)
        assert np.isfinite(values).all(), name
        assert values.dtype == np.float64


@pytest.mark.parametrize("name", SIGNALS)
def test_same_kind_out_as_in(name):
    logits, y = np.random.default_rng(0).normal(size=(2, 3, 5)), np.zeros((2, 3), dtype=int)
    as_array = SIGNALS[name](logits, y)
    as_tensor = SIGNALS[name](torch.from_numpy(logits).float(), torch.from_numpy(y))
    assert isinstance(as_array, np.ndarray)
    assert as_array.shape == (2, 3)
    assert isinstance(as_tensor, torch.Tensor)
    assert as_tensor.dtype == torch.float64
    assert np.allclose(as_array, as_tensor.numpy(), atol=1e-5)


def test_confident_models_do_not_tie():
    """In float32 probabilities both examples have confidence 1; the difference decides low false-positive rates."""
    logits = np.array([[30.0, 0.0], [31.0, 0.0]])
    a, b = SIGNALS["scaled_logit"](logits, np.array([0, 0]))
    assert b - a == pytest.approx(1.0)
    assert SIGNALS["loss"](logits, np.array([0, 0]))[1] > 0

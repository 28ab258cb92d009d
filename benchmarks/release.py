"""HAMP's output modification against the published way of doing it: an explicit double loop per row.

    python -m benchmarks.release [N] [C]

Both get the same logits and noise logits; the results must be equal
(of tied logits hampkit's default keeps distinct values, the loop does not: such rows are compared
with ties="published"). Prints the best of five and the ratio.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hampkit.defenses.hamp import swap_confidences


def double_loop(z: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The j-th smallest noise value goes wherever a row holds its j-th smallest logit (protocol 3.2e)."""
    new = np.zeros_like(r)
    ordered, noise = np.sort(z, -1), np.sort(r, -1)
    for i in range(len(z)):
        for j in range(z.shape[1]):
            new[i][z[i] == ordered[i, j]] = noise[i, j]
    return new


def seconds(call: Callable[[], Any], times: int) -> tuple[float, Any]:
    best, result = np.inf, None
    for _ in range(times):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def measure(n: int = 20_000, classes: int = 100) -> dict[str, float]:
    z, r = np.random.default_rng(0).normal(size=(2, n, classes)).astype(np.float32)
    swap_confidences(z, r)  # warm up
    fast, ours = seconds(lambda: swap_confidences(z, r), 5)
    slow, theirs = seconds(lambda: double_loop(z, r), 1)
    assert np.array_equal(swap_confidences(z, r, ties="published"), theirs)
    untied = (np.sort(z, -1)[:, 1:] != np.sort(z, -1)[:, :-1]).all(
        -1
    )  # a few rows of float32 numbers hold the same one twice
    assert np.array_equal(ours[untied], theirs[untied])
    return {"loop_s": slow, "swap_s": fast, "ratio": slow / fast}


def main() -> None:
    n, classes = [int(word) for word in sys.argv[1:]] or [20_000, 100]
    m = measure(n, classes)
    print(
        f"swap_confidences, {n:,} x {classes}: loop {m['loop_s']:.2f} s, hampkit {m['swap_s']:.4f} s, ratio {m['ratio']:.0f}"
    )


if __name__ == "__main__":
    main()

"""Everything that only a GPU can show, in one command of at most seven minutes, without network.

    python -m benchmarks.gpu_check --out DIR [--device cuda] [--minutes 7]

In turn, each with a share of the time: the tests marked ``cuda``; 128 shadow models of the Purchase100 shape, a few epochs of
them, extrapolated, with the device's rates of products and of copies; 16 DenseNets one by one, stacked and with recorded steps.
DIR gets ``check.json`` and ``check.txt``, written anew after every part, so that a run that is cut off still has results, and
the full output of each part. Needs torch, NumPy, SciPy, scikit-learn, pyarrow, safetensors, filelock, typer, rich, pytest,
hypothesis; what is missing is named first. The exit code is 0 where every part ended well.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine

ROOT = Path(__file__).parent.parent
NEEDED = ("torch", "numpy", "scipy", "sklearn", "pyarrow", "safetensors", "filelock", "pooch", "typer", "rich", "jinja2",
          "plotly", "pytest", "hypothesis")  # fmt: skip
SHARES = {"tests": 0.45, "shadows": 0.3, "densenets": 0.2}  # of the time; the rest is for starting
KEPT = 6000  # characters of a part's output that the summary keeps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", help="cpu shows on any machine that the check itself works")
    parser.add_argument("--minutes", type=float, default=7.0)
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; --device cpu tries the check itself")
    asked.out.mkdir(parents=True, exist_ok=True)
    sys.exit(check(asked.out, asked.device, 60 * asked.minutes))


def check(out: Path, device: str, seconds: float) -> int:
    """All parts; returns the exit code."""
    begun = time.monotonic()
    found: dict[str, Any] = {"machine": machine.describe(device), "missing": missing(), "parts": {}}
    _write(out, found)
    for name, command in parts(device).items():
        left = seconds - (time.monotonic() - begun)
        found["parts"][name] = run(command, out / f"{name}.txt", min(SHARES[name] * seconds, left))
        _write(out, found)
    print((out / "check.txt").read_text())
    return 0 if all(part["exit code"] == 0 for part in found["parts"].values()) else 1


def parts(device: str) -> dict[str, Sequence[str]]:
    """The command of each part; on the CPU small ones, which only show that they run."""
    small, python = device == "cpu", [sys.executable, "-u", "-m"]
    tests = ["pytest", "-p", "no:cacheprovider", "-x" if small else "-v", "tests/test_cuda.py"]
    tests += ["-k", "undefended or gpus"] if small else ["-m", "cuda"]
    shape, models = ("location30", "1") if small else ("purchase100", "128")
    shadows = ["benchmarks.shadows", shape, "--short", "--no-save", "--device", device, "--models", models]
    sizes = ["--models", "2", "--rows", "8", "--side", "8"] if small else []
    return {
        "tests": [*python, *tests],
        "shadows": [*python, *shadows],
        "densenets": [*python, "benchmarks.gpu_stack", "--device", device, *sizes],
    }


def missing() -> list[str]:
    """Packages that are not installed: some of the parts cannot run without them."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def run(command: Sequence[str], log: Path, seconds: float) -> dict[str, Any]:
    """Run a part with its output in a file, for so many seconds at most; a part that is cut off keeps what it printed."""
    clock = time.monotonic()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with log.open("w") as file:
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT, timeout=max(seconds, 1)
            )
            code: int | str = done.returncode
        except subprocess.TimeoutExpired:
            code = "cut off"
    return {
        "command": " ".join(["python", *command[2:]]),
        "exit code": code,
        "seconds": round(time.monotonic() - clock, 1),
        "output": log.read_text(errors="replace")[-KEPT:],
    }


def _write(out: Path, found: dict[str, Any]) -> None:
    (out / "check.json").write_text(json.dumps(found, indent=1))
    about = ", ".join(f"{k} {v}" for k, v in found["machine"].items())
    lines = [f"machine: {about}", f"missing packages: {', '.join(found['missing']) or 'none'}"]
    for name, part in found["parts"].items():
        lines += ["", f"== {name}: exit code {part['exit code']}, {part['seconds']} s", part["command"], part["output"]]
    (out / "check.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

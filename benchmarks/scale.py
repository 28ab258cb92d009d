"""Peak memory and disk of a whole evaluation with shadow models, as their number grows: a pool of 40,000 examples.

    python -m benchmarks.scale [--models M ...] [--no-save]

Every run is a fresh process; its memory is the highest sum over it and its workers, looked up in /proc ten times a second
(Linux only). The network and its training are small: what counts here are the signals.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hampkit
from benchmarks import machine

RECIPE = "toy/undefended"
OPTIONS = {
    "data.rows": 60_000,
    "split.train_size": 25_000,
    "net": "mlp-small",
    "train.epochs": 1,
    "train.batch_size": 512,
    "shadows.scheme": "paired",
}
ATTACKS = ["lira", "rmia", "attack-r"]  # those that look at shadow models


def tree_memory(root: int) -> int:
    """Bytes that a process and all its descendants hold in memory; what two share counts twice."""
    parents, held = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
        except (OSError, ValueError):
            continue
        parents[int(folder.name)] = int(status["PPid"])
        held[int(folder.name)] = 1024 * int(status.get("VmRSS", "0 kB").split()[0])

    def below(pid: int) -> bool:
        while pid and pid != root:
            pid = parents.get(pid, 0)
        return pid == root

    return sum(size for pid, size in held.items() if below(pid))


def measure(models: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        planned = hampkit.plan(RECIPE, models, options=OPTIONS, runs_dir=folder)
        asked = {"options": OPTIONS, "shadows": models, "attacks": ATTACKS, "runs_dir": folder}
        command = [sys.executable, "-c", f"import hampkit; hampkit.run({RECIPE!r}, **{asked!r})"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        clock = time.perf_counter()
        process = subprocess.Popen(command, env=environment)
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.1)
        assert process.returncode == 0, f"{command} ended with code {process.returncode}"
        seconds = time.perf_counter() - clock
        (shadows,) = Path(folder).glob("*/shadows/*")
        disk = sum(p.stat().st_size for p in shadows.rglob("*") if p.is_file())
    return {
        "shadow models": models,
        "seconds": round(seconds),
        "peak memory, MB": round(peak / 1e6),
        "planned, MB": round(planned.memory / 1e6),
        "disk of the shadow models, MB": round(disk / 1e6, 2),
        "planned disk, MB": round(planned.disk / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--no-save", action="store_true", help="print only")
    asked = parser.parse_args()
    rows = []
    for models in asked.models:
        rows.append(measure(models))
        print(rows[-1], flush=True)
    first, last = rows[0], rows[-1]
    notes = [
        f"Peak memory with {last['shadow models']} shadow models is"
        f" {last['peak memory, MB'] / first['peak memory, MB']:.2f} times that with {first['shadow models']};"
        f" the disk differs from the plan by at most"
        f" {max(abs(r['disk of the shadow models, MB'] / r['planned disk, MB'] - 1) for r in rows):.1%}."
    ]
    print(*notes, sep="\n")
    if not asked.no_save:
        command = f"python -m benchmarks.scale --models {' '.join(map(str, asked.models))}"
        print(machine.save("memory and disk", {"command": command, "rows": rows, "notes": notes}))


if __name__ == "__main__":
    main()

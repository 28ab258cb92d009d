"""What the machine itself can do, measured, and the one file per kind of machine that all measurements go into."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hampkit.launch.local import cores

RESULTS = Path(__file__).parent / "results"


def kind(device: str = "cpu") -> str:
    """The machine in general terms; also the name of its file of results."""
    if device == "cuda":
        return torch.cuda.get_device_name().lower().replace(" ", "-")
    return f"{platform.machine()}-{cores()}-cores"


def describe(device: str = "cpu") -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    found = {
        "cores": cores(),
        "architecture": platform.machine(),
        "vector units": torch.backends.cpu.get_cpu_capability(),
        "memory GiB": round(memory),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        found |= {"device": gpu.name, "device memory GiB": round(gpu.total_memory / 2**30)}
    return found


def matrix_rate(device: torch.device, size: int = 1024, seconds: float = 1.0) -> float:
    """FLOP/s of float32 products of two square matrices: the median of short series, as other load comes and goes."""
    a = torch.rand(size, size, device=device)
    return _rate(lambda: a @ a, 2 * size**3, device, seconds)


def copy_rate(device: torch.device, seconds: float = 1.0) -> float:
    """Bytes per second read and written when a tensor too large for any cache is copied."""
    a = torch.rand(2**26, device=device)
    b = torch.empty_like(a)
    return _rate(lambda: b.copy_(a), 2 * a.numel() * a.element_size(), device, seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def save(section: str, document: dict[str, Any], device: str = "cpu") -> Path:
    """Put a section into the file of this kind of machine, and write its Markdown page anew."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{kind(device)}.json"
    sections = json.loads(path.read_text("utf-8"))["sections"] if path.is_file() else {}
    sections[section] = {"machine": describe(device), **document}
    path.write_text(json.dumps({"schema": 1, "sections": sections}, indent=1) + "\n", "utf-8")
    page = path.with_suffix(".md")
    page.write_text(_page(kind(device), sections), "utf-8")
    return page


def _rate(call: Callable[[], Any], amount: float, device: torch.device, seconds: float) -> float:
    for _ in range(3):
        call()
    rates, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or not rates:
        synchronize(device)
        clock = time.perf_counter()
        for _ in range(5):
            call()
        synchronize(device)
        rates.append(5 * amount / (time.perf_counter() - clock))
    return sorted(rates)[len(rates) // 2]


def _page(name: str, sections: dict[str, Any]) -> str:
    lines = [f"# Measured on {name}", "", "Written by the commands below; do not edit."]
    for section, document in sections.items():
        machine = ", ".join(f"{k} {v}" for k, v in document["machine"].items())
        lines += ["", f"## {section}", "", f"`{document['command']}`, on: {machine}.", ""]
        if document["rows"]:
            columns = list(document["rows"][0])
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(str(row[c]) for c in columns) + " |" for row in document["rows"]]
        lines += ["", *(f"- {note}" for note in document.get("notes", []))]
    return "\n".join(lines).rstrip() + "\n"

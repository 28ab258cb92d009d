"""The environment of a result: versions, device, system, git revision."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ENVIRONMENT = ("python", "versions", "device", "git")  # keys that a report needs
PACKAGES = ("hampkit", "torch", "numpy", "scipy", "scikit-learn")


def environment(device: torch.device) -> dict[str, Any]:
    """The environment of this process as JSON values."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "git": _revision(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _revision() -> str | None:
    """The git revision of hampkit if it runs from a checkout, else None."""
    here = Path(__file__).resolve().parent
    if not (here.parent.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

"""Write ``src/hampkit/catalog.json``, from which `hampkit list` and shell completion answer without importing torch.

python -m benchmarks.catalog           whether the file is up to date
python -m benchmarks.catalog --write   write it
"""

from __future__ import annotations

import json
import sys

from hampkit.catalog import FILE, to_json
from hampkit.workflows.catalog import from_registries


def text() -> str:
    """The content of the file."""
    return json.dumps(to_json(from_registries()), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(text(), "utf-8")
    elif not FILE.exists() or FILE.read_text("utf-8") != text():
        sys.exit(f"{FILE.name} is out of date: python -m benchmarks.catalog --write")

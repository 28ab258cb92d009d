"""Draw the layers of hampkit from its imports, as the Mermaid diagram of docs/architecture.md.

    python docs/layers.py           print the diagram
    python docs/layers.py --write   put it into docs/architecture.md

An arrow leads from a part to one that it imports; arrows that follow from others are left out, and so are `errors`, `rng`,
`text` and `types`, which everything may import.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "src" / "hampkit"
PAGE = HERE / "architecture.md"
EVERYWHERE = {"errors", "rng", "text", "types"}
OLD_NAMES = {"metrics", "blackbox"}  # of before, for one release
BLOCK = re.compile(r"(```mermaid\n).*?(```)", re.DOTALL)


def graph() -> dict[str, set[str]]:
    """Part → the parts that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part not in EVERYWHERE | OLD_NAMES | {"__init__"}:
            found.setdefault(part, set()).update(set(_imports(path)) - EVERYWHERE - {part})
    return {part: others & found.keys() for part, others in found.items()}


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that follow from others (transitive reduction of a graph without circles)."""
    below = {part: _reached(graph, part) for part in graph}
    return {part: {b for b in others if not any(b in below[c] for c in others - {b})} for part, others in graph.items()}


def diagram() -> str:
    lines = ["flowchart TD"]
    arrows = reduced(graph())
    lines += [f"    {part} --> {other}" for part in sorted(arrows) for other in sorted(arrows[part])]
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the diagram in its Mermaid block."""
    return BLOCK.sub(lambda block: block[1] + diagram() + block[2], page)


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hampkit":
            inner = node.module.split(".")[1:]
            found += inner[:1] or [alias.name for alias in node.names]
    return found


def _reached(graph: dict[str, set[str]], part: str) -> set[str]:
    direct = graph[part]
    return direct.union(*(_reached(graph, other) for other in direct))


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    else:
        sys.stdout.write(diagram())

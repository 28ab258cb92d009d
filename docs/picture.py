"""Take the picture of the README: the top of a report, as a browser shows it.

    python docs/picture.py runs/report.html docs/images/report.png

Needs chromium. The window is 1,200 pixels wide and 1,330 high.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SIZE = "1200,1330"


def take(page: Path, picture: Path) -> None:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}"]
    command = ["chromium", *flags, f"--screenshot={picture.resolve()}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))

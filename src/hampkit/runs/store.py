"""A run on disk: a folder whose steps appear only when complete.

A step writes into a scratch folder that is renamed when all of it is there and its checksums are written. So resuming is
re-running, a kill at any moment loses at most the step in flight, and a damaged file is noticed and made again. One process
works on a run at a time, see `hampkit.runs.locks`. No pickle, neither written nor read.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hampkit.config.content import content_hash, file_hash
from hampkit.errors import UserError, one_line
from hampkit.files import replacing

MANIFEST = "manifest.json"
IN_PLACE = (
    "a run is trained and attacked where it lies: copy it to a folder that can be written, or take another --runs-dir"
)


@dataclass(frozen=True)
class Run:
    """One run folder, ``<data>-<defense>-<hash8>``."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @staticmethod
    def create(runs_dir: Path, name: str, write: Callable[[Path], None]) -> Run:
        """The run of that name, made by ``write`` in a scratch folder where it does not exist. Its lock must be held."""
        run = Run(runs_dir / name)
        if not run.folder.exists():
            with _scratch(run.folder) as scratch:
                write(scratch)
        run.recipe()
        # what a killed process left; the lock is held, so nobody works in there
        for left in (*run.folder.rglob("*.partial"), *runs_dir.glob(f".{glob.escape(name)}.*.partial")):
            shutil.rmtree(left, ignore_errors=True)
        return run

    @staticmethod
    def at(folder: Path) -> Run:
        """An existing run. Errors: `UserError` where there is none or its recipe was edited."""
        if not (folder / "recipe.json").is_file():
            raise UserError(
                f"{folder} is no run folder (it holds no recipe.json); give one that hampkit train or hampkit run made"
            )
        run = Run(folder)
        run.recipe()
        return run

    def recipe(self) -> dict[str, Any]:
        """The recipe as it was when the run was made."""
        path = self.folder / "recipe.json"
        recipe = read_json(path)
        found = content_hash(recipe)[:8]
        if found != self.name.rsplit("-", 1)[-1]:
            raise UserError(
                f"{path} was edited, or its folder renamed: the content has the hash {found}, the folder's name is {self.name};"
                " put file and name back, or delete the folder and run the recipe anew"
            )
        return recipe

    def step(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of a step; ``make`` fills it where it is missing or damaged."""
        folder = self.folder / name
        if folder.exists() and not _intact(folder):
            shutil.rmtree(folder)
        if not folder.exists():
            with _scratch(folder) as scratch:
                make(scratch)
                _write_manifest(scratch)
        return folder

    def done(self, name: str) -> bool:
        return (self.folder / name).exists() and _intact(self.folder / name)


def writable(folder: Path, remedy: str = "choose another folder") -> None:
    """Make a folder and try to write into it. Errors: `UserError`, which ends with the remedy."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {one_line(error)}; {remedy}") from None


def readable(path: Path) -> bool:
    """Whether it is a JSON document."""
    try:
        return isinstance(read_json(path), dict)
    except UserError:
        return False


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    with replacing(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, document: Any) -> None:
    """Canonical enough to compare byte for byte: sorted keys, shortest floats, no NaN."""
    write_file(path, json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *needed: str) -> Any:
    """A document with all needed keys. Errors: `UserError` where the file is missing, damaged or lacks one."""
    try:
        document = json.loads(path.read_text("utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; delete {path.parent} and run again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {one_line(error)}; delete its folder and run again") from None
    for key in needed:
        if not isinstance(document, dict) or key not in document:
            raise UserError(f"{path} lacks {key!r}: it was edited or damaged; delete {path.parent} and run again")
    return document


def _no_number(text: str) -> None:
    raise ValueError(f"it holds {text}, which hampkit never writes")


def save_tensors(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save

    write_file(path, save({k: v.contiguous() for k, v in tensors.items()}))


def load_tensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load

    return load(path.read_bytes())


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` that takes its place at the end, or vanishes. Errors: `UserError` where none can be made."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial"))
    except PermissionError as error:
        raise UserError(f"cannot write to {folder.parent}: {one_line(error)}; {IN_PLACE}") from None
    try:
        scratch.chmod(0o755)
        yield scratch
        os.rename(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _write_manifest(folder: Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    write_json(folder / MANIFEST, {str(p.relative_to(folder)): file_hash(p) for p in files})


def _intact(folder: Path) -> bool:
    """Whether a step holds exactly the files of its manifest, each with its hash.

    Only a missing file or other content is damage, after which a step is made again. What cannot be read may be whole.
    Errors: `UserError`.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if not isinstance(manifest, dict) or not manifest or set(manifest) != _files(folder):
            return False
        return all(file_hash(folder / name) == wanted for name, wanted in manifest.items())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or folder}: {one_line(error)}; nothing was changed: make it readable"
            " and run again"
        ) from None


def _files(folder: Path) -> set[str]:
    """The files of a step, without its manifest and what desktops leave behind (.DS_Store)."""

    def stop(error: OSError) -> None:
        raise error

    found = (Path(place) / name for place, _, names in os.walk(folder, onerror=stop) for name in names)
    return {str(p.relative_to(folder)) for p in found if p.name != MANIFEST and not p.name.startswith(".")}

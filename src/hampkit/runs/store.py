"""Runs on disk: a run is a folder, and its steps are folders that appear only when they are complete.

A step is written into a scratch folder, which is renamed after its checksums are written. To resume a run is therefore to run
it again: a kill loses at most the current step, and a damaged step is detected and computed again. One process works on a run
at a time, see `hampkit.runs.locks`. Nothing is pickled or unpickled.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hampkit.config.content import content_hash, file_hash
from hampkit.config.files import is_run, replacing, table_advice
from hampkit.errors import UserError, one_line

MANIFEST = "manifest.json"
IN_PLACE = "training and attacking write into the run folder: copy it to a folder that can be written, or use another --runs-dir"


@dataclass(frozen=True)
class Run:
    """One run folder, ``<data>-<defense>-<hash8>``."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @staticmethod
    def create(runs_dir: Path, name: str, write: Callable[[Path], None]) -> Run:
        """The run of this name; if it does not exist, ``write`` fills its folder. The lock of the run must be held.

        Raises: `UserError` if the folder cannot be written or recipe.json was edited.
        """
        run = Run(runs_dir / name)
        if not run.folder.exists():
            with _scratch(run.folder) as scratch:
                write(scratch)
        run.recipe()
        # scratch folders of killed processes; the lock is held, so no other process uses them
        for left in (*run.folder.rglob("*.partial"), *runs_dir.glob(f".{glob.escape(name)}.*.partial")):
            shutil.rmtree(left, ignore_errors=True)
        return run

    @staticmethod
    def at(folder: Path) -> Run:
        """An existing run.

        Raises: `UserError` if there is none or recipe.json was edited.
        """
        if not is_run(folder):
            raise UserError(f"{folder} is not a run folder (it has no recipe.json); {_instead_of(folder)}")
        run = Run(folder)
        run.recipe()
        return run

    def recipe(self) -> dict[str, Any]:
        """The content of recipe.json.

        Raises: `UserError` if it was edited, which its hash in the folder's name shows.
        """
        path = self.folder / "recipe.json"
        recipe = read_json(path)
        found = content_hash(recipe)[:8]
        if found != self.name.rsplit("-", 1)[-1]:
            raise UserError(
                f"{path} was edited, or its folder renamed: the content has the hash {found}, the folder's name is {self.name};"
                " restore both, or delete the folder and run the recipe again"
            )
        return recipe

    def step(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of a step; ``make`` fills it if it is missing or damaged."""
        folder = self.folder / name
        if folder.exists() and not _intact(folder):
            shutil.rmtree(folder)
        if not folder.exists():
            with _scratch(folder) as scratch:
                make(scratch)
                _write_manifest(scratch)
        return folder

    def remove_without_steps(self) -> None:
        """Remove the folder of a run that has no finished step, as after a training that failed. Its lock must be held."""
        if not any(self.folder.rglob(MANIFEST)):
            shutil.rmtree(self.folder, ignore_errors=True)

    def done(self, name: str) -> bool:
        """Whether a step exists and is undamaged."""
        return (self.folder / name).exists() and _intact(self.folder / name)


def _instead_of(folder: Path) -> str:
    """What to give in place of a folder that is no run: the runs in it, if there are any."""
    with contextlib.suppress(OSError, ValueError):  # a folder that cannot be read, a name that no file can have
        if inside := sorted(path.parent for path in folder.glob("*/recipe.json")):
            more = f", … ({len(inside)} in all)" if len(inside) > 3 else ""
            return f"give one of the runs in it: {', '.join(map(str, inside[:3]))}{more}"
    advice = table_advice(str(folder))
    return "give a folder that hampkit train or hampkit run made" + (f"; {advice}" if advice else "")


def readable(path: Path, *keys: str) -> bool:
    """Whether a file contains a JSON object with these keys."""
    try:
        return isinstance(read_json(path, *keys), dict)
    except UserError:
        return False


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing, see `hampkit.config.files`."""
    with replacing(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def replaces(path: Path, content: str) -> bool:
    """Whether a file is there with another content."""
    try:
        return path.read_bytes() != content.encode()
    except FileNotFoundError:
        return False


def write_json(path: Path, document: Any) -> None:
    """Write a document as `json_text`."""
    write_file(path, json_text(document))


def json_text(document: Any) -> str:
    """JSON with sorted keys, the shortest form of every float and no NaN, so that equal documents have equal bytes."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path, *needed: str) -> Any:
    """The content of a JSON file.

    needed: keys that the document must have.
    Raises: `UserError` if the file is missing or damaged, or lacks a key.
    """
    try:
        document = json.loads(path.read_text("utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_anew(path)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {one_line(error)}; {_anew(path)}") from None
    for key in needed:
        if not isinstance(document, dict) or key not in document:
            raise UserError(f"{path} lacks {key!r}: it was edited or damaged; {_anew(path)}")
    return document


def _anew(path: Path) -> str:
    """How a file is written anew: the results of a run by an attack, which trains nothing."""
    if path.name in ("result.json", "details.json") and is_run(path.parent):
        return f"attack again, which writes it anew: hampkit attack {shlex.quote(str(path.parent))}"
    return f"delete {path.parent} and run again"


def _no_number(text: str) -> None:
    raise ValueError(f"it contains {text}, which hampkit never writes")


def save_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write a file of safetensors."""
    from safetensors.torch import save

    write_file(path, save({k: v.contiguous() for k, v in tensors.items()}))


def load_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a file of safetensors by name."""
    from safetensors.torch import load

    return load(path.read_bytes())


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, which is renamed to it at the end of the block, or removed after an exception.

    Raises: `UserError` if it cannot be made.
    """
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
    """Whether a step contains exactly the files of its manifest, each with its hash.

    Only missing files and other content are damage, after which a step is computed again.

    Raises: `UserError` if a file cannot be read: it may be undamaged.
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
            f"cannot read {error.filename or folder}: {one_line(error)}; nothing was changed; make it readable"
            " and run again"
        ) from None


def _files(folder: Path) -> set[str]:
    """The files of a step, without its manifest and hidden files of desktops such as .DS_Store."""

    def stop(error: OSError) -> None:
        raise error

    found = (Path(place) / name for place, _, names in os.walk(folder, onerror=stop) for name in names)
    return {str(p.relative_to(folder)) for p in found if p.name != MANIFEST and not p.name.startswith(".")}

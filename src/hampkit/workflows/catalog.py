"""The catalog of everything that is registered, and the descriptions of ``hampkit data``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
import typing
from pathlib import Path
from typing import Any

from hampkit.catalog import GROUPS, Catalog, Group, Line, first_sentence
from hampkit.config.files import table_advice
from hampkit.config.sections import SECTIONS
from hampkit.data.base import Place
from hampkit.errors import UserError
from hampkit.nets import NETS
from hampkit.registry import ATTACKS, DATASETS, DEFENSES, GENERATORS, Registry

REGISTRIES = (DATASETS, DEFENSES, ATTACKS, GENERATORS)


def from_registries() -> Catalog:
    """The catalog of all classes, those of other packages too, which are imported for it."""
    described = {"datasets": _about_field, "generators": _about_field, "defenses": _about, "attacks": _about}
    kinds = {r.package: r for r in REGISTRIES}
    lists = {
        what: [(name, describe(cls)) for name, cls in kinds[GROUPS[what]].classes().items()]
        for what, describe in described.items()
    }
    lists["nets"] = [
        *((name, net.about) for name, net in NETS.items()),
        ("timm:NAME", "an image network of the package timm: pip install 'hampkit[timm]'"),
        ("package.module:factory", "a network of your own"),
    ]
    return Catalog(lists, _option_groups(), {r.package: _defaults(r) for r in REGISTRIES})


def _defaults(registry: Registry) -> dict[str, dict[str, Any]]:
    """The default values of the options of each class, by the name of the class."""
    return {name: _plain(cls) for name, cls in registry.classes().items()}


def _plain(cls: type) -> dict[str, Any]:
    """The defaults of a dataclass as JSON has them."""
    return {f.name: _plain_value(_default(f)) for f in dataclasses.fields(cls)}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain(type(value))
    return list(value) if isinstance(value, tuple) else value


def _about_field(cls: Any) -> str:
    return cls.about


def _about(cls: Any) -> str:
    """The first sentence of the docstring, the paper, and the names of the options."""
    options = ", ".join(field.name for field in dataclasses.fields(cls) if field.init)
    return f"{first_sentence(cls.__doc__)} {cls.paper}" + (f" Options: {options}" if options else "")


def _option_groups() -> list[Group]:
    groups = [
        Group("", "", [("net=mlp", "the network: hampkit list nets"), ("seed=0", "of the split and of training")])
    ]
    groups += [Group(section, section, _fields(section, "", cls)) for section, cls in SECTIONS.items()]
    for section, registry in (("data", DATASETS), ("defense", DEFENSES)):
        groups += [Group(section, name, _fields(section, f"{name}: ", cls)) for name, cls in registry.classes().items()]
    for name, cls in GENERATORS.classes().items():
        options = _fields("generator", f"of dmp with defense.generator={name}: ", cls)
        lines = [(f"defense.options=[{key.removeprefix('generator.')}]", text) for key, text in options]
        groups.append(Group("generator", name, lines))
    return groups + [Group("", name, _fields(name, "", cls)) for name, cls in ATTACKS.classes().items()]


def _fields(section: str, prefix: str, cls: Any) -> list[Line]:
    """Key and meaning of every field of a dataclass; prefix: of the meanings."""
    meaning = _comments(cls)
    lines: list[Line] = []
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if isinstance(hints[f.name], type) and dataclasses.is_dataclass(hints[f.name]):
            lines += _fields(f"{section}.{f.name}", prefix, hints[f.name])
        else:
            about = meaning.get(f.name) or f.metadata.get("about")
            text = "; ".join(part for part in (" | ".join(_choices(hints[f.name])), about) if part)
            lines.append((f"{section}.{f.name}={_as_typed(f.default)}", prefix + text))
    return lines


def _choices(hint: Any) -> list[str]:
    """The words that an option of a `Literal` type takes; empty for other types.

    >>> _choices(typing.Literal["adam", "sgd"] | None), _choices(int)
    (['adam', 'sgd'], [])
    """
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return [str(word) for word in inner]
    return [word for part in inner for word in _choices(part)]


def _as_typed(value: Any) -> str:
    """A default value as it is typed on the command line."""
    if value is dataclasses.MISSING:
        return ""
    if isinstance(value, (bool, type(None))):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)


def _comments(cls: Any) -> dict[str, str]:
    """The comment of each field of a dataclass and of its base classes: beside it, and in the lines below."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):
            continue
        found |= {name: text for name, text in _comments_in(source).items() if text or name not in found}
    return found


def _comments_in(source: str) -> dict[str, str]:
    """The comment of each field in the source of one class; empty for a field without one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    marks = [t for t in tokens if t.type == tokenize.COMMENT]
    comments = {t.start[0]: t.string.lstrip("# ") for t in marks}
    full_lines = {t.start[0] for t in marks if t.line.strip() == t.string}
    (body,) = (n.body for n in ast.parse(source).body if isinstance(n, ast.ClassDef))
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.end_lineno or node.lineno
            while last + 1 in full_lines:  # the comment continues in the lines below
                last += 1
            found[node.target.id] = " ".join(comments[n] for n in range(node.lineno, last + 1) if n in comments)
    return found


def describe_data(name: str, data_dir: Path | None, download: bool, progress: Any = False) -> list[str]:
    """Files, shape, hash and class counts of a data set.

    Raises: `UserError` if its files are missing or wrong.
    """
    if advice := table_advice(name):
        raise UserError(f"{name!r} is no data set of hampkit; {advice}")
    source = DATASETS.get(name)()
    data, found = source.examine(Place.default(data_dir, download=download, progress=progress))
    counts = data.y.bincount(minlength=data.num_classes).tolist()
    return [
        f"{name}: {source.about}",
        *found,
        f"rows {len(data)}, shape of a row {data.shape}, {str(data.x.dtype).removeprefix('torch.')}",
        f"classes {data.num_classes}",
        f"sha256 {data.sha256}",
        f"rows per class {counts}",
    ]

"""The lists of ``hampkit list`` and the descriptions of ``hampkit data``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import textwrap
import tokenize
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hampkit.config.extends import Address, shipped_recipes
from hampkit.config.recipe import (
    JudgeConfig,
    Recipe,
    ShadowConfig,
    SplitConfig,
    TrainConfig,
    load_recipe,
    load_resolved,
)
from hampkit.data.base import Place
from hampkit.errors import UserError, did_you_mean, nearest
from hampkit.nets import NETS
from hampkit.registry import ATTACKS, DATASETS, DEFENSES, GENERATORS, Registry

Line = tuple[str, str]
SECTIONS: dict[str, type] = {"split": SplitConfig, "train": TrainConfig, "judge": JudgeConfig, "shadows": ShadowConfig}


def listing(what: str, names: Sequence[str] = (), options: Mapping[str, str] | None = None) -> list[str]:
    """The lines of ``hampkit list WHAT [NAME] [KEY=VALUE…]``.

    Raises: `UserError` for an unknown list or name, or an option where none is allowed.
    """
    if not what:
        return [f"hampkit list {name}" for name in LISTS]
    if what not in LISTS:
        raise UserError(f"cannot list {what!r}; {did_you_mean(what, LISTS)}")
    if len(names) > 1:
        raise UserError(f"list {what} takes one name, but {names[1]!r} is a second one; leave one out")
    if what == "recipes" and names:
        return recipe_lines(names[0], options)
    for key, text in (options or {}).items():
        raise UserError(f"list {what} takes no option, {key}={text}; only hampkit list recipes NAME does")
    if names and what != "options":
        raise UserError(f"list {what} takes no name, {names[0]!r}; hampkit list options {names[0]} lists options")
    lines = options_of(names[0]) if names else LISTS[what]()
    width = max((len(name) for name, _ in lines), default=0)
    return [f"{name:<{width}}  {about}".rstrip() for name, about in lines]


def recipe_lines(name: str, options: Mapping[str, str] | None = None) -> list[str]:
    """A recipe as a TOML file without ``extends``; after each value the recipe or file that sets it, or ``default``.

    name: ``DATA/DEFENSE``, a ``.toml`` file, or ``file/DEFENSE`` for any table.

    Raises: `UserError` for an unknown recipe or option.
    """
    if name.startswith("file/") and not name.endswith(".toml"):  # no table is read
        recipe, found = load_resolved(name.removeprefix("file/"), options, "FILE", "LABEL")
    else:
        recipe, found = load_resolved(name, options)
    lines = [(text, found.origins.get(address, "default") if address else "") for address, text in _toml(recipe)]
    width = max(len(text) for text, origin in lines if origin)
    head = f"# {' extends '.join(found.chain)}"
    return [head, *(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)]


def _toml(recipe: Recipe) -> list[tuple[Address, str]]:
    """The lines of a recipe, each with the address of its value; the address of headings and empty lines is ()."""
    sections: dict[Address, Mapping[str, Any]] = {
        (): {"net": recipe.net, "seed": recipe.seed},
        ("data",): {"name": recipe.data.name, **recipe.data.options},
        ("split",): vars(recipe.split),
        ("train",): vars(recipe.train),
        ("defense",): {"name": recipe.defense.name, **recipe.defense.options},
        ("judge",): vars(recipe.judge),
        ("shadows",): vars(recipe.shadows),
        **{("attacks", name): values for name, values in recipe.attacks.items()},
    }
    return [line for address, values in sections.items() for line in _values(values, address)]


def _values(values: Mapping[str, Any], section: Address) -> list[tuple[Address, str]]:
    lines: list[tuple[Address, str]] = [((), ""), ((), f"[{'.'.join(section)}]")] if section else []
    nested: list[tuple[Address, str]] = []
    for key, value in values.items():
        if dataclasses.is_dataclass(value):  # overrides: values that are None are those of train
            overrides = {k: v for k, v in vars(value).items() if v is not None}
            nested += _values(overrides, (*section, key)) if overrides else []
        else:
            lines.append(((*section, key), f"{key} = {_as_toml(value)}"))
    return lines + nested


def _as_toml(value: Any) -> str:
    """The text of a value in a TOML file.

    >>> _as_toml((60, 90)), _as_toml(None), _as_toml(1e-05), _as_toml(True)
    ('[60, 90]', '"none"', '1e-05', 'true')
    """
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_toml, value))}]"
    return json.dumps("none" if value is None else value, ensure_ascii=False)


def _datasets() -> list[Line]:
    return [(name, cls.about) for name, cls in DATASETS.classes().items()]


def _classes(registry: Registry) -> list[Line]:
    return [(name, _about(cls)) for name, cls in registry.classes().items()]


def _about(cls: Any) -> str:
    """The first sentence of the docstring, the paper, and the names of the options."""
    options = ", ".join(field.name for field in dataclasses.fields(cls) if field.init)
    return f"{_first_sentence(cls.__doc__)} {cls.paper}" + (f" Options: {options}" if options else "")


def _recipes() -> list[Line]:
    recipes = ((name, load_recipe(name)) for name in shipped_recipes())
    lines = [(name, f"{r.net}, {r.train.epochs} epochs of {r.train.optimizer}") for name, r in recipes]
    other = ("DATA/DEFENSE", "any other pair: the training of DATA/undefended, the defense with its defaults")
    return [*lines, other, ("file/DEFENSE", "for a table of your own: hampkit run DEFENSE --data FILE --label COLUMN")]


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split()).split(". ")[0].rstrip(".") + "."


def _options() -> list[Line]:
    """Every KEY=VALUE with its default and meaning."""
    return [line for group in _option_groups() for line in group.lines]


def options_of(name: str) -> list[Line]:
    """The options of a section, data set, defense, generator, attack or family of attacks (``lira`` of ``lira-online``).

    A section such as ``data`` has the options of all data sets. Another name is one of a nested section (``distill``) or of an
    option (``lr``).

    Raises: `UserError` for an unknown name.
    """
    groups = _option_groups()
    names = {group.section for group in groups} | {group.owner for group in groups} - {""}
    chosen = [group for group in groups if name in (group.section, group.owner)]
    chosen = chosen or [group for group in groups if group.owner.startswith(f"{name}-")]
    nested = [line for group in groups for line in group.lines if name in line[0].partition("=")[0].split(".")]
    if not chosen and nested:
        return nested
    if not chosen:
        sections = ", ".join(dict.fromkeys(group.section for group in groups if group.section))
        near = nearest(name, names) or f"take a section ({sections}), or a name that hampkit list prints"
        raise UserError(f"no options of {name!r}; {near}")
    return [line for group in chosen for line in group.lines] or [(name, "has no options")]


@dataclasses.dataclass(frozen=True)
class _Group:
    """The options of one owner."""

    section: str  # empty for attacks, whose own names are the first part of their keys
    owner: str  # a data set, defense, generator or attack; for other sections the section itself
    lines: list[Line]


def _option_groups() -> list[_Group]:
    groups = [
        _Group("", "", [("net=mlp", "the network: hampkit list nets"), ("seed=0", "of the split and of training")])
    ]
    groups += [_Group(section, section, _fields(section, "", cls)) for section, cls in SECTIONS.items()]
    for section, registry in (("data", DATASETS), ("defense", DEFENSES)):
        groups += [
            _Group(section, name, _fields(section, f"{name}: ", cls)) for name, cls in registry.classes().items()
        ]
    for name, cls in GENERATORS.classes().items():
        options = _fields("generator", f"of dmp with defense.generator={name}: ", cls)
        lines = [(f"defense.options=[{key.removeprefix('generator.')}]", text) for key, text in options]
        groups.append(_Group("generator", name, lines))
    return groups + [_Group("", name, _fields(name, "", cls)) for name, cls in ATTACKS.classes().items()]


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


LISTS: dict[str, Callable[[], list[Line]]] = {
    "datasets": _datasets,
    "defenses": lambda: _classes(DEFENSES),
    "attacks": lambda: _classes(ATTACKS),
    "generators": lambda: [(name, cls.about) for name, cls in GENERATORS.classes().items()],
    "recipes": _recipes,
    "nets": lambda: [
        *((name, net.about) for name, net in NETS.items()),
        ("timm:NAME", "an image network of the package timm: pip install 'hampkit[timm]'"),
        ("package.module:factory", "a network of your own"),
    ],
    "options": _options,
}


def describe_data(name: str, data_dir: Path | None, download: bool, progress: Any = False) -> list[str]:
    """Files, shape, hash and class counts of a data set.

    Raises: `UserError` if its files are missing or wrong.
    """
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

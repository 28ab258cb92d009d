"""The lists of ``hampkit list``, from `hampkit.catalog` where possible: then torch is not imported.

The registries, which import torch, answer only what the catalog does not have: options of a class of another package, a recipe
with values of the user's for a data set, a defense or an attack, and everything in a clone with modules of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from hampkit.catalog import GROUPS, Catalog, Foreign, Group, Line, foreign, stored
from hampkit.cli.wrapping import wrapped
from hampkit.config.command_line import read_value
from hampkit.config.extends import Resolved, merge, shipped_recipes
from hampkit.config.recipe import document_of, load_resolved
from hampkit.config.schema import build, field_types
from hampkit.config.sections import SECTIONS, TrainConfig
from hampkit.errors import UserError, did_you_mean, meant, nearest
from hampkit.text import Address

LISTS = ("datasets", "defenses", "attacks", "generators", "recipes", "nets", "options")
OWN = {"datasets": "data", "defenses": "defense", "generators": "generator", "attacks": ""}  # sections of their options
LEAST = 20  # columns of a description


def listing(
    what: str, names: Sequence[str] = (), options: Mapping[str, str] | None = None, width: int | None = None
) -> list[str]:
    """The lines of ``hampkit list WHAT [NAME] [KEY=VALUE…]``; width: of a terminal, in which descriptions go on in further lines.

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
    lines = [(name, about.replace("``", "")) for name, about in _chosen(what, names)]
    return _aligned(lines) if width is None else _in_width(lines, width)


def _chosen(what: str, names: Sequence[str]) -> Sequence[Line]:
    """The lines of a list, or of one name in it.

    Raises: `UserError` for a name that is not in the list.
    """
    if not names or what == "options":
        return options_of(names[0]) if names else lines_of(what)
    lines = lines_of(what)
    found = [line for line in lines if line[0] == names[0]]
    if not found:
        known = catalog()
        others = [f"hampkit list {other} {names[0]}" for other in known.lists if names[0] in known.names(other)]
        near = meant(others) or did_you_mean(names[0], [name for name, _ in lines])
        raise UserError(f"hampkit list {what} has no {names[0]!r}; {near}")
    return found


def _aligned(lines: Sequence[Line]) -> list[str]:
    longest = max((len(name) for name, _ in lines), default=0)
    return [f"{name:<{longest}}  {about}".rstrip() for name, about in lines]


def _in_width(lines: Sequence[Line], width: int) -> list[str]:
    """Names at the left and descriptions beside them, which begin in a line of their own where a name is long."""
    indent = max((len(name) for name, _ in lines if len(name) <= width // 3), default=2) + 2
    shown = []
    for name, about in lines:
        first, *rest = wrapped(about, max(width - indent, LEAST)) if about else [""]
        beside = len(name) + 2 <= indent
        shown += [f"{name:<{indent}}{first}".rstrip()] if beside else [name, *([" " * indent + first] if first else [])]
        shown += [" " * indent + line for line in rest]
    return shown


def lines_of(what: str) -> Sequence[Line]:
    """The lines of one list, without the names of recipes or sections."""
    if what == "recipes":
        return _recipes()
    if what == "options":
        return [line for group in catalog().options for line in group.lines]
    return catalog().lists[what]


def options_of(name: str) -> Sequence[Line]:
    """The options of a section, data set, defense, generator, attack or family of attacks (``lira`` of ``lira-online``).

    A section such as ``data`` has the options of all data sets. Another name is one of a nested section (``distill``) or of an
    option (``lr``).

    Raises: `UserError` for an unknown name.
    """
    theirs = {f.name for group in GROUPS.values() for f in foreign(group)}
    groups = (_registered() if name in theirs else catalog()).options
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


def catalog() -> Catalog:
    """The catalog of this package, with the names of other packages' classes."""
    found = stored()
    theirs = {what: foreign(group) for what, group in GROUPS.items()}
    same = found is None or any(f.name in found.names(what) for what, others in theirs.items() for f in others)
    if found is None or same:  # the registries refuse two classes of one name
        return _registered()
    lists = {what: _sorted(lines, theirs.get(what, [])) for what, lines in found.lists.items()}
    pointers = [_pointer(OWN[what], f) for what, others in theirs.items() for f in others]
    return replace(found, lists=lists, options=[*found.options, *pointers])


def _registered() -> Catalog:
    from hampkit.workflows.catalog import from_registries

    return from_registries()


def _sorted(lines: Sequence[Line], others: Iterable[Foreign]) -> Sequence[Line]:
    added = [(f.name, f.about) for f in others]
    return sorted([*lines, *added]) if added else lines


def _pointer(section: str, found: Foreign) -> Group:
    """A line that stands for the options of a class of another package, which is not imported."""
    about = f"of another package: hampkit list options {found.name} lists its options"
    return Group(section, found.name, [(".".join(filter(None, (section, found.name))), about)])


def _recipes() -> list[Line]:
    lines = [(name, _summary(name)) for name in shipped_recipes()]
    other = ("DATA/DEFENSE", "any other pair: the training of DATA/undefended, the defense with its defaults")
    return [*lines, other, ("file/DEFENSE", "for a table of your own: hampkit run DEFENSE --data FILE --label COLUMN")]


def _summary(name: str) -> str:
    document = document_of(name).document
    train = build(TrainConfig, document.get("train", {}), "train")
    return f"{document.get('net', 'mlp')}, {train.epochs} epochs of {train.optimizer}"


def recipe_lines(name: str, options: Mapping[str, str] | None = None) -> list[str]:
    """A recipe as a TOML file without ``extends``; after each value the recipe or file that sets it, or ``default``.

    name: ``DATA/DEFENSE``, a ``.toml`` file, or ``file/DEFENSE`` for any table.

    Raises: `UserError` for an unknown recipe or option.
    """
    values, found = _shipped_values(name, options) or _checked_values(name, options)
    lines = [(text, found.origins.get(address, "default") if address else "") for address, text in _toml(values)]
    width = max(len(text) for text, origin in lines if origin)
    head = f"# {' extends '.join(found.chain)}"
    return [head, *(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)]


def _arguments(name: str) -> tuple[str, str, str]:
    """Reference, table and label of a recipe; no table is read for ``file/DEFENSE``."""
    if name.startswith("file/") and not name.endswith(".toml"):
        return name.removeprefix("file/"), "FILE", "LABEL"
    return name, "", ""


def _checked_values(name: str, options: Mapping[str, str] | None) -> tuple[dict[str, Any], Resolved]:
    """All values of a recipe, checked by the classes that they belong to.

    Raises: `UserError` for an unknown recipe or option.
    """
    reference, *table = _arguments(name)
    recipe, found = load_resolved(reference, options, *table)
    parts = {
        kind: {"name": part.name, **part.options} for kind, part in (("data", recipe.data), ("defense", recipe.defense))
    }
    sections = {name: vars(getattr(recipe, name)) for name in SECTIONS}
    return _document(recipe.net, recipe.seed, {**sections, **parts}, recipe.attacks), found


def _shipped_values(name: str, options: Mapping[str, str] | None = None) -> tuple[dict[str, Any], Resolved] | None:
    """`_checked_values` without importing the classes; None if a value needs them to be checked, or if a value is wrong.

    Raises: `UserError` for an unknown recipe, and for a file that cannot be read.
    """
    known = stored()
    if known is None:
        return None
    resolved = document_of(*_arguments(name))
    try:
        found = _with_options(resolved, options or {}, known)
        if any(_needs_class(address, origin) for address, origin in found.origins.items()):
            return None
        document = found.document
        sections = {key: vars(build(cls, document.get(key, {}), key)) for key, cls in SECTIONS.items()}
        kinds = (("data", "hampkit.data"), ("defense", "hampkit.defenses"))
        parts = {k: {"name": document[k]["name"], **_filled(known.defaults[p], document[k])} for k, p in kinds}
        if parts["data"]["name"] == "file":  # a table has its file's name unless it is given another
            parts["data"]["title"] = parts["data"]["title"] or parts["data"]["file"]
        attacks = {
            n: _filled(known.defaults["hampkit.attacks"], {"name": n, **v})
            for n, v in document.get("attacks", {}).items()
        }
        return _document(document.get("net", "mlp"), document.get("seed", 0), {**sections, **parts}, attacks), found
    except (UserError, LookupError, TypeError, AttributeError):
        return None


def _with_options(found: Resolved, options: Mapping[str, str], known: Catalog) -> Resolved:
    """A recipe with options of its sections, such as ``epochs`` of ``train``.

    Raises: `LookupError` for an option of a class, for an unknown one and for one that is given twice.
    """
    document, origins = merge(found.document, {}), dict(found.origins)
    for key, text in options.items():
        section, *path, last = address = _address(key, found.document, known)
        if origins.get(address) == "command line":
            raise LookupError(key)
        values = document.setdefault(section, {})
        for name in path:
            values = values.setdefault(name, {})
        values[last] = read_value(text, field_types(SECTIONS[section])[address[1:]])
        origins[address] = "command line"
    return replace(found, document=document, origins=origins)


def _address(key: str, document: Mapping[str, Any], known: Catalog) -> Address:
    """The address in a section that a key means, with or without the section's name.

    Raises: `LookupError` unless it can mean nothing else.
    """
    asked = tuple(key.split("."))
    of_classes = {*known.defaults["hampkit.data"][document["data"]["name"]], "net", "seed"}
    of_classes |= {*known.defaults["hampkit.defenses"][document["defense"]["name"]], "data", "defense", "attacks"}
    every = [(name, *inner) for name, cls in SECTIONS.items() for inner in field_types(cls)]
    meant = [address for address in every if address == asked or address[1:] == asked]
    if len(meant) != 1 or (meant[0] != asked and asked[0] in of_classes):
        raise LookupError(key)
    return meant[0]


def _needs_class(address: Address, origin: str) -> bool:
    """Whether the check of a value needs the class that has the option: only for values from a user's file."""
    theirs = origin.endswith(".toml")
    return theirs and address[0] not in SECTIONS and address not in (("data", "name"), ("defense", "name"))


def _filled(defaults: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class, all of them: those of a shipped recipe in place of the defaults.

    Raises: `LookupError` for an unknown class or option.
    """
    options = defaults[values["name"]]
    given = {key: _as_default(options[key], value) for key, value in values.items() if key != "name"}
    return {**options, **given}


def _as_default(default: Any, value: Any) -> Any:
    """A value of a shipped recipe in the type of the default: 1 stands for 1.0, and one item for a list.

    >>> _as_default(0.5, 1), _as_default([], "flip"), _as_default(None, "none")
    (1.0, ['flip'], None)
    """
    if isinstance(default, Mapping):
        return {**default, **{key: _as_default(default[key], inner) for key, inner in value.items()}}
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(default, list) and not isinstance(value, list):
        return [value]
    return None if value == "none" else value


def _document(net: str, seed: int, sections: Mapping[str, Any], attacks: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as nested values, in the order in which it is printed."""
    order = ("data", "split", "train", "defense", "judge", "shadows")
    return {"net": net, "seed": seed, **{name: sections[name] for name in order}, "attacks": attacks}


def _toml(document: Mapping[str, Any]) -> list[tuple[Address, str]]:
    """The lines of a recipe, each with the address of its value; the address of headings and empty lines is ()."""
    top = {key: value for key, value in document.items() if not isinstance(value, Mapping)}
    sections: dict[Address, Mapping[str, Any]] = {(): top}
    sections |= {(key,): value for key, value in document.items() if key not in top and key != "attacks"}
    sections |= {("attacks", name): values for name, values in document["attacks"].items()}
    return [line for address, values in sections.items() for line in _values(values, address)]


def _values(values: Mapping[str, Any], section: Address) -> list[tuple[Address, str]]:
    lines: list[tuple[Address, str]] = [((), ""), ((), f"[{'.'.join(section)}]")] if section else []
    nested: list[tuple[Address, str]] = []
    for key, value in values.items():
        inner = _nested(value)
        if inner is None:
            lines.append(((*section, key), f"{key} = {_as_toml(value)}"))
        elif inner:
            nested += _values(inner, (*section, key))
    return lines + nested


def _nested(value: Any) -> Mapping[str, Any] | None:
    """The values of a nested section that are set (the others are those of train); None for a single value."""
    if is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else None


def _as_toml(value: Any) -> str:
    """The text of a value in a TOML file.

    >>> _as_toml((60, 90)), _as_toml(None), _as_toml(1e-05), _as_toml(True)
    ('[60, 90]', '"none"', '1e-05', 'true')
    """
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_toml, value))}]"
    return json.dumps("none" if value is None else value, ensure_ascii=False)

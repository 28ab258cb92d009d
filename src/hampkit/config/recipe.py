"""Recipes: everything that decides what is trained and how it is attacked, from TOML files, JSON and ``key=value``.

A recipe has the sections ``data``, ``split``, ``train``, ``defense``, ``judge``, ``attacks``, ``shadows`` and the keys ``net``
and ``seed``. ``judge``, ``attacks`` and ``shadows`` are about attacking a trained model. All the rest decides the training and
is hashed. A TOML file may also have the key ``extends``, see `hampkit.config.extends`; the resolved recipe is checked and
hashed.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shlex
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hampkit.code_hash import code_of
from hampkit.config.command_line import read_value
from hampkit.config.content import content_hash, file_hash
from hampkit.config.extends import Resolved, check_keys, from_file, resolve, shipped, shipped_recipes
from hampkit.config.files import expanded, is_run, table_advice
from hampkit.config.keys import similar_keys, unknown_key
from hampkit.config.schema import build, field_types
from hampkit.config.sections import SECTIONS, CanaryConfig, JudgeConfig, ShadowConfig, SplitConfig, TrainConfig
from hampkit.errors import UserError, did_you_mean, one_line
from hampkit.registry import ATTACKS, DATASETS, DEFENSES, load_own
from hampkit.text import Address

# incremented when the same recipe would train other weights, so that old runs are not reused
TRAINING_VERSION = 8

# newer fields are hashed only if they differ from these values, so that older runs are found again
LATER_OF_DATA = {"missing": "error", "na": [], "categories": [], "header": None, "separator": "", "decimal": "."}
LATER = {"precision": "float32", "stop_after": 0, "patience": 0, "sampling": "shuffle", "augment": []}


@dataclass(frozen=True)
class Part:
    """A registered data set or defense with all its options."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """One training problem and how its models are attacked, with all defaults filled in."""

    data: Part
    split: SplitConfig
    net: str  # a registered network, timm:NAME, or package.module:factory
    train: TrainConfig
    defense: Part
    seed: int = 0
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # attack name → its options
    shadows: ShadowConfig = field(default_factory=ShadowConfig)
    canaries: CanaryConfig = field(default_factory=CanaryConfig)
    fingerprint: str = ""  # sha256 of the data, set when they are loaded

    @property
    def title(self) -> str:
        """``DATA/DEFENSE``."""
        return f"{self.data.options.get('title') or self.data.name}/{self.defense.name}"

    def training(self) -> dict[str, Any]:
        """The part that decides the trained weights: the content of recipe.json, which is hashed."""
        split = dataclasses.asdict(self.split)
        split.pop("permutation")  # the fingerprint covers its content, and the path does not matter
        data = {k: v for k, v in _plain(dict(self.data.options)).items() if k != "file"}
        data = {k: v for k, v in data.items() if k not in LATER_OF_DATA or LATER_OF_DATA[k] != v}
        defense, code = {"name": self.defense.name, **_plain(dict(self.defense.options))}, self.code()
        if "file" in code:  # the same
            defense["file"] = ""
        return {
            "schema": 1,
            "version": TRAINING_VERSION,
            "data": {"name": self.data.name, **data, "sha256": self.fingerprint},
            "split": split,
            "net": self.net,
            "train": {k: v for k, v in _plain(dataclasses.asdict(self.train)).items() if LATER.get(k) != v},
            "defense": defense,
            "seed": self.seed,
            "code": code,
            **({"canaries": dataclasses.asdict(self.canaries)} if self.canaries.count else {}),
        }

    def code(self) -> dict[str, str]:
        """Hashes of the source of the defense and of a user's own network, if it can be read, and of the defense's file."""
        found = {"defense": code_of(DEFENSES.get(self.defense.name))}
        if self.net.startswith("timm:"):
            found["net"] = _version_of("timm")
        elif ":" in self.net:
            found["net"] = code_of(load_own(self.net), self.net.partition(":")[0])
        file = Path(str(self.defense.options.get("file") or "")).expanduser()
        if file.is_file():  # ready inputs: their content counts, not only the path
            found["file"] = file_hash(file)
        return {what: code for what, code in found.items() if code}

    def folder(self) -> str:
        """The name of the run folder, ``<data>-<defense>-<hash8>``."""
        return f"{self.title.replace('/', '-')}-{content_hash(self.training())[:8]}"


def load_recipe(
    reference: str, overrides: Mapping[str, str | None] | None = None, file: str = "", label: str = ""
) -> Recipe:
    """A recipe from ``DATA/DEFENSE``, ``path.toml``, or a bare ``DEFENSE`` together with a user's file and label column.

    overrides: key → value as written on the command line.
    Raises: `UserError` for an unknown or invalid recipe, key or value.
    """
    return load_resolved(reference, overrides, file, label)[0]


def load_resolved(
    reference: str, overrides: Mapping[str, str | None] | None = None, file: str = "", label: str = ""
) -> tuple[Recipe, Resolved]:
    """A recipe as `load_recipe` gives it, and its document with the origin of each value.

    Raises: `UserError` as `load_recipe`, and for a key that is given twice.
    """
    found = _resolved(reference, file, label)
    given: dict[Address, str] = {}
    for key, text in (overrides or {}).items():
        address = _override(found.document, key, text)
        if address in given:
            raise UserError(f"{given[address]} and {key}={text} are the same key; leave one out")
        given[address] = f"{key}={text}"
    found = replace(found, origins={**found.origins, **dict.fromkeys(given, "command line")})
    return recipe_from_dict(found.document, place=f"recipe {reference}"), found


def document_of(reference: str, file: str = "", label: str = "") -> Resolved:
    """A recipe as `load_recipe` finds it, before its values are checked.

    Raises: `UserError` for an unknown recipe.
    """
    return _resolved(reference, file, label)


def accepts(reference: str, key: str, file: str = "", label: str = "") -> bool:
    """Whether a recipe has a key."""
    return bool(_addresses(_resolved(reference, file, label).document, key))


def check_effect(recipe: Recipe, keys: Iterable[str]) -> None:
    """Check that options of attacks have an effect.

    Raises: `UserError` for an attack that lacks its shadow models.
    """
    for key in keys:
        name = key.removeprefix("attacks.").rpartition(".")[0]
        if not recipe.shadows.models and "shadows" in getattr(ATTACKS.classes().get(name), "needs", ()):
            raise UserError(
                f"{key} has no effect: the attack {name} needs shadow models; add --shadows M or leave it out"
            )


def unknown_option(key: str, references: Sequence[str], file: str = "", label: str = "") -> str:
    """The error text for a key that none of these recipes has: the components with such an option, or similar keys.

    An option of an attack needs the attack's name.
    """
    if key == "data.group":
        return "--group names a column of a table of one's own; add --data FILE with such a column, or leave it out"
    section, _, last = key.rpartition(".")
    section = "" if section == "attacks" else section
    kinds = {"defense": DEFENSES, "data": DATASETS}
    owners = [n for kind, registry in kinds.items() if section in ("", kind) for n, cls in registry.classes().items()
              if last in {f.name for f in dataclasses.fields(cls)}]  # fmt: skip
    owners = ["a table of one's own (--data FILE)" if n == "file" else n for n in owners]
    known = sorted({k for reference in references for k in keys(reference, file, label)})
    near = similar_keys(key, [k for k in known if not k.startswith("attacks.")]) if owners else []
    meant = f"did you mean {near[0]!r}? {key!r}" if near else "it"
    hints = [f"{meant} is an option of {', '.join(owners)}, and no given recipe takes it"] if owners else []
    hints += [with_names] if not section and (with_names := option_of_attacks(last)) else []
    return "; ".join(hints) or unknown_key(key, known)


def option_of_attacks(name: str) -> str:
    """The error text for an attack's option that was given without the attack's name; empty if no attack has the option."""
    attacks = [f"{n}.{name}=…" for n, cls in ATTACKS.classes().items() if (name,) in field_types(cls)]
    return f"an attack's option needs its name: {', '.join(attacks)}" if attacks else ""


def keys(reference: str, file: str = "", label: str = "") -> list[str]:
    """All keys of a recipe that can be set on the command line, with their sections."""
    return sorted(".".join(address) for address in _all_addresses(_resolved(reference, file, label).document))


def recipe_from_dict(document: Mapping[str, Any], place: str = "recipe") -> Recipe:
    """A checked recipe from nested plain values, as read from TOML or JSON.

    Raises: `UserError` for an invalid one.
    """
    check_keys(document, place)
    data, defense = (_part(document, kind, place) for kind in ("data", "defense"))
    seed = build(_Seed, {"seed": document.get("seed", 0)}, place).seed
    net = document.get("net", "mlp")
    if not isinstance(net, str):
        raise UserError(f"net={net!r} in {place} must be a name or package.module:factory")
    sections = _section(document.get("attacks", {}), "attacks")
    attacks = {name: _options(ATTACKS.get(name), options, f"attacks.{name}") for name, options in sections.items()}
    return Recipe(
        data=data,
        split=build(SplitConfig, document.get("split", {}), "split"),
        net=net,
        train=build(TrainConfig, document.get("train", {}), "train"),
        defense=_absolute(defense),
        seed=seed,
        judge=build(JudgeConfig, document.get("judge", {}), "judge"),
        attacks=attacks,
        shadows=build(ShadowConfig, document.get("shadows", {}), "shadows"),
        canaries=build(CanaryConfig, document.get("canaries", {}), "canaries"),
    )


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another seed.

    Raises: `UserError` for a seed outside [0, 2^63).
    """
    return replace(recipe, seed=build(_Seed, {"seed": seed}, "--seed").seed)


@dataclass(frozen=True)
class _Seed:
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed={self.seed} must lie in [0, 2^63)")


def _resolved(reference: str, file: str, label: str) -> Resolved:
    table = {"name": "file", "file": file, "label": label} if file else None
    if reference.endswith(".toml"):
        return _with_table(resolve(from_file(expanded(reference, "recipe")), "file" if file else ""), table)
    if is_run(reference):
        run = shlex.quote(reference)
        raise UserError(f"{reference!r} is a run folder, no recipe; hampkit attack {run} attacks its model")
    data, slash, defense = reference.rpartition("/")
    if file and slash:
        raise UserError(
            f"recipe {reference!r} names a data set, and --data {file} another one; write only the defense, {defense!r}"
        )
    if advice := table_advice(reference):
        raise UserError(f"{reference!r} is no recipe; {advice}")
    if not file and data in ("", "file"):
        raise UserError(f"unknown recipe {reference!r}; {_without_data(reference)}")
    return _with_table(resolve(shipped(data or "file", defense)), table)


def _without_data(reference: str) -> str:
    """What to write instead of a recipe without a data set."""
    near = did_you_mean(reference, shipped_recipes())
    if reference in DEFENSES.classes():
        near = f"{reference} is a defense: digits/{reference}"
    elif advice := table_advice(reference, beside=True):
        return advice
    return f"write DATA/DEFENSE ({near}), a .toml file, or give your own table by --data FILE --label COLUMN"


def _with_table(found: Resolved, table: dict[str, Any] | None) -> Resolved:
    """The recipe with the table of ``--data`` in place of its own data."""
    if table is None:
        return found
    origins = {address: origin for address, origin in found.origins.items() if address[0] != "data"}
    origins |= {("data", key): "--label" if key == "label" else "--data" for key in table}
    return replace(found, document={**found.document, "data": table}, origins=origins)


def _part(document: Mapping[str, Any], kind: str, place: str) -> Part:
    section = document.get(kind)
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        raise UserError(f'{place} must name its {kind}; add a section [{kind}] with name = "…"')
    cls = (DATASETS if kind == "data" else DEFENSES).get(section["name"])
    return Part(section["name"], _options(cls, {k: v for k, v in section.items() if k != "name"}, kind))


def _absolute(defense: Part) -> Part:
    """The defense with an absolute path of its file, if it has one: a run may be attacked from another folder."""
    file = defense.options.get("file")
    if not isinstance(file, str) or not file:
        return defense
    try:
        return replace(defense, options={**defense.options, "file": str(Path(file).expanduser().resolve())})
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"defense.file={file!r} names no file ({one_line(error)}); give the path of an existing one"
        ) from None


def _options(cls: type, values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """All options of a component, checked by building it."""
    instance = build(cls, values, place)
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}


def _section(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{place} must be a section with keys, not {value!r}")
    return value


def _override(document: dict[str, Any], key: str, text: str | None) -> Address:
    """Set a key in the document, and return its address."""
    found = _addresses(document, key)
    if not found:
        raise UserError(f"unknown key {key!r}; {unknown_key(key, map('.'.join, _all_addresses(document)))}")
    if len(found) > 1:
        raise UserError(f"key {key!r} is ambiguous; write " + " or ".join(".".join(a) for a in found))
    *path, last = found[0]
    section = document
    for k, name in enumerate(path):
        section = section.setdefault(name, {})
        _section(section, ".".join(path[: k + 1]))
    hint = _all_addresses(document)[found[0]]
    if text is None and type(None) not in typing.get_args(hint):
        raise UserError(f"{'.'.join(found[0])}=None is no value; leave {key} out, or give an empty one, [] or ''")
    section[last] = None if text is None else read_value(text, hint)
    return found[0]


def _addresses(document: Mapping[str, Any], key: str) -> list[Address]:
    """The addresses that a key may mean: its full address, or all that end in it. Attack options need the attack's name."""
    asked = tuple(key.split("."))
    addresses = _all_addresses(document)
    if asked in addresses:
        return [asked]
    if len(asked) == 2 and ("attacks", *asked) in addresses:
        return [("attacks", *asked)]
    # a key of a nested section needs the section's name: distill.lr
    short = [a for a in addresses if a[0] != "attacks" and len(a) <= len(asked) + 1]
    return [a for a in short if a[-len(asked) :] == asked]


def _all_addresses(document: Mapping[str, Any]) -> dict[Address, Any]:
    """The types of all values that a recipe may have, by address."""
    found: dict[Address, Any] = {("net",): str, ("seed",): int}
    sections: list[tuple[Address, type]] = [((name,), cls) for name, cls in SECTIONS.items()]
    for kind, registry in (("data", DATASETS), ("defense", DEFENSES)):
        section = document.get(kind)
        name = section.get("name") if isinstance(section, Mapping) else section
        if isinstance(name, str) and name in registry.classes():
            sections.append(((kind,), registry.get(name)))
    sections += [(("attacks", name), cls) for name, cls in ATTACKS.classes().items()]
    for address, cls in sections:
        found |= {(*address, *inner): hint for inner, hint in field_types(cls).items()}
    return found


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them, and nested sections without the values that are None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(v) for f in dataclasses.fields(value) if (v := getattr(value, f.name)) is not None}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _version_of(package: str) -> str:
    """``package version``; empty if it is not installed."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""

"""Settings: frozen, no unknown keys, YAML both ways, layered with a memory of which layer set what."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from jetscale.errors import ConfigError, nearest

Values = dict[str, Any]
C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """A frozen description: the settings object is the thing it describes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def values(self) -> Values:
        """Plain names and numbers, ready for YAML or JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        return dump_yaml(self.values())

    def digest(self) -> str:
        """Twelve hex digits that name these settings."""
        return digest(self.values())

    def but(self, **changes: object) -> Self:
        """A validated copy with some fields changed."""
        return build(type(self), {**self.values(), **changes}, where=type(self).__name__)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e9 as a string, physicists mean a number; and of two equal keys it keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise _TwiceError(key.value, key.start_mark.line + 1)
            seen.add((key.tag, key.value))
        return node


class _TwiceError(Exception):
    """A mapping has a key twice; the arguments are the key and the second one's line."""


class Dotted(dict[str, Any]):
    """The mapping that the dots of `--set a.b.c=1` stand for: it reaches into what is there."""


class _Dumper(yaml.SafeDumper):
    """Quotes the words that _Loader would read as numbers."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def dump_yaml(values: object) -> str:
    """YAML that `parse_yaml` reads back to the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def parse_yaml(text: str, where: str) -> Any:
    """The values in a YAML text; `where` names it in errors."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except _TwiceError as problem:
        key, line = problem.args
        raise ConfigError(f"line {line}: key {key!r} stands twice", where=where, cure="keep one of them") from None
    except yaml.YAMLError as problem:
        raise ConfigError(f"not valid YAML: {problem}", where=where, cure="check indentation and colons") from None


def read_yaml(path: Path) -> Values:
    """The mapping in a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise ConfigError(f"cannot be read: {problem.strerror}", where=str(path), cure="check the path") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"is not a text file (byte {problem.start} is not UTF-8)", where=str(path),
                          cure="give a job's YAML file") from None  # fmt: skip
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(
            f"holds {type(values).__name__}, not keys with values",
            where=str(path),
            cure="see the commented examples in jobs/",
        )
    return values


def digest(values: object) -> str:
    """Twelve hex digits that name plain values, whatever the order of their keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_set(assignment: str) -> Values:
    """`a.b=c` as nested values, c read as YAML."""
    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{assignment!r} is not KEY=VALUE", where="--set", cure="write --set optimiser.rate=0.001")
    nested = parse_yaml(value, f"--set {key}")
    for part in reversed(key.strip().split(".")):
        nested = Dotted({part: nested})
    assert isinstance(nested, dict)
    return nested


def merge(
    layers: Sequence[tuple[str, Values]], whole: Sequence[str] = (), named: Sequence[str] = ()
) -> tuple[Values, dict[str, str]]:
    """Later layers win, key by key, but for two kinds of paths.

    A mapping at a path in `whole` always replaces the old one: `horizon.steps=9` leaves nothing of `{epochs: 3}`. At a
    path in `named`, whose keys are the user's own names, a mapping replaces the old one as well (a job's YAML, `--set
    samples={...}`), unless it came from a dotted `--set` that goes deeper (`samples.qcd.weight=0.1`): that one merges.

    Returns the values and, for every dotted leaf, the name of the layer that set it.
    """
    merged: Values = {}
    why: dict[str, str] = {}
    for name, values in layers:
        merged = _merge_into(merged, values, name, "", (frozenset(whole), frozenset(named)), why)
    return merged, why


def _merge_into(
    old: Values, new: Values, name: str, path: str, replaced: tuple[frozenset[str], frozenset[str]], why: dict[str, str]
) -> Values:
    merged = dict(old)
    whole, named = replaced
    for key, value in new.items():
        here = f"{path}{key}"
        both = isinstance(value, dict) and isinstance(old.get(key), dict)
        if both and here not in whole and (here not in named or isinstance(value, Dotted)):
            merged[key] = _merge_into(old[key], value, name, f"{here}.", replaced, why)
            continue
        for leaf in [leaf for leaf in why if leaf == here or leaf.startswith(f"{here}.")]:
            del why[leaf]
        merged[key] = value
        for leaf in leaves({key: value}, path):
            why[leaf] = name
    return merged


def leaves(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Dotted path -> value, for every value that is not itself a mapping."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        here = f"{path}{key}"
        if isinstance(value, dict) and value:
            found.update(leaves(value, f"{here}."))
        else:
            found[here] = value
    return found


def difference(old: Config, new: Config) -> list[str]:
    """`key: old -> new`, one line per leaf that differs."""
    before, after = leaves(old.values()), leaves(new.values())
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def build(kind: type[C], values: object, where: str, under: str = "") -> C:
    """Validate values, and say in the user's words what is wrong with them; `under` is the key that they stand under.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or outside its range.
    """
    try:
        return kind.model_validate(values, context={"where": where})
    except ValidationError as problem:
        raise _explain(kind, problem, where, under) from None


def _explain(kind: type[BaseModel], problem: ValidationError, where: str, under: str) -> ConfigError:
    errors = problem.errors()
    # A misspelt key says more than the one that is missing because of it.
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    path, owner = _walk(kind, [str(part) for part in first["loc"]])
    key = ".".join([under, *path] if under else path)
    if first["type"] == "extra_forbidden":
        cure = nearest(path[-1], owner.model_fields) if owner else "remove it"
        return ConfigError(f"unknown key {key!r}", where=where, cure=cure)
    if first["type"] == "missing":
        return ConfigError(f"{key!r} is missing", where=where, cure=f"add {key}: ...")
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return ConfigError(message, where=where, cure="change one of its keys")
    given = first["input"]
    named = key if isinstance(given, dict | BaseModel) else f"{key} = {given!r}"
    return ConfigError(f"{named}: {message}", where=where, cure=f"change {key}")


def _walk(kind: type[BaseModel], path: Sequence[str]) -> tuple[list[str], type[BaseModel] | None]:
    """A path as the user writes it, and the class that its last key stands in, where that is plain to see.

    Where a value may be of several classes, pydantic puts the name of the chosen one into the path.
    """
    written: list[str] = []
    owner, inside = None, {kind.__name__: kind}
    for part in path:
        if len(inside) > 1 and part in inside:
            inside = {part: inside[part]}
            continue
        written.append(part)
        owner = next(iter(inside.values())) if len(inside) == 1 else None
        field = owner.model_fields.get(part) if owner else None
        inside = _classes(field.annotation) if field else {}
    return written, owner


def _classes(annotation: object) -> dict[str, type[BaseModel]]:
    """The classes of settings that a value of this type may have."""
    if isinstance(annotation, type):
        return {annotation.__name__: annotation} if issubclass(annotation, BaseModel) else {}
    if get_origin(annotation) is Annotated:
        return _classes(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {name: kind for choice in get_args(annotation) for name, kind in _classes(choice).items()}
    return {}

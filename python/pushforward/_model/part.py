"""What the descriptions of a flow's parts have in common: JSON, and tables of kinds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

P = TypeVar("P", bound="Part")


class Part:
    """A part of a flow: a frozen dataclass that prints as the code that makes it, and turns into JSON and back."""

    PARTS: ClassVar[Mapping[str, Mapping[str, type[Part]]]] = {}
    """The fields that hold parts themselves, each with the table of its kinds."""

    def to_json(self) -> dict[str, Any]:
        """Return the part in JSON's types: its class as "kind", beside its fields."""
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(self)  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **{field.name: _to_json(getattr(self, field.name)) for field in fields}}

    @classmethod
    def from_json(cls: type[P], value: Mapping[str, Any]) -> P:
        """Make the part of its fields in JSON's types; the class checks them itself."""
        # A field that an older file does not have keeps its default.
        names = [field.name for field in dataclasses.fields(cls) if field.name in value]  # type: ignore[arg-type]
        return cls(**{name: cls._field(name, value[name]) for name in names})

    @classmethod
    def _field(cls, name: str, value: Any) -> Any:
        return read(cls.PARTS[name], value, name) if name in cls.PARTS else _from_json(value)


def _to_json(value: Any) -> Any:
    if isinstance(value, Part):
        return value.to_json()
    return [_to_json(entry) for entry in value] if isinstance(value, tuple) else value


def _from_json(value: Any) -> Any:
    return tuple(map(_from_json, value)) if isinstance(value, list) else value


def table(*kinds: type[P]) -> dict[str, type[P]]:
    """Return classes by name."""
    return {kind.__name__: kind for kind in kinds}


def read(kinds: Mapping[str, type[P]], value: Any, name: str) -> P:
    """Make a part of its JSON; `name` is for the message if it is none of these kinds."""
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{name} must be {one_of(kinds)}, not {value if kind is None else kind!r}")
    return kinds[kind].from_json(value)


def one_of(kinds: Mapping[str, type[Part]]) -> str:
    """Return the kinds in words: ``Real() or Interval(low, high)``."""
    *others, last = (f"{name}({', '.join(_required(kind))})" for name, kind in kinds.items())
    return f"{', '.join(others)} or {last}" if others else last


def _required(kind: type[Part]) -> list[str]:
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    return [field.name for field in fields if field.default is dataclasses.MISSING]

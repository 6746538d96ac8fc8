"""The schema of a table: what each column holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pushforward import _checks
from pushforward._model.part import Part, read
from pushforward._tables.kinds import KINDS, Boolean, Category, Date, Integer, Kind, checked


@dataclass(frozen=True)
class Column(Part):
    """What a column holds.

    Parameters
    ----------
    kind : Real, Positive, Interval, Circle, Above, Below, Integer, Category, Boolean or Date
        What its values are.
    atoms : sequence of float
        Single values of a number or a date that have masses of their own; the density is that of all others.
    step : float
        The grid of a rounded number; 0 for a number that is not rounded. Of `Integer` and `Date` it is 1.
    gaps : bool
        Whether cells may be missing.
    dtype : str
        The type in the table that was fitted, which samples have; empty for the one that suits the kind.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or does not go with the kind.

    Examples
    --------
    >>> from pushforward import Positive
    >>> Column(Positive(), atoms=[0])
    Column(kind=Positive(), atoms=(0.0,), step=0.0, gaps=False, dtype='')
    """

    PARTS: ClassVar[Mapping[str, Mapping[str, type[Part]]]] = {"kind": KINDS}

    kind: Kind
    atoms: Iterable[float] = ()
    step: float = 0.0
    gaps: bool = False
    dtype: str = ""

    def __post_init__(self) -> None:
        checked(self.kind, "a column's kind")
        if isinstance(self.atoms, str) or not isinstance(self.atoms, Iterable):
            raise TypeError(f"atoms must be a sequence of numbers, not {self.atoms!r}")
        atoms = sorted(_checks.number("an atom", atom, -math.inf, math.inf, closed="neither") for atom in self.atoms)
        step = _checks.number("step", self.step, 0.0, math.inf, closed="left")
        if isinstance(self.kind, (Integer, Date)):
            step = 1.0
        for name, holds in (("gaps", bool), ("dtype", str)):
            if not isinstance(getattr(self, name), holds):
                raise TypeError(f"{name} must be a {holds.__name__}, not {getattr(self, name)!r}")
        if len(set(atoms)) < len(atoms):
            raise ValueError("atoms has the same number twice")
        if self.is_discrete and (atoms or step):
            raise ValueError(f"{type(self.kind).__name__} has neither atoms nor a step")
        if getattr(self.kind, "wraps", False) and step:
            raise ValueError("Circle has no step")
        if step and any(atom != round(atom / step) * step for atom in atoms) and isinstance(self.kind, (Integer, Date)):
            raise ValueError("the atoms of whole numbers must be whole numbers")
        object.__setattr__(self, "atoms", tuple(atoms))
        object.__setattr__(self, "step", step)

    @property
    def is_discrete(self) -> bool:
        """Whether every value is one of a few that are known."""
        return isinstance(self.kind, (Category, Boolean))


@dataclass(frozen=True)
class Schema:
    """What the columns of a table hold, by name and in order.

    Parameters
    ----------
    columns : mapping of str to Column
        The columns.
    left_out : sequence of str
        Columns of the table that are not modelled.

    Examples
    --------
    >>> from pushforward import Integer
    >>> Schema({"age": Column(Integer(17, 90))})["age"].kind
    Integer(low=17, high=90)
    """

    columns: Mapping[str, Column]
    left_out: Iterable[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Mapping) or not self.columns:
            raise TypeError(f"a schema needs a mapping of column names to Column(), not {self.columns!r}")
        for name, column in self.columns.items():
            if not isinstance(name, str) or not isinstance(column, Column):
                raise TypeError(f"a schema maps names to Column(), not {name!r} to {column!r}")
        left_out = tuple(self.left_out)
        if not all(isinstance(name, str) for name in left_out) or set(left_out) & set(self.columns):
            raise ValueError(f"left_out must be the names of other columns, not {left_out!r}")
        object.__setattr__(self, "columns", dict(self.columns))
        object.__setattr__(self, "left_out", left_out)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __repr__(self) -> str:
        lines = "".join(f"    {name!r}: {column!r},\n" for name, column in self.columns.items())
        left_out = f", left_out={list(self.left_out)!r}" if self.left_out else ""
        return f"Schema({{\n{lines}}}{left_out})"

    def to_json(self) -> dict[str, Any]:
        """Return the schema in JSON's types."""
        columns = [{"name": name, **column.to_json()} for name, column in self.columns.items()]
        return {"columns": columns, "left_out": list(self.left_out)}

    @classmethod
    def from_json(cls, value: object) -> Schema:
        """Make the schema of its JSON, which is checked.

        Raises
        ------
        TypeError, ValueError
            If it is none.
        """
        if not isinstance(value, dict) or set(value) != {"columns", "left_out"}:
            raise ValueError("a schema must have columns and left_out")
        if not isinstance(value["columns"], list) or not isinstance(value["left_out"], list):
            raise ValueError("a schema's columns and left_out must be lists")
        columns: dict[str, Column] = {}
        for i, entry in enumerate(value["columns"]):
            expected = {"name", "kind", "atoms", "step", "gaps", "dtype"}
            if not isinstance(entry, dict) or set(entry) != expected:
                raise ValueError(f"columns[{i}] must have {', '.join(sorted(expected))}")
            name = entry["name"]
            if not isinstance(name, str) or name in columns:
                raise ValueError(f"columns[{i}] has the name {name!r}")
            fields = {field: entry[field] for field in expected - {"name", "kind"}}
            columns[name] = Column(read(KINDS, entry["kind"], f"columns[{i}]"), **fields)
        return cls(columns, tuple(value["left_out"]))

"""Checks of values that people wrote against the annotations of their fields, with one sentence about the first that differs.

Types and ranges are the annotations of a dataclass's fields, as pydantic reads them: `Annotated[float, Field(gt=0, le=1)]`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from .errors import InputError, SurgVistaError
from .messages import did_you_mean, preview

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Numbers that many fields share. What no machine could do is refused too, before it takes all memory or never ends.
Count = Annotated[int, Field(ge=0, le=10**9)]
PositiveCount = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # of NumPy
Amount = Annotated[float, Field(ge=0, le=1e9)]
PositiveAmount = Annotated[float, Field(gt=0, le=1e9)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # of dropout

_SHOWN_CHOICES = 8
_PLAIN_NAMES = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "an object": "a mapping",
    "a valid array": "a list",
    "a valid tuple": "a list",
}


def read_value(where: str, value: object, kind: Any) -> Any:
    """Return a value as its annotation wants it: lists become tuples, texts paths; nothing else is converted.

    Args:
        where: name of the field, for the error.
        value: value as YAML or JSON gives it.
        kind: annotation; dataclasses in it (alone, or `None`, or in a tuple) are read from mappings.

    Raises:
        InputError: the value is of another type, or out of range.

    Example:
        >>> read_value("data.fraction", 0.5, Fraction)
        0.5
        >>> read_value("data.fraction", "many", Fraction)
        Traceback (most recent call last):
        ...
        surgvista_hf.util.errors.InputError: data.fraction is 'many'; it must be a number
    """
    inner = [member for member in get_args(kind) if is_dataclass(member)]
    if is_dataclass(kind):
        return read_fields(kind, where, value)
    if inner and get_args(kind) == (inner[0], NoneType):
        return None if value is None else read_fields(inner[0], where, value)
    if get_origin(kind) is tuple and inner:
        entries = read_value(where, value, list[Any])
        return tuple(read_fields(inner[0], f"{where}.{n}", entry) for n, entry in enumerate(entries))
    try:
        # As JSON, so that a list may stand for a tuple, but neither "4" for 4 nor 1 for true.
        read = _reader(kind).validate_json(json.dumps(value, default=_plain), strict=True)
    except ValidationError as error:
        raise InputError(_explained(where, value, error)) from error
    return value if read == value else read  # 4 stays 4 where 4.0 is meant too, so that notes of old runs still agree


def read_fields(kind: Any, where: str, content: object) -> Any:
    """Make a dataclass from a mapping and check each of its fields.

    Args:
        kind: dataclass to make.
        where: name of the section, for the error.
        content: values of the fields that differ from the defaults.

    Raises:
        InputError: unknown or missing fields, or values that do not fit.
    """
    given = check_keys(where, content, field_names(kind))
    values = {name: read_value(f"{where}.{name}", given[name], field_kinds(kind)[name]) for name in given}
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{where}: {str(error).partition('__init__() ')[2] or error}") from error
    except SurgVistaError as error:  # values that do not fit together
        raise InputError(f"{where}: {error}") from error


def check_fields(instance: object, names: Sequence[str] | None = None) -> None:
    """Check the fields of a dataclass that a program made, as `read_fields` does those that a person wrote.

    Raises:
        InputError: a value that does not fit.
    """
    kind: Any = type(instance)
    kinds = field_kinds(kind)
    for name in kinds if names is None else names:
        read_value(name, getattr(instance, name), kinds[name])


@cache
def field_kinds(kind: Any) -> dict[str, Any]:
    """Return the annotations of the fields that a dataclass is made with, ranges included."""
    hints = {**get_type_hints(kind, include_extras=True), **getattr(kind, "ranges", {})}
    return {name: hints[name] for name in field_names(kind)}


def field_names(kind: Any) -> list[str]:
    """Return the names of the fields that a dataclass is made with."""
    return [entry.name for entry in fields(kind) if entry.init]


def check_keys(where: str, content: object, known: Sequence[str]) -> Mapping[str, Any]:
    """Return `content` if it is a mapping with known keys.

    Raises:
        InputError: it is no mapping, or has another key; the message suggests the nearest known one.
    """
    if not isinstance(content, Mapping):
        raise InputError(
            f"{where} is {shown(content)}; a mapping with keys such as {', '.join(known[:5])} is expected"
        )
    for key in content:
        if key not in known:
            hint = did_you_mean(str(key), known, f"known are {', '.join(sorted(known)[:12])} …")
            raise InputError(f"{where} has no key {key!r}; {hint}")
    return content


def shown(value: object) -> str:
    """Return a value as it is written in an error, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _plain(value: object) -> object:
    """Turn NumPy's numbers into numbers, and anything else (paths, dates) into text."""
    return value.item() if hasattr(value, "item") else str(value)


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))


def _explained(where: str, value: object, error: ValidationError) -> str:
    """Return the problems at the deepest path that was reached; for a union everything that would have been possible there."""
    problems: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for problem in error.errors(include_url=False):
        path, _ = _followed(value, problem["loc"])
        problems.setdefault(path, []).append(problem)
    path = max(problems, key=len)
    _, found = _followed(value, path)
    name = ".".join([where, *map(str, path)])
    wanted = " or ".join(dict.fromkeys(_wanted(problem) for problem in problems[path]))
    return f"{name} is {shown(found)}; it must be {wanted}{_hint(found, problems[path])}"


def _followed(value: Any, steps: Sequence[int | str]) -> tuple[tuple[int | str, ...], object]:
    """Return the steps that lead into a value, without pydantic's names of the members of a union, and what is there."""
    path: tuple[int | str, ...] = ()
    for step in steps:
        if step in (value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ()):
            path, value = (*path, step), value[step]
    return path, value


def _wanted(problem: "ErrorDetails") -> str:
    """Return what a value should have been."""
    choices = _choices(problem)
    if len(choices) > _SHOWN_CHOICES:
        return f"one of {preview([repr(choice) for choice in choices])}"
    if problem["type"] in ("too_short", "too_long"):
        length = problem["ctx"].get("min_length") or problem["ctx"].get("max_length")
        return f"a list of at {'least' if problem['type'] == 'too_short' else 'most'} {length}"
    wanted = str(problem["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return _PLAIN_NAMES.get(wanted, wanted)


def _choices(problem: "ErrorDetails") -> list[str]:
    is_choice = problem["type"] in ("literal_error", "enum")
    return re.findall("'([^']*)'", problem["ctx"]["expected"]) if is_choice else []


def _hint(found: object, problems: Sequence["ErrorDetails"]) -> str:
    """Return how the value could be corrected, if that can be guessed."""
    known = [choice for problem in problems for choice in _choices(problem)]
    if isinstance(found, str) and known:
        meant = did_you_mean(found, known)
        return f"; {meant}" if meant else ""
    kinds = {problem["type"] for problem in problems}
    if isinstance(found, str) and kinds & {"int_type", "float_type"} and _is_number(found):
        return "; write it without quotes"
    if isinstance(found, float) and found.is_integer() and "int_type" in kinds:
        return f"; write {int(found)}"
    return "; leave it out for the default" if found is None else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Checks of sections that recipes of different kinds share: training, and the configuration of a model."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from inspect import Parameter, get_annotations, signature
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, PydanticUserError, TypeAdapter
from transformers import CONFIG_MAPPING, PreTrainedConfig

from ...util.errors import SurgVistaError
from ...util.messages import did_you_mean, first_line
from ...util.values import field_kinds, field_names, shown
from ..common.arguments import ClipArguments
from .loading import RecipeError, check_values


def _frame_stride(value: float) -> float:
    if value <= 0 and value not in (-2, -1, 0):
        raise ValueError("above 0, or one of the published rules -1, 0 and -2")
    return value


FrameStride = Annotated[float, Field(le=1e6), AfterValidator(_frame_stride)]  # see `ClipDataset`
ClipLength = Annotated[int, Field(ge=1, le=4096)]
# Largest value of an integer in a configuration, by a pattern of its name: more would fill any memory or never end.
_LARGEST = (
    (r"layers|depths|heads|stages", 1000),
    (r"frames|tubelet", 4096),
    (r"image_size|crop_size|patch_size", 16384),
)
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_SIZE = re.compile(r"size|num_|layers|heads|depths|stages|frames|channels|width|dim\b")


def check_training(training: Mapping[str, Any], kind: type[ClipArguments]) -> None:
    """Check the section `training` against the arguments that it will become.

    Args:
        training: the section.
        kind: class of the arguments.

    Raises:
        RecipeError: a key is unknown, a value does not fit, or the folder of the run is missing.
    """
    check_values("training", training, field_kinds(kind))  # type: ignore[arg-type]  # mypy takes no class for hashable
    if not training.get("output_dir"):
        raise RecipeError("training.output_dir is missing: the folder of the run")


def check_any_configuration(where: str, content: Mapping[str, Any]) -> None:
    """Check fields of a configuration that names its `model_type`.

    Raises:
        RecipeError: the type is unknown, or `check_configuration` refuses a field.
    """
    fields = dict(content)
    name = fields.pop("model_type", "surgvista")
    if not isinstance(name, str) or name not in CONFIG_MAPPING:
        hint = did_you_mean(
            str(name), CONFIG_MAPPING, "surgvista, videomae, vjepa2 and what transformers has are known"
        )
        raise RecipeError(f"{where}.model_type is {shown(name)}; {hint}")
    check_configuration(where, fields, CONFIG_MAPPING[name], whole=True)


def check_configuration(where: str, content: Mapping[str, Any], kind: type[PreTrainedConfig], *, whole: bool) -> None:
    """Check fields of a model's configuration.

    Args:
        where: name of the section, for errors.
        content: fields of the configuration.
        kind: class of the configuration.
        whole: the fields describe an untrained model, so they must make a valid configuration; otherwise a checkpoint has the
            other fields.

    Raises:
        RecipeError: a field is unknown, a value has another type or is too large for any machine, or the values do not fit
            together.
    """
    check_values(where, content, _kinds(kind))  # type: ignore[arg-type]  # likewise
    for name, value in content.items():
        if isinstance(value, Mapping) and "model_type" in value:
            check_any_configuration(f"{where}.{name}", value)
        _check_size(f"{where}.{name}", name, value)
    if not whole:
        return
    try:
        kind(**content)
    except SurgVistaError as error:
        raise RecipeError(f"{where}: {error}") from error
    except Exception as error:  # the code of any family: some divide by a size before they check it
        raise RecipeError(f"{where} makes no {kind.model_type}: {first_line(error)}") from error


@cache
def _kinds(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    """Return the annotations of a configuration's fields by name; `Any` where a family has none that pydantic can use."""
    names = set(field_names(kind))
    hints: dict[str, Any] = {}
    for parent in reversed(kind.__mro__):
        hints |= get_annotations(parent)
        if "__init__" in vars(parent) and parent is not object:  # of an older configuration
            parameters = [
                entry for entry in signature(vars(parent)["__init__"]).parameters.values() if entry.kind in _NAMED
            ]
            names |= {entry.name for entry in parameters} - {"self"}
            hints |= {entry.name: entry.annotation for entry in parameters if entry.annotation is not entry.empty}
    return {name: hints[name] if name in hints and _is_readable(hints[name]) else Any for name in names}


def _is_readable(hint: Any) -> bool:
    """Return whether pydantic can check a value by an annotation; nested configurations are checked by their own type."""
    if isinstance(hint, str) or any(is_dataclass(member) for member in (hint, *get_args(hint))):
        return False
    try:
        # A name that is not defined here, such as "torch.dtype" in older versions of transformers, leaves it incomplete.
        return TypeAdapter(hint).pydantic_complete
    except PydanticUserError:
        return False


def _check_size(where: str, name: str, value: object) -> None:
    if not _SIZE.search(name):
        return
    largest = next((limit for pattern, limit in _LARGEST if re.search(pattern, name)), 10**6)
    for number in _numbers(value):
        if not 0 <= number <= largest:
            raise RecipeError(f"{where} is {shown(value)}; it must lie in 0 … {largest:,}")


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _numbers(entry)

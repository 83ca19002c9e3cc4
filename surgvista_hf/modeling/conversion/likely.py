"""Name the families that a refused checkpoint looks like."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from ...util.errors import InputError, SurgVistaError
from ...util.messages import preview
from .family import Blueprint, Family, Values
from .formats import FAMILIES
from .mapping import same_shape
from .reading import CheckpointError, read_checkpoint

_MOST_SHOWN = 4
# Heads cannot be read from tensors; one head fits every width, which is enough to compare names and shapes.
_HEADS_OF_STUDENT = ("num_attention_heads", "video_decoder_num_attention_heads", "image_decoder_num_attention_heads")
_ONE_HEAD = (*_HEADS_OF_STUDENT, "decoder_num_attention_heads", "pred_num_attention_heads")


def likely_families(path: str | Path, wrong: str, overrides: Values) -> list[str]:
    """Return the families whose converter would take a checkpoint, the one whose released file is called so first.

    Args:
        path: The file or folder.
        wrong: The family that refused it.
        overrides: Values of the configuration from the caller.
    """
    found = [family for family in FAMILIES.values() if family.name != wrong and _takes(family, Path(path), overrides)]
    name = Path(path).name
    return [family.name for family in sorted(found, key=lambda family: family.hub is None or family.hub.name != name)]


def advice(likely: list[str]) -> str:
    """Return a sentence that names the likely families, or nothing.

    Example:
        >>> advice(["vjepa", "surgrec-jepa"])
        ' It looks like a checkpoint of the family vjepa or surgrec-jepa'
    """
    return f" It looks like a checkpoint of the family {' or '.join(likely[:_MOST_SHOWN])}" if likely else ""


def _takes(family: Family, path: Path, overrides: Values) -> bool:
    try:
        tensors = read_checkpoint(path, family.containers, family.beside, hashed=False).tensors
    except SurgVistaError:
        return False
    if known := _fits(family, tensors, overrides):
        return True
    if known is False and _fits(family, tensors, {}) is False:
        return False
    attempts: list[Values] = [{name: 1} for name in _ONE_HEAD]
    attempts += [
        {"num_attention_heads": 1, name: 1} for name in ("decoder_num_attention_heads", "pred_num_attention_heads")
    ]
    attempts += [dict.fromkeys(_HEADS_OF_STUDENT, 1)]
    attempts += [{**overrides, **attempt} for attempt in attempts]
    return any(_fits(family, tensors, attempt) for attempt in attempts)


def _fits(family: Family, tensors: Mapping[str, torch.Tensor], overrides: Values) -> bool | None:
    """Return whether names and shapes fit, or nothing where options, such as the number of heads, are in the way."""
    try:
        blueprint = family.plan(tensors, overrides)
        used = used_tensors(blueprint)
        if used is not None:
            explain_leftovers(tensors, used, blueprint)
        return used is not None
    except InputError:
        return None
    except (SurgVistaError, ValueError, TypeError, RuntimeError, KeyError, IndexError, ZeroDivisionError):
        return False


def used_tensors(blueprint: Blueprint) -> list[str] | None:
    """Return the names of the tensors that a blueprint needs, or nothing if one is missing or has another shape."""
    used = []
    for target, shape in blueprint.targets.items():
        source = blueprint.naming(target)
        tensor = blueprint.tensors.get(source.key)
        if tensor is None:
            if not target.startswith(blueprint.may_be_absent):
                return None
        elif not same_shape(tensor, source, target, shape):
            return None
        else:
            used.append(source.key)
    return used


def explain_leftovers(
    tensors: Iterable[str], used: Iterable[str], blueprint: Blueprint, leave_out: Sequence[str] = ()
) -> dict[str, str]:
    """Return why each tensor that is not used is left out.

    Args:
        tensors: The names of all tensors of the checkpoint.
        used: The names of those that the model takes.
        blueprint: The plan of the model.
        leave_out: Beginnings of further names that are not wanted, regular expressions.

    Raises:
        CheckpointError: One has no reason: the network may be another than it is taken for.
    """
    taken, reasons = set(used), (*blueprint.ignored, *((pattern, "left out on request") for pattern in leave_out))
    ignored = {
        name: next((why for pattern, why in reasons if re.match(pattern, name)), "")
        for name in tensors
        if name not in taken
    }
    unknown = [name for name, why in ignored.items() if not why]
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} tensors have no place in a {blueprint.model_class.__name__}, such as {preview(sorted(unknown))}: "
            "the network may be another one. If they are not wanted, name them: leave_out (--leave-out PATTERN)"
        )
    return ignored

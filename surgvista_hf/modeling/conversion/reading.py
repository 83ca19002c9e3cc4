"""Reads the tensors of a checkpoint file or folder without running anything that it may contain."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...util.errors import SurgVistaError
from ...util.files import file_hash
from ...util.messages import first_line
from .inert import HARMLESS

CONTAINERS = ("model", "module", "state_dict")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")


class CheckpointError(SurgVistaError):
    """A checkpoint cannot be read, or is not what it was said to be."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint under their original names, and what identifies the files they came from.

    Args:
        tensors: name -> tensor, on the CPU.
        sha256: file name -> digest.
    """

    tensors: dict[str, torch.Tensor]
    sha256: dict[str, str]


def read_checkpoint(
    path: str | Path,
    containers: Sequence[str] = CONTAINERS,
    beside: Sequence[str] = (),
    part: str | None = None,
    *,
    hashed: bool = True,
) -> Checkpoint:
    """Read `.pth`, `.pt`, `.bin` or `.safetensors`, or a folder with one such file or an index of shards.

    Training checkpoints are dictionaries that hold the weights under `model`, `module`, `state_dict` or a name of the
    family's, beside an optimizer and an `argparse.Namespace`; a flat dictionary of tensors is one too.

    Args:
        path: file or folder.
        containers: keys that the weights may lie under, the first that is there counts; `a/b` is `b` under `a`.
        beside: further keys, whose tensors are read too, with the key and a dot before their names.
        part: key that they must lie under, whatever the containers are.
        hashed: also compute the digests of the files.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: nothing there, a damaged file, a pickle that holds more than data, or no tensors inside.
    """
    files = _checkpoint_files(Path(path))
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        tensors.update(_state_dict(_load(file), file, containers, beside, part))
    return Checkpoint(tensors, {file.name: file_hash(file) for file in files} if hashed else {})


def _checkpoint_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint at {path}")
    for name in _INDEXES:
        if (path / name).is_file():
            return _shards(path / name)
    for name in _SINGLE_FILES:
        if (path / name).is_file():
            return [path / name]
    raise CheckpointError(f"the folder {path} holds none of {', '.join((*_INDEXES, *_SINGLE_FILES))}")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is not an index of shards: {error!r}") from error
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names the shard {name!r}, which lies outside its folder")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index} names the shard {name}, which is missing")
    return [index.parent / name for name in names]


def _load(file: Path) -> object:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals(list(HARMLESS)):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(file, error)) from error
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
    ) as error:
        raise CheckpointError(
            f"{file} cannot be read; it is damaged or no checkpoint ({first_line(error)})"
        ) from error


def _refusal(file: Path, error: pickle.UnpicklingError) -> str:
    """Name what is in the way, by its name where the file names it."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found is None:
        return f"{file} was not read: it is not a checkpoint, or not one that holds data only ({first_line(error)})"
    return (
        f"{file} was not read: beside tensors and plain values it holds {found[1]}, which could run code when loaded. Ask "
        "for a safetensors file, or, where you trust it, save its weights alone: "
        "torch.save({'model': checkpoint['model']}, …)"
    )


def _state_dict(
    content: object, file: Path, containers: Sequence[str], beside: Sequence[str], part: str | None
) -> dict[str, torch.Tensor]:
    if isinstance(content, Mapping):
        keys = [name for name, value in content.items() if isinstance(value, Mapping)]
        if part is not None and part not in keys:
            raise CheckpointError(f"{file} has no part {part!r}; its parts are {', '.join(map(str, keys)) or 'none'}")
        found = (_inside(content, name) for name in ([part] if part else containers))
        inner = next((each for each in found if each is not None), content)
        tensors = _tensors(inner)
        if tensors:
            for name in beside:
                if inner is not content and name in keys:
                    tensors |= {f"{name}.{key}": tensor for key, tensor in _tensors(content[name]).items()}
            return tensors
        inside = [str(name) for name in keys if _tensors(content[name])]
        if inside:
            raise CheckpointError(
                f"{file} holds no tensors at its top level or under {', '.join(containers)}, but under "
                f"{', '.join(inside)}: is this the right family? If so, say which part is meant"
            )
    raise CheckpointError(f"{file} holds no tensors, neither at its top level nor under {', '.join(containers)}")


def _inside(content: Mapping[object, object], path: str) -> Mapping[object, object] | None:
    """Return the dictionary under keys that are separated by slashes, if there is one."""
    for key in path.split("/"):
        content = content.get(key) if isinstance(content, Mapping) else None  # type: ignore[assignment]
    return content if isinstance(content, Mapping) else None


def _tensors(content: Mapping[object, object]) -> dict[str, torch.Tensor]:
    return {
        str(name).removeprefix("module."): tensor
        for name, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }

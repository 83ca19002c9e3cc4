"""Fingerprints: short texts that follow the content of files, weights and models, whatever these are called.

A result keeps the fingerprint of what it was made from. The same name with another content is then never taken for done.
Neither paths nor times are part of a fingerprint, so a copy, a moved folder and another machine give the same.

Videos are large and are only sampled: their size, and the first, middle and last MiB. Weights are hashed completely: a head
that was trained again changes a few kilobytes somewhere in a file of gigabytes, which no sample would find, and they are read
to be loaded anyway.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import content_hash, file_hash

if TYPE_CHECKING:  # torch is imported when a model is hashed
    from torch import nn
    from transformers import PreTrainedModel

SAMPLE_BYTES = 1 << 20
WHOLE_BYTES = 16 * SAMPLE_BYTES  # files up to this size are hashed completely
_SAMPLED_FILES = 64  # of many files, whose names and sizes all count
_LETTERS = 16

_SAFE_WEIGHTS, _OTHER_WEIGHTS = (".safetensors",), (".bin", ".pt", ".pth")
_PARTS = (".json", ".jinja", ".model", ".txt", ".py", ".onnx", ".data", ".pt2", ".npz")  # beside the weights
# Beside a model lie records of its training, which change nothing in what it predicts.
_NO_PARTS = ("training_args", "trainer_state", "optimizer", "scheduler", "scaler", "rng_state")
_BASE_WEIGHTS, _NO_BASE_WEIGHTS = (".safetensors", ".bin"), ("training_args.bin", "optimizer.bin", "scheduler.bin")
_ADAPTER_BASE = "adapter_base.json"  # the way to an adapter's base, which may change, and a hash of its weights
_NO_PART_FILES = {
    _ADAPTER_BASE,
    "pretraining_videos.json",
    "training_videos.json",
    "results.json",
    "export.json",
    "made_from.json",
    "settings.json",
}
_NO_CONTENT = ("_name_or_path", "_commit_hash", "transformers_version", "base_model_name_or_path")  # of a JSON file


def file_fingerprint(path: str | os.PathLike[str]) -> str:
    """Return the fingerprint of a file: its size in bytes and a hash of its content.

    Files above 16 MiB are sampled: the hash is of the first, the middle and the last MiB, so a video of 50 GB takes no longer
    than a short one. A change that keeps the size and lies between the samples is not seen.

    Args:
        path: file.

    Returns:
        `<bytes>-<16 hexadecimal digits>`.

    Raises:
        OSError: it cannot be read.

    Example:
        >>> file_fingerprint("operation.mp4")  # doctest: +SKIP
        '1835008-3f786850e387550f'
    """
    with Path(path).open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= WHOLE_BYTES:
            digest = hashlib.file_digest(stream, "sha256")
        else:
            digest = hashlib.sha256()
            for start in (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES):
                stream.seek(start)
                digest.update(stream.read(SAMPLE_BYTES))
    return f"{size}-{digest.hexdigest()[:_LETTERS]}"


def files_fingerprint(paths: Sequence[Path]) -> str:
    """Return the fingerprint of many files, such as the extracted frames of a video.

    The names and sizes of all count. The contents of all are hashed up to 16 MiB together, else those of 64 evenly spread.

    Args:
        paths: files, in order.

    Returns:
        `<bytes>-<16 hexadecimal digits>`.
    """
    sizes = [path.stat().st_size for path in paths]
    chosen = list(paths)
    if sum(sizes) > WHOLE_BYTES:
        step = max(len(paths) / _SAMPLED_FILES, 1.0)
        chosen = [paths[int(number * step)] for number in range(min(_SAMPLED_FILES, len(paths)))]
    names = [[path.name, size] for path, size in zip(paths, sizes, strict=True)]
    return f"{sum(sizes)}-{content_hash([names, [file_fingerprint(path) for path in chosen]])}"


def weights_fingerprint(name: str | os.PathLike[str]) -> str:
    """Return the fingerprint of a saved model: its weights, configuration, processor and tokenizer.

    An adapter has that of its base in it. Every byte of the weights counts. A folder is hashed once in a process, unless its
    files change.

    Args:
        name: folder or Hub id.

    Returns:
        16 hexadecimal digits of a folder; `<id>@<commit>` of a Hub id, as far as the Hub's cache knows the commit.

    Example:
        >>> weights_fingerprint("runs/phases/model")  # doctest: +SKIP
        '3f786850e387550f'
    """
    folder = Path(name)
    if folder.is_dir():
        return content_hash(_parts(folder))
    if folder.is_file():
        return _file_hash(folder)
    return _of_hub(os.fspath(name))


def base_weights_hash(folder: str | os.PathLike[str]) -> str:
    """Return the hash by which an adapter knows the weights of its base; files beside the weights do not count.

    `weights_fingerprint` also counts the configuration and the processor, which may be changed without harm to an adapter. An
    adapter keeps this value in `adapter_base.json`, so it must stay the same from version to version.

    Args:
        folder: folder of a saved model.

    Returns:
        16 hexadecimal digits.
    """
    files = sorted(
        file
        for suffix in _BASE_WEIGHTS
        for file in Path(folder).glob(f"*{suffix}")
        if file.name not in _NO_BASE_WEIGHTS
    )
    return content_hash([[file.name, _whole_hash(file)] for file in files])


def state_fingerprint(model: "nn.Module") -> str:
    """Return the fingerprint of the tensors of a model in memory, whichever file they came from.

    Args:
        model: model with its weights.

    Returns:
        16 hexadecimal digits.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_LETTERS]


def model_fingerprint(model: "PreTrainedModel") -> str:
    """Return the fingerprint of a model in memory: its tensors and its configuration.

    Args:
        model: a `transformers.PreTrainedModel`.
    """
    config = json.loads(json.dumps(model.config.to_dict(), default=str))
    return content_hash([state_fingerprint(model), _without_names(config)])


def settings_fingerprint(content: object) -> str:
    """Return the fingerprint of anything made of plain values, dataclasses, arrays and files.

    A path stands for the content of its file, or for its name where there is none.

    Args:
        content: nested mappings, sequences, dataclasses, arrays and paths.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> settings_fingerprint({"labels": (0, 1)}) == settings_fingerprint({"labels": [0, 1]})
        True
    """
    return hashlib.sha256(json.dumps(content, default=_plain).encode()).hexdigest()[:_LETTERS]


def _plain(value: object) -> object:
    """Turn what JSON cannot say into values that it can say; the same in every process."""
    if isinstance(value, Path):
        return file_fingerprint(value) if value.is_file() else value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [type(value).__name__, fields]
    if isinstance(value, Mapping):
        return [[key, each] for key, each in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Iterable):
        return list(value)
    return [type(value).__name__, vars(value)] if hasattr(value, "__dict__") else repr(value)


# ------------------------------------------------------------------------------------------- folders of models


def _parts(folder: Path) -> dict[str, Any]:
    """Return the hash of every file that decides what a model does, by its name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    weights = [path for path in files if path.suffix in _SAFE_WEIGHTS]
    weights = weights or [path for path in files if path.suffix in _OTHER_WEIGHTS and _is_part(path)]
    parts = {path.name: _file_hash(path) for path in weights}
    for path in files:
        if path.suffix in _PARTS and _is_part(path):
            parts[path.name] = _json_content(path) if path.suffix == ".json" else _file_hash(path)
    base = _base_of(folder)
    return parts if base is None else {**parts, "base": base}


def _is_part(path: Path) -> bool:
    return path.name not in _NO_PART_FILES and not path.name.startswith(_NO_PARTS)


def _json_content(path: Path) -> str:
    """Return the hash of a JSON file without the names and versions in it; of the whole file, where it is no JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return _file_hash(path)
    return content_hash(_without_names(content))


def _without_names(content: object) -> object:
    """Leave out, at any depth, what says where a content came from."""
    if isinstance(content, dict):
        return {key: _without_names(value) for key, value in content.items() if key not in _NO_CONTENT}
    return [_without_names(value) for value in content] if isinstance(content, list) else content


def _base_of(folder: Path) -> str | None:
    """Return the fingerprint of what an adapter was trained on, if this is one."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return None
    noted = folder / _ADAPTER_BASE
    if noted.is_file():  # a base with other weights is refused, wherever it is found
        return str(json.loads(noted.read_text(encoding="utf-8"))["weights"])
    name = str(json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
    beside = folder / name
    return weights_fingerprint(beside if name and beside.is_dir() else name)


def _of_hub(name: str) -> str:
    """Return a Hub id with the commit that its cache holds."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no id of the Hub
        found = None
    commit = Path(found).parent.name if isinstance(found, str) else "unknown commit"
    return f"{name}@{commit}"


def _file_hash(path: Path) -> str:
    """Return the first digits of the SHA-256 of a file."""
    return _whole_hash(path)[:_LETTERS]


def _whole_hash(path: Path) -> str:
    """Return the SHA-256 of a file, computed once in a process; its time only tells whether to compute it again."""
    state = path.stat()
    return _known_hash(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=1024)
def _known_hash(path: Path, *state: int) -> str:
    return file_hash(path)

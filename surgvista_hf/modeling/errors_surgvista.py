"""Typed errors of models and videos. This file travels with a checkpoint, so it needs only the standard library.

Where the package is installed, `SurgVistaError` and `InputError` are the package's own, so that one `except` catches what the
package raises and what the files beside a checkpoint raise.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    from surgvista_hf.util.errors import InputError, SurgVistaError
except ImportError:  # loaded from a checkpoint, without the package

    class SurgVistaError(Exception):  # type: ignore[no-redef]
        """Base of all errors raised on bad input: says what was found, what was expected and what to do."""

    class InputError(SurgVistaError, ValueError):  # type: ignore[no-redef]
        """An argument has the wrong shape, type or value."""


class VideoReadError(SurgVistaError):
    """A video (or image) cannot be decoded: not a video, truncated, unsupported, or without a video stream."""


class WeightsNotPublishedError(SurgVistaError, OSError):
    """The repository exists as a name only: no weights that transformers can load were found there."""


class MissingFolderError(InputError, OSError):
    """A model is named by a path, and there is nothing at that path. Such a name is never looked up on the Hub."""


class MissingTokenizerError(InputError):
    """A folder holds an image-text model without a tokenizer, so texts cannot be prepared."""


_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")  # `name` or `owner/name`
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".tar")


def folder_or_hub_name(name: str | os.PathLike[str]) -> str:
    """Return the name of a model as `from_pretrained` takes it, unless it names a folder that is not there.

    What can only be a path never becomes the name of a repository: it is absolute, begins with `.` or `~`, has more than one
    slash, a backslash or a space, ends like a file of weights, or lies in a folder that exists here.

    Args:
        name: folder or Hub id.

    Returns:
        The path with `~` written out, or the Hub id.

    Raises:
        MissingFolderError: it is a path and nothing is there.

    Example:
        >>> folder_or_hub_name("facebook/vjepa2-vitl-fpc64-256")
        'facebook/vjepa2-vitl-fpc64-256'
        >>> folder_or_hub_name("runs/lora/model")
        Traceback (most recent call last):
        ...
        surgvista_hf.modeling.errors_surgvista.MissingFolderError: there is no folder runs/lora/model ...
    """
    text = os.fspath(name)
    path = Path(text).expanduser()
    if text and path.exists():
        return str(path)
    owner = Path(text).parent
    in_a_folder = "/" in text and owner.is_dir()
    if _HUB_NAME.fullmatch(text) and not text.endswith(_WEIGHTS) and not in_a_folder:
        return text
    nearest = next((str(parent) for parent in path.parents if parent.is_dir()), "")
    hint = f"; of its path {nearest} exists" if nearest not in ("", ".", "/") else ""
    here = "" if path.is_absolute() else f" in {Path.cwd()}"
    raise MissingFolderError(
        f"there is no folder {text or repr(text)}{here}{hint}. Give the folder of a model, or the id of a Hub "
        "repository as owner/name"
    )


def not_a_folder_either(name: str | os.PathLike[str]) -> str:
    """Return what to add to the message of a Hub id that could not be loaded: it may have been meant as a folder."""
    return "" if Path(name).exists() else f"; and there is no folder {os.fspath(name)} in {Path.cwd()}"


# Repositories that have been announced without weights (state of November 2026).
UNPUBLISHED = frozenset({"syangcw/SurgVISTA"})


@contextmanager
def explain_missing_weights(name: object) -> Iterator[None]:
    """Turn the `OSError` of loading a repository known to have no weights into one that says what to do instead.

    Raises:
        MissingFolderError: `name` is the path of a folder that does not exist.
        WeightsNotPublishedError: loading `name`, one of `UNPUBLISHED`, failed.
    """
    try:
        yield
    except (WeightsNotPublishedError, MissingFolderError):
        raise
    except OSError as error:
        if str(name) not in UNPUBLISHED:
            if isinstance(name, str | os.PathLike):
                folder_or_hub_name(name)
            raise
        raise WeightsNotPublishedError(
            f"{name} could not be loaded: neither this machine's cache nor the Hub gave weights that transformers can "
            "read. The authors have announced them but, when this release was made, not published them. Three roads:\n"
            "  1. convert: if you have the original .pth,\n"
            "       surgvista convert SurgVISTA.pth --family surgvista --output surgvista-base\n"
            '     and then AutoModel.from_pretrained("surgvista-base");\n'
            "  2. pre-train: SurgVistaForPreTraining is the published model with its losses; it trains on your videos;\n"
            "  3. another family: surgvista convert --list names released checkpoints (LemonFM, EndoViT, SurgRec, "
            "VideoMAE, …) that run behind the same API.\n"
            f"The loader said: {error}"
        ) from error

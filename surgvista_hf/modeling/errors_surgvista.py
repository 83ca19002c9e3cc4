"""Typed errors. This file travels with a checkpoint, so it imports only the standard library.

Every error the package raises on bad input is a `SurgVistaError`. Rooms that need a kind of their own define it beside
their code as a subclass.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class SurgVistaError(Exception):
    """Base of all errors raised on bad input: says what was found, what was expected and what to do."""


class InputError(SurgVistaError, ValueError):
    """An argument has the wrong shape, type or value."""


class VideoReadError(SurgVistaError):
    """A video (or image) cannot be decoded: not a video, truncated, unsupported, or without a picture stream."""


class WeightsNotPublishedError(SurgVistaError, OSError):
    """The repository exists as a name only: no weights that transformers can load were found there."""


# Repositories that have been announced without weights (state of November 2026).
UNPUBLISHED = frozenset({"syangcw/SurgVISTA"})


@contextmanager
def explain_missing_weights(name: object) -> Iterator[None]:
    """Turns the `OSError` of loading a repository known to have no weights into one that says what to do instead.

    Raises:
        WeightsNotPublishedError: loading `name`, one of `UNPUBLISHED`, failed.
    """
    try:
        yield
    except WeightsNotPublishedError:
        raise
    except OSError as error:
        if str(name) not in UNPUBLISHED:
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

"""Families by name: their file is fetched from the Hub, converted once, and kept beside the Hub's own cache."""

from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants, hf_hub_download

from ...util.errors import SurgVistaError
from ...util.messages import first_line
from .convert import convert_checkpoint, family_named


class WeightsElsewhereError(SurgVistaError):
    """A family's weights cannot be had by its name alone."""


def converted_from_hub(family: str) -> Path:
    """Return the converted folder of a family's published file.

    Args:
        family: one of `FAMILIES` with a known file on the Hub.

    Returns:
        A folder that `from_pretrained` loads, `surgvista_hf/<family>-<revision>` in the cache of the Hub (`HF_HOME`).

    Raises:
        InputError: an unknown family.
        WeightsElsewhereError: its file is not known to be on the Hub, or cannot be fetched from there.
        CheckpointError: the file is not what the converter expects.

    Example:
        >>> AutoModel.from_pretrained(converted_from_hub("endovit"))  # doctest: +SKIP
    """
    known = family_named(family)
    advice = (
        f"get the file ({known.source}), run surgvista convert FILE --family {family} --output FOLDER, and name FOLDER"
    )
    if known.hub is None:
        raise WeightsElsewhereError(f"no file of {known.title} is known on the Hub: {advice}")
    try:
        file = Path(hf_hub_download(known.hub.repository, known.hub.name))
    except (OSError, ValueError) as error:
        raise WeightsElsewhereError(
            f"{known.hub.name} of {known.hub.repository} cannot be fetched ({first_line(error)}): {advice}"
        ) from error
    folder = Path(constants.HF_HOME) / "surgvista_hf" / f"{family}-{file.parent.name[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # processes of one run ask at the same time
        if not folder.exists():
            convert_checkpoint(file, folder, family=family, tokenizer=_vocabulary(known.tokenizer, advice))
    return folder


def _vocabulary(name: str, advice: str) -> str | None:
    """Return the vocabulary of a family's text encoder, fetched from the Hub, or nothing for families without one."""
    if not name:
        return None
    try:
        return hf_hub_download(name, "vocab.txt")
    except (OSError, ValueError) as error:
        raise WeightsElsewhereError(
            f"the tokenizer {name} cannot be fetched ({first_line(error)}): {advice} and --tokenizer FOLDER"
        ) from error

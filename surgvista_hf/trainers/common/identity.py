"""What a training run works on, noted in its folder: a run never goes on with other data or from other weights.

`made_from.json` lies beside the checkpoints. It holds fingerprints of the frame sets, of the weights that the run starts from
and of its teacher, and the sections of the recipe that say what of them is used. How long and how fast the run trains may
change on the way; on what may not.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ...util.files import OutputError, at_work, check_settings
from ...util.fingerprint import weights_fingerprint
from .checkpoints import complete_checkpoints

FILE = "made_from.json"
_PATHS = ("root", "data_dir", "sources", "on_overlap", "on_unreadable", "tested_on")


@contextmanager
def run_folder(folder: Path, made_from: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of a run for this run alone, and make sure that it was begun with the same data and weights.

    Args:
        folder: of checkpoints and results.
        made_from, names: see `util.files.check_settings`.

    Raises:
        OutputError: another run is at work there, or the folder was begun with other data or weights, or it does not say
            with which.
    """
    state = PartialState()
    with at_work(folder):
        if state.is_main_process:
            if complete_checkpoints(folder) and not (folder / FILE).is_file():
                raise OutputError(
                    f"{folder} holds checkpoints of a version that did not note which data and weights they were trained on. "
                    f"If you are sure that these have not changed since, write {{}} into {folder / FILE} and run the same "
                    "again; else remove the folder, or choose another training.output_dir"
                )
            check_settings(folder, made_from, names=names, file=FILE)
        state.wait_for_everyone()
        yield


def start_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model starts as: its section of the recipe, with the fingerprint of its weights instead of their path."""
    start = model.get("from_pretrained")
    return {**model, "from_pretrained": None if start is None else weights_fingerprint(str(start))}


def without_paths(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of a recipe without its paths and what changes nothing in the content."""
    return {name: value for name, value in section.items() if name not in _PATHS}


def name_of(path: str | Path | None) -> str | None:
    """Return what people call a folder: its name without the path; a Hub id as it is."""
    return None if path is None else Path(path).name if Path(path).exists() else str(path)

"""The identity of a training run, stored in its folder, so that a run is never resumed on other data or from other weights.

`made_from.json` lies beside the checkpoints. It holds fingerprints of the frame sets, of the weights that the run starts from
and of its teacher, and the sections of the recipe that say what of them is used. The length of a run and its learning rate may
change when it is resumed; its data and weights may not.
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
# A file of splits and a fold say which videos are used; their fingerprints are noted instead, whatever the file is called.
_SPLITS = ("split_file", "fold")
_PATHS = ("root", "data_dir", "sources", "on_overlap", "on_unreadable", "tested_on", *_SPLITS)


@contextmanager
def run_folder(folder: Path, made_from: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of a run for this run alone, and make sure that it was begun with the same data and weights.

    Args:
        folder: folder of the checkpoints and results.
        made_from: content that the run depends on; it is compared with `made_from.json`, or stored there.
        names: names that people know the content by, for the message; keys as in `made_from`.

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
    """Return the section of a recipe that describes a model, with the fingerprint of its weights instead of their path."""
    start = model.get("from_pretrained")
    return {**model, "from_pretrained": None if start is None else weights_fingerprint(str(start))}


def without_paths(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of a recipe without its paths and without the keys that do not change the content."""
    return {name: value for name, value in section.items() if name not in _PATHS}


def name_of(path: str | Path | None) -> str | None:
    """Return the name that people know a folder by: its last component; a Hub id as it is."""
    return None if path is None else Path(path).name if Path(path).exists() else str(path)

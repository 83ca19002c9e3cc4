"""What a training run works on, noted in its folder: a run never goes on with other data or from other weights.

`made_from.json` lies beside the checkpoints. It holds fingerprints of the frame sets, of the weights that the run starts from
and of its teacher, and the sections of the recipe that say what of them is used. How long and how fast the run trains may
change on the way; on what may not.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset

from ...datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ...datasets_scripts.frame_sets.load import load_frame_set
from ...util.files import OutputError, at_work, claim
from ...util.fingerprint import weights_fingerprint
from ..finetuning.recipe import FinetuningRecipe, LabelledData
from ..pretraining.recipe import DataRecipe, Recipe
from ..pretraining.teachers import teacher_path
from .checkpoints import complete_checkpoints

FILE = "made_from.json"
_PATHS = ("root", "data_dir", "sources", "on_overlap", "on_unreadable", "tested_on")


@contextmanager
def run_folder(folder: Path, made_from: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of a run for this run alone, and make sure that it was begun with the same data and weights.

    Args:
        folder: of checkpoints and results.
        made_from, names: see `util.files.claim`.

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
            claim(folder, made_from, names=names, file=FILE)
        state.wait_for_everyone()
        yield


def start_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model starts as: its section of the recipe, with the fingerprint of its weights instead of their path."""
    start = model.get("from_pretrained")
    return {**model, "from_pretrained": None if start is None else weights_fingerprint(str(start))}


def without_paths(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of a recipe without its paths and what changes nothing in the content."""
    return {name: value for name, value in section.items() if name not in _PATHS}


def labelled_data(data: LabelledData, splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """Return what of a labelled frame set is used, with the fingerprint of each split instead of its path."""
    section = without_paths(asdict(data))
    if data.test_on is not None:
        section["test_on"] = without_paths(section["test_on"])
    return {**section, "content": {name: frames_fingerprint(frames) for name, frames in splits.items()}}


def corpus_data(data: DataRecipe) -> dict[str, Any]:
    """Return what of a corpus is used, with the fingerprint of each source instead of its path."""
    section = without_paths(asdict(data))
    content = {}
    for number, source in enumerate(data.sources):
        folder = Path(data.root) / source.data_dir
        frames: Any = load_frame_set(
            source.name, folder, source.split, protocol=source.protocol, allow_missing=source.allow_missing
        )
        content[f"{number} {source.name}"] = frames_fingerprint(frames)
    return {**section, "content": content}


def finetuning_run(recipe: FinetuningRecipe, splits: Mapping[str, Dataset]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a fine-tuning run works on, and what people call it; see `util.files.claim`.

    Args:
        recipe: of the run.
        splits: of its data, as they were loaded.
    """
    made_from = {
        "model": start_of(asdict(recipe.model)),
        "data": labelled_data(recipe.data, splits),
        "adapter": asdict(recipe.adapter),
    }
    called = dict.fromkeys(splits, name_of(recipe.data.folder)) | {"test": name_of(recipe.data.test_folder)}
    names = {"model": {"from_pretrained": name_of(recipe.model.from_pretrained)}}
    return made_from, {**names, "data": {"content": called}}


def pretraining_run(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a pre-training run works on, and what people call it; see `util.files.claim`."""
    teacher = None
    if recipe.teacher is not None:
        own = asdict(recipe.teacher)
        teacher = {"weights": weights_fingerprint(teacher_path(recipe.teacher.name))}
        teacher |= {name: own[name] for name in ("final_norm", "dtype")}
    made_from = {
        "objective": recipe.objective,
        "model": start_of(recipe.model),
        "teacher": teacher,
        "data": corpus_data(recipe.data),
    }
    called = {f"{number} {source.name}": name_of(source.data_dir) for number, source in enumerate(recipe.data.sources)}
    names: dict[str, Any] = {"data": {"content": called}}
    names["model"] = {"from_pretrained": name_of(recipe.model.get("from_pretrained"))}
    names["teacher"] = {"weights": name_of(recipe.teacher.name) if recipe.teacher else None}
    return made_from, names


def name_of(path: str | Path | None) -> str | None:
    """Return what people call a folder: its name without the path; a Hub id as it is."""
    return None if path is None else Path(path).name if Path(path).exists() else str(path)

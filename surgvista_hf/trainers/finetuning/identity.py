"""The identity of a fine-tuning run: its model, labeled frames and adapter, by content; see `common.identity`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ..common.identity import name_of, start_of, without_paths
from .recipe import FinetuningRecipe, LabeledData


def labeled_data(data: LabeledData, splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """Return the settings of a labeled frame set, with the fingerprint of each split instead of its path."""
    section = without_paths(asdict(data))
    if data.test_on is not None:
        section["test_on"] = without_paths(section["test_on"])
    return {**section, "content": {name: frames_fingerprint(frames) for name, frames in splits.items()}}


def _called(folder: Path, own_splits: str | None) -> str | None:
    """Return the name that people know the videos by: that of the folder, and that of the file of splits if there is one."""
    name = name_of(folder)
    return name if own_splits is None else f"{name} by {own_splits}"


def finetuning_run(recipe: FinetuningRecipe, splits: Mapping[str, Dataset]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content that a fine-tuning run depends on, and the names that people know it by.

    Args:
        recipe: recipe of the run.
        splits: frame sets of its splits.

    Returns:
        The content and the names, as `run_folder` takes them.
    """
    made_from = {
        "model": start_of(asdict(recipe.model)),
        "data": labeled_data(recipe.data, splits),
        "adapter": asdict(recipe.adapter),
    }
    data = recipe.data
    called: dict[str, str | None] = dict.fromkeys(splits, _called(data.folder, data.own_splits))
    if data.test_on is not None:
        called["test"] = _called(data.test_folder, data.test_on.own_splits)
    names = {"model": {"from_pretrained": name_of(recipe.model.from_pretrained)}}
    return made_from, {**names, "data": {"content": called}}

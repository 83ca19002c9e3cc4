"""The identity of a pre-training run: its model, teacher and corpus, by content; see `common.identity`."""

from dataclasses import asdict
from typing import Any

from ...datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ...util.fingerprint import weights_fingerprint
from ..common.frame_sets import load_named
from ..common.identity import name_of, start_of, without_paths
from .recipe import DataRecipe, Recipe
from .teachers import teacher_path


def corpus_data(data: DataRecipe) -> dict[str, Any]:
    """Return the settings of a corpus, with the fingerprint of each source instead of its path."""
    section = without_paths(asdict(data))
    content = {}
    for number, source in enumerate(data.sources):
        frames = load_named(source, data.folder(source), source.split)
        content[f"{number} {source.name}"] = frames_fingerprint(frames)
    return {**section, "content": content}


def pretraining_run(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content that a pre-training run depends on, and the names that people know it by.

    Returns:
        The content and the names, as `run_folder` takes them.
    """
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

"""Recipes of pre-training: a run as a YAML file, checked against what the model, the data and the trainer know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .objectives import OBJECTIVES
from .recipe_files import PRETRAINING, RecipeError, build, check_keys, field_names, read_recipe

SECTIONS = ("objective", "model", "teacher", "data", "training")


@dataclass(frozen=True)
class SourceRecipe:
    """One frame set of the corpus; see `load_frame_set`."""

    name: str
    data_dir: str
    split: str = "train"
    protocol: str | None = None
    allow_missing: bool = False


@dataclass(frozen=True)
class TestRecipe:
    """A benchmark that the model shall be tested on: none of its test videos may be in the corpus."""

    name: str
    protocol: str | None = None
    split: str = "test"


@dataclass(frozen=True)
class DataRecipe:
    """The corpus.

    Args:
        sources: frame sets, in this order.
        root: folder that relative `data_dir`s lie in.
        frame_stride: seconds between two frames of a clip; see `ClipDataset`.
        balance: `None`: every clip once an epoch; a number from 0 to 1: sources drawn in proportion to their sizes to this
            power; or a weight for each source by its name.
        clips_per_epoch: draws of an epoch when sources are balanced; by default as many as there are clips.
        on_unreadable: `"stop"` or `"replace"`; see `ClipDataset`.
        share: of the videos of every source, above 0 and up to 1. Which ones depends on their ids and on `share_seed` only,
            and the videos of a smaller share are among those of a larger one.
        tested_on: benchmarks whose test videos must not be in the corpus.
        on_overlap: `"error"` or `"warn"`.
    """

    sources: tuple[SourceRecipe, ...]
    root: str = "."
    frame_stride: float = 4
    balance: float | Mapping[str, float] | None = None
    clips_per_epoch: int | None = None
    on_unreadable: Literal["stop", "replace"] = "stop"
    share: float = 1.0
    share_seed: int = 0
    tested_on: tuple[TestRecipe, ...] = ()
    on_overlap: Literal["error", "warn"] = "error"


@dataclass(frozen=True)
class TeacherRecipe:
    """The image teacher; see `ImageTeacher.from_pretrained`. Without `final_norm` it is as its family has it."""

    name: str
    final_norm: bool | None = None
    dtype: str | None = None
    batch_size: int | None = None
    compile: bool = False


@dataclass(frozen=True)
class Recipe:
    """A pre-training run.

    Args:
        data: corpus.
        objective: see `objectives.OBJECTIVES`.
        model: fields of the model's configuration that differ from its defaults; or `from_pretrained`; `model_type` where an
            objective has several.
        teacher: image teacher of the objective `surgvista`; `None`: a masked autoencoder.
        training: fields of the objective's arguments.
    """

    data: DataRecipe
    objective: str = "surgvista"
    model: Mapping[str, Any] = field(default_factory=dict)
    teacher: TeacherRecipe | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads and checks a recipe.

    Args:
        source: YAML file, or the name of a recipe of the package.
        overrides: `key.of.a.value=value`, the value in YAML.

    Returns:
        The recipe.

    Raises:
        RecipeError: no such file, no YAML, an unknown key or a value of the wrong kind.

    Example:
        >>> load_recipe("surgvista_base", ["training.seed=3"]).training["seed"]
        3
    """
    content = read_recipe(source, SECTIONS, overrides, room=PRETRAINING)
    objective = content.get("objective") or "surgvista"
    check_keys("the list of objectives", {objective: None}, list(OBJECTIVES))
    trainer = OBJECTIVES[objective]
    model, training, teacher = (content.get(name) or {} for name in ("model", "training", "teacher"))
    known = field_names(model_class(objective, model).config_class)
    check_keys("model", model, ("from_pretrained", "model_type", *known))
    check_keys("training", training, field_names(trainer.arguments_class))
    if "output_dir" not in training:
        raise RecipeError("training.output_dir is missing: the folder of the run")
    if teacher and not trainer.takes_teacher:
        raise RecipeError(f"the objective {objective} has no teacher: set teacher to null")
    return Recipe(
        _data(content.get("data") or {}),
        objective,
        model,
        build(TeacherRecipe, "teacher", teacher) if teacher else None,
        training,
    )


def model_class(objective: str, model: Any) -> Any:
    """The class of the model that the section `model` describes."""
    known = OBJECTIVES[objective].models
    name = model.get("model_type") if isinstance(model, dict) else None
    if name is not None and name not in known:
        raise RecipeError(f"the objective {objective} trains models of type {' or '.join(known)}, not {name!r}")
    return known[name or next(iter(known))]


def _data(content: Any) -> DataRecipe:
    if not isinstance(content, dict) or not content.get("sources"):
        raise RecipeError("data.sources is missing: a list of frame sets, each with name and data_dir")
    sources = tuple(build(SourceRecipe, f"data.sources.{n}", entry) for n, entry in enumerate(content["sources"]))
    tested = tuple(
        build(TestRecipe, f"data.tested_on.{n}", entry) for n, entry in enumerate(content.get("tested_on") or ())
    )
    built: DataRecipe = build(DataRecipe, "data", {**content, "sources": sources, "tested_on": tested})
    return built

"""Recipes of pre-training: a run as a YAML file, checked against the fields of the model, the data and the trainer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from transformers import PreTrainedConfig, PreTrainedModel

from ...util.values import Amount, Count, Fraction, PositiveCount, PositiveFraction, Seed, read_value
from ..recipes.loading import PRETRAINING, RecipeError, build, check_values, read_recipe, recipe_errors, section
from ..recipes.sections import FrameStride, check_configuration, check_training
from .objectives import OBJECTIVES

SECTIONS = ("objective", "model", "teacher", "data", "training")


@dataclass(frozen=True)
class SourceRecipe:
    """One frame set of the corpus; its fields are arguments of `load_frame_set`."""

    name: str
    data_dir: str
    split: str = "train"
    protocol: str | None = None
    allow_missing: bool = False
    split_file: str | None = None
    fold: Count | None = None


@dataclass(frozen=True)
class HeldOutBenchmark:
    """A benchmark that the model will be tested on: none of its test videos may be in the corpus."""

    name: str
    protocol: str | None = None
    split: str = "test"
    split_file: str | None = None
    fold: Count | None = None


@dataclass(frozen=True)
class DataRecipe:
    """The corpus.

    Args:
        sources: frame sets, in this order.
        root: folder that relative `data_dir`s refer to.
        frame_stride: seconds between two frames of a clip; see `ClipDataset`.
        balance: `None`: every clip once an epoch; a number from 0 to 1: draw sources in proportion to their sizes to this
            power; or a weight for each source by its name.
        clips_per_epoch: draws of an epoch when sources are balanced; by default as many as there are clips.
        on_unreadable: `"stop"` or `"replace"`; see `ClipDataset`.
        fraction: fraction of the videos of every source that is used, above 0 and up to 1. Which videos depends on their ids
            and `fraction_seed` only, and the videos of a smaller fraction are among those of a larger one.
        fraction_seed: seed of the choice of these videos.
        tested_on: benchmarks whose test videos must not be in the corpus.
        on_overlap: `"error"` or `"warn"` if there are such videos.
    """

    sources: tuple[SourceRecipe, ...]
    root: str = "."
    frame_stride: FrameStride = 4
    balance: Fraction | Mapping[str, Amount] | None = None
    clips_per_epoch: PositiveCount | None = None
    on_unreadable: Literal["stop", "replace"] = "stop"
    fraction: PositiveFraction = 1.0
    fraction_seed: Seed = 0
    tested_on: tuple[HeldOutBenchmark, ...] = ()
    on_overlap: Literal["error", "warn"] = "error"

    def folder(self, source: SourceRecipe) -> Path:
        """Return the folder of a source."""
        return Path(self.root) / source.data_dir


@dataclass(frozen=True)
class TeacherRecipe:
    """The image teacher; its fields are arguments of `ImageTeacher.from_pretrained`."""

    name: str
    final_norm: bool | None = None
    dtype: Literal["float32", "bfloat16", "float16", "float8"] | None = None
    batch_size: PositiveCount | None = None
    compile: bool = False


@dataclass(frozen=True)
class Recipe:
    """A pre-training run.

    Args:
        data: the corpus.
        objective: name of the objective, a key of `objectives.OBJECTIVES`.
        model: fields of the model's configuration that differ from its defaults; or `from_pretrained`, a folder or Hub id;
            and `model_type` where an objective trains several.
        teacher: image teacher of the objective `surgvista`; `None`: a masked autoencoder.
        training: fields of the objective's arguments.
    """

    data: DataRecipe
    objective: str = "surgvista"
    model: Mapping[str, Any] = field(default_factory=dict)
    teacher: TeacherRecipe | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe of pre-training.

    Args:
        source: YAML file, or the name of a recipe of the package.
        overrides: overrides such as `key.of.a.value=value`, the value in YAML.

    Returns:
        The recipe.

    Raises:
        RecipeError: there is no such file, it is not YAML, a key is unknown, or a value does not fit.

    Example:
        >>> load_recipe("surgvista_base", ["training.seed=3"]).training["seed"]
        3
    """
    content = read_recipe(source, SECTIONS, overrides, kind=PRETRAINING)
    objective = content.get("objective", "surgvista")
    with recipe_errors():
        read_value("objective", objective, Literal[tuple(OBJECTIVES)])
    trainer = OBJECTIVES[objective]
    model, training = section(content, "model"), section(content, "training")
    teacher = build(TeacherRecipe, "teacher", content["teacher"]) if content.get("teacher") is not None else None
    _check_model(objective, model)
    check_training(training, trainer.arguments_class)
    if teacher and not trainer.takes_teacher:
        raise RecipeError(f"the objective {objective} has no teacher: set teacher to null")
    data = section(content, "data")
    if not data.get("sources"):
        raise RecipeError("data.sources is missing: a list of frame sets, each with name and data_dir")
    return Recipe(build(DataRecipe, "data", data), objective, model, teacher, training)


def _check_model(objective: str, model: Mapping[str, Any]) -> None:
    """Refuse fields that no model of the objective has; without a checkpoint they must make a whole configuration."""
    changes = {name: value for name, value in model.items() if name not in ("from_pretrained", "model_type")}
    start = {name: value for name, value in model.items() if name not in changes}
    check_values("model", start, {"from_pretrained": str | None, "model_type": str | None})
    config_class = cast(type[PreTrainedConfig], model_class(objective, model).config_class)
    check_configuration("model", changes, config_class, whole=model.get("from_pretrained") is None)


def model_class(objective: str, model: Mapping[str, Any]) -> type[PreTrainedModel]:
    """Return the class of the model that the section `model` describes.

    Raises:
        RecipeError: the objective does not train models of this type.
    """
    known = OBJECTIVES[objective].models
    name = model.get("model_type")
    if name is not None and name not in known:
        raise RecipeError(f"the objective {objective} trains models of type {' or '.join(known)}, not {name!r}")
    return known[name or next(iter(known))]

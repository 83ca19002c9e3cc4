"""Recipes: a run as a YAML file, checked against what the model, the data and the trainer know.

A misspelt key is an error with a suggestion, never a silent default. Any value can be changed on the command line:
`training.seed=1 teacher=null data.sources.0.data_dir=/data/cholec80`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from ..modeling.errors_surgvista import InputError
from ..util.words import did_you_mean
from .objectives import OBJECTIVES

SECTIONS = ("objective", "model", "teacher", "data", "training")
_RECIPES, _LAUNCH = "recipes", "launch"


class _Loader(yaml.SafeLoader):
    """YAML 1.2, as people read it: `no` is a word (`save_strategy: no`), and 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|false|False)$"), list("tTfF"))
_NUMBER = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


class RecipeError(InputError):
    """A recipe cannot be read, or holds a key or value that nothing knows."""


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
        frame_stride: frames between two frames of a clip.
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
    frame_stride: int = 4
    balance: float | Mapping[str, float] | None = None
    clips_per_epoch: int | None = None
    on_unreadable: Literal["stop", "replace"] = "stop"
    share: float = 1.0
    share_seed: int = 0
    tested_on: tuple[TestRecipe, ...] = ()
    on_overlap: Literal["error", "warn"] = "error"


@dataclass(frozen=True)
class TeacherRecipe:
    """The image teacher; see `ImageTeacher`."""

    name: str
    final_norm: bool = True
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


def bundled_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(name.removesuffix(".yaml") for name in _files(_RECIPES))


def bundled_text(name: str) -> str:
    """A recipe of the package, or a file for launching one: configurations for accelerate, and a SLURM script.

    Raises:
        RecipeError: there is none of that name.
    """
    known = {Path(file).stem: (room, file) for room in (_LAUNCH, _RECIPES) for file in _files(room)}
    if name not in known:
        raise RecipeError(f"there is no {name} in the package; there are {', '.join(sorted(known))}")
    room, file = known[name]
    return resources.files(__package__).joinpath(room, file).read_text(encoding="utf-8")


def _files(room: str) -> list[str]:
    return [file.name for file in resources.files(__package__).joinpath(room).iterdir()]


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
    content = _read(source)
    for override in overrides:
        _apply(content, override)
    _check_keys("the recipe", content, SECTIONS)
    objective = content.get("objective") or "surgvista"
    _check_keys("the list of objectives", {objective: None}, list(OBJECTIVES))
    trainer = OBJECTIVES[objective]
    model, training, teacher = (content.get(name) or {} for name in ("model", "training", "teacher"))
    known = _fields(model_class(objective, model).config_class)
    _check_keys("model", model, ("from_pretrained", "model_type", *known))
    _check_keys("training", training, [entry.name for entry in fields(trainer.arguments_class) if entry.init])
    if "output_dir" not in training:
        raise RecipeError("training.output_dir is missing: the folder of the run")
    if teacher and not trainer.takes_teacher:
        raise RecipeError(f"the objective {objective} has no teacher: set teacher to null")
    return Recipe(
        _data(content.get("data") or {}),
        objective,
        model,
        _build(TeacherRecipe, "teacher", teacher) if teacher else None,
        training,
    )


def model_class(objective: str, model: Any) -> Any:
    """The class of the model that the section `model` describes."""
    known = OBJECTIVES[objective].models
    name = model.get("model_type") if isinstance(model, dict) else None
    if name is not None and name not in known:
        raise RecipeError(f"the objective {objective} trains models of type {' or '.join(known)}, not {name!r}")
    return known[name or next(iter(known))]


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif str(source) in bundled_recipes():
        text = bundled_text(str(source))
    else:
        raise RecipeError(f"there is no recipe {source}; give a YAML file or one of {', '.join(bundled_recipes())}")
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{source} does not hold the sections {', '.join(SECTIONS)}")
    return content


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"{override!r} is not of the form key.of.a.value=value")
    *parents, last = path.split(".")
    place: Any = content
    for name in parents:
        if isinstance(place, dict) and place.get(name) is None:
            place[name] = {}
        place = _entry(place, name, path)
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of {override!r} is not YAML") from error
    if isinstance(place, list):
        _entry(place, last, path)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise RecipeError(f"{path} does not lead to a value of the recipe")


def _entry(place: Any, name: str, path: str) -> Any:
    try:
        return place[int(name)] if isinstance(place, list) else place[name]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise RecipeError(f"{path} does not lead to a value of the recipe: there is no {name!r}") from error


def _data(content: Any) -> DataRecipe:
    if not isinstance(content, dict) or not content.get("sources"):
        raise RecipeError("data.sources is missing: a list of frame sets, each with name and data_dir")
    sources = tuple(_build(SourceRecipe, f"data.sources.{n}", entry) for n, entry in enumerate(content["sources"]))
    tested = tuple(
        _build(TestRecipe, f"data.tested_on.{n}", entry) for n, entry in enumerate(content.get("tested_on") or ())
    )
    built: DataRecipe = _build(DataRecipe, "data", {**content, "sources": sources, "tested_on": tested})
    return built


def _build(kind: Any, where: str, content: Any) -> Any:
    if not isinstance(content, dict):
        raise RecipeError(f"{where} is {content!r}; a mapping with {', '.join(_fields(kind))} is expected")
    _check_keys(where, content, _fields(kind))
    try:
        return kind(**content)
    except TypeError as error:
        raise RecipeError(f"{where}: {str(error).partition('__init__() ')[2] or error}") from error


def _fields(kind: Any) -> list[str]:
    return [entry.name for entry in fields(kind)]


def _check_keys(where: str, content: Any, known: Sequence[str]) -> None:
    if not isinstance(content, dict):
        raise RecipeError(f"{where} is {content!r}; a mapping is expected")
    for key in content:
        if key not in known:
            hint = did_you_mean(str(key), known, f"known are {', '.join(sorted(known)[:12])} …")
            raise RecipeError(f"{where} has no key {key!r}; {hint}")

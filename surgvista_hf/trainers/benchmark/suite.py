"""Benchmark suites: models × data sets × protocols in one YAML file, each combination checked before anything is trained."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field

from ...datasets_scripts.frame_sets.registry import get_builder
from ...datasets_scripts.schema.info import DatasetError
from ...datasets_scripts.schema.split_files import read_split_file
from ...modeling.configuration_ms_tcn import MsTcnConfig
from ...modeling.configuration_video_head import VideoHeadConfig
from ...util.errors import InputError, SurgVistaError
from ...util.values import PositiveCount, Seed, field_kinds, read_value, shown
from ..common.arguments import ClipArguments
from ..features.ms_tcn import TemporalArguments
from ..features.video_head import VideoHeadArguments
from ..finetuning.recipe import SECTIONS as RECIPE_SECTIONS
from ..finetuning.recipe import FinetuningRecipe, ModelRecipe, parse_finetuning
from ..recipes.loading import (
    FINETUNING,
    SUITES,
    RecipeError,
    build,
    check_keys,
    check_values,
    read_recipe,
    recipe_errors,
    section,
)
from .zero_shot import ZeroShotSettings

SECTIONS = ("prepare", "models", "data", "protocols", "seeds", "baseline", "output")
_TCN_KEYS = ("num_stages", "num_layers", "num_feature_maps", "dropout")
_HEAD_KEYS = ("pooling", "num_neighbors", "smallest_distance", "hidden_size", "dropout")
Requested = Literal["finetune", "linear", "knn", "prototypes", "tcn", "pooled", "zero_shot"]


@dataclass(frozen=True)
class Protocol:
    """The way in which models are evaluated on a data set.

    Args:
        kind: `"finetune"`: fine-tuning by the data set's recipe with these changes; `"linear"` or `"knn"`: a probe of frozen
            features; `"prototypes"`: a probe by the mean features of a few training clips of each class; `"tcn"`: MS-TCN over
            frozen features; `"pooled"`: a head over whole videos, their frozen features pooled; `"zero_shot"`: an image-text
            model without training.
        after: protocol whose trained models provide the features; `None`: the model itself.
        tcn: fields of `MsTcnConfig` and of `TemporalArguments`.
        head: fields of `VideoHeadConfig` and of `VideoHeadArguments`.
        zero_shot: fields of `ZeroShotSettings`.
        shots: number of training clips of each class for `"prototypes"`; the seed draws them.
        changes: sections of the recipe to change.
        data: data sets that the protocol is limited to; `None`: all.
        models: models that the protocol is limited to; `None`: all.
    """

    kind: Requested = "finetune"
    after: str | None = None
    tcn: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    zero_shot: Mapping[str, Any] = field(default_factory=dict)
    shots: PositiveCount | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None

    @property
    def seeded(self) -> bool:
        """Return whether the result depends on the seed."""
        return self.kind in ("finetune", "prototypes", "tcn", "pooled") or self.after is not None


@dataclass(frozen=True)
class Cell:
    """One combination of a model, a data set, a protocol and a seed.

    Args:
        model: name of the model in the suite.
        data: name of the data set in the suite.
        protocol: name of the protocol in the suite.
        seed: seed of the training.
        recipe: recipe of the training; other protocols use its data and its model.
        requested: the protocol.
        fold: fold of the data set's file of splits; `None` for data without folds.
    """

    model: str
    data: str
    protocol: str
    seed: int
    recipe: FinetuningRecipe
    requested: Protocol
    fold: int | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of the results."""
        return Path(str(self.recipe.training["output_dir"]))

    @property
    def name(self) -> str:
        """Return the name that people read."""
        fold = "" if self.fold is None else f" / fold {self.fold}"
        return f"{self.model} / {self.data} / {self.protocol}{fold} / seed {self.seed}"


@dataclass(frozen=True)
class Rendered:
    """A rendered frame set, which is made from settings alone before the suite begins.

    Args:
        name: name of the data set, e.g. `synthetic`.
        settings: settings of the data set, as `surgvista prepare --set` takes them.
        short_side: short side of the frames, in pixels.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    short_side: Annotated[int, Field(ge=1, le=16384)] = 256

    @property
    def options(self) -> dict[str, str]:
        """Return the settings as `prepare_frame_set` takes them."""
        return {name: str(value) for name, value in self.settings.items()}


@dataclass(frozen=True)
class _SuiteModel(ModelRecipe):
    """A model of a suite; `finetuned`, the sections of a recipe, makes it first."""

    finetuned: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Suite:
    """A benchmark of several models.

    Args:
        prepare: frame sets to make first, by their folders.
        models: models by name: fields of `ModelRecipe`; or `finetuned`, a recipe of fine-tuning that makes the model first.
        data: data sets by name: `recipe`, the name or file of a recipe of fine-tuning, and sections to change in it.
        protocols: protocols by name.
        seeds: seeds of every training.
        baseline: model that the others are compared with under the same protocol, or protocol that the others are compared
            with on the same model; `None`: no tests of significance.
        output: folder of the results.
    """

    prepare: Mapping[str, Rendered]
    models: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Mapping[str, Any]]
    protocols: Mapping[str, Protocol]
    seeds: tuple[int, ...]
    baseline: str | None
    output: Path

    def cells(self) -> Iterator[Cell]:
        """Yield all combinations, each protocol after the one whose models it needs.

        A data set with a file of folds, and none chosen, is run in every fold.
        """
        order = sorted(self.protocols, key=lambda name: self.protocols[name].after is not None)
        for data in self.data:
            for model in self.models:
                for protocol in order:
                    requested = self.protocols[protocol]
                    if data not in (requested.data or (data,)) or model not in (requested.models or (model,)):
                        continue
                    for fold in self.folds(data):
                        for seed in self.seeds if requested.seeded else self.seeds[:1]:
                            folder = self.cell_folder(data, model, protocol, fold, seed)
                            content = self._content(model, data, requested, seed, folder)
                            if fold is not None:
                                content["data"]["fold"] = fold
                            recipe = _parsed(f"{model} / {data} / {protocol}", content)
                            yield Cell(model, data, protocol, seed, recipe, requested, fold)

    def cell_folder(self, data: str, model: str, protocol: str, fold: int | None, seed: int) -> Path:
        """Return the folder of the results of a cell."""
        folder = self.output / data / model / protocol
        return (folder if fold is None else folder / f"fold_{fold}") / f"seed_{seed}"

    def folds(self, data: str) -> Sequence[int | None]:
        """Return the numbers of the folds that a data set is run in; one `None` for a data set without folds.

        Raises:
            RecipeError: its file of splits cannot be read.
        """
        chosen = section(_recipe_content(f"data.{data}", self.data[data]), "data")
        split_file = chosen.get("split_file")
        if not isinstance(split_file, str) or chosen.get("fold") is not None:
            return [None]
        try:
            file = read_split_file(split_file)
        except DatasetError as error:
            raise RecipeError(f"data.{data}.data.split_file: {error}") from error
        return list(range(len(file.folds))) if file.has_folds else [None]

    def model_recipe(self, model: str) -> FinetuningRecipe | None:
        """Return the recipe that makes a model, or `None` if the model exists already."""
        content = self.models[model].get("finetuned")
        if content is None:
            return None
        whole = _recipe_content(f"models.{model}.finetuned", content)
        whole = _merged(whole, {"training": {"output_dir": str(self.output / "models" / model)}})
        return _parsed(f"models.{model}.finetuned", whole)

    def _content(self, model: str, data: str, requested: Protocol, seed: int, folder: Path) -> dict[str, Any]:
        content = _recipe_content(f"data.{data}", self.data[data])
        own = {key: value for key, value in self.models[model].items() if key != "finetuned"}
        if self.models[model].get("finetuned") is not None:
            own["from_pretrained"] = str(self.output / "models" / model / "model")
        shared = {key: value for key, value in (content.get("model") or {}).items() if key == "changes"}
        content["model"] = _merged({} if "config" in own else shared, own)
        content = _merged(content, requested.changes)
        return _merged(content, {"training": {"seed": seed, "output_dir": str(folder)}})


def load_suite(source: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite.

    Args:
        source: YAML file, or the name of a suite of the package.
        overrides: overrides such as `key.of.a.value=value`, the value in YAML.

    Returns:
        The suite.

    Raises:
        RecipeError: there is no such file, it is not YAML, a key is unknown, or a name refers to nothing in the suite.

    Example:
        >>> len(load_suite("surgvista13").data)
        13
    """
    content = read_recipe(source, SECTIONS, overrides, kind=SUITES)
    for name in ("models", "data", "protocols"):
        if not section(content, name):
            raise RecipeError(f"{name} is missing: a mapping from names to their settings")
        for entry in content[name]:  # they name folders
            if Path(entry).name != entry:
                raise RecipeError(f"{name} has the name {entry!r}; it must be one that a folder can have")
    models, data = section(content, "models"), section(content, "data")
    for name, model in models.items():
        build(_SuiteModel, f"models.{name}", model)
    protocols = {name: _protocol(name, entry) for name, entry in section(content, "protocols").items()}
    for name, protocol in protocols.items():
        if protocol.after is not None and protocols.get(protocol.after, protocol).kind != "finetune":
            raise RecipeError(f"protocols.{name}.after is {protocol.after!r}; it must name a protocol that fine-tunes")
        for key, section_name, chosen in (("only", "data", protocol.data), ("only_models", "models", protocol.models)):
            unknown = sorted(set(chosen or ()) - set(content[section_name]))
            if unknown:
                raise RecipeError(f"protocols.{name}.{key} names {unknown[0]!r}, which is not in {section_name}")
    with recipe_errors():
        baseline = read_value("baseline", content.get("baseline"), str | None)
        seeds = read_value("seeds", content.get("seeds", [0]), Annotated[tuple[Seed, ...], Field(min_length=1)])
        output = read_value("output", content.get("output"), str | None) or f"benchmarks/{Path(source).stem}"
    if baseline is not None and baseline not in (*models, *protocols):
        raise RecipeError(f"baseline is {baseline!r}; it must be the name of a model or of a protocol")
    prepare = {folder: _rendered(f"prepare.{folder}", entry) for folder, entry in section(content, "prepare").items()}
    suite = Suite(prepare, models, data, protocols, seeds, baseline, Path(output))
    for name in models:
        suite.model_recipe(name)
    for _ in suite.cells():  # parses every recipe
        pass
    return suite


def _rendered(where: str, entry: object) -> Rendered:
    made = build(Rendered, where, entry)
    try:
        get_builder(made.name).configured(None, made.options)
    except SurgVistaError as error:
        raise RecipeError(f"{where}: {error}") from error
    return made


def _protocol(name: str, entry: object) -> Protocol:
    where = f"protocols.{name}"
    entry = {} if entry is None else entry
    known = (*RECIPE_SECTIONS, "kind", "after", "tcn", "head", "zero_shot", "shots", "only", "only_models")
    check_keys(where, entry, known)
    assert isinstance(entry, Mapping)
    sections = {key: value for key, value in entry.items() if key in RECIPE_SECTIONS}
    for key, value in sections.items():
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}.{key} is {shown(value)}; a mapping with what to change is expected")
    renamed = {"only": "data", "only_models": "models"}
    for key in renamed:
        with recipe_errors():
            read_value(f"{where}.{key}", entry.get(key), tuple[str, ...] | None)
    rest = {renamed.get(key, key): value for key, value in entry.items() if key not in sections}
    protocol = build(Protocol, where, {**rest, "changes": sections})
    _check_head(f"{where}.tcn", protocol.tcn, MsTcnConfig, _TCN_KEYS, TemporalArguments)
    _check_head(f"{where}.head", protocol.head, VideoHeadConfig, _HEAD_KEYS, VideoHeadArguments)
    build(ZeroShotSettings, f"{where}.zero_shot", protocol.zero_shot)
    if (protocol.kind == "prototypes") != (protocol.shots is not None):
        raise RecipeError(
            f"{where}.shots is {protocol.shots}; it is the number of clips of each class for kind: prototypes, such as "
            "1, 5 or 16, and for no other kind"
        )
    return protocol


def _check_head(
    where: str,
    content: Mapping[str, Any],
    config: type[MsTcnConfig] | type[VideoHeadConfig],
    names: Sequence[str],
    arguments: type[ClipArguments],
) -> None:
    """Check the settings of a head over features: fields of its configuration and arguments of its training."""
    hints = get_type_hints(config.__init__)
    kinds = field_kinds(arguments)  # type: ignore[arg-type]  # mypy takes no class for hashable
    check_values(where, content, {**{name: hints[name] for name in names}, **kinds})
    try:
        config(**{name: value for name, value in content.items() if name in names})
    except InputError as error:
        raise RecipeError(f"{where}: {error}") from error


def _parsed(where: str, content: Mapping[str, Any]) -> FinetuningRecipe:
    try:
        return parse_finetuning(content)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _recipe_content(where: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    check_values(where, entry, {"recipe": str, **dict.fromkeys(RECIPE_SECTIONS, Mapping[str, Any] | None)})
    changes = {key: value or {} for key, value in entry.items() if key != "recipe"}
    base: dict[str, Any] = {}
    if "recipe" in entry:
        base = read_recipe(entry["recipe"], RECIPE_SECTIONS, kind=FINETUNING)
        if {"config", "from_pretrained"} & set(changes.get("model", {})):
            base["model"] = {}
    return _merged(base, changes)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the leaves of `changes`; `config` is replaced as a whole."""
    result = deepcopy(dict(base))
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and key != "config"
        result[key] = _merged(result[key], value) if inner else deepcopy(value)
    return result

"""Benchmark suites: models × data sets × protocols as one YAML file, each combination checked before anything is trained."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from .finetune_recipe import SECTIONS as RECIPE_SECTIONS
from .finetune_recipe import FinetuningRecipe, parse_finetuning
from .recipe_files import FINETUNING, SUITES, RecipeError, build, check_keys, field_names, read_recipe
from .temporal import TemporalArguments
from .video_head import VideoHeadArguments
from .zero_shot import ZeroShotSettings

SECTIONS = ("prepare", "models", "data", "protocols", "seeds", "baseline", "output")
_MODEL_KEYS = ("from_pretrained", "config", "num_frames", "pooling", "changes", "finetuned")
_TCN_KEYS = ("num_stages", "num_layers", "num_feature_maps", "dropout")
_HEAD_KEYS = ("pooling", "num_neighbors", "smallest_distance", "hidden_size", "dropout")
Asked = Literal["finetune", "linear", "knn", "tcn", "pooled", "zero_shot"]


@dataclass(frozen=True)
class Protocol:
    """How a model is asked.

    Args:
        kind: `"finetune"`: trained by the data set's recipe with these changes; `"linear"` or `"knn"`: a probe of frozen
            features; `"tcn"`: MS-TCN over frozen features; `"pooled"`: a head over whole videos, their frozen features pooled;
            `"zero_shot"`: an image-text model, asked without training.
        after: protocol whose trained models give the features; none: the model itself.
        tcn: fields of `MsTcnConfig` and of `TemporalArguments`.
        head: fields of `VideoHeadConfig` and of `VideoHeadArguments`.
        zero_shot: fields of `ZeroShotSettings`.
        changes: sections of the recipe to change.
        data: only on these data sets; none: on all.
        models: only for these models; none: for all.
    """

    kind: Asked = "finetune"
    after: str | None = None
    tcn: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    zero_shot: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None

    @property
    def seeded(self) -> bool:
        """Whether seeds make a difference."""
        return self.kind in ("finetune", "tcn", "pooled") or self.after is not None


@dataclass(frozen=True)
class Cell:
    """One combination.

    Args:
        model, data, protocol: names in the suite.
        seed: of training.
        recipe: what is trained, or whose data are asked.
        asked: the protocol.
    """

    model: str
    data: str
    protocol: str
    seed: int
    recipe: FinetuningRecipe
    asked: Protocol

    @property
    def folder(self) -> Path:
        """Of its results."""
        return Path(str(self.recipe.training["output_dir"]))

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model} / {self.data} / {self.protocol} / seed {self.seed}"


@dataclass(frozen=True)
class Rendered:
    """A frame set that is made from settings alone, before the suite begins.

    Args:
        name: of the data set, e.g. `synthetic`.
        settings: see `surgvista prepare --set`.
        short_side: of its frames, in pixels.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    short_side: int = 256


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Args:
        prepare: frame sets to make first, by their folders.
        models: by name: fields of `ModelRecipe`; or `finetuned`: a recipe of fine-tuning that makes the model first.
        data: by name: `recipe`, the name or file of a recipe of fine-tuning, and sections to change in it.
        protocols: by name.
        seeds: of all training.
        baseline: a model, compared under the same protocol, or a protocol, compared on the same model; none: no tests.
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
        """All combinations, each protocol after the one whose models it needs."""
        order = sorted(self.protocols, key=lambda name: self.protocols[name].after is not None)
        for data in self.data:
            for model in self.models:
                for protocol in order:
                    asked = self.protocols[protocol]
                    if data not in (asked.data or (data,)) or model not in (asked.models or (model,)):
                        continue
                    for seed in self.seeds if asked.seeded else self.seeds[:1]:
                        folder = self.output / data / model / protocol / f"seed_{seed}"
                        recipe = self._recipe(model, data, asked, seed, folder)
                        yield Cell(model, data, protocol, seed, recipe, asked)

    def model_recipe(self, model: str) -> FinetuningRecipe | None:
        """The recipe that makes a model, if one does."""
        content = self.models[model].get("finetuned")
        if content is None:
            return None
        whole = _recipe_content(f"models.{model}.finetuned", content)
        whole.setdefault("training", {})["output_dir"] = str(self.output / "models" / model)
        return parse_finetuning(whole)

    def _recipe(self, model: str, data: str, asked: Protocol, seed: int, folder: Path) -> FinetuningRecipe:
        content = _recipe_content(f"data.{data}", self.data[data])
        own = {key: value for key, value in self.models[model].items() if key != "finetuned"}
        if "finetuned" in self.models[model]:
            own["from_pretrained"] = str(self.output / "models" / model / "model")
        shared = {key: value for key, value in content.get("model", {}).items() if key == "changes"}
        content["model"] = _merged({} if "config" in own else shared, own)
        content = _merged(content, asked.changes)
        content = _merged(content, {"training": {"seed": seed, "output_dir": str(folder)}})
        return parse_finetuning(content)


def load_suite(source: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Reads and checks a suite.

    Args:
        source: YAML file, or the name of a suite of the package.
        overrides: `key.of.a.value=value`, the value in YAML.

    Returns:
        The suite.

    Raises:
        RecipeError: no such file, no YAML, an unknown key, or names that nothing has.

    Example:
        >>> len(load_suite("surgvista13").data)
        13
    """
    content = read_recipe(source, SECTIONS, overrides, room=SUITES)
    for section in ("models", "data", "protocols"):
        if not isinstance(content.get(section), dict) or not content[section]:
            raise RecipeError(f"{section} is missing: a mapping from names to their settings")
    for name, model in content["models"].items():
        check_keys(f"models.{name}", model, _MODEL_KEYS)
    protocols = {name: _protocol(name, entry or {}) for name, entry in content["protocols"].items()}
    for name, protocol in protocols.items():
        if protocol.after is not None and protocols.get(protocol.after, protocol).kind != "finetune":
            raise RecipeError(f"protocols.{name}.after is {protocol.after!r}; it must name a protocol that fine-tunes")
        for key, section, chosen in (("only", "data", protocol.data), ("only_models", "models", protocol.models)):
            unknown = sorted(set(chosen or ()) - set(content[section]))
            if unknown:
                raise RecipeError(f"protocols.{name}.{key} names {unknown[0]!r}, which is not in {section}")
    baseline = content.get("baseline")
    if baseline is not None and baseline not in (*content["models"], *protocols):
        raise RecipeError(f"baseline is {baseline!r}; it must be the name of a model or of a protocol")
    seeds = content.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise RecipeError(f"seeds is {seeds!r}; a list of whole numbers is expected")
    output = Path(content.get("output") or f"benchmarks/{Path(source).stem}")
    prepare = {
        folder: build(Rendered, f"prepare.{folder}", entry) for folder, entry in (content.get("prepare") or {}).items()
    }
    suite = Suite(prepare, content["models"], content["data"], protocols, tuple(seeds), baseline, output)
    for _ in suite.cells():  # every recipe can be parsed
        pass
    return suite


def _protocol(name: str, entry: Mapping[str, Any]) -> Protocol:
    sections = {key: value for key, value in entry.items() if key in RECIPE_SECTIONS and key != "data"}
    chosen = {name: tuple(entry[key]) for key, name in (("only", "data"), ("only_models", "models")) if key in entry}
    rest = {key: value for key, value in entry.items() if key not in (*sections, "only", "only_models")}
    known = (*RECIPE_SECTIONS, "kind", "after", "tcn", "head", "zero_shot", "only", "only_models")
    check_keys(f"protocols.{name}", entry, known)
    if "data" in rest:
        sections["data"] = rest.pop("data")
    protocol: Protocol = build(Protocol, f"protocols.{name}", {**rest, "changes": sections, **chosen})
    if protocol.kind not in get_args(Asked):
        raise RecipeError(
            f"protocols.{name}.kind is {protocol.kind!r}; it must be one of {', '.join(get_args(Asked))}"
        )
    check_keys(f"protocols.{name}.tcn", protocol.tcn, (*_TCN_KEYS, *field_names(TemporalArguments)))
    check_keys(f"protocols.{name}.head", protocol.head, (*_HEAD_KEYS, *field_names(VideoHeadArguments)))
    build(ZeroShotSettings, f"protocols.{name}.zero_shot", protocol.zero_shot)
    return protocol


def _recipe_content(where: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    check_keys(where, entry, ("recipe", *RECIPE_SECTIONS))
    changes = {key: value for key, value in entry.items() if key != "recipe"}
    base: dict[str, Any] = {}
    if "recipe" in entry:
        base = read_recipe(entry["recipe"], RECIPE_SECTIONS, room=FINETUNING)
        if {"config", "from_pretrained"} & set(changes.get("model", {})):
            base["model"] = {}
    return _merged(base, changes)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `changes`; `config` is taken whole."""
    result = deepcopy(dict(base))
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and key != "config"
        result[key] = _merged(result[key], value) if inner else deepcopy(value)
    return result

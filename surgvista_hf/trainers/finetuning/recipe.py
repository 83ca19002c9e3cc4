"""Recipes of fine-tuning: a model, a data set with labels, an adapter, and the arguments of the training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...clips.dataset import Sampling
from ...evaluation.tasks import Kind
from ...modeling.adapters import AdapterRecipe
from ...util.values import Count, PositiveFraction, Seed
from ..common.arguments import FinetuningArguments
from ..recipes.loading import FINETUNING, RecipeError, build, check_keys, read_recipe, section
from ..recipes.sections import ClipLength, FrameStride, check_any_configuration, check_training

SECTIONS = ("model", "data", "adapter", "training")


@dataclass(frozen=True)
class ModelRecipe:
    """The model that is trained.

    Args:
        from_pretrained: folder or Hub id of any encoder, pre-training model or classifier.
        config: instead of `from_pretrained`, fields of a configuration with `model_type`: an untrained model.
        num_frames: number of frames of a clip; the default is the model's own, and 8 for image encoders.
        pooling: `"mean"` or `"attentive"`; the default is the model's own.
        changes: fields of the model's configuration to change, such as `classifier_dropout`.
    """

    from_pretrained: str | None = None
    config: Mapping[str, Any] | None = None
    num_frames: ClipLength | None = None
    pooling: Literal["mean", "attentive"] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def start(self) -> str | Mapping[str, Any]:
        """Return the folder, Hub id or configuration that `load_classifier` starts from."""
        start = self.from_pretrained if self.config is None else self.config
        assert start is not None  # `parse_finetuning` refuses a model without either
        return start


@dataclass(frozen=True)
class ExternalTest:
    """Another frame set for the test: another hospital, another data set (external validation).

    `name`, `data_dir`, `protocol`, `allow_missing`, `split_file` and `fold` are arguments of `load_frame_set`.

    Args:
        root: folder that a relative `data_dir` refers to; by default that of the training.
        split: split to test on; by default all videos, since none was trained on.
        label: column with the labels; by default that of the training.
        classes: class there -> class of the training, where names differ; `null` leaves its frames out.
    """

    name: str
    data_dir: str
    root: str | None = None
    protocol: str | None = None
    allow_missing: bool = False
    split_file: str | None = None
    fold: Count | None = None
    split: str = "all"
    label: str | None = None
    classes: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def own_splits(self) -> str | None:
        """Return the name of the file of splits, with the fold; `None` without one."""
        return _own_splits(self.split_file, self.fold)


def _own_splits(split_file: str | None, fold: int | None) -> str | None:
    name = None if split_file is None else Path(split_file).name
    return name if fold is None else f"{name}, fold {fold}"


@dataclass(frozen=True)
class LabeledData:
    """A frame set with labels, and its splits.

    `name`, `data_dir`, `protocol`, `allow_missing`, `split_file` and `fold` are arguments of `load_frame_set`; `frame_stride`,
    `sampling`, `drop_empty` and `on_unreadable` are arguments of `ClipDataset`.

    Args:
        label: column to predict.
        root: folder that a relative `data_dir` refers to.
        task: kind of a `Task`, such as `"workflow"` or `"multi_label"`; by default it follows from data set and column.
        frame_stride: seconds between two frames of a clip.
        train: name of the split to train on.
        validation: name of the split to validate on; `null` trains without validation and keeps the last weights.
        test: name of the split to test on.
        test_on: another frame set to test on, in place of the split `test`.
        fraction: fraction of the training videos that is used, see `DataRecipe`.
        fraction_seed: seed of the choice of these videos.
        on_overlap: `"error"`, or `"warn"` to let videos be in training and test.
        select_on_test: allow a validation that has videos of the test, as some published protocols do; the results say so.
    """

    name: str
    data_dir: str
    label: str
    root: str = "."
    protocol: str | None = None
    allow_missing: bool = False
    split_file: str | None = None
    fold: Count | None = None
    task: Kind | None = None
    frame_stride: FrameStride = 4
    sampling: Sampling = "online"
    drop_empty: bool = False
    on_unreadable: Literal["stop", "replace"] = "stop"
    train: str = "train"
    validation: str | None = "validation"
    test: str = "test"
    test_on: ExternalTest | None = None
    fraction: PositiveFraction = 1.0
    fraction_seed: Seed = 0
    on_overlap: Literal["error", "warn"] = "error"
    select_on_test: bool = False

    @property
    def own_splits(self) -> str | None:
        """Return the name of the file of splits, with the fold; `None` without one."""
        return _own_splits(self.split_file, self.fold)

    @property
    def folder(self) -> Path:
        """Return the folder of the frame set."""
        return Path(self.root) / self.data_dir

    @property
    def test_folder(self) -> Path:
        """Return the folder of the frame set that is tested on."""
        if self.test_on is None:
            return self.folder
        root = self.root if self.test_on.root is None else self.test_on.root
        return Path(root) / self.test_on.data_dir


@dataclass(frozen=True)
class FinetuningRecipe:
    """A fine-tuning run.

    Args:
        model: model that is trained.
        data: frame set that it is trained and tested on.
        adapter: method that decides which parameters are trained.
        training: fields of `FinetuningArguments`.
    """

    model: ModelRecipe
    data: LabeledData
    adapter: AdapterRecipe = field(default_factory=AdapterRecipe)
    training: Mapping[str, Any] = field(default_factory=dict)


def load_finetuning_recipe(source: str | Path, overrides: Sequence[str] = ()) -> FinetuningRecipe:
    """Read and check a recipe of fine-tuning.

    Args:
        source: YAML file, or the name of a recipe of the package: that of a data set, such as `cholec80`.
        overrides: overrides such as `key.of.a.value=value`, the value in YAML.

    Returns:
        The recipe.

    Raises:
        RecipeError: there is no such file, it is not YAML, a key is unknown, or a value does not fit.

    Example:
        >>> load_finetuning_recipe("cholec80", ["model.from_pretrained=my-encoder"]).data.label
        'phase'
    """
    return parse_finetuning(read_recipe(source, SECTIONS, overrides, kind=FINETUNING))


def parse_finetuning(content: Mapping[str, Any]) -> FinetuningRecipe:
    """Make a recipe of the content of a YAML file.

    Raises:
        RecipeError: a key is unknown, or a value does not fit.
    """
    check_keys("the recipe", content, SECTIONS)
    model = build(ModelRecipe, "model", section(content, "model"))
    if model.from_pretrained is not None and model.config is not None:
        raise RecipeError(
            "model has both from_pretrained and config (a model without training); give one, and the other as null: "
            "model.config=null"
        )
    if model.from_pretrained is None and model.config is None:
        raise RecipeError("model needs from_pretrained (a folder or Hub id) or config (a model without training)")
    if model.config is not None:
        check_any_configuration("model.config", model.config)
    data = build(LabeledData, "data", section(content, "data"))
    training = section(content, "training")
    check_training(training, FinetuningArguments)
    return FinetuningRecipe(model, data, build(AdapterRecipe, "adapter", section(content, "adapter")), training)

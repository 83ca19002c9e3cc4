"""Recipes of fine-tuning: a model, a data set with labels, how much is trained, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...clips.dataset import Sampling
from ...evaluation.tasks import Kind
from ...modeling.adapters import AdapterRecipe
from ...util.values import PositiveFraction, Seed
from ..common.arguments import FinetuningArguments
from ..recipes.loading import FINETUNING, RecipeError, build, check_keys, read_recipe, section
from ..recipes.sections import ClipLength, FrameStride, check_any_configuration, check_training

SECTIONS = ("model", "data", "adapter", "training")


@dataclass(frozen=True)
class ModelRecipe:
    """What is trained.

    Args:
        from_pretrained: folder or Hub id of any encoder, pre-training model or classifier.
        config: instead of it, fields of a configuration with `model_type`: a model without training.
        num_frames: frames of a clip; by default the model's own, and 8 for image encoders.
        pooling: `"mean"` or `"attentive"`; by default the model's own.
        changes: fields of its configuration to change, such as `classifier_dropout`.
    """

    from_pretrained: str | None = None
    config: Mapping[str, Any] | None = None
    num_frames: ClipLength | None = None
    pooling: Literal["mean", "attentive"] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def start(self) -> Any:
        """What `load_classifier` starts from."""
        return self.from_pretrained if self.config is None else self.config


@dataclass(frozen=True)
class ExternalTest:
    """Another frame set for the test: another hospital, another data set (external validation).

    Args:
        name, data_dir, protocol, allow_missing: see `load_frame_set`.
        root: folder that a relative `data_dir` lies in; by default that of the training.
        split: tested on; by default all videos, since none was trained on.
        label: column with the labels; by default that of the training.
        classes: class there -> class of the training, where names differ; `null` leaves its frames out.
    """

    name: str
    data_dir: str
    root: str | None = None
    protocol: str | None = None
    allow_missing: bool = False
    split: str = "all"
    label: str | None = None
    classes: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class LabeledData:
    """A frame set with labels, and its splits.

    Args:
        name, data_dir, protocol, allow_missing: see `load_frame_set`.
        label: column to predict.
        root: folder that a relative `data_dir` lies in.
        task: kind of a `Task`, such as `"workflow"` or `"multi_label"`; by default what the data set and the column suggest.
        frame_stride: seconds between two frames of a clip; see `ClipDataset`.
        sampling, drop_empty, on_unreadable: see `ClipDataset`.
        train, validation, test: names of the splits; `validation: null` trains without, and keeps the last weights.
        test_on: another frame set to test on, in place of the split `test`.
        fraction, fraction_seed: of the training videos, see `pretrain`.
        on_overlap: `"error"`, or `"warn"` to let videos be in training and test.
        select_on_test: allow a validation that has videos of the test, as some published protocols do; it is noted in the
            results.
    """

    name: str
    data_dir: str
    label: str
    root: str = "."
    protocol: str | None = None
    allow_missing: bool = False
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
    def folder(self) -> Path:
        """Of the frame set."""
        return Path(self.root) / self.data_dir

    @property
    def test_folder(self) -> Path:
        """Of the frame set that is tested on."""
        if self.test_on is None:
            return self.folder
        root = self.root if self.test_on.root is None else self.test_on.root
        return Path(root) / self.test_on.data_dir


@dataclass(frozen=True)
class FinetuningRecipe:
    """A fine-tuning run.

    Args:
        model: what is trained.
        data: on what.
        adapter: how much of it.
        training: fields of `FinetuningArguments`.
    """

    model: ModelRecipe
    data: LabeledData
    adapter: AdapterRecipe = field(default_factory=AdapterRecipe)
    training: Mapping[str, Any] = field(default_factory=dict)


def load_finetuning_recipe(source: str | Path, overrides: Sequence[str] = ()) -> FinetuningRecipe:
    """Read and checks a recipe.

    Args:
        source: YAML file, or the name of a recipe of the package: that of a data set, such as `cholec80`.
        overrides: `key.of.a.value=value`, the value in YAML.

    Returns:
        The recipe.

    Raises:
        RecipeError: no such file, no YAML, an unknown key or a value of the wrong kind.

    Example:
        >>> load_finetuning_recipe("cholec80", ["model.from_pretrained=my-encoder"]).data.label
        'phase'
    """
    return parse_finetuning(read_recipe(source, SECTIONS, overrides, kind=FINETUNING))


def parse_finetuning(content: Mapping[str, Any]) -> FinetuningRecipe:
    """Check the content of a recipe."""
    check_keys("the recipe", content, SECTIONS)
    model: ModelRecipe = build(ModelRecipe, "model", section(content, "model"))
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

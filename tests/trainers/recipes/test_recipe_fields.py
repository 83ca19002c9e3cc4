"""Every field of every kind of recipe: a value of another type or out of any range is an error with its name, or is taken."""

import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.modeling.adapters import AdapterRecipe
from surgvista_hf.modeling.errors_surgvista import SurgVistaError
from surgvista_hf.trainers import finetune, pretrain
from surgvista_hf.trainers.benchmark.suite import SECTIONS, Rendered, load_suite
from surgvista_hf.trainers.benchmark.zero_shot import ZeroShotSettings
from surgvista_hf.trainers.common.arguments import FinetuningArguments, PretrainingArguments
from surgvista_hf.trainers.features.ms_tcn import TemporalArguments
from surgvista_hf.trainers.features.video_head import VideoHeadArguments
from surgvista_hf.trainers.finetuning.recipe import ExternalTest, LabeledData, ModelRecipe, load_finetuning_recipe
from surgvista_hf.trainers.pretraining.objectives import OBJECTIVES
from surgvista_hf.trainers.pretraining.recipe import (
    DataRecipe,
    HeldOutBenchmark,
    SourceRecipe,
    TeacherRecipe,
    load_recipe,
)
from surgvista_hf.trainers.recipes.loading import RecipeError, bundled_text

from .. import tiny

# libyaml's where it is there: some thousand recipes are written here.
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
NASTY: list[Any] = [
    *(None, True, "", "four", "4", "no", "a/b"),
    *(0, -1, -7, 3, 10**12, 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *([], [1, "x"], [None], [[-1.0]], {}, {"a": 1}, {"a": {"b": []}}),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Small, since each of the values below builds one.
ONE_LAYER = {
    **tiny.SIZES,
    "num_hidden_layers": 1,
    "video_decoder_num_hidden_layers": 1,
    "image_decoder_num_hidden_layers": 1,
}
MODELS: dict[str, dict[str, Any]] = {
    "surgvista": ONE_LAYER,
    "mae": {
        "image_size": 32,
        "patch_size": 8,
        "num_frames": 4,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "decoder_num_hidden_layers": 1,
    },
    "jepa": {"model_type": "surgvista", **ONE_LAYER},
    "dino": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 8, 16], "head_output_size": 32},
}


def names(kind: Any) -> list[str]:
    """Return the names of the fields of a dataclass."""
    return [entry.name for entry in fields(kind) if entry.init]


def changed(content: Any, path: str, value: Any) -> Any:
    """Return a copy of the content with another value at a dotted path."""
    whole = deepcopy(content)
    *parents, last = path.split(".")
    target = whole
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
    target[int(last) if isinstance(target, list) else last] = value
    return whole


def refusal(action: Any) -> str | None:
    """Return the package's message against a value, or `None`; any error but the package's own fails the test."""
    try:
        action()
    except SurgVistaError as error:
        return str(error) or "nothing said"
    return None


def attempt(load: Any, content: Any, path: str, value: Any, folder: Path, needs: Any = None) -> bool:
    """Return whether a recipe with this value is accepted."""
    file = folder / "recipe.yaml"

    def action() -> None:
        """Parse the changed recipe."""
        file.write_text(yaml.dump(changed(content, path, value), Dumper=Dumper))
        recipe = load(file)
        if needs is not None:
            needs(recipe)

    return refusal(action) is None


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Restore the environment, since some fields are handed on to libraries as variables of it."""
    with patch.dict(os.environ):
        yield


# ------------------------------------------------------------------------------------------- pre-training


def pretraining(objective: str, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the content of a recipe of pre-training."""
    teacher = {"teacher": {"name": "vit"}} if OBJECTIVES[objective].takes_teacher else {}
    content = {
        "objective": objective,
        "model": MODELS[objective],
        **teacher,
        "data": {
            "sources": [{"name": "synthetic", "data_dir": "x"}],
            "tested_on": [{"name": "cholec80"}],
        },
        "training": {"output_dir": str(folder / "run"), "use_cpu": True, "report_to": "none", "warmup_epochs": 0},
    }
    kind: Any = OBJECTIVES[objective]
    configuration = kind.models[MODELS[objective].get("model_type", next(iter(kind.models)))].config_class
    paths = [
        *("objective", "model", "teacher", "data", "training", "data.sources.0", "data.tested_on.0"),
        *(f"model.{name}" for name in ("from_pretrained", "model_type", *names(configuration))),
        *(f"teacher.{name}" for name in names(TeacherRecipe) if teacher),
        *(f"data.{name}" for name in names(DataRecipe)),
        *(f"data.sources.0.{name}" for name in names(SourceRecipe)),
        *(f"data.tested_on.0.{name}" for name in names(HeldOutBenchmark)),
        *(f"training.{name}" for name in own_fields(kind.arguments_class, objective == "surgvista")),
    ]
    return content, paths


def own_fields(kind: Any, everything: bool = False) -> list[str]:
    """Return the fields that only these arguments have; those that all runs share are tried with one of them."""
    return [name for name in names(kind) if everything or name not in names(PretrainingArguments)]


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_field_of_pre_training_refuses_what_it_cannot_be(objective, tmp_path):
    content, paths = pretraining(objective, tmp_path)
    assert attempt(load_recipe, content, "data.fraction", 1.0, tmp_path, pretrain.check_requirements)
    refused = {
        path: sum(not attempt(load_recipe, content, path, value, tmp_path, needs(path)) for value in NASTY)
        for path in paths
    }
    free = {"training.include_for_metrics"}
    assert not {path for path, count in refused.items() if not count and path.startswith(("data", "training"))} - free


def needs(path: str) -> Any:
    """Building a model on no device takes its time, so only where the path can matter to it."""
    if path.startswith("training"):
        return pretrain.build_arguments
    return pretrain.check_requirements if path.startswith("model") else None


@QUICK
@given(st.data())
def test_no_value_of_pre_training_ends_in_a_traceback(tmp_path, data):
    content, paths = pretraining(data.draw(st.sampled_from(sorted(OBJECTIVES))), tmp_path)
    path = data.draw(st.sampled_from(paths))
    attempt(load_recipe, content, path, data.draw(ANYTHING), tmp_path, needs(path))


# ------------------------------------------------------------------------------------------- fine-tuning


def finetuning(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the content of a recipe of fine-tuning."""
    content = {
        "model": {"config": {"model_type": "surgvista", **ONE_LAYER}},
        "data": {
            "name": "synthetic",
            "data_dir": "x",
            "label": "phase",
            "test_on": {"name": "folder", "data_dir": "y"},
        },
        "training": {"output_dir": str(folder / "run"), "use_cpu": True, "report_to": "none"},
    }
    paths = [
        *("model", "data", "adapter", "training"),
        *(f"model.{name}" for name in names(ModelRecipe)),
        *(f"model.config.{name}" for name in ("model_type", *tiny.SIZES)),
        *(f"data.{name}" for name in names(LabeledData)),
        *(f"data.test_on.{name}" for name in names(ExternalTest)),
        *(f"adapter.{name}" for name in names(AdapterRecipe)),
        *(f"training.{name}" for name in own_fields(FinetuningArguments)),
    ]
    return content, paths


def test_every_field_of_fine_tuning_refuses_what_it_cannot_be(tmp_path):
    content, paths = finetuning(tmp_path)
    assert attempt(load_finetuning_recipe, content, "data.fraction", 1.0, tmp_path, finetune.check_requirements)
    for path in paths:
        for value in NASTY:
            attempt(load_finetuning_recipe, content, path, value, tmp_path, needed(path))


def needed(path: str) -> Any:
    return finetune.check_requirements if path.startswith(("model", "adapter", "training")) else None


@QUICK
@given(st.data())
def test_no_value_of_fine_tuning_ends_in_a_traceback(tmp_path, data):
    content, paths = finetuning(tmp_path)
    path = data.draw(st.sampled_from(paths))
    attempt(load_finetuning_recipe, content, path, data.draw(ANYTHING), tmp_path, needed(path))


# ------------------------------------------------------------------------------------------- suites


def suite() -> tuple[dict[str, Any], list[str]]:
    """Return the content of a suite."""
    content = yaml.safe_load(bundled_text("synthetic", ("suites",)))
    content["protocols"] |= {"answer": {"kind": "zero_shot"}, "whole": {"kind": "pooled"}}
    rendered = "prepare.frame_sets/synthetic"
    paths = [
        *SECTIONS,
        *(f"models.triplet_encoder.{name}" for name in (*names(ModelRecipe), "finetuned")),
        *(f"models.triplet_encoder.finetuned.{name}" for name in ("recipe", "data", "training", "data.label")),
        *(f"data.phases.{name}" for name in ("recipe", "model", "data", "adapter", "training", "data.fraction")),
        *(f"{rendered}.{name}" for name in (*names(Rendered), "settings.videos", "settings.seconds")),
        *(f"protocols.full.{name}" for name in ("kind", "after", "only", "only_models", "model", "data", "training")),
        *(f"protocols.lora.adapter.{name}" for name in names(AdapterRecipe)),
        *(f"protocols.tcn.tcn.{name}" for name in ("num_layers", "dropout", "seed", *own_fields(TemporalArguments))),
        *(
            f"protocols.whole.head.{name}"
            for name in ("pooling", "hidden_size", "seed", *own_fields(VideoHeadArguments))
        ),
        *(f"protocols.ask.zero_shot.{name}" for name in names(ZeroShotSettings)),
    ]
    return content, paths


@pytest.mark.slow
def test_every_field_of_a_suite_refuses_what_it_cannot_be(tmp_path):
    content, paths = suite()
    assert attempt(load_suite, content, "seeds", [1], tmp_path)
    for path in paths:
        for value in NASTY[::2]:
            attempt(load_suite, content, path, value, tmp_path)


@QUICK
@given(st.data())
def test_no_value_of_a_suite_ends_in_a_traceback(tmp_path, data):
    content, paths = suite()
    attempt(load_suite, content, data.draw(st.sampled_from(paths)), data.draw(ANYTHING), tmp_path)


# ------------------------------------------------------------------------------------------- preparation


@given(st.sampled_from(["videos", "seconds", "seed", "height", "width"]), st.text(max_size=8) | st.integers().map(str))
def test_settings_of_a_rendered_data_set_are_numbers_in_range(name, text):
    for kind in ("synthetic", "synthetic_views"):
        message = refusal(lambda kind=kind: get_builder(kind).configured(None, {name: text}))
        assert name in message if message else int(text) >= 0


@given(st.sampled_from(names(PreparationOptions)), ANYTHING)
def test_options_of_a_preparation_are_what_they_are_annotated_as(name, value):
    message = refusal(lambda: PreparationOptions(**{name: value}))
    assert message is None or name in message


# ------------------------------------------------------------------------------------------- what the errors say


def test_a_spacing_below_a_second_and_the_published_rules_are_taken():
    for value in (0.2, 4, -1, 0, -2):
        taken = load_recipe("surgvista_base", [f"data.frame_stride={value}"]).data.frame_stride
        assert (taken, type(taken)) == (value, type(value))


@pytest.mark.parametrize(
    ("load", "recipe", "word", "message"),
    [
        (
            load_recipe,
            "surgvista_base",
            "data.frame_stride=four",
            "^data.frame_stride is 'four'; it must be a number$",
        ),
        (load_recipe, "surgvista_base", "data.frame_stride=-1.5", "must be above 0, or one of the published rules"),
        (load_recipe, "surgvista_base", "data.fraction=many", "^data.fraction is 'many'; it must be a number$"),
        (load_recipe, "surgvista_base", "data.sources.2.split=7", r"^data.sources.2.split is 7; it must be text$"),
        (
            load_recipe,
            "surgvista_base",
            "model.hidden_size=big",
            "^model.hidden_size is 'big'; it must be a whole number",
        ),
        (load_recipe, "surgvista_base", "model.image_size=1000000", "^model.image_size is 1000000; it must lie in"),
        (load_recipe, "surgvista_base", "training.max_steps=1e3", "^training.max_steps is 1000.0; .*; write 1000$"),
        (load_recipe, "surgvista_base", "training.bf16=yes", "^training.bf16 is 'yes'; it must be true or false$"),
        (load_recipe, "surgvista_base", "teacher.dtype=bflot16", "did you mean bfloat16"),
        (load_finetuning_recipe, "synthetic", "adapter.method=lorra", "^adapter.method is .* did you mean lora"),
        (load_finetuning_recipe, "synthetic", "model.config.model_type=surgvist", "did you mean surgvista"),
        (load_suite, "synthetic", "seeds.0=x", "^seeds.0 is 'x'; it must be a whole number$"),
        (load_suite, "synthetic", "protocols.tcn.only=phases", "^protocols.tcn.only is 'phases'; it must be a list$"),
        (
            load_suite,
            "synthetic",
            "protocols.lora.adapter.rank=0",
            "^triplet_encoder / phases / lora: adapter.rank is 0",
        ),
        (load_suite, "synthetic", "protocols.tcn.tcn.num_layers=x", "^protocols.tcn.tcn.num_layers is 'x'"),
    ],
)
def test_the_field_is_named_with_what_it_must_be(load, recipe, word, message):
    with pytest.raises(RecipeError, match=message):
        load(recipe, [word])

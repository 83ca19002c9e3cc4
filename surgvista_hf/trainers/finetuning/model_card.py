"""The card of a fine-tuned model: its training data, its test and its results, as metadata that the Hub shows too."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ...datasets_scripts.frame_sets.registry import get_builder
from ...evaluation.tasks import Task
from ...modeling.adapters import Parameters
from ...modeling.confidence import Confidence
from ...util.files import atomic_file
from .recipe import FinetuningRecipe

_TITLES = {
    "workflow": "Phases",
    "multi_label": "Several labels",
    "video_classification": "Classification of whole videos",
    "video_multi_label": "Several labels of whole videos",
}
_TEXT = """---
{metadata}
---

# {title}

{task} of {classes} classes, fine-tuned on **{data}** (`{label}`, protocol `{protocol}`) by `surgvista finetune`.
Research use only, not a medical device.

- starts from: {start}
- trained: {trained:,} of {all:,} parameters ({method})
- tested once on {split}: {videos} videos{warning}
- {calibrated}
- {known}
- license of the data: {license}; how to get them: {homepage}

| metric | value |
|---|---|
{table}

All metrics lie in 0-1; no boundary is relaxed. Their definitions: `docs/reference/metrics.md` of surgvista_hf.
"""


def write_model_card(
    folder: Path,
    recipe: FinetuningRecipe,
    task: Task,
    metrics: dict[str, float],
    parameters: Parameters,
    *,
    videos: int,
    selected_on_test: bool,
    calibration: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Write `README.md` with `model-index` metadata beside a model.

    Args:
        folder: folder of the model.
        recipe: recipe that the model was made by.
        task: task of the model.
        metrics: metrics on the test by name, 0-1.
        parameters: numbers of trained and of all parameters.
        videos: number of test videos.
        selected_on_test: the validation had test videos.
        calibration: results of the calibration under `validation` and `test`; `None`: the model is not calibrated.
    """
    info = get_builder(recipe.data.name).info
    protocol = recipe.data.own_splits or recipe.data.protocol or next(iter(info.protocols))
    start = recipe.model.from_pretrained
    on_hub = start is not None and start.count("/") == 1 and not Path(start).exists()
    title = f"{info.title}: {recipe.data.label}"
    other = recipe.data.test_on
    tested = info if other is None else get_builder(other.name).info
    used = protocol if other is None else other.own_splits or other.protocol or next(iter(tested.protocols))
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=tested.name,
            dataset_name=tested.title,
            dataset_config=used,
            dataset_split=recipe.data.test if other is None else other.split,
            metric_type=name,
            metric_value=round(value, 6),
            metric_name=name.replace("_", " "),
        )
        for name, value in metrics.items()
    ]
    metadata = ModelCardData(
        library_name="peft" if recipe.adapter.is_peft else "transformers",
        pipeline_tag="video-classification",
        tags=["surgery", "surgical-video", task.kind, "surgvista_hf"],
        base_model=start if on_hub else None,
        model_name=title,
        eval_results=results,
    )
    text = _TEXT.format(
        metadata=metadata.to_yaml(),
        title=title,
        task=_TITLES.get(task.kind, task.kind.capitalize()),
        classes=len(task.names),
        data=info.title,
        label=recipe.data.label,
        protocol=protocol,
        start=f"`{start}`" if start and on_hub else "a checkpoint on disk" if start else "random weights",
        trained=parameters.trained,
        all=parameters.all,
        method=recipe.adapter.method,
        split=_test_split(recipe),
        videos=videos,
        warning=". The checkpoint was chosen on test videos, as published: these numbers are too good"
        * selected_on_test,
        calibrated=_calibrated(calibration, recipe.data.validation),
        known=_known(Confidence.load(folder)),
        license=info.license,
        homepage=info.homepage,
        table="\n".join(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in metrics.items()),
    )
    ModelCard(text)  # raises if the Hub could not read the metadata
    with atomic_file(folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _calibrated(calibration: Mapping[str, Mapping[str, float]] | None, split: str | None) -> str:
    if calibration is None:
        return "confidences are not calibrated: there was no validation apart from the test"
    found, tested = calibration["validation"], calibration["test"]
    return (
        f"confidences were calibrated on the split `{split}`, {found['samples']:,} clips, by one temperature "
        f"({found['temperature']:.3f}), which `confidence.json` holds and `surgvista predict` applies; the model's own logits "
        f"and the table below are without it. Expected calibration error before and after: {found['error_before']:.4f} and "
        f"{found['error_after']:.4f} there, {tested['error_before']:.4f} and {tested['error_after']:.4f} on the test"
    )


def _known(confidence: Confidence) -> str:
    known = confidence.familiarity
    if known is None:
        return "what the training videos look like was not saved: whether a new video is like them is unknown"
    return (
        f"`surgvista predict` says of every second whether it looks like the {known.videos} training videos; "
        f"{known.false_alarms:.1%} of {known.held_out_seconds:,} seconds of {known.held_out_videos} videos that were held out "
        "do not"
    )


def _test_split(recipe: FinetuningRecipe) -> str:
    """Name the split that was tested, and its data set if that is not the one of the training."""
    other = recipe.data.test_on
    if other is None:
        return f"the split `{recipe.data.test}`"
    return f"the split `{other.split}` of another frame set, **{get_builder(other.name).info.title}**"

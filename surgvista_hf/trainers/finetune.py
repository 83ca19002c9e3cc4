"""Fine-tuning by recipe, on one device or many.

    accelerate launch -m surgvista_hf.trainers.finetune recipe.yaml [key=value …]

A run goes on where it stopped: the same command resumes from the newest complete checkpoint in its folder. At the end the best
checkpoint by the validation is tested once; `model/` holds it, `results.json` and `predictions.parquet` what it did. The
scores in that file are the model's own, before the temperature that is saved with it (`model/confidence.json`).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig
from transformers.utils import logging

from ..clips import ClipDataset
from ..datasets_scripts.frame_sets.fingerprints import stored_digests
from ..datasets_scripts.frame_sets.load import load_frame_set
from ..datasets_scripts.frame_sets.overlap import (
    OverlapError,
    SeenVideos,
    check_overlap,
    find_overlaps,
    has_published_ids,
    seen_by,
    videos_in,
    warn_of_unlisted,
)
from ..datasets_scripts.frame_sets.registry import get_builder
from ..datasets_scripts.schema.label_mapping import map_classes
from ..evaluation.metrics.calibration import (
    Calibration,
    calibration_error,
    negative_log_likelihood,
    scale_probabilities,
)
from ..evaluation.tasks import ClipPredictions, Task
from ..modeling.adapters import (
    AdapterRecipe,
    Parameters,
    add_adapter,
    complete_adapter,
    count_parameters,
    quantization,
)
from ..modeling.loading import clip_length, load_classifier, note_frame_interval, note_frame_stride, processor_of
from ..util.console import Steps
from ..util.files import atomic_file, atomic_folder
from ..util.messages import preview
from .common.arguments import FinetuningArguments
from .common.clip_trainer import last_loss, run_command
from .common.identity import run_folder
from .finetuning.confidence import build_confidence, calibrate, learn_familiarity
from .finetuning.identity import finetuning_run
from .finetuning.model_card import write_model_card
from .finetuning.recipe import ExternalTest, FinetuningRecipe, LabeledData, load_finetuning_recipe
from .finetuning.trainer import SurgicalFinetuner
from .pretrain import fraction_of_videos
from .recipes.loading import RecipeError
from .recipes.requirements import check_adapter, check_size, make_arguments

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class FinetuningResult:
    """What a run found.

    Args:
        folder: of the trained model or adapter.
        task: what was predicted.
        results: of all metrics on the test, see `Task.results`.
        by_video: main number of each test video.
        parameters: how many were trained.
        selected_on_test: the validation had videos of the test, so the numbers are too good.
    """

    folder: Path
    task: Task
    results: dict[str, Any]
    by_video: dict[str, float]
    parameters: Parameters
    selected_on_test: bool

    @property
    def figures(self) -> dict[str, float]:
        """The numbers of a table."""
        return self.task.figures(self.results)


def finetune(recipe: FinetuningRecipe, *, progress: bool = True) -> FinetuningResult:
    """Train a classifier by a recipe, choose the best checkpoint by the validation and test it.

    Args:
        recipe: see `load_finetuning_recipe`.
        progress: show progress bars.

    Returns:
        Results, which are also written beside the model.

    Raises:
        RecipeError: parts that do not fit together.
        OverlapError: test videos are in the training data.
        OutputError: the folder holds a run on other data or from other weights, or another run is at work there.

    Example:
        >>> finetune(load_finetuning_recipe("synthetic")).figures["video_accuracy"]  # doctest: +SKIP
    """
    check_requirements(recipe)
    steps = Steps(3)
    with steps(f"load {recipe.data.name}"):
        splits = load_splits(recipe.data)
        on_test = check_splits(recipe, splits)
        task = task_of(recipe.data, splits["train"])
        args = build_arguments(recipe, task)
    with run_folder(Path(str(args.output_dir)), *finetuning_run(recipe, splits)):
        return _finetune(recipe, splits, task, args, steps, on_test=on_test, progress=progress)


def _finetune(
    recipe: FinetuningRecipe,
    splits: dict[str, Dataset],
    task: Task,
    args: FinetuningArguments,
    steps: Steps,
    *,
    on_test: bool,
    progress: bool,
) -> FinetuningResult:
    """The run itself, in a folder that is its own."""
    torch.manual_seed(args.seed)
    model, start = build_classifier(recipe, task, args)
    stride, sampling = recipe.data.frame_stride, recipe.data.sampling
    note_frame_stride(model.config, None if sampling.startswith("uniform") else stride, str(start))
    processor = processor_of(model, start, stride, sampling)
    clips = {name: build_clips(recipe.data, frames, model, args) for name, frames in splits.items()}
    if sampling == "online":
        note_frame_interval(model.config, processor, stride, clips["train"].timeline.interval)
    adapted = add_adapter(model, recipe.adapter, start)
    parameters = count_parameters(adapted)
    trainer = SurgicalFinetuner(adapted, args, clips["train"], task, processor, eval_dataset=clips.get("validation"))
    folder = Path(str(args.output_dir)) / "model"
    with steps(f"train on {len(clips['train']):,} clips") as step:
        trainer.train(resume_from_checkpoint=True)
        trainer.save_best(folder)
        if args.should_save and recipe.adapter.is_peft:
            complete_adapter(folder, model, start)
        step.remember(last_loss(trainer.state.log_history))
    with steps(f"test on {len(clips['test']):,} clips"):
        calibration = _calibrate(trainer, task, clips, on_test)
        if args.should_save:
            info = get_builder(recipe.data.name).info
            known = learn_familiarity(splits["train"], splits.get("validation"), processor)
            build_confidence(calibration, recipe.data.validation, info, known).save(folder)
        trainer.accelerator.wait_for_everyone()
        predictions = trainer.predict_clips(clips["test"], progress=progress)
    results = {**task.results(predictions), **_calibration_results(calibration, predictions, task)}
    result = FinetuningResult(folder, task, results, task.by_video(predictions), parameters, on_test)
    if args.should_save:
        write_result(result, predictions, recipe, folder.parent)
    return result


def _calibrate(
    trainer: SurgicalFinetuner, task: Task, clips: Mapping[str, ClipDataset], on_test: bool
) -> Calibration | None:
    """The temperature of the model that is tested, found on the validation in every process alike."""
    usable = "validation" in clips and not on_test
    return calibrate(trainer.predict_clips(clips["validation"]) if usable else None, task, selected_on_test=on_test)


def _calibration_results(calibration: Calibration | None, predictions: ClipPredictions, task: Task) -> dict[str, Any]:
    """What calibration changes on the test, which had no part in it; nothing where there is none."""
    if calibration is None:
        return {}
    labels = (predictions.labels >= 0.5).astype(int) if task.multi_label else predictions.labels
    both = {"before": predictions.scores}
    both["after"] = scale_probabilities(predictions.scores, calibration.temperature, multi_label=task.multi_label)
    tested: dict[str, float] = {}
    for when, scores in both.items():
        tested[f"error_{when}"] = calibration_error(labels, scores, multi_label=task.multi_label)
        tested[f"loss_{when}"] = negative_log_likelihood(labels, scores, multi_label=task.multi_label)
    return {"calibration": {"validation": calibration.to_dict(), "test": tested}}


def check_run(recipe: FinetuningRecipe) -> str:
    """What a run would do, in words, after everything that can be checked without training was checked.

    Raises:
        SurgVistaError: what would have stopped it.
    """
    check_requirements(recipe)
    splits = load_splits(recipe.data)
    on_test = check_splits(recipe, splits)
    task = task_of(recipe.data, splits["train"])
    args = build_arguments(recipe, task)
    model, _ = build_classifier(replace(recipe, adapter=AdapterRecipe()), task, args)
    parts = [f"{use}: {len(build_clips(recipe.data, frames, model, args)):,} clips" for use, frames in splits.items()]
    chosen = "the last weights are kept" if args.eval_strategy == "no" else f"chosen by {args.metric_for_best_model}"
    note = "; THE VALIDATION HAS TEST VIDEOS" if on_test else ""
    return (
        f"{task.kind} of {len(task.names)} classes from {recipe.data.name}; {'; '.join(parts)}\n"
        f"{type(model).__name__} from {recipe.model.from_pretrained or 'scratch'}, {recipe.adapter.method}; {chosen}{note}"
    )


def check_requirements(recipe: FinetuningRecipe) -> None:
    """Make sure that this machine has what a run needs, before anything is loaded.

    Raises:
        MissingPackageError: a package is not installed.
        SurgVistaError: something else that the machine cannot do.
    """
    check_adapter(recipe.adapter)
    make_arguments(FinetuningArguments, recipe.training)
    own = recipe.model
    options: dict[str, Any] = {"num_frames": own.num_frames, "pooling": own.pooling, "changes": own.changes}
    if own.config is not None:
        check_size("model", lambda: load_classifier(own.start, "-+", "single_label_classification", **options))


def build_arguments(recipe: FinetuningRecipe, task: Task) -> FinetuningArguments:
    """The trainer's arguments: the best checkpoint by the task's metric, unless the recipe says otherwise."""
    settings = dict(recipe.training)
    metric = settings.setdefault("metric_for_best_model", task.main_metric)
    settings.setdefault("greater_is_better", not str(metric).endswith("loss"))
    if recipe.data.validation is None:
        settings |= {"eval_strategy": "no", "load_best_model_at_end": False}
    elif settings.get("eval_strategy", "epoch") != "no":
        settings.setdefault("load_best_model_at_end", True)
    args: FinetuningArguments = make_arguments(FinetuningArguments, settings)
    return args


def load_splits(data: LabeledData) -> dict[str, Dataset]:
    """The frame sets of training, validation (if there is one) and test."""
    names = {"train": data.train, "validation": data.validation, "test": None if data.test_on else data.test}
    splits: dict[str, Dataset] = {}
    for use, split in names.items():
        if split is None:
            continue
        frames = load_frame_set(
            data.name, data.folder, split, protocol=data.protocol, allow_missing=data.allow_missing
        )
        if data.label not in frames.column_names:
            raise RecipeError(
                f"data.label is {data.label!r}; {data.name} has the columns {', '.join(frames.column_names)}"
            )
        splits[use] = frames
    if data.test_on is not None:
        splits["test"] = _load_test_on(data, data.test_on, splits["train"])
    if data.fraction != 1:
        splits["train"] = fraction_of_videos(splits["train"], data.fraction, data.fraction_seed)
    return splits


def _load_test_on(data: LabeledData, other: ExternalTest, train: Dataset) -> Dataset:
    """The other frame set, its labels in the column and the classes of the training."""
    frames = load_frame_set(
        other.name, data.test_folder, other.split, protocol=other.protocol, allow_missing=other.allow_missing
    )
    label = other.label or data.label
    if label not in frames.column_names:
        raise RecipeError(
            f"data.test_on.label is {label!r}; {other.name} has the columns {', '.join(frames.column_names)}"
        )
    if label != data.label and data.label in frames.column_names:
        frames = frames.remove_columns(data.label)
    if label != data.label:
        frames = frames.rename_column(label, data.label)
    feature: Any = train.features[data.label]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return frames if names is None else map_classes(frames, data.label, names, other.classes)


def check_splits(recipe: FinetuningRecipe, splits: dict[str, Dataset]) -> bool:
    """Make sure that no test video was seen: in training, in the pre-training that left its list, or in the validation.

    Returns:
        Whether the validation has videos of the test, which the recipe must allow.

    Raises:
        OverlapError: there are such videos.
    """
    data, videos = recipe.data, {name: videos_in(frames) for name, frames in splits.items()}
    if data.test_on is not None:
        _check_other_files(data)
        videos["test"] = {name: ids for name, ids in videos["test"].items() if has_published_ids(name)}
    check_overlap(videos["train"], videos["test"], on_overlap=data.on_overlap)
    if "validation" in videos:
        check_overlap(videos["train"], videos["validation"], on_overlap=data.on_overlap)
    corpus = _seen_before(recipe)
    if recipe.model.from_pretrained and (known := seen_by_model(recipe.model.from_pretrained)):
        warn_of_unlisted(known, videos["test"], recipe.model.from_pretrained)
    if corpus:
        check_overlap(corpus, videos["test"], on_overlap=data.on_overlap)
    on_test = bool(find_overlaps(videos.get("validation", {}), videos["test"]))
    if on_test and not data.select_on_test:
        raise RecipeError(
            f"the validation of {data.name} has videos of its test, so the best checkpoint would be chosen on the test: set "
            "data.validation to null, take another protocol, or allow it with data.select_on_test"
        )
    return on_test


def _seen_before(recipe: FinetuningRecipe) -> dict[str, list[str]]:
    """Return the videos of the pre-training, of sources whose video ids mean the same anywhere.

    They are those that `pretrain` notes, or, for converted weights, those that their authors publish.
    """
    start = recipe.model.from_pretrained
    if start is None:
        return {}
    noted: dict[str, list[str]] = {}
    file = Path(start) / "pretraining_videos.json"
    if file.is_file():
        noted = json.loads(file.read_text(encoding="utf-8"))
    elif known := seen_by_model(start):
        noted = {name: list(videos) for name, videos in known.videos.items()}
    return {name: videos for name, videos in noted.items() if has_published_ids(name)}


def seen_by_model(start: str | Path) -> SeenVideos | None:
    """Return what is known of the videos that the weights of a converted folder were trained on.

    Args:
        start: The folder or the name of a model on the Hub, of which nothing is known here.
    """
    file = Path(start) / "config.json"
    return seen_by(AutoConfig.from_pretrained(str(start))) if file.is_file() else None


def _check_other_files(data: LabeledData) -> None:
    """Make sure that another frame set for the test holds no video of this one; equal names mean nothing, content does.

    Raises:
        OverlapError: there are such videos.
    """
    digests, tested = (
        stored_digests(sorted(folder.glob("videos/*.arrow"))) for folder in (data.folder, data.test_folder)
    )
    own = {digest: video for video, digest in digests.items()}
    twice = [f"{own[digest]} = {video}" for video, digest in tested.items() if digest in own]
    if twice and data.on_overlap == "error":
        raise OverlapError(
            f"{len(twice)} videos of {data.test_folder} are also in {data.folder}: {preview(twice)}. A test on them says "
            "nothing; leave them out, or allow it with data.on_overlap=warn"
        )


def task_of(data: LabeledData, frames: Dataset) -> Task:
    """The task that the label column sets."""
    feature: Any = frames.features[data.label]
    several = feature.__class__.__name__ in ("List", "Sequence", "LargeList")
    inner = feature.feature if several else feature
    info = get_builder(data.name).info
    names = getattr(inner, "names", None) or info.labels[data.label].names
    one = "classification" if data.sampling.startswith("uniform") else "workflow"
    usual = ("triplet" if data.label == "triplets" else "multi_label") if several else one
    if info.task == "procedure":
        usual = "video_multi_label" if several else "video_classification"
    kind: Any = data.task or usual
    return Task(kind, tuple(names), data.name)


def build_classifier(recipe: FinetuningRecipe, task: Task, args: FinetuningArguments) -> tuple[Any, Any]:
    """The classifier and what it came from. A model without training is saved where an adapter will look for it."""
    names = list(task.names)
    if task.kind == "triplet" and args.component_weight:
        names += [
            f"{part} {number}"
            for part, column in zip("IVT", task.parts.T, strict=True)
            for number in sorted(set(column))
        ]
    own = recipe.model
    start = own.start
    options: dict[str, Any] = {"num_frames": own.num_frames, "pooling": own.pooling, "changes": own.changes}
    if recipe.adapter.method != "full" and own.config is not None:
        start = str(Path(str(args.output_dir)) / "base")
        if args.should_save and not (Path(start) / "config.json").exists():
            with atomic_folder(start) as folder:
                load_classifier(own.start, names, task.problem_type, **options).save_pretrained(folder)
    return load_classifier(start, names, task.problem_type, **options, **quantization(recipe.adapter.bits)), start


def build_clips(data: LabeledData, frames: Dataset, model: Any, args: FinetuningArguments) -> ClipDataset:
    """Return the clips of a split for a model."""
    return ClipDataset(
        frames,
        num_frames=clip_length(model.config),
        frame_stride=data.frame_stride,
        sampling=data.sampling,
        label=data.label,
        drop_empty=data.drop_empty,
        on_unreadable=data.on_unreadable,
        seed=args.seed,
    )


def write_result(
    result: FinetuningResult, predictions: ClipPredictions, recipe: FinetuningRecipe, folder: Path
) -> None:
    """Write `results.json` and `predictions.parquet`."""
    content = {
        "task": {"kind": result.task.kind, "classes": len(result.task.names)},
        "figures": result.figures,
        "selected_on_test": result.selected_on_test,
        "by_video": result.by_video,
        "parameters": asdict(result.parameters),
        "results": result.results,
        "recipe": asdict(recipe),
    }
    predictions.save(folder / "predictions.parquet")
    write_model_card(
        result.folder,
        recipe,
        result.task,
        result.figures,
        result.parameters,
        videos=len(np.unique(predictions.videos)),
        selected_on_test=result.selected_on_test,
        calibration=result.results.get("calibration"),
    )
    with atomic_file(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(words: Sequence[str] | None = None) -> int:
    """Run a recipe given on the command line; returns the exit status."""
    return run_command(
        "finetune", __doc__, words, lambda recipe, changes: finetune(load_finetuning_recipe(recipe, changes)).folder
    )


if __name__ == "__main__":
    sys.exit(main())

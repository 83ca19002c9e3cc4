"""Fine-tuning by recipe, on one device or many.

    accelerate launch -m surgvista_hf.trainers.finetune recipe.yaml [key=value …]

The same command resumes a run that was stopped, from the newest complete checkpoint in its folder. At the end the best
checkpoint by the validation is tested once; it is saved in `model/`, its metrics in `results.json` and its predictions in
`predictions.parquet`. The scores in that file are those of the model, before the temperature that is saved with it
(`model/confidence.json`).
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
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from ..clips import ClipDataset
from ..datasets_scripts.frame_sets.fingerprints import stored_digests
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
from ..datasets_scripts.frame_sets.training_videos import TrainingVideos
from ..datasets_scripts.schema.label_mapping import map_classes
from ..evaluation.metrics.calibration import (
    Calibration,
    calibration_error,
    negative_log_likelihood,
    scale_probabilities,
)
from ..evaluation.tasks import ClipPredictions, Kind, Task
from ..modeling.adapters import (
    AdapterRecipe,
    Parameters,
    add_adapter,
    complete_adapter,
    count_parameters,
    quantization,
)
from ..modeling.loading import (
    clip_length,
    load_classifier,
    make_classifier_processor,
    note_frame_interval,
    note_frame_stride,
)
from ..util.console import Steps
from ..util.files import atomic_folder, write_json
from ..util.messages import preview
from .common.arguments import FinetuningArguments
from .common.clip_trainer import last_loss, run_command
from .common.frame_sets import load_named
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
    """The result of a fine-tuning run.

    Args:
        folder: folder of the trained model or adapter.
        task: task of the model.
        results: results of all metrics on the test, see `Task.results`.
        by_video: main metric of each test video.
        parameters: numbers of trained and of all parameters.
        selected_on_test: the validation had videos of the test, so the metrics are too good.
    """

    folder: Path
    task: Task
    results: dict[str, Any]
    by_video: dict[str, float]
    parameters: Parameters
    selected_on_test: bool

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics of the test that belong in a table, by name."""
        return self.task.metrics(self.results)


def finetune(recipe: FinetuningRecipe, *, progress: bool = True) -> FinetuningResult:
    """Train a classifier by a recipe, choose the best checkpoint by the validation and test it.

    Args:
        recipe: recipe of the run, as `load_finetuning_recipe` reads it.
        progress: show progress bars.

    Returns:
        Results, which are also written beside the model.

    Raises:
        RecipeError: parts of the recipe do not fit together.
        OverlapError: test videos are in the training data.
        OutputError: the folder holds a run on other data or from other weights, or is used by another run right now.

    Example:
        >>> finetune(load_finetuning_recipe("synthetic")).metrics["video_accuracy"]  # doctest: +SKIP
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
    """Run a recipe in a folder that no other run uses."""
    torch.manual_seed(args.seed)
    model, start = build_classifier(recipe, task, args)
    stride, sampling = recipe.data.frame_stride, recipe.data.sampling
    note_frame_stride(model.config, None if sampling.startswith("uniform") else stride, str(start))
    processor = make_classifier_processor(model, start, stride, sampling)
    clips = {name: build_clips(recipe.data, frames, model, args) for name, frames in splits.items()}
    if sampling == "online":
        note_frame_interval(model.config, processor, stride, clips["train"].timeline.interval)
    # Full fine-tuning alone starts from a configuration; `build_classifier` has saved the base of any other.
    adapted = add_adapter(model, recipe.adapter, start) if isinstance(start, str) else model
    parameters = count_parameters(adapted)
    trainer = SurgicalFinetuner(adapted, args, clips["train"], task, processor, eval_dataset=clips.get("validation"))
    folder = Path(str(args.output_dir)) / "model"
    with steps(f"train on {len(clips['train']):,} clips") as step:
        trainer.train(resume_from_checkpoint=True)
        trainer.save_best(folder)
        if args.should_save and recipe.adapter.is_peft and isinstance(start, str):
            complete_adapter(folder, model, start)
        step.remember(last_loss(trainer.state.log_history))
    with steps(f"test on {len(clips['test']):,} clips"):
        calibration = _calibrate(trainer, task, clips, on_test)
        if args.should_save:
            info = get_builder(recipe.data.name).info
            known = learn_familiarity(splits["train"], splits.get("validation"), processor)
            build_confidence(calibration, recipe.data.validation, info, known).save(folder)
            TrainingVideos.of(splits["train"], splits.get("validation")).save(folder)
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
    """Fit the temperature of the model that is tested on the validation, alike in every process."""
    usable = "validation" in clips and not on_test
    return calibrate(trainer.predict_clips(clips["validation"]) if usable else None, task, selected_on_test=on_test)


def _calibration_results(calibration: Calibration | None, predictions: ClipPredictions, task: Task) -> dict[str, Any]:
    """Return calibration error and loss of the test with and without temperature; nothing if there is no calibration."""
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
    """Check everything that can be checked without training, and describe the run in a few lines.

    Raises:
        SurgVistaError: something would have stopped the run.
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
    """Check that this machine meets the requirements of a run, before anything is loaded.

    Raises:
        MissingPackageError: a package is not installed.
        SurgVistaError: the machine lacks something else.
    """
    check_adapter(recipe.adapter)
    make_arguments(FinetuningArguments, recipe.training)
    own = recipe.model
    options: dict[str, Any] = {"num_frames": own.num_frames, "pooling": own.pooling, "changes": own.changes}
    if own.config is not None:
        check_size("model", lambda: load_classifier(own.start, "-+", "single_label_classification", **options))


def build_arguments(recipe: FinetuningRecipe, task: Task) -> FinetuningArguments:
    """Make the trainer's arguments; the best checkpoint is chosen by the task's metric, unless the recipe says otherwise.

    Raises:
        SurgVistaError: this machine or the trainer refuses them.
    """
    settings = dict(recipe.training)
    metric = settings.setdefault("metric_for_best_model", task.main_metric)
    settings.setdefault("greater_is_better", not str(metric).endswith("loss"))
    if recipe.data.validation is None:
        settings |= {"eval_strategy": "no", "load_best_model_at_end": False}
    elif settings.get("eval_strategy", "epoch") != "no":
        settings.setdefault("load_best_model_at_end", True)
    return make_arguments(FinetuningArguments, settings)


def load_splits(data: LabeledData) -> dict[str, Dataset]:
    """Load the frame sets of training, validation (if there is one) and test.

    Returns:
        Frame sets under `"train"`, `"validation"` and `"test"`.

    Raises:
        RecipeError: a frame set has no column with the label.
    """
    names = {"train": data.train, "validation": data.validation, "test": None if data.test_on else data.test}
    splits: dict[str, Dataset] = {}
    for use, split in names.items():
        if split is None:
            continue
        frames = load_named(data, data.folder, split)
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
    """Load another frame set for the test, with its labels in the column and the classes of the training."""
    frames = load_named(other, data.test_folder, other.split)
    label = other.label or data.label
    if label not in frames.column_names:
        raise RecipeError(
            f"data.test_on.label is {label!r}; {other.name} has the columns {', '.join(frames.column_names)}"
        )
    if label != data.label and data.label in frames.column_names:
        frames = frames.remove_columns(data.label)
    if label != data.label:
        frames = frames.rename_column(label, data.label)
    feature = train.features[data.label]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return frames if names is None else map_classes(frames, data.label, names, other.classes)


def check_splits(recipe: FinetuningRecipe, splits: dict[str, Dataset]) -> bool:
    """Check that no test video is in the training, in the pre-training (if its list is there) or in the validation.

    Returns:
        `True` if the validation has videos of the test, which the recipe must allow.

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
    """Check that another frame set for the test holds no video of this one, by content, since names may be the same.

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
    """Derive the task from the label column, unless the recipe names it.

    Args:
        data: section of the recipe.
        frames: frame set with the label column.
    """
    feature = frames.features[data.label]
    is_multi_label = feature.__class__.__name__ in ("List", "Sequence", "LargeList")
    class_label = feature.feature if is_multi_label else feature
    info = get_builder(data.name).info
    names = getattr(class_label, "names", None) or info.labels[data.label].names
    usual: Kind
    if info.task == "procedure":
        usual = "video_multi_label" if is_multi_label else "video_classification"
    elif is_multi_label:
        usual = "triplet" if data.label == "triplets" else "multi_label"
    else:
        usual = "classification" if data.sampling.startswith("uniform") else "workflow"
    return Task(data.task or usual, tuple(names), data.name)


def build_classifier(
    recipe: FinetuningRecipe, task: Task, args: FinetuningArguments
) -> tuple[PreTrainedModel, str | Mapping[str, Any]]:
    """Build the classifier that is trained.

    An adapter refers to its base by a path, so an untrained base is saved in the run's folder first.

    Returns:
        The classifier, and the folder, Hub id or configuration that it was made from.
    """
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


def build_clips(data: LabeledData, frames: Dataset, model: PreTrainedModel, args: FinetuningArguments) -> ClipDataset:
    """Build the clips of a split for a model."""
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
    """Write `predictions.parquet`, the model card and `results.json`, which marks a finished run and so comes last."""
    content = {
        "task": {"kind": result.task.kind, "classes": len(result.task.names)},
        "metrics": result.metrics,
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
        result.metrics,
        result.parameters,
        videos=len(np.unique(predictions.videos)),
        selected_on_test=result.selected_on_test,
        calibration=result.results.get("calibration"),
    )
    write_json(folder / "results.json", content)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe that is named on the command line, and return the exit status."""
    return run_command(
        "finetune", __doc__, argv, lambda recipe, changes: finetune(load_finetuning_recipe(recipe, changes)).folder
    )


if __name__ == "__main__":
    sys.exit(main())

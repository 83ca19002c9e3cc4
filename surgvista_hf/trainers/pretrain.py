"""Pre-training by recipe, on one device or many.

    accelerate launch -m surgvista_hf.trainers.pretrain recipe.yaml [key=value …]

A run goes on where it stopped: the same command resumes from the newest complete checkpoint in its folder.
"""

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from ..clips import ClipDataset, ClipIndex, SourceBalancedSampler, temperature_weights
from ..clips.sampling.balance import EpochSampler
from ..datasets_scripts.frame_sets.load import load_frame_set
from ..datasets_scripts.frame_sets.overlap import check_overlap, has_published_ids, videos_of
from ..datasets_scripts.schema.info import shuffled
from ..modeling.errors_surgvista import folder_or_hub_name
from ..modeling.loading import clip_length, note_frame_stride
from ..util.console import Steps
from ..util.errors import SurgVistaError
from ..util.files import write_json
from ..util.messages import preview
from .common.arguments import PretrainingArguments
from .common.clip_trainer import last_loss, run_command
from .common.identity import run_folder
from .pretraining.identity import pretraining_run
from .pretraining.objectives import OBJECTIVES
from .pretraining.recipe import DataRecipe, Recipe, TeacherRecipe, load_recipe, model_class
from .pretraining.teachers import ImageTeacher
from .recipes.loading import RecipeError
from .recipes.requirements import check_compiler, check_size, make_arguments

logger = logging.get_logger(__name__)
_TEACHER_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8": torch.float8_e4m3fn,
}
_COLUMNS = ["source", "video_id", "frame_index", "timestamp", "image"]


def pretrain(recipe: Recipe) -> Path:
    """Train a model by a recipe and save it with its processor.

    Args:
        recipe: see `load_recipe`.

    Returns:
        Folder of the trained model.

    Raises:
        RecipeError: parts that do not fit together.
        OverlapError: test videos are in the corpus.
        OutputError: the folder holds a run on other data or from other weights, or another run is at work there.

    Example:
        >>> pretrain(load_recipe("surgvista_synthetic"))  # doctest: +SKIP
    """
    args = check_requirements(recipe)
    steps = Steps(2)
    with steps("load the corpus and the model"):
        torch.manual_seed(args.seed)
        model = build_model(recipe)
        objective: Any = OBJECTIVES[recipe.objective]
        note_frame_stride(model.config, recipe.data.frame_stride, str(recipe.model.get("from_pretrained")))
        clips = build_clips(recipe.data, clip_length(model.config), args.seed, objective.dataset_for(args))
        trainer = objective(
            model,
            args,
            clips,
            sampler=build_sampler(recipe.data, clips, args.seed),
            processing_class=objective.processor_for(model.config, recipe.data.frame_stride),
            **({"teacher": build_teacher(recipe.teacher)} if recipe.teacher else {}),
        )
        made_from, names = pretraining_run(recipe)
    folder = Path(str(args.output_dir)) / "model"
    with run_folder(folder.parent, made_from, names), steps(f"train on {len(clips):,} clips") as step:
        trainer.train(resume_from_checkpoint=True)
        trainer.save_result(folder)
        if args.should_save:
            save_pretraining_videos(clips, folder)
        step.remember(last_loss(trainer.state.log_history))
    return folder


def check_requirements(recipe: Recipe) -> PretrainingArguments:
    """Make sure that this machine has what a run needs, before anything is loaded; return the run's arguments.

    Raises:
        MissingPackageError: a package is not installed.
        SurgVistaError: something else that the machine cannot do.
    """
    args = build_arguments(recipe)
    if recipe.model.get("from_pretrained") is None:
        check_size("model", lambda: build_model(recipe))
    return args


def check_run(recipe: Recipe) -> str:
    """Say what a run would do, after everything that can be checked without training was checked.

    Raises:
        SurgVistaError: what would have stopped it.
    """
    args = check_requirements(recipe)
    model = build_model(recipe)
    objective: Any = OBJECTIVES[recipe.objective]
    clips = build_clips(recipe.data, clip_length(model.config), args.seed, objective.dataset_for(args))
    sampler = build_sampler(recipe.data, clips, args.seed)
    drawn = len(clips) if sampler is None else len(sampler)
    if drawn < args.total_batch:
        raise RecipeError(f"one update needs {args.total_batch} clips; an epoch has {drawn}")
    teacher = ""
    if recipe.teacher is not None:
        build_teacher(recipe.teacher)
        teacher = f", taught by {recipe.teacher.name}"
    start = recipe.model.get("from_pretrained") or "scratch"
    return (
        f"{type(model).__name__} from {start}, {model.num_parameters():,} parameters{teacher}\n"
        f"{len(clips):,} clips of {preview(list(clips.clip_index.source_names))}; {drawn:,} an epoch, {args.total_batch} an "
        f"update, {args.num_train_epochs:g} epochs"
    )


def save_pretraining_videos(clips: ClipDataset, folder: Path) -> None:
    """Write which videos a model has seen beside it, so that it is not tested on them."""
    index = clips.clip_index
    videos = {
        name: [str(video) for video, source in zip(index.video_ids, index.sources, strict=True) if source == number]
        for number, name in enumerate(index.source_names)
    }
    write_json(folder / "pretraining_videos.json", videos)


def build_arguments(recipe: Recipe) -> PretrainingArguments:
    """The trainer's arguments, or why this machine or the trainer refuses them."""
    args: PretrainingArguments = make_arguments(OBJECTIVES[recipe.objective].arguments_class, recipe.training)
    if recipe.teacher is not None and recipe.teacher.compile:
        check_compiler("teacher.compile", args.device)
    return args


def build_model(recipe: Recipe) -> PreTrainedModel:
    """What is trained, fresh or from a checkpoint."""
    changes = dict(recipe.model)
    changes.pop("model_type", None)
    start = changes.pop("from_pretrained", None)
    kind = model_class(recipe.objective, recipe.model)
    try:
        if start:
            model: Any = kind.from_pretrained(folder_or_hub_name(start), **changes)
            vars(model.config).pop("auto_map", None)  # code that came with it does not travel on by itself
            return cast(PreTrainedModel, model)
        return cast(PreTrainedModel, kind(kind.config_class(**changes)))
    except SurgVistaError:
        raise
    except (OSError, TypeError, ValueError) as error:
        raise RecipeError(f"the model cannot be built like this: {error}") from error


def build_clips(
    data: DataRecipe, num_frames: int, seed: int, kind: Callable[..., ClipDataset] = ClipDataset
) -> ClipDataset:
    """Return the clips of the whole corpus, after the overlap guard has seen it; `kind` makes them of a frame set."""
    parts: list[Any] = [
        load_frame_set(
            source.name,
            Path(data.root) / source.data_dir,
            source.split,
            protocol=source.protocol,
            allow_missing=source.allow_missing,
        ).select_columns(_COLUMNS)
        for source in data.sources
    ]
    if data.fraction != 1:
        parts = [fraction_of_videos(part, data.fraction, data.fraction_seed) for part in parts]
    parts = told_apart(parts)
    corpus = datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    for test in data.tested_on:
        check_overlap(corpus, videos_of(test.name, test.protocol, test.split), on_overlap=data.on_overlap)
    return kind(
        corpus,
        num_frames=num_frames,
        frame_stride=data.frame_stride,
        on_unreadable=data.on_unreadable,
        seed=seed,
    )


def told_apart(parts: Sequence[Any]) -> list[Any]:
    """Return frame sets whose sources have different names: those of own recordings get numbers where names are the same.

    Two hospitals' folders are both called `phase_folder`, and both may hold `op1`. Published data sets keep their names, since
    their video ids mean the same everywhere; those with equal names are put beside each other.
    """
    taken: set[str] = set()
    renamed = []
    for part in parts:
        names = dict.fromkeys(part.unique("source"))
        own = {name: name for name in names if name in taken and not has_published_ids(name)}
        for name in own:
            own[name] = next(new for new in (f"{name} {number}" for number in itertools.count(2)) if new not in taken)
        if own:
            column = [own.get(name, name) for name in part["source"][:]]
            part = part.remove_columns("source").add_column("source", column).select_columns(part.column_names)
        taken |= {own.get(name, name) for name in names}
        renamed.append(part)
    order = {name: number for number, name in enumerate(dict.fromkeys(_first_source(part) for part in renamed))}
    return sorted(renamed, key=lambda part: order[_first_source(part)])


def _first_source(part: Any) -> str:
    return str(part[:1]["source"][0]) if "source" in part.column_names else ""


def fraction_of_videos(frames: datasets.Dataset, fraction: float, seed: int) -> datasets.Dataset:
    """Whole videos, at least one."""
    if not 0 < fraction <= 1:
        raise RecipeError(f"data.fraction is {fraction}; it must be above 0 and at most 1")
    index = ClipIndex.from_frame_set(frames)
    order = shuffled(tuple(map(str, index.video_ids)), seed)
    kept = set(order[: math.ceil(fraction * len(order))])
    rows = [
        range(start, start + length)
        for video, start, length in zip(index.video_ids, index.starts, index.lengths, strict=True)
        if str(video) in kept
    ]
    return frames.select([row for part in rows for row in part])


def build_sampler(data: DataRecipe, clips: ClipDataset, seed: int) -> EpochSampler | None:
    """Sources by their weights, if the recipe balances them."""
    if data.balance is None:
        return None
    names = list(clips.clip_index.source_names)
    if isinstance(data.balance, Mapping):
        if set(data.balance) != set(names):
            raise RecipeError(
                f"data.balance has weights for {preview(sorted(data.balance))}; the sources are {preview(names)}"
            )
        weights = np.array([data.balance[name] for name in names], np.float64)
    else:
        weights = temperature_weights(np.bincount(clips.sources, minlength=len(names)), data.balance)
    sampler = SourceBalancedSampler(clips.sources, weights, num_samples=data.clips_per_epoch, seed=seed)
    fractions = (f"{name} {fraction:.1%}" for name, fraction in zip(names, weights / weights.sum(), strict=True))
    logger.info("shares of the sources: %s", ", ".join(fractions))
    return sampler


def build_teacher(teacher: TeacherRecipe) -> ImageTeacher:
    """The teacher in its precision."""
    return ImageTeacher.from_pretrained(
        teacher.name,
        final_norm=teacher.final_norm,
        dtype=_TEACHER_DTYPES[teacher.dtype] if teacher.dtype else None,
        batch_size=teacher.batch_size,
        compile=teacher.compile,
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run a recipe given on the command line; returns the exit status."""
    return run_command("pretrain", __doc__, words, lambda recipe, changes: pretrain(load_recipe(recipe, changes)))


if __name__ == "__main__":
    sys.exit(main())

"""Pre-training by recipe, on one device or many.

    accelerate launch -m surgvista_hf.trainers.pretrain recipe.yaml [key=value …]

The same command resumes a run that was stopped, from the newest complete checkpoint in its folder.
"""

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import datasets
import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..clips import ClipDataset, ClipIndex, SourceBalancedSampler, temperature_weights
from ..clips.sampling.balance import EpochSampler
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
from .common.frame_sets import load_named
from .common.identity import run_folder
from .pretraining.identity import pretraining_run
from .pretraining.objectives import OBJECTIVES
from .pretraining.recipe import DataRecipe, Recipe, TeacherRecipe, load_recipe, model_class
from .pretraining.teachers import ImageTeacher
from .pretraining.trainer import Pretrainer
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
        recipe: recipe of the run, as `load_recipe` reads it.

    Returns:
        Folder of the trained model.

    Raises:
        RecipeError: parts of the recipe do not fit together.
        OverlapError: test videos are in the corpus.
        OutputError: the folder holds a run on other data or from other weights, or is used by another run right now.

    Example:
        >>> pretrain(load_recipe("surgvista_synthetic"))  # doctest: +SKIP
    """
    args = check_requirements(recipe)
    steps = Steps(2)
    with steps("load the corpus and the model"):
        trainer = build_trainer(recipe, args)
        made_from, names = pretraining_run(recipe)
    folder = Path(str(args.output_dir)) / "model"
    clips = trainer.train_dataset
    with run_folder(folder.parent, made_from, names), steps(f"train on {len(clips):,} clips") as step:
        trainer.train(resume_from_checkpoint=True)
        trainer.save_result(folder)
        if args.should_save:
            save_pretraining_videos(clips, folder)
        step.remember(last_loss(trainer.state.log_history))
    return folder


def save_untrained(recipe: Recipe) -> Path:
    """Save the model of a run as it is before the first update, in the folder and the form in which `pretrain` saves it.

    Args:
        recipe: recipe of the run, as `load_recipe` reads it.

    Returns:
        Folder of the model.

    Raises:
        RecipeError: parts of the recipe do not fit together.
        OverlapError: test videos are in the corpus.
    """
    untaught = replace(recipe, teacher=None)  # it has no part in the first weights
    trainer = build_trainer(untaught, check_requirements(untaught))
    folder = Path(str(trainer.args.output_dir)) / "model"
    trainer.save_result(folder)
    return folder


def build_trainer(recipe: Recipe, args: PretrainingArguments) -> Pretrainer:
    """Build the trainer of a run with its model, which is a function of the recipe and its seed, and its corpus.

    Args:
        recipe: recipe of the run.
        args: its arguments, see `check_requirements`.
    """
    torch.manual_seed(args.seed)
    model = build_model(recipe)
    objective = OBJECTIVES[recipe.objective]
    note_frame_stride(model.config, recipe.data.frame_stride, str(recipe.model.get("from_pretrained")))
    clips = build_clips(recipe.data, clip_length(model.config), args.seed, objective.dataset_for(args))
    make_trainer: Callable[..., Pretrainer] = objective  # each objective has its own model, data set and teacher
    return make_trainer(
        model,
        args,
        clips,
        sampler=build_sampler(recipe.data, clips, args.seed),
        processing_class=objective.processor_for(model.config, recipe.data.frame_stride),
        **({"teacher": build_teacher(recipe.teacher)} if recipe.teacher else {}),
    )


def check_requirements(recipe: Recipe) -> PretrainingArguments:
    """Check that this machine meets the requirements of a run, before anything is loaded.

    Returns:
        Arguments of the run.

    Raises:
        MissingPackageError: a package is not installed.
        SurgVistaError: the machine lacks something else.
    """
    args = build_arguments(recipe)
    if recipe.model.get("from_pretrained") is None:
        check_size("model", lambda: build_model(recipe))
    return args


def check_run(recipe: Recipe) -> str:
    """Check everything that can be checked without training, and describe the run in a few lines.

    Raises:
        SurgVistaError: something would have stopped the run.
    """
    args = check_requirements(recipe)
    model = build_model(recipe)
    objective = OBJECTIVES[recipe.objective]
    clips = build_clips(recipe.data, clip_length(model.config), args.seed, objective.dataset_for(args))
    sampler = build_sampler(recipe.data, clips, args.seed)
    per_epoch = len(clips) if sampler is None else len(sampler)
    if per_epoch < args.total_batch:
        raise RecipeError(f"one update needs {args.total_batch} clips; an epoch has {per_epoch}")
    teacher = ""
    if recipe.teacher is not None:
        build_teacher(recipe.teacher)
        teacher = f", taught by {recipe.teacher.name}"
    start = recipe.model.get("from_pretrained") or "scratch"
    return (
        f"{type(model).__name__} from {start}, {model.num_parameters():,} parameters{teacher}\n"
        f"{len(clips):,} clips of {preview(list(clips.clip_index.source_names))}; {per_epoch:,} an epoch, "
        f"{args.total_batch} an update, {args.num_train_epochs:g} epochs"
    )


def save_pretraining_videos(clips: ClipDataset, folder: Path) -> None:
    """Write the names of the videos that a model was trained on beside it, so that it is not tested on them."""
    index = clips.clip_index
    videos = {
        name: [str(video) for video, source in zip(index.video_ids, index.sources, strict=True) if source == number]
        for number, name in enumerate(index.source_names)
    }
    write_json(folder / "pretraining_videos.json", videos)


def build_arguments(recipe: Recipe) -> PretrainingArguments:
    """Make the trainer's arguments.

    Raises:
        SurgVistaError: this machine or the trainer refuses them.
    """
    args = make_arguments(OBJECTIVES[recipe.objective].arguments_class, recipe.training)
    if recipe.teacher is not None and recipe.teacher.compile:
        check_compiler("teacher.compile", args.device)
    return args


def build_model(recipe: Recipe) -> PreTrainedModel:
    """Build the model that is trained, untrained or from a checkpoint.

    Raises:
        RecipeError: the model cannot be built.
    """
    changes = dict(recipe.model)
    changes.pop("model_type", None)
    start = changes.pop("from_pretrained", None)
    kind = model_class(recipe.objective, recipe.model)
    try:
        if start:
            model = kind.from_pretrained(folder_or_hub_name(start), **changes)
            vars(model.config).pop("auto_map", None)  # code that came with it does not travel on by itself
            return model
        config_class = cast(type[PreTrainedConfig], kind.config_class)
        return kind(config_class(**changes))
    except SurgVistaError:
        raise
    except (OSError, TypeError, ValueError) as error:
        raise RecipeError(f"the model cannot be built like this: {error}") from error


def build_clips(
    data: DataRecipe, num_frames: int, seed: int, kind: Callable[..., ClipDataset] = ClipDataset
) -> ClipDataset:
    """Build the clips of the whole corpus, after checking that it has no test videos.

    Args:
        data: section of the recipe.
        num_frames: number of frames of a clip.
        seed: seed of the run.
        kind: function that makes clips of a frame set.

    Raises:
        OverlapError: test videos are in the corpus.
    """
    parts = [load_named(source, data.folder(source), source.split).select_columns(_COLUMNS) for source in data.sources]
    if data.fraction != 1:
        parts = [fraction_of_videos(part, data.fraction, data.fraction_seed) for part in parts]
    parts = disambiguate_sources(parts)
    corpus = datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    for test in data.tested_on:
        tested = videos_of(test.name, test.protocol, test.split, split_file=test.split_file, fold=test.fold)
        check_overlap(corpus, tested, on_overlap=data.on_overlap)
    return kind(
        corpus,
        num_frames=num_frames,
        frame_stride=data.frame_stride,
        on_unreadable=data.on_unreadable,
        seed=seed,
    )


def disambiguate_sources(parts: Sequence[datasets.Dataset]) -> list[datasets.Dataset]:
    """Number sources of own recordings that have the same name, and put frame sets of one source beside each other.

    The folders of two hospitals are both called `phase_folder`, and both may hold `op1`. Published data sets keep their names,
    since their video ids mean the same everywhere.

    Args:
        parts: frame sets.

    Returns:
        The frame sets with distinct names of sources, ordered by the first occurrence of their source.
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


def _first_source(part: datasets.Dataset) -> str:
    return str(part[:1]["source"][0]) if "source" in part.column_names else ""


def fraction_of_videos(frames: datasets.Dataset, fraction: float, seed: int) -> datasets.Dataset:
    """Return a fraction of the videos of a frame set, whole and at least one.

    Args:
        frames: frame set.
        fraction: fraction of the videos, above 0 and up to 1.
        seed: seed of the choice, which depends on nothing else than the ids of the videos.

    Raises:
        RecipeError: the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise RecipeError(f"data.fraction is {fraction}; it must be above 0 and at most 1")
    index = ClipIndex.from_frame_set(frames)
    order = shuffled(tuple(map(str, index.video_ids)), seed)
    chosen = set(order[: math.ceil(fraction * len(order))])
    rows = [
        range(start, start + length)
        for video, start, length in zip(index.video_ids, index.starts, index.lengths, strict=True)
        if str(video) in chosen
    ]
    return frames.select([row for part in rows for row in part])


def build_sampler(data: DataRecipe, clips: ClipDataset, seed: int) -> EpochSampler | None:
    """Build the sampler that draws sources by their weights, or return `None` if the recipe does not balance them."""
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
    logger.info("fractions of the sources: %s", ", ".join(fractions))
    return sampler


def build_teacher(teacher: TeacherRecipe) -> ImageTeacher:
    """Load the teacher in the precision of the recipe."""
    return ImageTeacher.from_pretrained(
        teacher.name,
        final_norm=teacher.final_norm,
        dtype=_TEACHER_DTYPES[teacher.dtype] if teacher.dtype else None,
        batch_size=teacher.batch_size,
        compile=teacher.compile,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe that is named on the command line, and return the exit status."""
    return run_command("pretrain", __doc__, argv, lambda recipe, changes: pretrain(load_recipe(recipe, changes)))


if __name__ == "__main__":
    sys.exit(main())

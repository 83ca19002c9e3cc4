"""Running a benchmark suite: every combination is checked first, then those that are missing are run, then reports written.

A cell is finished when its `cell.json` exists; the same command runs the cells that are missing. Each cell stores its recipe,
the versions of the libraries, the predictions of every clip and the scores of every video.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from datasets import Dataset

from ...datasets_scripts.frame_sets.overlap import videos_in
from ...datasets_scripts.frame_sets.prepare import prepare_frame_set
from ...datasets_scripts.frame_sets.registry import get_builder
from ...datasets_scripts.schema.media import PreparationOptions
from ...evaluation.probes import Features, knn_probe, linear_probe, prototype_probe
from ...evaluation.reports.benchmark_report import CellResult, write_report
from ...evaluation.tasks import ClipPredictions, Task
from ...modeling.adapters import Parameters, count_parameters
from ...modeling.configuration_ms_tcn import MsTcnConfig
from ...modeling.configuration_video_head import VideoHeadConfig
from ...modeling.loading import load_classifier
from ...modeling.modeling_ms_tcn import MsTcnForFrameClassification
from ...modeling.modeling_video_head import VideoHeadForClassification
from ...modeling.processors import stride_in_use
from ...util.console import Steps, move_log
from ...util.errors import SurgVistaError
from ...util.executors import Executor, Ray, check_executor, is_parallel, run_over
from ...util.files import at_work, atomic_folder, check_settings, content_hash, write_json
from ...util.fingerprint import weights_fingerprint
from ...util.values import field_names
from ..common.arguments import ClipArguments
from ..common.clip_trainer import ClipTrainer
from ..features.extraction import VideoFeatureExtractor, VideoFeatures, as_clips, load_video_features
from ..features.ms_tcn import FeatureVideos, TemporalArguments, TemporalTrainer, predict_videos
from ..features.video_head import PooledVideos, VideoHeadArguments, VideoHeadTrainer, predict_pooled
from ..finetune import (
    FinetuningResult,
    check_requirements,
    check_run,
    check_splits,
    finetune,
    load_splits,
    seen_by_model,
    task_of,
)
from ..finetuning.confidence import build_confidence, calibrate
from ..finetuning.identity import finetuning_run
from ..finetuning.recipe import ExternalTest, FinetuningRecipe
from ..recipes.loading import RecipeError
from ..recipes.requirements import Arguments, make_arguments
from .cells import CellError, CellState, Identity, plan_cells, run_cells
from .suite import Cell, Suite
from .zero_shot import ZeroShotResult, ZeroShotSettings, check_zero_shot, load_test_frames, zero_shot

T = TypeVar("T")


@dataclass(frozen=True)
class _SuiteCell:
    """One cell together with its suite, as `plan_cells` and `run_cells` take it.

    Args:
        suite: suite of the cell.
        cell: the cell.
        processes: number of processes that train together, each with a GPU.
    """

    suite: Suite
    cell: Cell
    processes: int = 1

    @property
    def name(self) -> str:
        """Return the name of the cell for messages."""
        return self.cell.name

    @property
    def folder(self) -> Path:
        """Return the folder of the cell."""
        return self.cell.folder

    @property
    def group(self) -> tuple[str, str, str, int | None]:
        """Return what its seeds have in common."""
        return self.cell.model, self.cell.data, self.cell.protocol, self.cell.fold

    def check(self) -> str:
        """Describe the run, after everything that can be checked without training was checked."""
        return _plan_cell(self.suite, self.cell)

    @property
    def is_ready(self) -> bool:
        """Return whether the model that gives the features is trained."""
        return self.cell.requested.after is None or _trained_before(self.suite, self.cell).is_dir()

    @property
    def needs(self) -> Path | None:
        """Return the folder of the cell that trains the model, if it is one."""
        return None if self.cell.requested.after is None else _trained_before(self.suite, self.cell).parent

    def identity(self) -> Identity:
        """Return the content that the cell depends on and the names of it."""
        return _identity(self.suite, self.cell)

    def run(self) -> CellResult:
        """Run the cell."""
        return _run_cell(self.suite, self.cell, self.processes)


def plan_suite(suite: Suite) -> list[CellState]:
    """Check every cell without training: its data, splits, overlaps, labels and model.

    Returns:
        States of the cells, in the order in which they are run.
    """
    return plan_cells([_SuiteCell(suite, cell) for cell in suite.cells()])


def check_suite(suite: Suite) -> None:
    """Check that this machine meets the requirements of every cell, before anything is rendered, loaded or trained.

    Raises:
        RecipeError: a cell cannot be run here; the message names it.
    """
    for model in suite.models:
        recipe = suite.model_recipe(model)
        if recipe is not None:
            _named(f"models.{model}", check_requirements, recipe)
    checked = set()
    for cell in suite.cells():
        if (cell.model, cell.data, cell.protocol) not in checked:
            checked.add((cell.model, cell.data, cell.protocol))
            _named(cell.name, _check_requirements, cell)


def _named(name: str, check: Callable[[T], None], content: T) -> None:
    """Run a check, and put the name of the checked part before its error."""
    try:
        check(content)
    except SurgVistaError as error:
        raise RecipeError(f"{name}: {error}") from error


def _check_requirements(cell: Cell) -> None:
    """Check the requirements of one cell without loading its data."""
    if cell.requested.kind == "finetune":
        check_requirements(cell.recipe)
    elif cell.requested.kind in ("tcn", "pooled"):
        is_tcn = cell.requested.kind == "tcn"
        arguments: type[ClipArguments] = TemporalArguments if is_tcn else VideoHeadArguments
        settings = cell.requested.tcn if is_tcn else cell.requested.head
        trained = {name: value for name, value in settings.items() if name in field_names(arguments)}
        make_arguments(arguments, {"output_dir": str(cell.folder), **trained})


def _plan_cell(suite: Suite, cell: Cell) -> str:
    """Describe the run of a cell, after everything that can be checked without training was checked."""
    _check_requirements(cell)
    if cell.requested.kind == "zero_shot":
        return check_zero_shot(_requested_model(cell), cell.recipe.data, ZeroShotSettings(**cell.requested.zero_shot))
    _check_task(cell)
    maker = suite.model_recipe(cell.model)
    if maker is None:
        return check_run(cell.recipe)
    made = replace(cell.recipe, model=maker.model)  # what is to be made has the architecture of its start
    return f"after {cell.model} is made: {check_run(made)}"


def _check_task(cell: Cell) -> None:
    """Refuse protocols that the labels do not fit."""
    kind = cell.requested.kind
    if kind not in ("tcn", "pooled"):
        return
    task = task_of(cell.recipe.data, load_splits(cell.recipe.data)["train"])
    if kind == "tcn" and task.kind != "workflow":
        raise RecipeError(f"MS-TCN needs one class for each frame of a video; {cell.data} is a {task.kind} task")
    if kind == "pooled" and not task.of_videos:
        raise RecipeError(f"a head over whole videos needs one label a video; {cell.data} is a {task.kind} task")


def _requested_model(cell: Cell) -> str:
    start = cell.recipe.model.from_pretrained
    if start is None:
        raise RecipeError(f"{cell.model} is an untrained model, which zero-shot evaluation cannot use")
    return start


def run_suite(suite: Suite, *, num_proc: int = 1, executor: Executor = "local") -> list[CellResult]:
    """Run the missing cells of a suite and write its report.

    Args:
        suite: suite, as `load_suite` reads it.
        num_proc, executor: arguments of `run_over`, whose tasks are the cells. A cell that is given several GPUs trains on all
            of them, as `accelerate launch` does.

    Returns:
        Results of all cells.

    Raises:
        RecipeError: a cell cannot be run; nothing has been trained then.
        OutputError: the folder has cells of other settings, other data or other models, or is used by another run right now.
        CellError: some cells failed on an executor. The others are finished.
    """
    check_executor(executor, num_proc)
    with at_work(suite.output):
        return _run_suite(suite, num_proc, executor)


def _run_suite(suite: Suite, num_proc: int, executor: Executor) -> list[CellResult]:
    """Run the cells in a folder that no other run uses."""
    check_suite(suite)
    processes = max(int(executor.num_gpus), 1) if isinstance(executor, Ray) else 1
    cells = [_SuiteCell(suite, cell, processes) for cell in suite.cells()]
    made = [name for name in suite.models if suite.model_recipe(name) is not None]
    is_spread = is_parallel(executor, num_proc)
    steps = Steps(bool(suite.prepare) + 2 + (bool(made) + 1 if is_spread else len(made) + len(cells)))
    if suite.prepare:
        with steps("prepare the data"):
            prepare_data(suite)
    with steps(f"check {len(cells)} cells"):
        broken = [state for state in plan_cells(cells) if state.broken]
        if broken:
            raise RecipeError(f"{len(broken)} cells cannot be run, the first: {broken[0].name}: {broken[0].plan}")
    move_log(suite.output / "surgvista.log")
    if is_spread:
        _make_models(suite, made, processes, steps, num_proc, executor)
    else:
        for model in made:
            with steps(f"make the model {model}"):
                _make_model(suite, model)
    results = run_cells(cells, steps, num_proc=num_proc, executor=executor)
    with steps("tables, plots and tests"):
        write_report(results, suite.output, baseline=suite.baseline)
    return results


def prepare_data(suite: Suite) -> None:
    """Make the rendered frame sets of a suite, or the parts of them that are missing."""
    for folder, made in suite.prepare.items():
        options = PreparationOptions(short_side=made.short_side)
        prepare_frame_set(made.name, None, Path(folder), options=options, settings=made.options, num_proc=2)


def _make_models(
    suite: Suite, made: Sequence[str], processes: int, steps: Steps, num_proc: int, executor: Executor
) -> None:
    """Make the models that the cells start from: the trained ones on an executor, the untrained ones here."""
    work = partial(_make_model, suite, processes=processes)
    if made:
        with steps(f"make {len(made)} models"):
            lost = [
                reason for reason in run_over(work, made, _crashed, num_proc=num_proc, executor=executor) if reason
            ]
        if lost:
            raise CellError(f"{lost[0]}; the same command goes on")
    for cell in suite.cells():  # cells that run at the same time must not make the same one
        uses_features = cell.requested.kind not in ("finetune", "zero_shot")
        if uses_features and cell.requested.after is None and not isinstance(cell.recipe.model.start, str):
            _untrained(cell, _untrained_folder(suite, cell))


def _crashed(model: str, reason: str) -> str:
    return f"models.{model}: {reason}"


def _make_model(suite: Suite, name: str, processes: int = 1) -> None:
    recipe = suite.model_recipe(name)
    if recipe is None:
        return
    folder = suite.output / "models" / name
    made_from, names = _recipe_identity(recipe, load_splits(recipe.data))
    check_settings(folder, made_from, names=names)
    if not (folder / "results.json").is_file():
        _finetune(recipe, processes)


def _finetune(recipe: FinetuningRecipe, processes: int) -> FinetuningResult:
    """Train by a recipe, in several processes as `accelerate launch` does.

    Raises:
        CellError: these processes failed.
    """
    if processes == 1:
        return finetune(recipe, progress=False)
    folder = Path(str(recipe.training["output_dir"]))
    write_json(folder / "recipe.json", asdict(recipe))
    # What `accelerate launch` starts, without its questions about the machine.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    training = ["-m", "surgvista_hf.trainers.finetune", str(folder / "recipe.json")]
    done = subprocess.run(
        [sys.executable, *launch, *training], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode or not (folder / "results.json").is_file():
        reason = next((line for line in done.stderr.splitlines() if ": error: " in line), done.stderr.strip()[-500:])
        raise CellError(f"the processes that trained in {folder} ended with {done.returncode}: {reason}")
    return _stored_result(recipe, folder)


def _stored_result(recipe: FinetuningRecipe, folder: Path) -> FinetuningResult:
    """Read the result that a run of fine-tuning has written."""
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return FinetuningResult(
        folder / "model",
        task_of(recipe.data, load_splits(recipe.data)["train"]),
        content["results"],
        content["by_video"],
        Parameters(**content["parameters"]),
        content["selected_on_test"],
    )


def _identity(suite: Suite, cell: Cell) -> Identity:
    """Return the content that a cell depends on, and the names that people know it by; see `check_settings`."""
    data = cell.recipe.data
    splits = {"test": load_test_frames(data)} if cell.requested.kind == "zero_shot" else load_splits(data)
    recipe, names = _recipe_identity(cell.recipe, splits)
    after = None if cell.requested.after is None else weights_fingerprint(_trained_before(suite, cell))
    # Cells of earlier versions have no shots.
    protocol = {name: value for name, value in asdict(cell.requested).items() if name != "shots" or value is not None}
    made_from = {"recipe": recipe, "protocol": protocol, "features_of": after}
    return made_from, {"recipe": names, "features_of": cell.requested.after}


def _recipe_identity(recipe: FinetuningRecipe, splits: Mapping[str, Dataset]) -> tuple[dict[str, Any], dict[str, Any]]:
    made_from, names = finetuning_run(recipe, splits)
    training = {name: value for name, value in recipe.training.items() if name != "output_dir"}
    return {**made_from, "training": training}, names


def _run_cell(suite: Suite, cell: Cell, processes: int) -> CellResult:
    predictions = cell.folder / "predictions.parquet"
    found: FinetuningResult | ZeroShotResult
    if cell.requested.kind == "finetune":
        found = _finetune(cell.recipe, processes)
    elif cell.requested.kind == "zero_shot":
        settings, answers = ZeroShotSettings(**cell.requested.zero_shot), cell.folder / "answers"
        found = zero_shot(_requested_model(cell), cell.recipe.data, answers, settings, progress=False)
        found.predictions.save(predictions)
    else:
        found = _evaluate_features(suite, cell, predictions)
    return CellResult.from_evaluation(
        found,
        model=cell.model,
        data=cell.data,
        protocol=cell.protocol,
        seed=cell.seed,
        fold=cell.fold,
        parameters=asdict(found.parameters),
        selected_on_test=found.selected_on_test,
        fraction=cell.recipe.data.fraction,
        predictions=str(predictions.relative_to(suite.output)),
        seen=_seen_verdict(suite, cell),
    )


def _seen_verdict(suite: Suite, cell: Cell) -> str:
    """Return whether the weights that a cell starts from were trained on videos of its test, as far as anyone says."""
    maker = suite.model_recipe(cell.model)
    start = cell.recipe.model.from_pretrained if maker is None else maker.model.from_pretrained
    known = seen_by_model(start) if start else None
    if known is None:
        return ""
    return known.verdict(videos_in(load_test_frames(cell.recipe.data)))


# ------------------------------------------------------------------------------------------- frozen features


def _evaluate_features(suite: Suite, cell: Cell, file: Path) -> FinetuningResult:
    """Evaluate a probe or head over frozen features, and write its predictions to a file."""
    splits = load_splits(cell.recipe.data)
    on_test = check_splits(cell.recipe, splits)
    task = task_of(cell.recipe.data, splits["train"])
    predictions, parameters = _predict_from_features(suite, cell, task, splits, on_test=on_test)
    predictions.save(file)
    results, by_video = task.results(predictions), task.by_video(predictions)
    return FinetuningResult(cell.folder, task, results, by_video, parameters, on_test)


def _predict_from_features(
    suite: Suite, cell: Cell, task: Task, splits: Mapping[str, Dataset], *, on_test: bool
) -> tuple[ClipPredictions, Parameters]:
    """Train a head over frozen features and predict the test; count its parameters and those of its encoder."""
    extractor, features = _extractor(suite, cell)
    videos, other = {}, cell.recipe.data.test_on
    for use, frames in splits.items():
        folder = features
        if use == "test" and other is not None:  # its videos may have the same names, its labels depend on the mapping
            folder = features.with_name(f"{features.name}_on_{content_hash(_of_content(other))}")
        # Other cells may be at work on the same features.
        extractor.extract(frames, folder, label=cell.recipe.data.label, progress=False, wait=True)
        videos[use] = load_video_features(folder, videos_in(frames))
    frozen = count_parameters(extractor.model)
    if cell.requested.kind in ("tcn", "pooled"):
        model: MsTcnForFrameClassification | VideoHeadForClassification
        if cell.requested.kind == "tcn":
            model, predictions = _train_tcn(cell, task, videos, extractor.fingerprints, on_test=on_test)
        else:
            model, predictions = _train_head(cell, task, videos)
        head = count_parameters(model)
        return predictions, Parameters(head.trained, frozen.all + head.all, frozen.bytes + head.bytes)
    train, test = as_clips(videos["train"]), as_clips(videos["test"])
    scores = _probe(cell, train, test, len(task.names))  # (test clips, classes)
    trained = (train.values.shape[1] + 1) * len(task.names) if cell.requested.kind == "linear" else 0
    counted = Parameters(trained, frozen.all + trained, frozen.bytes + 4 * trained)
    return _predictions(videos["test"], scores), counted


def _of_content(other: ExternalTest) -> dict[str, Any]:
    """Return what the features of another frame set depend on: not on which of its videos are tested."""
    return {name: value for name, value in asdict(other).items() if name not in ("split_file", "fold")}


def _probe(cell: Cell, train: Features, test: Features, classes: int) -> np.ndarray:
    """Return the scores (test clips, classes) of the probe that a cell asks for."""
    if cell.requested.kind == "prototypes":
        return prototype_probe(train, test, classes, shots=int(cell.requested.shots or 1), seed=cell.seed)
    return (linear_probe if cell.requested.kind == "linear" else knn_probe)(train, test, classes)


def _extractor(suite: Suite, cell: Cell) -> tuple[VideoFeatureExtractor, Path]:
    """Return the extractor of the model, or of the model that an earlier protocol trained, and the folder of its features."""
    start: str | Path
    if cell.requested.after is not None:
        start = _trained_before(suite, cell)
        folder = start.parent / "features"
    else:
        folder = suite.output / "features" / cell.model / cell.data
        if isinstance(cell.recipe.model.start, str):
            start = cell.recipe.model.start
        else:
            start = _untrained(cell, _untrained_folder(suite, cell))
    stride, length = stride_in_use(cell.recipe.data.frame_stride), cell.recipe.model.num_frames
    return VideoFeatureExtractor(start, frame_stride=stride, num_frames=length), folder


def _trained_before(suite: Suite, cell: Cell) -> Path:
    """Return the folder of the model that an earlier protocol has trained."""
    return suite.cell_folder(cell.data, cell.model, str(cell.requested.after), cell.fold, cell.seed) / "model"


def _untrained_folder(suite: Suite, cell: Cell) -> Path:
    return suite.output / "models" / f"{cell.model}_untrained"


def _untrained(cell: Cell, folder: Path) -> Path:
    """Make an untrained model once, with seed 0, so that all probes use the same one, and return its folder."""
    if not folder.is_dir():
        torch.manual_seed(0)
        model = load_classifier(cell.recipe.model.start, ("-", "+"), "single_label_classification")
        with atomic_folder(folder) as temporary:
            model.save_pretrained(temporary)
            check_settings(temporary, {"config": cell.recipe.model.start})
    check_settings(folder, {"config": cell.recipe.model.start})
    return folder


def _train_tcn(
    cell: Cell,
    task: Task,
    videos: Mapping[str, list[VideoFeatures]],
    features_from: Sequence[str],
    *,
    on_test: bool,
) -> tuple[MsTcnForFrameClassification, ClipPredictions]:
    args, chosen = _head_arguments(cell, TemporalArguments, cell.requested.tcn, validated="validation" in videos)
    names = dict(enumerate(task.names))
    width = videos["train"][0].values.shape[1]
    sizes = {"input_size": width, "num_labels": len(names), **chosen}
    model = MsTcnForFrameClassification(MsTcnConfig(id2label=names, features_from=features_from, **sizes))
    validation = FeatureVideos(videos["validation"]) if "validation" in videos else None
    trainer = TemporalTrainer(model, args, FeatureVideos(videos["train"]), task, eval_dataset=validation)
    _train(cell, trainer)
    validated = None if validation is None else trainer.predictions(validation)
    calibration = calibrate(validated, task, selected_on_test=on_test)
    if args.should_save:
        info = get_builder(cell.recipe.data.name).info
        build_confidence(calibration, cell.recipe.data.validation, info).save(cell.folder / "model")
    return model, predict_videos(model, videos["test"], task)


def _train_head(
    cell: Cell, task: Task, videos: Mapping[str, list[VideoFeatures]]
) -> tuple[VideoHeadForClassification, ClipPredictions]:
    chosen = {"metric_for_best_model": task.main_metric, **cell.requested.head}
    args, chosen = _head_arguments(cell, VideoHeadArguments, chosen, validated="validation" in videos)
    sizes = {"input_size": videos["train"][0].values.shape[1], "num_labels": len(task.names), **chosen}
    names = dict(enumerate(task.names))
    model = VideoHeadForClassification(VideoHeadConfig(id2label=names, problem_type=task.problem_type, **sizes))
    pooled = {use: PooledVideos(own, model) for use, own in videos.items()}
    _train(cell, VideoHeadTrainer(model, args, pooled["train"], task, eval_dataset=pooled.get("validation")))
    return model, predict_pooled(model, pooled["test"], task)


def _head_arguments(
    cell: Cell, kind: type[Arguments], settings: Mapping[str, Any], *, validated: bool
) -> tuple[Arguments, dict[str, Any]]:
    """Separate the arguments of training a head over features from the settings of the head, and seed PyTorch."""
    trained = {name: value for name, value in settings.items() if name in field_names(kind)}
    usual: dict[str, Any] = {"eval_strategy": "no", "save_strategy": "epoch"}
    if validated:
        usual |= {"eval_strategy": "epoch", "load_best_model_at_end": True, "greater_is_better": True}
    common = {"seed": cell.seed, "save_total_limit": 1, "report_to": "none", "disable_tqdm": True}
    args = kind(**{**usual, "output_dir": str(cell.folder / cell.requested.kind), **common, **trained})
    torch.manual_seed(cell.seed)
    return args, {name: value for name, value in settings.items() if name not in trained}


def _train(cell: Cell, trainer: ClipTrainer) -> None:
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model(str(cell.folder / "model"))


def _predictions(videos: list[VideoFeatures], scores: np.ndarray) -> ClipPredictions:
    """Return the scores of the labeled frames of videos, in the order of the frames."""
    clips = as_clips(videos)
    frames = np.concatenate([video.labeled for video in videos])
    seconds = np.concatenate([video.seconds[video.labeled] for video in videos])
    return ClipPredictions(clips.videos, frames, seconds, clips.labels, scores)

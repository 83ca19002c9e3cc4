"""Runs a benchmark suite: checks every combination first, trains what is missing, and writes tables, plots and tests.

A cell is finished when its `cell.json` is there; the same command goes on with what is missing. Each cell keeps its recipe,
the versions it was made with, the predictions of every clip and the scores of every video.
"""

import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets_scripts.frame_sets.overlap import videos_in
from ...datasets_scripts.frame_sets.prepare import prepare_frame_set
from ...datasets_scripts.frame_sets.registry import get_builder
from ...datasets_scripts.schema.media import PreparationOptions
from ...evaluation.probes import knn_probe, logistic_probe
from ...evaluation.reports.benchmark_report import CellResult, write_report
from ...evaluation.tasks import ClipPredictions, Task
from ...modeling.adapters import Parameters, count_parameters
from ...modeling.configuration_ms_tcn import MsTcnConfig
from ...modeling.configuration_video_head import VideoHeadConfig
from ...modeling.loading import load_classifier, stride_in_use
from ...modeling.modeling_ms_tcn import MsTcnForFrameClassification
from ...modeling.modeling_video_head import VideoHeadForClassification
from ...util.console import Steps, place_log
from ...util.errors import SurgVistaError
from ...util.files import at_work, atomic_folder, check_settings, compare_settings, content_hash
from ...util.fingerprint import weights_fingerprint
from ...util.values import field_names
from ..features.extraction import FeatureExtractor, VideoFeatures, as_clips, load_video_features
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
from ..finetuning.recipe import FinetuningRecipe
from ..recipes.loading import RecipeError
from ..recipes.requirements import make_arguments
from .suite import Cell, Suite
from .zero_shot import ZeroShotResult, ZeroShotSettings, check_zero_shot, load_test_frames, zero_shot

_LIBRARIES = (
    "surgvista-hf",
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "peft",
    "bitsandbytes",
    "numpy",
    "scipy",
)


@dataclass(frozen=True)
class CellState:
    """Where a cell stands.

    Args:
        cell: the cell.
        state: `"finished"`, `"begun"` or `"to do"`.
        plan: what running it would do; or what is wrong with it.
        broken: whether something is.
    """

    cell: Cell
    state: str
    plan: str
    broken: bool = False


def plan_suite(suite: Suite) -> list[CellState]:
    """Look at every cell without training: its data, splits, overlaps, labels and model."""
    plans: dict[tuple[str, str, str], tuple[str, bool]] = {}
    states = []
    for cell in suite.cells():
        key = (cell.model, cell.data, cell.protocol)
        if key not in plans:
            plans[key] = _plan(suite, cell)
        state = "finished" if (cell.folder / "cell.json").is_file() else "begun" if cell.folder.exists() else "to do"
        plan, is_broken = plans[key]
        if not is_broken and state != "to do":
            plan, is_broken = _plan_again(suite, cell, plan)
        states.append(CellState(cell, state, plan, is_broken))
    return states


def check_suite(suite: Suite) -> None:
    """Make sure that this machine has what every cell needs, before anything is rendered, loaded or trained.

    Raises:
        RecipeError: some cell cannot be run here; it is named.
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


def _named(name: str, check: Callable[[Any], None], content: Any) -> None:
    try:
        check(content)
    except SurgVistaError as error:
        raise RecipeError(f"{name}: {error}") from error


def _check_requirements(cell: Cell) -> None:
    """Of one cell, without its data."""
    if cell.requested.kind == "finetune":
        check_requirements(cell.recipe)
    elif cell.requested.kind in ("tcn", "pooled"):
        is_tcn = cell.requested.kind == "tcn"
        arguments: Any = TemporalArguments if is_tcn else VideoHeadArguments
        settings = cell.requested.tcn if is_tcn else cell.requested.head
        trained = {name: value for name, value in settings.items() if name in field_names(arguments)}
        make_arguments(arguments, {"output_dir": str(cell.folder), **trained})


def _plan(suite: Suite, cell: Cell) -> tuple[str, bool]:
    try:
        _check_requirements(cell)
        if cell.requested.kind == "zero_shot":
            return check_zero_shot(
                _requested_model(cell), cell.recipe.data, ZeroShotSettings(**cell.requested.zero_shot)
            ), False
        _check_task(cell)
        maker = suite.model_recipe(cell.model)
        if maker is None:
            return check_run(cell.recipe), False
        made = replace(cell.recipe, model=maker.model)  # what is to be made has the architecture of its start
        return f"after {cell.model} is made: {check_run(made)}", False
    except SurgVistaError as error:
        return " ".join(str(error).split()), True


def _plan_again(suite: Suite, cell: Cell, plan: str) -> tuple[str, bool]:
    """The plan of a cell that was begun, or what has changed since."""
    if cell.requested.after is not None and not _trained_before(suite, cell).is_dir():
        return plan, False
    try:
        made_from, names = _identity(suite, cell)
        compare_settings(cell.folder, made_from, names=names)
        return plan, False
    except SurgVistaError as error:
        return " ".join(str(error).split()), True


def _check_task(cell: Cell) -> None:
    """Refuse protocols that can do nothing with the labels."""
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
        raise RecipeError(f"{cell.model} is a model without training, which cannot be asked anything")
    return start


def run_suite(suite: Suite) -> list[CellResult]:
    """Run what is missing of a suite and writes its report.

    Args:
        suite: see `load_suite`.

    Returns:
        Results of all cells.

    Raises:
        RecipeError: some cell cannot be run; nothing has been trained then.
        OutputError: the folder has cells of other settings, other data or other models, or another run is at work there.
    """
    with at_work(suite.output):
        return _run_suite(suite)


def _run_suite(suite: Suite) -> list[CellResult]:
    """The cells one after the other, in a folder that is the suite's own."""
    check_suite(suite)
    cells, made = list(suite.cells()), [name for name in suite.models if suite.model_recipe(name) is not None]
    steps = Steps(bool(suite.prepare) + 2 + len(made) + len(cells))
    if suite.prepare:
        with steps("prepare the data"):
            prepare_data(suite)
    with steps(f"check {len(cells)} cells"):
        broken = [state for state in plan_suite(suite) if state.broken]
        if broken:
            raise RecipeError(f"{len(broken)} cells cannot be run, the first: {broken[0].cell.name}: {broken[0].plan}")
    place_log(suite.output / "surgvista.log")
    for model in made:
        with steps(f"make the model {model}"):
            _make_model(suite, model)
    results = []
    for cell in cells:
        with steps(cell.name) as step:
            result = _finished(suite, cell) or _run_cell(suite, cell)
            step.remember(_outcome(result))
        results.append(result)
    with steps("tables, plots and tests"):
        write_report(results, suite.output, baseline=suite.baseline)
    return results


def _outcome(result: CellResult) -> str:
    figure = result.figures.get(result.main_metric)
    return "" if figure is None else f"{result.main_metric.replace('_', ' ')} {figure:.3f}"


def prepare_data(suite: Suite) -> None:
    """Make the frame sets that come from settings alone, or what is missing of them."""
    for folder, made in suite.prepare.items():
        options = PreparationOptions(short_side=made.short_side)
        prepare_frame_set(made.name, None, Path(folder), options=options, settings=made.options, num_proc=2)


def _make_model(suite: Suite, name: str) -> None:
    recipe = suite.model_recipe(name)
    if recipe is None:
        return
    folder = suite.output / "models" / name
    made_from, names = _recipe_identity(recipe, load_splits(recipe.data))
    check_settings(folder, made_from, names=names)
    if not (folder / "results.json").is_file():
        finetune(recipe, progress=False)


def _identity(suite: Suite, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a cell is made from, and what people call it; see `check_settings`."""
    data = cell.recipe.data
    splits = {"test": load_test_frames(data)} if cell.requested.kind == "zero_shot" else load_splits(data)
    recipe, names = _recipe_identity(cell.recipe, splits)
    after = None if cell.requested.after is None else weights_fingerprint(_trained_before(suite, cell))
    made_from = {"recipe": recipe, "protocol": asdict(cell.requested), "features_of": after}
    return made_from, {"recipe": names, "features_of": cell.requested.after}


def _recipe_identity(recipe: FinetuningRecipe, splits: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    made_from, names = finetuning_run(recipe, splits)
    training = {name: value for name, value in recipe.training.items() if name != "output_dir"}
    return {**made_from, "training": training}, names


def _finished(suite: Suite, cell: Cell) -> CellResult | None:
    made_from, names = _identity(suite, cell)
    check_settings(cell.folder, made_from, names=names)
    file = cell.folder / "cell.json"
    return CellResult.load(file) if file.is_file() else None


def _run_cell(suite: Suite, cell: Cell) -> CellResult:
    began, predictions = time.time(), cell.folder / "predictions.parquet"
    found: FinetuningResult | ZeroShotResult
    if cell.requested.kind == "finetune":
        found = finetune(cell.recipe, progress=False)
    elif cell.requested.kind == "zero_shot":
        settings, answers = ZeroShotSettings(**cell.requested.zero_shot), cell.folder / "answers"
        found = zero_shot(_requested_model(cell), cell.recipe.data, answers, settings, progress=False)
        found.predictions.save(predictions)
    else:
        found = _ask_features(suite, cell, predictions)
    result = CellResult(
        model=cell.model,
        data=cell.data,
        protocol=cell.protocol,
        seed=cell.seed,
        task=found.task.kind,
        classes=list(found.task.names),
        main_metric=found.task.main_metric,
        figures=found.figures,
        results=found.results,
        by_video=found.by_video,
        parameters=asdict(found.parameters),
        selected_on_test=found.selected_on_test,
        fraction=cell.recipe.data.fraction,
        seconds=round(time.time() - began, 1),
        environment=environment(),
        predictions=str(predictions.relative_to(suite.output)),
        seen=_seen_verdict(suite, cell),
    )
    result.save(cell.folder / "cell.json")
    return result


def _seen_verdict(suite: Suite, cell: Cell) -> str:
    """Return whether the weights that a cell starts from were trained on videos of its test, as far as anyone says."""
    maker = suite.model_recipe(cell.model)
    start = cell.recipe.model.from_pretrained if maker is None else maker.model.from_pretrained
    known = seen_by_model(start) if start else None
    if known is None:
        return ""
    return known.verdict(videos_in(load_test_frames(cell.recipe.data)))


# ------------------------------------------------------------------------------------------- frozen features


def _ask_features(suite: Suite, cell: Cell, file: Path) -> FinetuningResult:
    splits = load_splits(cell.recipe.data)
    on_test = check_splits(cell.recipe, splits)
    task = task_of(cell.recipe.data, splits["train"])
    predictions, parameters = _ask_heads(suite, cell, task, splits, on_test=on_test)
    predictions.save(file)
    results, by_video = task.results(predictions), task.by_video(predictions)
    return FinetuningResult(cell.folder, task, results, by_video, parameters, on_test)


def _ask_heads(
    suite: Suite, cell: Cell, task: Task, splits: Mapping[str, Any], *, on_test: bool
) -> tuple[ClipPredictions, Parameters]:
    """What a head over frozen features says of the test, and how many parameters it has with its encoder."""
    extractor, folder = _extractor(suite, cell)
    videos, other = {}, cell.recipe.data.test_on
    for use, frames in splits.items():
        place = folder
        if use == "test" and other is not None:  # its videos may have the same names, its labels depend on the mapping
            place = folder.with_name(f"{folder.name}_on_{content_hash(asdict(other))}")
        extractor.extract(frames, place, label=cell.recipe.data.label, progress=False)
        videos[use] = load_video_features(place, videos_in(frames))
    frozen = count_parameters(extractor.model)
    if cell.requested.kind in ("tcn", "pooled"):
        if cell.requested.kind == "tcn":
            head: Any = _train_tcn(cell, task, videos, extractor.fingerprints, on_test=on_test)
        else:
            head = _train_head(cell, task, videos)
        model, predictions = head
        own = count_parameters(model)
        counted = Parameters(own.trained, frozen.all + own.all, frozen.bytes + own.bytes)
        return predictions, counted
    probe = logistic_probe if cell.requested.kind == "linear" else knn_probe
    known, requested = as_clips(videos["train"]), as_clips(videos["test"])
    scores = probe(known, requested, len(task.names))
    trained = (known.values.shape[1] + 1) * len(task.names) if cell.requested.kind == "linear" else 0
    counted = Parameters(trained, frozen.all + trained, frozen.bytes + 4 * trained)
    return _predictions(videos["test"], scores), counted


def _extractor(suite: Suite, cell: Cell) -> tuple[FeatureExtractor, Path]:
    """Of the model itself or of what an earlier protocol made of it; and the folder of its features."""
    if cell.requested.after is not None:
        start: Any = _trained_before(suite, cell)
        folder = start.parent / "features"
    else:
        start, folder = cell.recipe.model.start, suite.output / "features" / cell.model / cell.data
        if isinstance(start, Mapping):
            start = _untrained(cell, suite.output / "models" / f"{cell.model}_untrained")
    stride, length = stride_in_use(cell.recipe.data.frame_stride), cell.recipe.model.num_frames
    return FeatureExtractor(start, frame_stride=stride, num_frames=length), folder


def _trained_before(suite: Suite, cell: Cell) -> Path:
    """The model that an earlier protocol has trained."""
    return suite.output / cell.data / cell.model / str(cell.requested.after) / f"seed_{cell.seed}" / "model"


def _untrained(cell: Cell, folder: Path) -> Path:
    """A model without training, made once with seed 0 so that all probes ask the same one."""
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
    known = None if validation is None else trainer.predictions(validation)
    calibration = calibrate(known, task, selected_on_test=on_test)
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
    cell: Cell, kind: Any, settings: Mapping[str, Any], *, validated: bool
) -> tuple[Any, dict[str, Any]]:
    """Arguments of training a head over features, and the settings that are the head's own; seeds what follows."""
    trained = {name: value for name, value in settings.items() if name in field_names(kind)}
    usual: dict[str, Any] = {"eval_strategy": "no", "save_strategy": "epoch"}
    if validated:
        usual |= {"eval_strategy": "epoch", "load_best_model_at_end": True, "greater_is_better": True}
    common = {"seed": cell.seed, "save_total_limit": 1, "report_to": "none", "disable_tqdm": True}
    args = kind(**{**usual, "output_dir": str(cell.folder / cell.requested.kind), **common, **trained})
    torch.manual_seed(cell.seed)
    return args, {name: value for name, value in settings.items() if name not in trained}


def _train(cell: Cell, trainer: Any) -> None:
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model(str(cell.folder / "model"))


def _predictions(videos: list[VideoFeatures], scores: np.ndarray) -> ClipPredictions:
    """Return the scores of the labeled frames of videos, in their order."""
    clips = as_clips(videos)
    frames = np.concatenate([video.labeled for video in videos])
    seconds = np.concatenate([video.seconds[video.labeled] for video in videos])
    return ClipPredictions(clips.videos, frames, seconds, clips.labels, scores)


# ------------------------------------------------------------------------------------------- where it was made


def environment() -> dict[str, Any]:
    """Versions of what a number depends on, the revision of this package if it is a checkout, and the device."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except ModuleNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"versions": versions, "python": platform.python_version(), "revision": _revision(), "device": device}


def _revision() -> str | None:
    here = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
        tracked = subprocess.run(
            ["git", "ls-files", Path(__file__).name], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() if said.returncode == 0 and tracked.stdout.strip() else None

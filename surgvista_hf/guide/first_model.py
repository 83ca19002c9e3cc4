"""From recordings and labels to a first model and an answer one can check, for people who have never trained anything.

Every step can be repeated by the command that is written into `commands.sh`, and what an earlier run has finished is not done
again: prepared videos, features, and the training as long as frames, labels, encoder and settings are the same.
"""

import json
import logging
import shlex
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter

import torch
from datasets import Dataset

from ..datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ..datasets_scripts.frame_sets.inspection import Inspection, inspect_frame_set
from ..datasets_scripts.frame_sets.inspection_page import write_inspection
from ..datasets_scripts.frame_sets.label_table import LabelColumn
from ..datasets_scripts.frame_sets.load import load_frame_set
from ..datasets_scripts.frame_sets.overlap import videos_in
from ..evaluation.tasks import ClipPredictions, Task
from ..inference.evaluation import Evaluation, measure_predictions
from ..modeling.errors_surgvista import folder_or_hub_name
from ..trainers.features.extraction import VideoFeatureExtractor, VideoFeatures, load_video_features
from ..trainers.finetune import task_of
from ..trainers.finetuning.recipe import LabeledData
from ..util.console import Steps, move_log
from ..util.errors import InputError
from ..util.files import at_work, atomic_file, content_hash, write_json
from .plan import Head, Labels, Plan, make_plan
from .recordings import OwnFrameSet, patients_of, prepare_own
from .report import Answer, write_answer
from .training import Trained, most_frequent, note_settings, train_adapter, train_heads

logger = logging.getLogger(__name__)
INSPECTION, REPORT, COMMANDS, PLAN = "inspection.html", "report.html", "commands.sh", "plan.json"


@dataclass(frozen=True)
class StartOptions:
    """Choices of a person; what is `None` is chosen for the machine and the labels.

    Args:
        model: folder or Hub id of the encoder.
        head: head that is trained.
        label: label column; by default the first with classes.
        frame_stride: seconds between two frames of a clip, for encoders of clips that do not say it.
        batch_size: clips at a time.
        device: device of the encoder; by default a GPU if there is one.
        seed: seed of held-out operations and of the training.
        num_proc: number of videos that are prepared at a time.
        images: show frames in the pages.
        mapping: file that says what the labels mean; by default derived from them.
    """

    model: str | None = None
    head: Head | None = None
    label: str | None = None
    frame_stride: float | None = None
    batch_size: int = 16
    device: str | None = None
    seed: int = 0
    num_proc: int = 1
    images: bool = True
    mapping: Path | None = None


@dataclass(frozen=True)
class FirstModel:
    """A first model with its test, and everything that led to it.

    Args:
        output: folder of everything.
        plan: encoder, head and held-out operations, with the reasons.
        trained: the model and its test.
        evaluation: metrics of the test.
        baseline: accuracy on each operation of always choosing the most frequent class; empty where a frame has several.
        commands: commands that repeat the steps.
    """

    output: Path
    plan: Plan
    trained: Trained
    evaluation: Evaluation
    baseline: dict[str, float] = field(default_factory=dict)
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A frame set that was looked over.

    Args:
        data: the frame set and the command that makes it.
        inspection: the frame set as it was understood.
        column: the labels that are learned.
        labels: amounts of the labels.
    """

    data: OwnFrameSet
    inspection: Inspection
    column: LabelColumn
    labels: Labels


def prepare_and_inspect(
    videos: Path | None, labels: Path | None, output: Path, options: StartOptions, *, data: OwnFrameSet | None = None
) -> Prepared:
    """Prepare recordings and labels and write the page that shows what was understood.

    Args:
        videos, labels: arguments of `prepare_own`.
        output: folder of everything.
        options: choices of the person.
        data: a frame set that is there already, instead of recordings and labels.

    Returns:
        The frame set.

    Raises:
        InputError: recordings or labels cannot be used, or there is no such label column.
    """
    steps = Steps(2)
    with steps("prepare the recordings"):
        if data is None:
            if videos is None or labels is None:
                raise InputError("give a folder of videos and one of labels, or a frame set with --data NAME=DIR")
            data = prepare_own(videos, labels, output, mapping=options.mapping, num_proc=options.num_proc)
    with steps("look at the data"):
        # Which operations are held out is the plan's choice, so the data set's own splits would only confuse.
        inspection = replace(inspect_frame_set(data.folder), splits={}, protocol="")
        try:
            column = _label_column(inspection, options.label)
            # The page shows most of the first column: the one that will be learned.
            columns = (column, *(each for each in inspection.table.columns if each is not column))
            inspection = replace(inspection, table=replace(inspection.table, columns=columns))
        finally:
            write_inspection(inspection, output / INSPECTION, images=options.images)
    return Prepared(data, inspection, column, Labels.of(inspection, column))


def plan_first_model(prepared: Prepared, options: StartOptions) -> Plan:
    """Choose encoder, head and held-out operations for the labels and this machine.

    Args:
        prepared: the frame set, as `prepare_and_inspect` gives it.
        options: choices of the person.

    Raises:
        InputError: the labels do not suffice.
    """
    return make_plan(
        prepared.labels,
        has_gpu=_has_gpu(options),
        model=options.model,
        head=options.head,
        seed=options.seed,
        patients=patients_of(prepared.data.folder),
    )


def _has_gpu(options: StartOptions) -> bool:
    return torch.cuda.is_available() and (options.device or "cuda") != "cpu"


def train_first_model(prepared: Prepared, plan: Plan, output: Path, options: StartOptions, again: str) -> FirstModel:
    """Train and test a first model, and write the report.

    Args:
        prepared: the frame set, as `prepare_and_inspect` gives it.
        plan: encoder, head and held-out operations, as `plan_first_model` gives them.
        output: folder of everything.
        options: choices of the person.
        again: the command that repeats everything, for `commands.sh`.

    Returns:
        The model, its test and the commands that repeat it.

    Raises:
        InputError: no encoder can be loaded.
        OutputError: another run is at work on the folder.
    """
    with at_work(output):
        move_log(output / "surgvista.log")
        write_json(output / PLAN, asdict(plan), ensure_ascii=False)
        steps = Steps(4)
        with steps(f"load {plan.model}"):
            extractor = load_encoder(plan.model, options, chosen=options.model is None)
        frames = _labeled_frames(prepared)
        task = task_of(LabeledData(prepared.data.name, str(prepared.data.folder), prepared.column.name), frames)
        trained = _trained(prepared, plan, extractor, frames, task, output, options, steps)
        with steps("write the report") as step:
            evaluation = _evaluation(trained, task, extractor)
            evaluation.save(output / "tested", name=Path(plan.model).name, data=prepared.data.name)
            baseline = {} if task.multi_label else most_frequent(trained.predictions, task)
            commands = _commands(prepared, plan, trained, output, again)
            _write_commands(output / COMMANDS, commands)
            result = FirstModel(output, plan, trained, evaluation, baseline, commands)
            answer = Answer(prepared.inspection, prepared.column, plan, evaluation, baseline, commands)
            write_answer(answer, output / REPORT, images=options.images)
            step.remember(str(output / REPORT))
    return result


def check_encoder(model: str) -> None:
    """Check that a named encoder may be there, without loading it or asking the Hub.

    Args:
        model: folder or Hub id.

    Raises:
        InputError: it names no folder of a model here and cannot be the name of a model on the Hub.
    """
    folder = Path(folder_or_hub_name(model))
    if not folder.exists():
        if "/" not in model:  # names on the Hub are owner/name
            raise InputError(
                f"there is no folder {model} in {Path.cwd()}, and models on the Hub are called owner/name: give the folder of "
                "an encoder, as `surgvista convert` writes it, or a Hub id"
            )
    elif not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise InputError(
            f"{folder} is no folder of a model, since it holds no config.json: give the folder of an encoder, as "
            "`surgvista convert` writes it, or a Hub id"
        )


def load_encoder(model: str, options: StartOptions, *, chosen: bool) -> VideoFeatureExtractor:
    """Load the encoder.

    Args:
        model: folder or Hub id.
        options: spacing of clips and device.
        chosen: nobody asked for this one, so the message says how to get it or another.

    Raises:
        InputError: it cannot be loaded; the message says what to download.
    """
    try:
        return VideoFeatureExtractor(model, frame_stride=options.frame_stride, device=options.device)
    except InputError as error:
        if not chosen:
            raise
        folder = model.rpartition("/")[2]
        raise InputError(
            f"there is no encoder on this machine, and {model} cannot be downloaded now. Where there is a network: "
            f"`hf download {model} --local-dir {folder}`, copy the folder to this machine, and add --model {folder}. Or take "
            "an encoder that was trained on surgery, e.g. lemonfm.pth from huggingface.co/visurg/LemonFM: `surgvista convert "
            "lemonfm.pth --family lemonfm --output lemonfm`, then --model lemonfm"
        ) from error


def _label_column(inspection: Inspection, label: str | None) -> LabelColumn:
    """Return the label column that is learned.

    Raises:
        InputError: there is no such column, or none with classes.
    """
    usable = {column.name: column for column in inspection.table.columns if column.kind != "numbers"}
    if label is None and inspection.main is not None:
        return inspection.main
    name = label or next(iter(usable), None)
    if name not in usable:
        raise InputError(
            f"there are no classes to learn in the column {name!r}; columns with classes: {', '.join(usable) or 'none'}"
        )
    return usable[name]


def _labeled_frames(prepared: Prepared) -> Dataset:
    """Return the frames of the operations that have any label."""
    frames = load_frame_set(prepared.data.name, prepared.data.folder, "all")
    videos = [video for video in prepared.inspection.table.videos if video.name in prepared.labels.seconds]
    if len(videos) == len(prepared.inspection.table.videos):
        return frames
    return frames.select([int(row) for video in videos for row in video.rows])


def _trained(
    prepared: Prepared,
    plan: Plan,
    extractor: VideoFeatureExtractor,
    frames: Dataset,
    task: Task,
    output: Path,
    options: StartOptions,
    steps: Steps,
) -> Trained:
    """Train and test by the plan, or take what an earlier run with the same frames, encoder and settings has left."""
    folder, label = output / "trained", prepared.column.name
    if plan.head == "lora":
        with steps("train an adapter"):
            return train_adapter(
                plan.model,
                prepared.data.name,
                prepared.data.folder.resolve(),
                label,
                folder,
                has_gpu=_has_gpu(options),
                num_frames=None if extractor.num_frames > 1 else 8,
                frame_stride=extractor.frame_stride,
                seed=options.seed,
            )
    features = output / "features" / content_hash([extractor.fingerprints[0], label, extractor.num_frames])
    with steps("compute features"):
        extractor.extract(frames, features, label=label, batch_size=options.batch_size)
        _remove_other_features(output / "features", frames)
        videos = _load_features(features, frames)
    settings: dict[str, object] = {
        "frames": frames_fingerprint(frames),
        "encoder": extractor.fingerprints[0],
        "head": plan.head,
        "label": label,
        "folds": [list(names) for names in plan.folds],
        "seed": options.seed,
    }
    predictions = folder / "predictions.parquet"
    with steps(f"train and test, {len(plan.folds)} times") as step:
        if _stored(folder) != settings:
            shutil.rmtree(folder, ignore_errors=True)
            note_settings(folder, settings)
        if predictions.is_file():  # it is written last
            step.remember("done before")
            temporal = folder / "temporal" if plan.head == "tcn" else None
            return Trained(folder / "model", temporal, ClipPredictions.load(predictions))
        trained = train_heads(
            extractor,
            videos,
            plan.folds,
            task,
            folder,
            frames=frames,
            data=prepared.data.name,
            temporal=plan.head == "tcn",
            seed=options.seed,
        )
        trained.predictions.save(predictions)
    return trained


def _stored(folder: Path) -> dict[str, object]:
    """Return what the training in a folder depends on; empty if none was begun."""
    file = folder / "settings.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _load_features(folder: Path, frames: Dataset) -> list[VideoFeatures]:
    return load_video_features(folder, {source: set(videos) for source, videos in videos_in(frames).items()})


def _remove_other_features(folder: Path, frames: Dataset) -> None:
    """Remove what is stored of operations that have left the frame set: nothing of a withdrawn one may stay."""
    names = {f"{source}/{video}.arrow" for source, videos in videos_in(frames).items() for video in videos}
    for encoder in (each for each in folder.iterdir() if each.is_dir()):
        for file in encoder.rglob("*.arrow"):
            if file.relative_to(encoder).as_posix() not in names:
                file.unlink()


def _evaluation(trained: Trained, task: Task, extractor: VideoFeatureExtractor) -> Evaluation:
    count = sum(parameter.numel() for parameter in extractor.model.parameters())
    parameters = {"trained": 0, "all": count, "bytes": 4 * count}
    return measure_predictions(task, trained.predictions, parameters, start=perf_counter())


def _commands(prepared: Prepared, plan: Plan, trained: Trained, output: Path, again: str) -> tuple[str, ...]:
    """Return the commands that repeat the steps one by one, and those that use the model."""
    commands = [shlex.join(prepared.data.command)] if prepared.data.command else []
    commands.append(
        shlex.join(["surgvista", "inspect", str(prepared.data.folder), "--output", str(output / INSPECTION)])
    )
    if plan.head == "lora":
        commands.append(shlex.join(["surgvista", "finetune", str(output / "trained" / "recipe.yaml")]))
    commands.append(again)
    use = ["surgvista", "predict", "NEW_OPERATION.mp4", "--model", str(trained.model), "--output", "result"]
    if trained.temporal is not None:
        use += ["--temporal", str(trained.temporal)]
    commands.append(shlex.join([*use, "--formats", "csv,png,html,eaf"]))
    return tuple(commands)


def _write_commands(path: Path, commands: tuple[str, ...]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(
            "# The steps one by one; the folder is the same.\n" + "\n".join(commands) + "\n", encoding="utf-8"
        )

"""The pipeline of stages. Each runs on the videos that the stages before it have kept; finished work is not done again.

It is the published pipeline (Surg-3M/LEMON, arXiv 2503.19740) with its order, but decisions are stored as numbers (seconds,
boxes), and images are changed once, at the export.

When all stages run, those that look at every second of a video share one decode of it (`one_pass`).
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...util.console import progress_bar
from ...util.executors import Executor, check_executor, run_over
from ...util.files import content_hash
from ...util.messages import did_you_mean
from ..collection.manifest import Collection, CurationError, JsonObject, Video
from ..collection.reports import StageReport
from ..collection.results import (
    BY_NAME,
    STAGES,
    Result,
    Stage,
    State,
    read_result,
    summarize,
    write_result,
)
from .duplicates import find_repeats
from .one_pass import DECODING, PassTask, early, run_pass
from .video_work import CurationOptions, Task, as_hashes, run_task, stage_settings, with_precision

logger = logging.getLogger(__name__)

# --------------------------------------------------------------------------------------------- all videos


@dataclass
class _Waiting:
    """Videos that reach a stage, with their results before the work, and the keys of results that need no work."""

    videos: list[Video] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rules:
    """All that a stage depends on beside the video: options, the fingerprint of its models, and its version.

    Args:
        stage: the stage.
        settings: options that it depends on.
        model: fingerprint of its models.
        equivalent: other settings with which a result counts too.
    """

    stage: Stage
    settings: JsonObject
    model: str
    equivalent: tuple[JsonObject, ...] = ()

    @classmethod
    def of(cls, stage: Stage, options: CurationOptions) -> "_Rules":
        """Return the rules of a stage.

        Raises:
            InputError: if models are missing or do not fit.
        """
        settings, model = stage_settings(stage, with_precision(stage, options))
        settings = {**settings, "version": stage.version}
        exact = {name: value for name, value in settings.items() if name != "dtype"}
        # Machines with and without bfloat16 make the same decisions, so one takes the results of the other.
        is_free = stage.models == "classifier" and options.dtype == "auto"
        other = ({**exact, "dtype": "bfloat16"} if settings == exact else exact,) if is_free else ()
        return cls(stage, settings, model, other)

    def new_result(self, state: State, video: Video, after: Mapping[str, str]) -> tuple[Result, set[str]]:
        """Return the result before the work, and the keys of results that need no work."""
        overrides_hash = state.overrides_hash(self.stage, video.video_id)
        key, *others = (
            content_hash([self.stage.name, settings, self.model, video.sha256, dict(after), overrides_hash])
            for settings in (self.settings, *self.equivalent)
        )
        return Result(key, video.sha256, after, overrides_hash, self.model), {key, *others}


def run_stage(
    folder: Path | str,
    name: str,
    options: CurationOptions | None = None,
    *,
    num_proc: int = 1,
    executor: Executor = "local",
    progress: bool = False,
) -> StageReport:
    """Run one stage on every video that the stages before it have kept.

    Args:
        folder: folder of the collection.
        name: name of the stage, one of `STAGES`.
        options: models and rules.
        num_proc: number of videos at a time; with two or more a file that crashes the decoder costs only its own process.
        executor: an argument of `run_over`.
        progress: show a bar.

    Returns:
        Counts of the stage.

    Raises:
        CurationError: if there is no such stage or collection, or an earlier stage has not run.
        InputError: if models are missing or do not fit.

    Example:
        >>> run_stage("corpus", "classify-frames", CurationOptions(frame_models=("frames-a",)))  # doctest: +SKIP
    """
    if name not in BY_NAME:
        raise CurationError(f"there is no stage {name!r}; {did_you_mean(name, BY_NAME, f'there are {list(BY_NAME)}')}")
    stage, options, collection = BY_NAME[name], options or CurationOptions(), Collection(folder)
    check_executor(executor, num_proc)
    with collection.locked():
        state = State(collection)
        _check_files(collection, state.videos)
        missing = [each for each in stage.needs if BY_NAME[each] not in state.stages]
        if missing:
            raise CurationError(f"{name} needs the results of {missing[0]}; run `surgvista curate {missing[0]}` first")
        waiting = _reaching(state, _Rules.of(stage, options))
        if name == "deduplicate":
            _deduplicate(state, waiting, options, progress)
        else:
            _run_each(state, stage, waiting, options, num_proc, executor, progress)
        reports = summarize(collection)
    return next((report for report in reports if report.stage == name), StageReport(name))


def _check_files(collection: Collection, videos: Sequence[Video]) -> None:
    """Refuse files that were changed after they were collected: results would describe other videos."""
    for video in videos:
        file = collection.video_file(video)
        if video.status == "collected" and file.is_file() and not collection.holds(video):
            raise CurationError(
                f"{file} has {file.stat().st_size} bytes; when it was collected it had {video.bytes} (sha256 "
                f"{video.sha256[:16]}). Collect it again, or put the collected file back"
            )


def run_pipeline(
    folder: Path | str,
    options: CurationOptions,
    *,
    num_proc: int = 1,
    executor: Executor = "local",
    progress: bool = False,
) -> list[StageReport]:
    """Run all stages; the optional classification of storyboards only if there are models for it.

    Each video is decoded once for all stages that need it. The results are those of `run_stage` for one stage after the other.

    Args:
        folder: folder of the collection.
        options: models and rules.
        num_proc: number of videos at a time.
        executor: an argument of `run_over`.
        progress: show bars.

    Returns:
        Counts of all stages.

    Raises:
        CurationError: if there is no such collection.
        InputError: if models are missing or do not fit.
    """
    check_executor(executor, num_proc)
    Collection(folder).check()
    chosen = [stage for stage in STAGES if stage.name != "classify-videos" or options.video_models]
    rules = {stage.name: _Rules.of(stage, options) for stage in chosen}  # fails before anything is begun
    collection = Collection(folder)
    with collection.locked():
        state = State(collection)
        _check_files(collection, state.videos)
        tasks = [task for video in state.videos if (task := _pass_task(state, video, rules, options)) is not None]
        hours = sum(task.video.seconds for task in tasks) / 3600
        if tasks:
            with progress_bar("one pass", total=max(hours, 1e-9), unit="h of video", shown=progress) as bar:
                for video in run_over(
                    run_pass, tasks, _crashed_pass, num_proc=num_proc, executor=executor, name=_pass_name
                ):
                    bar.update(video.seconds / 3600)
    for stage in chosen:
        run_stage(folder, stage.name, options, num_proc=num_proc, executor=executor, progress=progress)
    with collection.locked():
        # Regions of videos that repeat others: such a video goes no further.
        shutil.rmtree(collection.result(early("mask"), "x").parent, ignore_errors=True)
    return State(collection).reports()


def _pass_task(state: State, video: Video, rules: Mapping[str, _Rules], options: CurationOptions) -> PassTask | None:
    """Return the work of the stages on a video that can share a decode; `None` if there is none to share."""
    if video.status != "collected" or state.overrides.says(video.video_id, "drop"):
        return None
    about = state.overrides.about(video.video_id)
    tasks: dict[str, Task] = {}
    keys: dict[str, str] = {}  # of the results that there are, and of those that there will be
    for stage in STAGES:
        new: Result | None
        old = read_result(state.collection, stage.name, video.video_id)
        if stage.name in rules and stage.name != "deduplicate":
            new, done = rules[stage.name].new_result(state, video, {name: keys[name] for name in stage.needs})
            is_done = old is not None and old.key in done
        else:  # whether a video repeats others is known after all of them; what was found before still counts
            new, is_done = old, old is not None and state.is_fresh(stage, video, old, keys)
            if not is_done:
                if stage in state.stages and stage.name not in rules:
                    return None  # the video waits for this stage
                continue
        if is_done:
            assert old is not None
            keys[stage.name] = old.key
            if not old.kept and not state.can_be_kept(video, old):
                break
        else:
            assert new is not None
            keys[stage.name] = new.key
            decided = tuple(each for each in about if each.decision in stage.overridden_by)
            chosen = with_precision(stage, options)
            tasks[stage.name] = Task(state.collection.folder, stage.name, video, new, decided, chosen)
    waiting = read_result(state.collection, early("mask"), video.video_id)
    if waiting is not None and "mask" in tasks and waiting.key == tasks["mask"].result.key:
        del tasks["mask"]  # done before a kill
    saves_a_decode = sum(name in tasks for name in DECODING) > 1
    return PassTask(video, tasks, tuple(about)) if saves_a_decode else None


def _pass_name(task: PassTask) -> str:
    return f"one pass {task.video.video_id}"


def _crashed_pass(task: PassTask, reason: str) -> Video:
    logger.info("%s: %s; its stages run alone", task.video.video_id, reason)
    return task.video


def _reaching(state: State, rules: _Rules) -> _Waiting:
    stage, waiting = rules.stage, _Waiting()
    for video in state.videos:
        if video.status != "collected":
            continue
        steps = list(state.steps(video, before=stage.name))
        if steps and steps[-1].outcome != "kept":
            continue
        found = {step.stage: step.result.key for step in steps if step.result}
        after = {name: found[name] for name in stage.needs}
        waiting.videos.append(video)
        waiting.results[video.video_id], waiting.keys[video.video_id] = rules.new_result(state, video, after)
    return waiting


def _run_each(
    state: State,
    stage: Stage,
    waiting: _Waiting,
    options: CurationOptions,
    num_proc: int,
    executor: Executor,
    progress: bool,
) -> None:
    collection = state.collection
    tasks = []
    for video in waiting.videos:
        new, old = waiting.results[video.video_id], read_result(collection, stage.name, video.video_id)
        is_done = old is not None and old.key in waiting.keys[video.video_id]
        if not is_done and not _take_early(collection, stage, video, waiting.keys[video.video_id]):
            decided = tuple(
                each for each in state.overrides.about(video.video_id) if each.decision in stage.overridden_by
            )
            tasks.append(Task(collection.folder, stage.name, video, new, decided, with_precision(stage, options)))
    hours = sum(video.seconds for video in waiting.videos) / 3600
    before = hours - sum(task.video.seconds for task in tasks) / 3600
    with progress_bar(stage.name, total=max(hours, 1e-9), unit="h of video", initial=before, shown=progress) as bar:
        if stage.name == "trim":  # no work for a process
            num_proc, executor = 1, "local"
        for video, problem in run_over(
            run_task, tasks, _crashed, num_proc=num_proc, executor=executor, name=_task_name
        ):
            bar.update(video.seconds / 3600)
            if problem:
                logger.warning("%s: %s", video.video_id, problem)


def _task_name(task: Task) -> str:
    return f"{task.stage} {task.video.video_id}"


def _crashed(task: Task, reason: str) -> tuple[Video, str]:
    return task.video, reason


def _take_early(collection: Collection, stage: Stage, video: Video, keys: set[str]) -> bool:
    """Put a result with one of the keys in its place that was found before its turn; return whether there is one."""
    found = read_result(collection, early(stage.name), video.video_id)
    if found is None or found.key not in keys:
        return False
    target = collection.result(stage.name, video.video_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    collection.result(early(stage.name), video.video_id).replace(target)
    return True


def _deduplicate(state: State, waiting: _Waiting, options: CurationOptions, progress: bool) -> None:
    """Compare all videos with each other and write their results."""
    hashes, seconds, rank = {}, {}, {}
    for video in waiting.videos:
        found, trimmed = (read_result(state.collection, name, video.video_id) for name in ("hash", "trim"))
        assert found is not None  # the stage was not begun otherwise
        assert trimmed is not None
        hashes[video.video_id] = as_hashes(found.content["hashes"])
        seconds[video.video_id] = trimmed.content["surgical_seconds"]
        is_kept = state.overrides.says(video.video_id, "keep")
        # Of videos that repeat each other, the one with most surgical seconds, then with most pixels, is kept.
        rank[video.video_id] = (not is_kept, -seconds[video.video_id], -video.width * video.height, video.video_id)
    repeats = find_repeats(
        hashes,
        seconds,
        sorted(rank, key=lambda name: rank[name]),
        never=frozenset(name for name in rank if state.overrides.says(name, "keep")),
        max_distance=options.max_distance,
        run=options.repeat_run,
        fraction=options.repeat_fraction,
        progress=progress,
    )
    # A result depends on every video, so each key covers the keys of all.
    all_keys = content_hash(sorted((name, result.key) for name, result in waiting.results.items()))
    for name, result in waiting.results.items():
        keeper, shared = repeats.get(name, ("", 0))
        done = replace(
            result,
            key=content_hash([result.key, all_keys]),
            kept=not keeper,
            cause="repeats another video" if keeper else "",
            detail=keeper,
            content={"shared_seconds": shared} if keeper else {},
        )
        if read_result(state.collection, "deduplicate", name) != done:
            write_result(state.collection, "deduplicate", name, done)

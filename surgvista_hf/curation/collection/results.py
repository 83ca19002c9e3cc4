"""Results of stages: a table of the stages, the result that each writes for a video, and the state of a collection.

A result names what it was made from: the file, the results before it and the overrides that concern it. If one of these
changes, the result no longer counts and the next run makes it again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ...util.files import content_hash, write_json
from .manifest import Collection, CurationError, JsonObject, Verdict, Video, read_object
from .overrides import Override, read_overrides
from .reports import StageReport

UNREADABLE = "unreadable"
NO_SECONDS = "no surgical content"
_EARLIER_KEY = "heeded"  # `overrides_hash` in the files of earlier versions, whose results stay valid


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        name: name on the command line.
        purpose: description in a few words.
        needs: stages that must have run.
        overridden_by: decisions of a human that change its results.
        models: kind of models that it uses: `"classifier"`, `"detector"` or none.
        optional: whether a result without this stage is complete.
        version: number that changes with the code that makes the results.
    """

    name: str
    purpose: str
    needs: tuple[str, ...] = ()
    overridden_by: tuple[str, ...] = ()
    models: str = ""
    optional: bool = False
    version: int = 1


# Repetitions are looked for before masking, which costs most.
STAGES = (
    Stage("classify-videos", "drop what is no operation, by a storyboard", models="classifier", optional=True),
    Stage("classify-frames", "tell surgical seconds from others", models="classifier"),
    Stage(
        "trim",
        "cut off what comes before and after the operation",
        needs=("classify-frames",),
        overridden_by=("keep", "surgical", "non-surgical"),
    ),
    Stage("hash", "compute hashes of the operation, by which repetitions are found", needs=("trim",), optional=True),
    Stage(
        "deduplicate",
        "drop what repeats another video",
        needs=("trim", "hash"),
        overridden_by=("keep",),
        optional=True,
    ),
    Stage(
        "mask",
        "find regions without tissue in the images, and their black border",
        needs=("trim",),
        overridden_by=("mask", "unmask"),
        models="detector",
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}


@dataclass(frozen=True)
class Result:
    """The result of a stage for a video: the content of `results/<stage>/<id>.json`.

    Args:
        key: hash of all that it depends on.
        sha256: SHA-256 of the video's file.
        after: keys of the results that it was made from, by stage.
        overrides_hash: hash of the overrides that concern it; empty if there are none.
        model: fingerprint of its models.
        kept: whether the video goes on.
        cause: reason why it does not.
        detail: details of the reason.
        content: values that the stage found, by name.
    """

    key: str
    sha256: str
    after: Mapping[str, str] = field(default_factory=dict)
    overrides_hash: str = ""
    model: str = ""
    kept: bool = True
    cause: str = ""
    detail: str = ""
    content: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The outcome of one stage for a video: kept, dropped or open; overridden if only a human kept it."""

    stage: str
    outcome: str
    result: Result | None = None
    overridden: bool = False


def read_result(collection: Collection, stage: str, video_id: str) -> Result | None:
    """Read the result of a stage for a video; `None` if there is none yet.

    Raises:
        CurationError: if the file is broken.
    """
    path = collection.result(stage, video_id)
    if not path.is_file():
        return None
    content = read_object(path)
    if _EARLIER_KEY in content:
        content["overrides_hash"] = content.pop(_EARLIER_KEY)
    try:
        return Result(**content)
    except TypeError as error:
        raise CurationError(f"{path} is no result of {stage}: {error}; remove it") from error


def write_result(collection: Collection, stage: str, video_id: str, result: Result) -> None:
    """Write the result of a stage for a video."""
    write_json(collection.result(stage, video_id), asdict(result), ensure_ascii=False)


def can_be_kept(result: Result, decided: Sequence[Override]) -> bool:
    """Return whether a human keeps a video that a stage dropped, by the decisions about the video."""
    # Where a human keeps a part, it has no seconds only if it lies beyond the end of the video.
    return result.cause not in (UNREADABLE, NO_SECONDS) and any(each.decision == "keep" for each in decided)


def stages_in_use(collection: Collection) -> list[Stage]:
    """Return the stages that have a result for some video."""
    return [
        stage
        for stage in STAGES
        if next((collection.folder / "results" / stage.name).glob("[!.]*.json"), None) is not None
    ]


class State:
    """The state of a collection, from its records, results and overrides.

    Args:
        collection: the collection, which is read.

    Raises:
        CurationError: if there is no collection, or a file of it is broken.
    """

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.videos = collection.videos()
        self.overrides = read_overrides(collection.overrides)
        self.stages = stages_in_use(collection)
        self._collected = {video.video_id for video in self.videos if video.status == "collected"}

    def overrides_hash(self, stage: Stage, video_id: str) -> str:
        """Hash the overrides about a video that concern a stage; empty if there are none."""
        relevant = [
            {**asdict(each), "note": ""}
            for each in self.overrides.about(video_id)
            if each.decision in stage.overridden_by
        ]
        return content_hash(relevant) if relevant else ""

    def steps(self, video: Video, before: str | None = None) -> Iterator[Step]:
        """Yield the outcome of each stage in use for a collected video, until it is dropped or open.

        Args:
            video: one of `videos`, collected.
            before: name of the stage at which to stop.
        """
        if self.overrides.says(video.video_id, "drop"):
            yield Step("review", "dropped")
            return
        keys: dict[str, str] = {}
        for stage in self.stages if before is None else STAGES[: STAGES.index(BY_NAME[before])]:
            if stage not in self.stages:
                continue
            result = read_result(self.collection, stage.name, video.video_id)
            if result is None or not self.is_fresh(stage, video, result, keys):
                yield Step(stage.name, "open")
                return
            keys[stage.name] = result.key
            overridden = not result.kept and self.can_be_kept(video, result)
            yield Step(stage.name, "kept" if result.kept or overridden else "dropped", result, overridden)
            if not (result.kept or overridden):
                return

    def can_be_kept(self, video: Video, result: Result) -> bool:
        """Return whether a human keeps a video that a stage dropped."""
        return can_be_kept(result, self.overrides.about(video.video_id))

    def is_fresh(self, stage: Stage, video: Video, result: Result, keys: Mapping[str, str]) -> bool:
        """Return whether a result still describes its video, by the keys of the results before it and the overrides."""
        if result.sha256 != video.sha256 or result.overrides_hash != self.overrides_hash(stage, video.video_id):
            return False
        if stage.name == "deduplicate" and not result.kept:
            keeper = result.detail
            if keeper not in self._collected or self.overrides.says(keeper, "drop"):
                return False
        return dict(result.after) == {name: keys[name] for name in result.after if name in keys}

    def verdict(self, video: Video) -> Verdict:
        """Return the decision about a video, as far as the stages in use have made it."""
        if video.status != "collected":
            return Verdict(None if video.status == "failed" else False, "collect", video.status, video.reason)
        steps = list(self.steps(video))
        last = steps[-1] if steps else Step("collect", "open")
        results = {step.stage: step.result for step in steps if step.result}
        trimmed = results["trim"].content if "trim" in results else {}
        complete = all(stage.optional or stage.name in results for stage in STAGES)
        is_dropped = last.outcome == "dropped"
        cause = last.result.cause if last.result else "dropped by a human"
        return Verdict(
            kept=False if is_dropped else True if complete and last.outcome == "kept" else None,
            stage=last.stage,
            cause=cause if is_dropped else "",
            detail=last.result.detail if is_dropped and last.result else "",
            start=float(trimmed.get("first", 0)),
            end=float(trimmed["last"] + 1) if "last" in trimmed else 0.0,
            surgical_seconds=trimmed.get("surgical_seconds", 0),
            overridden=bool(self.overrides.about(video.video_id)),
            models=tuple(result.model for result in results.values() if result.model),
        )

    def reports(self) -> list[StageReport]:
        """Count the videos of every stage in use."""
        counts: dict[str, _Counts] = {}
        for video in self.videos:
            if video.status != "collected":
                continue
            if self.overrides.says(video.video_id, "drop"):
                counts.setdefault("review", _Counts()).dropped["dropped by a human"] += 1
                continue
            seconds = video.seconds
            for step in self.steps(video):
                count = counts.setdefault(step.stage, _Counts())
                if step.stage == "trim" and step.result and "last" in step.result.content:
                    seconds = step.result.content["last"] + 1 - step.result.content["first"]
                if step.outcome == "kept":
                    count.kept += 1
                    count.seconds += seconds
                    count.overridden += step.overridden
                elif step.outcome == "dropped":
                    count.dropped[step.result.cause if step.result else ""] += 1
                else:
                    count.open["no result yet"] += 1
        names = ["review", *(stage.name for stage in STAGES)]
        return [
            collect_report(self.videos),
            *(counts[name].report(name) for name in names if name in counts),
        ]


def collect_report(videos: Sequence[Video]) -> StageReport:
    """Count the videos of collecting, by status."""
    kept = [video for video in videos if video.status == "collected"]
    gone = Counter(f"{video.status}: {video.reason}" for video in videos if video.status in ("removed", "unreadable"))
    again = Counter(f"failed: {video.reason}" for video in videos if video.status == "failed")
    hours = round(sum(video.seconds for video in kept) / 3600, 4)
    return StageReport("collect", len(videos), len(kept), gone, again, hours)


@dataclass
class _Counts:
    kept: int = 0
    overridden: int = 0
    seconds: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)

    def report(self, name: str) -> StageReport:
        """Return the counts as the report of a stage."""
        videos = self.kept + self.dropped.total() + self.open.total()
        hours = round(self.seconds / 3600, 4)
        return StageReport(name, videos, self.kept, self.dropped, self.open, hours, self.overridden)


def summarize(collection: Collection) -> list[StageReport]:
    """Write `manifest.parquet` and `report.json` from the records, results and overrides of a collection.

    Returns:
        Counts of every stage in use.

    Raises:
        CurationError: if there is no collection, or a file of it is broken.
    """
    state = State(collection)
    reports = state.reports()
    collection.write_manifest({video.video_id: state.verdict(video) for video in state.videos})
    write_json(collection.report, {"stages": [report.to_dict() for report in reports]}, ensure_ascii=False)
    return reports

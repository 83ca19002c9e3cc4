"""Detecting operations that are in several data sets, so that no model is tested on operations it was trained on.

Names differ (`video01` of Cholec80 is `VID01` of CholecT50), so every video is translated into the operation it shows. Where
authors say that data sets overlap but publish no list, or where an overlap was only inferred, there is a warning.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets

from ...modeling.conversion.training_data import training_data_of
from ...util.messages import preview
from ..corpora.surgrec_splits import SURGREC
from ..schema.info import DatasetError, split_name
from .registry import get_builder, read_split_file_of

Videos = Mapping[str, Collection[str]]  # video ids by data set
_CHOLEC80 = 80  # operations of Cholec80; CholecT50 continues with numbers of Cholec120


class OverlapError(DatasetError):
    """The training data contain operations of the test."""


class OverlapWarning(UserWarning):
    """The training data may contain operations of the test; nobody has published which."""


@dataclass(frozen=True)
class Overlap:
    """An operation that is in the training and the test data.

    Args:
        operation: name of the operation, such as `cholec80/41`.
        training, test: `data set/video id` of the operation in either.
    """

    operation: str
    training: str
    test: str


@dataclass(frozen=True)
class Suspicion:
    """A likely overlap of two data sets without a list of pairs.

    Args:
        first, second: (data set, video ids) on either side; no ids means any video.
        reason: evidence for the overlap.
    """

    first: tuple[str, tuple[str, ...]]
    second: tuple[str, tuple[str, ...]]
    reason: str


_CHOLEC80_COPIES = ("video73", "video77", "video78", "video79", "video80")
_TOOL_COPIES = tuple(f"tool_video_{number:02d}" for number in range(1, 16) if number not in (9, 13))
_NO_LIST = "the authors publish a list (CAMMA-public/camma_dataset_overlaps) that is not in this package"
SUSPICIONS = (
    Suspicion(
        ("m2cai16_workflow", tuple(f"video_{number:02d}" for number in range(1, 28))),
        ("cholec80", _CHOLEC80_COPIES),
        "the authors of SurgVISTA took these five out of the Cholec80 test after comparing it with M2CAI16-workflow",
    ),
    Suspicion(
        ("m2cai16_tool", _TOOL_COPIES), ("cholec80", ()), "SurgVISTA took only videos 09 and 13 of M2CAI16-tool"
    ),
    Suspicion(
        ("m2cai16_tool", _TOOL_COPIES),
        ("m2cai16_workflow", ()),
        "SurgVISTA took only videos 09 and 13 of M2CAI16-tool",
    ),
    Suspicion(("endoscapes", ()), ("cholec80", ()), _NO_LIST),
    Suspicion(("endoscapes", ()), ("cholect50", ()), _NO_LIST),
)


def _cholec(video_id: str) -> str:
    number = int("".join(filter(str.isdigit, video_id.split("_")[0])))
    return f"cholec80/{number}" if number <= _CHOLEC80 else f"cholec120/{number}"


def _prostate(video_id: str) -> str:
    return f"psi_ava/{int(video_id[4:])}" if video_id.startswith(("psiv", "CASE")) else f"prostatd/{video_id}"


# The data set that clips of SurgRec were cut from, and how it calls the source video.
_SURGREC = {
    "surgrec_autolaparo": ("autolaparo", "{}"),
    "surgrec_cataract21": ("cataract21", "case_{}"),
    "surgrec_cataract101": ("cataract101", "{}"),
    "surgrec_cholec80": ("cholec80", "video{}"),
    "surgrec_multibypass140": ("multibypass140", "{}"),
    "surgrec_pitvis": ("pitvis", "video_{}"),
    "surgrec_surgicalactions160": ("surgicalactions160", "{}"),
}


def _original(dataset: str, video_id: str) -> tuple[str, str]:
    """Return the data set and the id of the video that a clip of SurgRec comes from."""
    source = SURGREC[dataset].source_of(video_id)
    if dataset == "surgrec_m2cai16_workflow":
        part, number = source.split("/")
        return "m2cai16_workflow", f"video_{int(number) + (27 if part == 'test' else 0):02d}"
    name, form = _SURGREC.get(dataset, (dataset, "{}"))
    return name, form.format(source)


# How the operation of a video is called, where its data set shares operations with another one.
_OPERATIONS: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(("cholec80", "cholect50", "cholect45", "cholec80_cvs"), _cholec),
    **dict.fromkeys(("prostate21", "prostatd", "psi_ava"), _prostate),
    **dict.fromkeys(("multibypass140", "bernbypass70", "strasbypass70"), "multibypass140/{}".format),
}
# Data sets that are made of others, for suspicions.
_SAME_VIDEOS = {"cholect45": "cholect50", "cholec80_cvs": "cholec80"}


def operation_of(dataset: str, video_id: str) -> str:
    """Return the operation that a video shows; it is equal for videos of different data sets that show the same one.

    Example:
        >>> operation_of("cholect50", "VID01") == operation_of("cholec80_cvs", "video01_3")
        True
    """
    if dataset in SURGREC:
        dataset, video_id = _original(dataset, video_id)
    return _OPERATIONS.get(dataset, f"{dataset}/{{}}".format)(video_id)


def has_published_ids(dataset: str) -> bool:
    """Return whether the video ids of a data set name the same operations everywhere; those of own folders do not.

    Example:
        >>> has_published_ids("cholec80"), has_published_ids("phase_folder"), has_published_ids("our_hospital")
        (True, False, False)
    """
    try:
        return bool(get_builder(dataset).info.video_ids)
    except DatasetError:  # a name that somebody gave to an own folder
        return False


def find_overlaps(training: Videos, test: Videos) -> list[Overlap]:
    """Find the operations that are in the training and the test data, as far as lists are published.

    Args:
        training, test: video ids by data set.

    Returns:
        One entry per pair of videos, sorted.

    Example:
        >>> find_overlaps({"cholec80": ["video01"]}, {"cholect50": ["VID01"]})
        [Overlap(operation='cholec80/1', training='cholec80/video01', test='cholect50/VID01')]
    """
    tested: dict[str, list[str]] = {}
    for dataset, videos in test.items():
        for video in videos:
            tested.setdefault(operation_of(dataset, video), []).append(f"{dataset}/{video}")
    found = [
        Overlap(operation, f"{dataset}/{video}", there)
        for dataset, videos in training.items()
        for video in videos
        for operation in [operation_of(dataset, video)]
        for there in tested.get(operation, ())
    ]
    return sorted(found, key=lambda overlap: (overlap.test, overlap.training))


def find_suspicions(training: Videos, test: Videos) -> list[Suspicion]:
    """Find likely overlaps without a list of pairs."""
    return [
        suspicion
        for suspicion in SUSPICIONS
        for one, other in ((suspicion.first, suspicion.second), (suspicion.second, suspicion.first))
        if _holds(training, *one) and _holds(test, *other)
    ]


def _holds(videos: Videos, dataset: str, ids: tuple[str, ...]) -> bool:
    present = [
        video.split("_")[0] if name == "cholec80_cvs" else video
        for name, there in videos.items()
        if dataset in (name, _SAME_VIDEOS.get(name))
        for video in there
    ]
    return bool(set(present) & set(ids)) if ids else bool(present)


def check_overlap(
    training: datasets.Dataset | Videos,
    test: datasets.Dataset | Videos,
    *,
    on_overlap: Literal["error", "warn"] = "error",
) -> list[Overlap]:
    """Check that no test operation is in the training data.

    Args:
        training: a frame set (of one or several sources), or video ids by data set.
        test: the same of the test data; `videos_of` returns the video ids of a benchmark.
        on_overlap: `"error"`, or `"warn"` to only warn, for reproducing published settings.

    Returns:
        The overlaps; not empty only with `on_overlap="warn"`.

    Raises:
        OverlapError: there are overlaps.

    Warns:
        OverlapWarning: there are overlaps that were allowed, or likely ones without a published list.

    Example:
        >>> check_overlap({"cholec80": ["video01"]}, videos_of("cholect50", "rendezvous"))
        []
    """
    if on_overlap not in ("error", "warn"):
        raise DatasetError(f"on_overlap is {on_overlap!r}; it must be 'error' or 'warn'")
    seen, tested = videos_in(training), videos_in(test)
    for suspicion in find_suspicions(seen, tested):
        names = f"{suspicion.first[0]} and {suspicion.second[0]}"
        warnings.warn(f"{names} may share operations: {suspicion.reason}", OverlapWarning, stacklevel=2)
    overlaps = find_overlaps(seen, tested)
    if not overlaps:
        return []
    pairs = preview([f"{overlap.training} = {overlap.test}" for overlap in overlaps])
    message = f"test videos in the training data, {len({overlap.test for overlap in overlaps})} in all: {pairs}"
    if on_overlap == "error":
        raise OverlapError(f"{message}. Leave them out, choose another protocol, or pass on_overlap='warn' and say so")
    warnings.warn(message, OverlapWarning, stacklevel=2)
    return overlaps


@dataclass(frozen=True)
class SeenVideos:
    """The published knowledge of the surgical videos that a model's weights were trained on.

    Args:
        videos: Video ids by data set, as far as they are listed.
        unlisted: Data set -> who says that some of its videos were seen, without a list.
        is_complete: Whether nothing else was seen, as far as anyone says.
        remark: A further remark.
    """

    videos: Mapping[str, tuple[str, ...]]
    unlisted: Mapping[str, str]
    is_complete: bool
    remark: str = ""

    def verdict(self, test: Videos) -> str:
        """Return what a table says of a test on these videos: "seen", "maybe seen", "unknown" or "" for not seen.

        Args:
            test: Video ids by data set.

        Example:
            >>> SeenVideos({"cholec80": ("video01",)}, {}, True).verdict({"cholect50": ["VID01"]})
            'seen'
        """
        if find_overlaps(self.videos, test):
            return "seen"
        if self.doubtful(test):
            return "maybe seen"
        return "" if self.is_complete else "unknown"

    def doubtful(self, test: Videos) -> list[str]:
        """Return the data sets that may have given the training a video of a test, though no list says so.

        Args:
            test: Video ids by data set.

        Example:
            >>> SeenVideos({}, {"cholec80": "a paper", "ESAD": "a paper"}, True).doubtful({"cholect50": ["VID01"]})
            ['cholec80']
        """
        unlisted = {name: _ids_of(name) for name in self.unlisted}
        sources = {**self.videos, **unlisted}
        return [
            name
            for name, ids in sources.items()
            if (name in unlisted and (name in test or find_overlaps({name: ids}, test)))
            or find_suspicions({name: ids}, test)
        ]


def seen_by(config: Any) -> SeenVideos | None:
    """Return what a converted model has seen, from the family that its configuration names, or `None` for other models.

    Args:
        config: The configuration of the model, or of a classifier around it.
    """
    encoder = getattr(config, "encoder_config", config)
    family, file = (getattr(encoder, name, None) for name in ("converted_from", "converted_file"))
    known = training_data_of(str(family), str(file or "")) if family else None
    if known is None:
        return None
    videos: dict[str, tuple[str, ...]] = {}
    unlisted: dict[str, str] = {}
    for entry in known.data:
        ids = _ids_of(entry.dataset) if entry.videos == "all" else entry.videos
        if isinstance(ids, tuple) and ids:
            videos[entry.dataset] = ids
        else:
            unlisted[entry.dataset] = entry.source
    return SeenVideos(videos, unlisted, known.is_complete, known.remark)


def _ids_of(dataset: str) -> tuple[str, ...]:
    """Return the published video ids of a data set, none for one that this package does not know."""
    try:
        return tuple(get_builder(dataset).info.video_ids)
    except DatasetError:
        return ()


def warn_of_unlisted(seen: SeenVideos, test: Videos, model: str) -> None:
    """Say where a model may have seen videos of a test, without a list.

    Args:
        seen: The knowledge of the model.
        test: Video ids by data set.
        model: The model's name, for the message.

    Warns:
        OverlapWarning: Videos of the test may have been seen, or what was seen is unknown.
    """
    verdict = seen.verdict(test)
    if verdict == "maybe seen":
        names = preview(sorted(seen.doubtful(test)))
        text = f"{model} may have seen videos of the test: its weights were trained on {names}, and nobody lists which"
        warnings.warn(text, OverlapWarning, stacklevel=2)
    elif verdict == "unknown":
        reason = f" ({seen.remark})" if seen.remark else ""
        text = f"nobody has published all data that the weights of {model} were trained on{reason}"
        warnings.warn(f"{text}: whether they saw videos of the test is unknown", OverlapWarning, stacklevel=2)


def videos_of(
    name: str,
    protocol: str | None = None,
    split: str = "test",
    *,
    split_file: Path | str | None = None,
    fold: int | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the video ids of a split as the protocol, or a file of splits, lists them.

    Args:
        name: name of the data set.
        protocol: name of the protocol; by default the first one.
        split: name of the split.
        split_file: file of splits in place of the protocol.
        fold: number of the fold in a file that holds folds.

    Returns:
        The ids by the name of the data set.

    Raises:
        DatasetError: the protocol has no lists, because its splits depend on the videos that were found.
    """
    info = get_builder(name).info
    if split_file is not None:
        listed = read_split_file_of(name, split_file).splits(fold)
        if split_name(split) not in listed:
            raise DatasetError(f"there is no split {split!r} in {split_file}; it has {[*listed]}")
        return {info.name: listed[split_name(split)]}
    chosen, content = info.protocol(protocol)
    if split_name(split) not in content.splits:
        raise DatasetError(
            f"the protocol {chosen!r} of {name} does not list its videos for {split!r}; give the loaded frame set instead"
        )
    return {info.name: content.splits[split_name(split)]}


def videos_in(data: datasets.Dataset | Videos) -> Videos:
    """Return the video ids of a frame set by data set; a mapping of video ids is returned as it is."""
    if not isinstance(data, datasets.Dataset):
        return data
    pairs = (
        data.with_format("arrow")
        .select_columns(["source", "video_id"])[:]
        .group_by(["source", "video_id"])
        .aggregate([])
    )
    videos: dict[str, list[str]] = {}
    for source, video in zip(*(pairs[name].to_pylist() for name in ("source", "video_id")), strict=True):
        videos.setdefault(source, []).append(video)
    return videos

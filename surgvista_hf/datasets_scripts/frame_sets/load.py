"""Opening a frame set: a split of a data set by a named protocol, memory-mapped or streamed."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.table import MemoryMappedTable, concat_tables
from huggingface_hub import HfFileSystem

from ...util.files import content_hash
from ...util.gaps import bridging_note
from ...util.messages import preview
from ..schema.info import DatasetError, DatasetInfo, Label, Parts, Protocol, split_name
from .prepare import FORMAT, MANIFEST, PLAN, prepare_frame_set, video_file
from .registry import get_builder

ALL = "all"
PUBLISHED = "published.json"
HUB = "hf://datasets/"
_ROWS_AT_ONCE = 16


class FrameSetWarning(UserWarning):
    """Numbers from this split need a word of caution."""


@dataclass(frozen=True)
class StoredVideo:
    """One video of a frame set on the disk."""

    video_id: str
    frames: int
    parts: Parts
    labels: Mapping[str, int]


@dataclass(frozen=True)
class StoredFrameSet:
    """What a folder that `prepare_frame_set` made holds.

    Args:
        folder: where it is.
        info: of the data set, with the labels that were stored.
        videos: sorted by id.
        fingerprint: changes with the content.
        interval: seconds between two frames; `None` where videos differ, or where an older version prepared them.
        bridged: sentence that says so in descriptions, if clips bridge frames that were left out.
    """

    folder: Path
    info: DatasetInfo
    videos: tuple[StoredVideo, ...]
    fingerprint: str
    interval: float | None = None
    bridged: str = ""

    @classmethod
    def open(cls, folder: Path) -> "StoredFrameSet":
        """Read the manifest.

        Raises:
            DatasetError: not a finished frame set.
        """
        path = folder / MANIFEST
        if not path.is_file():
            begun = (folder / PLAN).is_file()
            state = "an unfinished frame set: run the same `surgvista prepare` again" if begun else "no frame set"
            raise DatasetError(f"{folder} is {state}")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise DatasetError(
                f"{path} has the format {content.get('format')}, {FORMAT} is expected; prepare it again"
            )
        labels = {name: Label(label["kind"], tuple(label["names"])) for name, label in content["labels"].items()}
        videos = tuple(
            StoredVideo(
                entry["video_id"],
                entry["frames"],
                {name: tuple(parts) for name, parts in entry["parts"].items()},
                entry["labels"],
            )
            for entry in content["videos"]
        )
        info = replace(get_builder(content["name"]).info, labels=labels)
        # An older version noted only the option.
        dropped = content["options"].get("unlabeled") == "drop"
        usual = bridging_note(info.source or info.name) if dropped else ""
        bridged = content.get("bridged", usual)
        return cls(folder, info, videos, content["fingerprint"], content.get("frame_interval"), bridged)

    def split(self, split: str, protocol: Protocol, *, allow_missing: bool = False) -> list[StoredVideo]:
        """The videos of a split.

        Args:
            split: name, or `"all"`.
            protocol: one of `info.protocols`.
            allow_missing: take what is there of the lists.

        Raises:
            DatasetError: no such split, listed videos that are missing, or none at all.
        """
        if split == ALL:
            return list(self.videos)
        if split not in protocol.names:
            raise DatasetError(f"there is no split {split!r}; the protocol has {[*protocol.names, ALL]}")
        names = {video.video_id: self.info.split_of(video.video_id) for video in self.videos}
        listed = set(protocol.listed(split, {names[video.video_id]: video.parts for video in self.videos}))
        missing = sorted(listed - set(names.values()))
        if missing and not allow_missing:
            raise DatasetError(
                f"{len(missing)} of {len(listed)} videos of the split {split!r} are not in {self.folder}: {preview(missing)}. "
                "Numbers from a part of a split cannot be compared; allow_missing=True loads what is there"
            )
        excluded = {
            column: {self.info.labels[column].names.index(name) for name in classes}
            for column, classes in protocol.exclude.items()
        }
        chosen = [
            video
            for video in self.videos
            if names[video.video_id] in listed
            and video.frames >= protocol.min_frames
            and all(video.labels.get(column) not in classes for column, classes in excluded.items())
        ]
        if not chosen:
            raise DatasetError(f"the split {split!r} is empty: {self.folder} holds none of its videos")
        return chosen


def video_digests(folder: Path) -> dict[str, str]:
    """Return a hash of the stored pictures and labels of each finished video of a frame set, by its id."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "videos").glob("*.json"))]
    return {record["video_id"]: record["digest"] for record in records if record.get("digest")}


def load_frame_set(
    name: str,
    data_dir: Path | str,
    split: str = "train",
    *,
    protocol: str | None = None,
    streaming: bool = False,
    allow_missing: bool = False,
    cache_dir: Path | str | None = None,
    num_proc: int = 1,
    settings: Mapping[str, str] | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """A split of a data set as a frame set: one row per frame, sorted by (video_id, frame_index).

    Args:
        name: of the data set, see `list_datasets`.
        data_dir: a folder made by `surgvista prepare`; or one written by `surgvista publish`, also on the Hub as
            `"hf://datasets/<organization>/<name>"`; or the raw download, which is then prepared first, once.
        split: `"train"`, `"validation"`, `"test"`, or `"all"` for every video.
        protocol: named way to split; by default the first in the data set's table. A published frame set has
            the one it was published with.
        streaming: rows come one after the other; nothing is loaded beforehand. For `StreamingClipDataset`.
        allow_missing: accept that videos of the split are not there.
        cache_dir: where raw downloads are prepared; by default beside the cache of `datasets`.
        num_proc, settings: for preparing raw downloads, see `prepare_frame_set`.

    Returns:
        Columns `source`, `video_id`, `frame_index`, `timestamp` (seconds), `image` and the labels. `info` carries license,
        citation and where the split comes from.

    Raises:
        DatasetError: unknown names, missing videos, or a folder that is neither of the three.

    Warns:
        FrameSetWarning: the splits of the protocol share what they should not.

    Example:
        >>> frames = load_frame_set("cholec80", "frame_sets/cholec80", "test", protocol="standard_40_40")  # doctest: +SKIP
        >>> frames.features["phase"].names[:2]  # doctest: +SKIP
        ['Preparation', 'CalotTriangleDissection']
    """
    split = split_name(split)
    info = get_builder(name).info
    if str(data_dir).startswith(HUB) or (Path(data_dir) / PUBLISHED).is_file():
        return _published(info, str(data_dir), split, protocol, streaming)
    chosen_name, chosen = info.protocol(protocol)
    folder = Path(data_dir)
    if not ((folder / MANIFEST).is_file() or (folder / PLAN).is_file()):
        folder = _prepared(name, folder, cache_dir, num_proc, settings or {})
    stored = StoredFrameSet.open(folder)
    if stored.info.name != info.name:
        raise DatasetError(f"{folder} holds {stored.info.name}, not {info.name}")
    videos = stored.split(split, chosen, allow_missing=allow_missing)
    if chosen.leaks and split != ALL:
        warnings.warn(f"{info.title}, {chosen_name}: {chosen.leaks}", FrameSetWarning, stacklevel=2)
    dataset_info = _dataset_info(stored, chosen_name, chosen, split, videos)
    return (
        stream_videos(stored, videos, dataset_info) if streaming else open_videos(stored, videos, dataset_info, split)
    )


def open_videos(
    stored: StoredFrameSet, videos: Sequence[StoredVideo], dataset_info: datasets.DatasetInfo, split: str
) -> datasets.Dataset:
    """Map the files of videos into memory, one after the other."""
    tables = [MemoryMappedTable.from_file(str(video_file(stored.folder, video.video_id))) for video in videos]
    digest = content_hash([stored.fingerprint, [video.video_id for video in videos], str(dataset_info.features)])
    name = datasets.NamedSplit(split)
    return datasets.Dataset(concat_tables(tables), info=dataset_info, split=name, fingerprint=digest)


def stream_videos(
    stored: StoredFrameSet, videos: Sequence[StoredVideo], dataset_info: datasets.DatasetInfo
) -> datasets.IterableDataset:
    """Read the files of videos one after the other; each is a shard."""
    files = [str(video_file(stored.folder, video.video_id)) for video in videos]
    frames = datasets.IterableDataset.from_generator(
        _rows, features=dataset_info.features, gen_kwargs={"files": files}
    )
    frames.info.update(dataset_info)
    return frames


def _rows(files: list[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        with pa.memory_map(file) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                for start in range(0, batch.num_rows, _ROWS_AT_ONCE):  # a reader may stop after a few
                    yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()


def _prepared(name: str, raw: Path, cache_dir: Path | str | None, num_proc: int, settings: Mapping[str, str]) -> Path:
    """Prepare a raw download in the cache, or finds it there."""
    if not raw.is_dir():
        raise DatasetError(f"there is no folder {raw}")
    root = Path(cache_dir) if cache_dir else Path(datasets.config.HF_DATASETS_CACHE) / "surgvista_hf"
    folder = root / f"{get_builder(name).info.name}-{content_hash([str(raw.resolve()), sorted(settings.items())])}"
    prepare_frame_set(name, raw, folder, settings=settings, num_proc=num_proc, progress=True, wait=True)
    return folder


def _published(info: DatasetInfo, source: str, split: str, protocol: str | None, streaming: bool) -> Any:
    """Load what `surgvista publish` wrote, from the disk or the Hub."""
    content = _published_marker(source)
    if content["name"] != info.name:
        raise DatasetError(f"{source} holds {content['name']}, not {info.name}")
    name = protocol or next(iter(content["protocols"]))
    if split not in content["protocols"].get(name, ()):
        raise DatasetError(f"{source} has no split {split!r} of the protocol {name!r}; it has {content['protocols']}")
    # The library takes a folder that was written anew for the old one, so each content gets a cache of its own.
    cache = None if source.startswith(HUB) else Path(datasets.config.HF_DATASETS_CACHE) / "surgvista_hf"
    frames = datasets.load_dataset(
        source.removeprefix(HUB),
        name,
        split=split,
        streaming=streaming,
        cache_dir=cache and str(cache / f"published-{content_hash(content)}"),
    )
    chosen = info.protocol(name)[1]
    for column in chosen.exclude:
        frames = frames.cast_column(column, _features(info, chosen)[column])
    if chosen.leaks:
        warnings.warn(f"{info.title}, {name}: {chosen.leaks}", FrameSetWarning, stacklevel=3)
    text = f"{info.title}, split {split!r} of the protocol {name!r}: {chosen.origin}. {info.notes}"
    text += content.get("bridged", "")
    known = {"description": text, "citation": info.citation, "homepage": info.homepage, "license": info.license}
    frames.info.update(datasets.DatasetInfo(**known))
    return frames


def _published_marker(source: str) -> dict[str, Any]:
    try:
        if source.startswith(HUB):
            text = HfFileSystem().read_text(f"{source.removeprefix('hf://')}/{PUBLISHED}")
        else:
            text = (Path(source) / PUBLISHED).read_text(encoding="utf-8")
        content = dict(json.loads(text))
        if content.get("format") != FORMAT:
            raise ValueError(f"the format is {content.get('format')}, {FORMAT} is expected")
    except Exception as error:  # the Hub's client lets out errors of whichever HTTP library it is built on
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"{source} is no frame set published by surgvista_hf, or cannot be reached: {reason}"
        ) from error
    return content


def _dataset_info(
    stored: StoredFrameSet, name: str, protocol: Protocol, split: str, videos: Sequence[StoredVideo]
) -> datasets.DatasetInfo:
    info = stored.info
    digest = content_hash([video.video_id for video in videos])
    return datasets.DatasetInfo(
        description=f"{info.title}, split {split!r} of the protocol {name!r}: {protocol.origin}. "
        f"{len(videos)} videos, digest of their ids {digest}. {info.notes}{stored.bridged}",
        citation=info.citation,
        homepage=info.homepage,
        license=info.license,
        features=info.features if split == ALL else _features(info, protocol),
        dataset_name=info.name,
        config_name=name,
    )


def _features(info: DatasetInfo, protocol: Protocol) -> datasets.Features:
    """Without the excluded classes, where these are the last ones; elsewhere leaving them out would renumber the others."""
    labels = dict(info.labels)
    for column, classes in protocol.exclude.items():
        names = labels[column].names
        kept = tuple(name for name in names if name not in classes)
        if names[: len(kept)] == kept:
            labels[column] = Label(labels[column].kind, kept)
    return replace(info, labels=labels).features

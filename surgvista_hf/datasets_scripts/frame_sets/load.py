"""Loading a frame set: a split of a data set by a named protocol, memory-mapped or streamed."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import datasets
import pyarrow as pa
from datasets.table import MemoryMappedTable, concat_tables
from huggingface_hub import HfFileSystem

from ...util.files import content_hash
from ...util.gaps import bridging_note
from ...util.messages import preview
from ..schema.info import PATIENT, DatasetError, DatasetInfo, Label, Parts, Protocol, split_name
from ..schema.split_files import ALL, SplitFile
from .prepare import FORMAT, MANIFEST, PLAN, other_version, prepare_frame_set, read_record, video_file
from .registry import get_builder, read_split_file_of

PUBLISHED = "published.json"
HUB = "hf://datasets/"
_ROWS_AT_ONCE = 16


class FrameSetWarning(UserWarning):
    """Results on this split must be read with caution; the message says why."""


@dataclass(frozen=True)
class StoredVideo:
    """One video of a frame set on the disk.

    Args:
        video_id: id of the video.
        frames: number of stored frames.
        parts: splits that the raw download assigns the video to, by protocol.
        labels: numbers of the classes that all its frames have, by column.
    """

    video_id: str
    frames: int
    parts: Parts
    labels: Mapping[str, int]


@dataclass(frozen=True)
class StoredFrameSet:
    """A frame set on the disk, in a folder that `prepare_frame_set` wrote.

    Args:
        folder: path of the folder.
        info: description of the data set, with the labels that were stored.
        videos: its videos, sorted by id.
        fingerprint: hash of the content.
        interval: seconds between two frames; `None` if it differs between videos or is not known.
        bridged: sentence for descriptions if clips bridge frames that were left out, otherwise empty.
    """

    folder: Path
    info: DatasetInfo
    videos: tuple[StoredVideo, ...]
    fingerprint: str
    interval: float | None = None
    bridged: str = ""

    @classmethod
    def open(cls, folder: Path) -> "StoredFrameSet":
        """Open a folder by its manifest.

        Raises:
            DatasetError: the folder is no finished frame set, or another version of this package wrote it.
        """
        if not (folder / MANIFEST).is_file():
            if not (folder / PLAN).is_file():
                raise DatasetError(f"{folder} is no frame set")
            read_record(folder / PLAN, DatasetError)  # what an earlier version began cannot be finished
            raise DatasetError(f"{folder} is an unfinished frame set: run the same `surgvista prepare` again")
        content = read_record(folder / MANIFEST, DatasetError)
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
        # An earlier version noted only the option.
        dropped = content["options"].get("unlabeled") == "drop"
        usual = bridging_note(info.source or info.name) if dropped else ""
        bridged = content.get("bridged", usual)
        return cls(folder, info, videos, content["fingerprint"], content.get("frame_interval"), bridged)

    def properties(self, name: str) -> dict[str, str]:
        """Return a property of whole videos that their labels named, such as `patient`, by video id.

        Videos without a value are left out.
        """
        return {video.video_id: video.parts[name][0] for video in self.videos if len(video.parts.get(name, ())) == 1}

    def split(self, split: str, protocol: Protocol, *, allow_missing: bool = False) -> list[StoredVideo]:
        """Return the videos of a split.

        Args:
            split: name of the split, or `"all"`.
            protocol: one of `info.protocols`.
            allow_missing: accept that listed videos are not in the frame set.

        Returns:
            Its videos, without those that the protocol excludes by their labels or length.

        Raises:
            DatasetError: there is no such split, listed videos are missing, or no video is left.
        """
        if split == ALL:
            return list(self.videos)
        if split not in protocol.names:
            raise DatasetError(f"there is no split {split!r}; the protocol has {[*protocol.names, ALL]}")
        if protocol.by_part and not any(protocol.by_part in video.parts for video in self.videos):
            raise DatasetError(
                f"the protocol goes by {protocol.origin}, but the labels that {self.folder} was made from name no splits; "
                "choose another protocol, or a file of splits"
            )
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

    def listed(
        self, file: SplitFile, split: str, fold: int | None = None, *, allow_missing: bool = False
    ) -> list[StoredVideo]:
        """Return the videos of a split that a file of splits lists; all of them for `"all"`.

        Raises:
            SplitFileError: there is no such split or fold, or videos of the file are missing.
        """
        if split == ALL:
            return list(self.videos)
        known = {video.video_id: self.info.split_of(video.video_id) for video in self.videos}
        ids = set(file.ids(split, fold, known, allow_missing=allow_missing))
        return [video for video in self.videos if video.video_id in ids]

    def divided_patients(self, file: SplitFile, fold: int | None = None) -> str:
        """Return a sentence on patients whose videos a file of splits has in two splits; empty if there are none.

        Args:
            file: content of the file.
            fold: number of the fold in a file that holds folds.

        Raises:
            SplitFileError: there is no such fold.
        """
        patients = self.properties(PATIENT)
        of_patient: dict[str, dict[str, list[str]]] = {}
        for split, ids in file.splits(fold).items():
            for video, patient in patients.items():
                if video in ids or self.info.split_of(video) in ids:
                    of_patient.setdefault(patient, {}).setdefault(split, []).append(video)
        divided = {patient: splits for patient, splits in sorted(of_patient.items()) if len(splits) > 1}
        if not divided:
            return ""
        named = preview(
            [
                f"{patient} ({', '.join(f'{split} {preview(ids, 3)}' for split, ids in splits.items())})"
                for patient, splits in divided.items()
            ]
        )
        return (
            f"{file.path.parent / file.name(fold)} has {len(divided)} {'patient' if len(divided) == 1 else 'patients'} in two "
            f"splits, so a test is no test on new patients: {named}; put all videos of a patient into one split"
        )


@overload
def load_frame_set(
    name: str,
    data_dir: Path | str,
    split: str = ...,
    *,
    protocol: str | None = ...,
    streaming: Literal[False] = ...,
    allow_missing: bool = ...,
    cache_dir: Path | str | None = ...,
    num_proc: int = ...,
    settings: Mapping[str, str] | None = ...,
    split_file: Path | str | None = ...,
    fold: int | None = ...,
) -> datasets.Dataset: ...


@overload
def load_frame_set(
    name: str,
    data_dir: Path | str,
    split: str = ...,
    *,
    protocol: str | None = ...,
    streaming: Literal[True],
    allow_missing: bool = ...,
    cache_dir: Path | str | None = ...,
    num_proc: int = ...,
    settings: Mapping[str, str] | None = ...,
    split_file: Path | str | None = ...,
    fold: int | None = ...,
) -> datasets.IterableDataset: ...


@overload
def load_frame_set(
    name: str,
    data_dir: Path | str,
    split: str = ...,
    *,
    protocol: str | None = ...,
    streaming: bool,
    allow_missing: bool = ...,
    cache_dir: Path | str | None = ...,
    num_proc: int = ...,
    settings: Mapping[str, str] | None = ...,
    split_file: Path | str | None = ...,
    fold: int | None = ...,
) -> datasets.Dataset | datasets.IterableDataset: ...


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
    split_file: Path | str | None = None,
    fold: int | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a split of a data set as a frame set: one row per frame, sorted by (video_id, frame_index).

    Args:
        name: name of the data set, see `list_datasets`.
        data_dir: folder written by `surgvista prepare`; or by `surgvista publish`, also on the Hub as
            `"hf://datasets/<organization>/<name>"`; or the raw download, which is then prepared first, once.
        split: `"train"`, `"validation"`, `"test"`, or `"all"` for every video.
        protocol: name of the protocol that splits the data set; by default its first one. A published frame set has the
            protocols it was published with.
        streaming: read rows one after the other instead of mapping files into memory, for `StreamingClipDataset`.
        allow_missing: accept that videos of the split are not in the folder.
        cache_dir: folder in which raw downloads are prepared; by default in the cache of `datasets`.
        num_proc, settings: arguments of `prepare_frame_set`, for raw downloads.
        split_file: file with the ids of each split, as `surgvista split` writes it, in place of a protocol; see
            `read_split_file`. The splits may have other names than those of `split`. What a protocol leaves out by class or
            length is not left out.
        fold: number of the fold in a file that holds folds.

    Returns:
        A `datasets.Dataset`, or with `streaming=True` a `datasets.IterableDataset`, with the columns `source`, `video_id`,
        `frame_index`, `timestamp` (seconds), `image` and the label columns. Its `info` holds license, citation and the origin
        of the split.

    Raises:
        DatasetError: a name is unknown, videos are missing, or the folder is none of the three.
        SplitFileError: the file of splits has a video in two splits, or names videos that are not there.

    Warns:
        FrameSetWarning: the splits of the protocol, or of the file, have something in common that they should not, such as
            patients.

    Example:
        >>> frames = load_frame_set("cholec80", "frame_sets/cholec80", "test", protocol="standard_40_40")  # doctest: +SKIP
        >>> frames.features["phase"].names[:2]  # doctest: +SKIP
        ['Preparation', 'CalotTriangleDissection']
    """
    split = split_name(split)
    info = get_builder(name).info
    file = _read_splits(split_file, fold, info)
    if _is_published(data_dir):
        if file is not None or split == ALL:
            return _load_published_videos(info, str(data_dir), split, streaming, file, fold, allow_missing)
        return _load_published(info, str(data_dir), split, protocol, streaming)
    if file is None:
        chosen_name, chosen = info.protocol(protocol)
    else:
        chosen_name, chosen = file.name(fold), Protocol(file.method or "own splits")
    folder = Path(data_dir)
    if not ((folder / MANIFEST).is_file() or (folder / PLAN).is_file()):
        folder = _prepare_in_cache(name, folder, cache_dir, num_proc, settings or {})
    stored = StoredFrameSet.open(folder)
    if stored.info.name != info.name:
        raise DatasetError(f"{folder} holds {stored.info.name}, not {info.name}")
    if file is None:
        videos = stored.split(split, chosen, allow_missing=allow_missing)
    else:
        _warn_of_other_set(file, stored.fingerprint, folder)
        if split != ALL and (divided := stored.divided_patients(file, fold)):
            warnings.warn(divided, FrameSetWarning, stacklevel=2)
        videos = stored.listed(file, split, fold, allow_missing=allow_missing)
    if chosen.leaks and split != ALL:
        warnings.warn(f"{info.title}, {chosen_name}: {chosen.leaks}", FrameSetWarning, stacklevel=2)
    dataset_info = _dataset_info(stored, chosen_name, chosen, split, videos)
    return (
        stream_videos(stored, videos, dataset_info) if streaming else open_videos(stored, videos, dataset_info, split)
    )


def _is_published(data_dir: Path | str) -> bool:
    return str(data_dir).startswith(HUB) or (Path(data_dir) / PUBLISHED).is_file()


def frame_set_identity(data_dir: Path | str) -> tuple[str, str]:
    """Return the name of the data set of a frame set and the fingerprint of the frame set, prepared or published.

    Raises:
        DatasetError: it is neither.
    """
    if _is_published(data_dir):
        content = _published_marker(str(data_dir))
        return str(content["name"]), content_hash(content)
    stored = StoredFrameSet.open(Path(data_dir))
    return stored.info.name, stored.fingerprint


def _read_splits(path: Path | str | None, fold: int | None, info: DatasetInfo) -> SplitFile | None:
    """Read a file of splits, and check that it is of this data set."""
    if path is None:
        if fold is not None:
            raise DatasetError(f"fold {fold} of what? A fold is chosen from a file of splits (split_file)")
        return None
    file = read_split_file_of(info.name, path)
    file.splits(fold)
    return file


def _warn_of_other_set(file: SplitFile, fingerprint: str, folder: Path | str) -> None:
    if file.fingerprint and file.fingerprint != fingerprint:
        warnings.warn(
            f"{file.path} was drawn from another preparation of the data than {folder}: its ids are there, its counts of "
            "frames and classes may differ",
            FrameSetWarning,
            stacklevel=3,
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
        _stream_rows, features=dataset_info.features, gen_kwargs={"files": files}
    )
    frames.info.update(dataset_info)
    return frames


def _stream_rows(files: list[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        with pa.memory_map(file) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                for start in range(0, batch.num_rows, _ROWS_AT_ONCE):  # a reader may stop after a few
                    yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()


def _prepare_in_cache(
    name: str, raw: Path, cache_dir: Path | str | None, num_proc: int, settings: Mapping[str, str]
) -> Path:
    """Prepare a raw download in the cache, unless it was prepared before, and return the folder."""
    if not raw.is_dir():
        raise DatasetError(f"there is no folder {raw}")
    root = Path(cache_dir) if cache_dir else Path(datasets.config.HF_DATASETS_CACHE) / "surgvista_hf"
    # The format is part of the name, so that what an earlier version left in the cache is not in the way.
    digest = content_hash([FORMAT, str(raw.resolve()), sorted(settings.items())])
    folder = root / f"{get_builder(name).info.name}-{digest}"
    prepare_frame_set(name, raw, folder, settings=settings, num_proc=num_proc, progress=True, wait=True)
    return folder


def _load_published(
    info: DatasetInfo, source: str, split: str, protocol: str | None, streaming: bool
) -> datasets.Dataset | datasets.IterableDataset:
    """Load what `surgvista publish` wrote, from the disk or the Hub."""
    content = _published_marker(source)
    if content["name"] != info.name:
        raise DatasetError(f"{source} holds {content['name']}, not {info.name}")
    name = protocol or next(iter(content["protocols"]))
    if split not in content["protocols"].get(name, ()):
        raise DatasetError(f"{source} has no split {split!r} of the protocol {name!r}; it has {content['protocols']}")
    frames: Any = datasets.load_dataset(
        source.removeprefix(HUB),
        name,
        split=split,
        streaming=streaming,
        cache_dir=_published_cache(source, content),
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
    loaded: datasets.Dataset | datasets.IterableDataset = frames
    return loaded


def _load_published_videos(
    info: DatasetInfo,
    source: str,
    split: str,
    streaming: bool,
    file: SplitFile | None,
    fold: int | None,
    allow_missing: bool,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load all videos of a published frame set, or those that a file of splits lists."""
    content = _published_marker(source)
    if content["name"] != info.name:
        raise DatasetError(f"{source} holds {content['name']}, not {info.name}")
    # The protocols share their files, and every video is in one of them.
    frames: Any = datasets.load_dataset(
        source.removeprefix(HUB),
        data_files="data/*.parquet",
        split="train",
        cache_dir=_published_cache(source, content),
        verification_mode="no_checks",
    )
    of_video: dict[str, list[int]] = {}
    for row, video in enumerate(frames.select_columns(["video_id"]).with_format(None)["video_id"][:]):
        of_video.setdefault(video, []).append(row)
    wanted: Sequence[str] = sorted(of_video)
    origin = "all videos"
    if file is not None:
        _warn_of_other_set(file, content_hash(content), source)
        origin = f"split {split!r} of {file.name(fold)}: {file.method or 'own splits'}"
        if split != ALL:
            known = {video: info.split_of(video) for video in of_video}
            wanted = file.ids(split, fold, known, allow_missing=allow_missing)
    chosen = frames.select([row for video in wanted for row in of_video[video]])
    text = f"{info.title}, {origin}. {info.notes}{content.get('bridged', '')}"
    known_info = {"description": text, "citation": info.citation, "homepage": info.homepage, "license": info.license}
    chosen.info.update(datasets.DatasetInfo(**known_info))
    loaded: datasets.Dataset | datasets.IterableDataset = chosen.to_iterable_dataset() if streaming else chosen
    return loaded


def _published_cache(source: str, content: Mapping[str, Any]) -> str | None:
    """Return a folder of its own for each content: `datasets` takes a folder that was written anew for the old one."""
    if source.startswith(HUB):
        return None
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "surgvista_hf"
    return str(cache / f"published-{content_hash(content)}")


def _published_marker(source: str) -> dict[str, Any]:
    try:
        if source.startswith(HUB):
            text = HfFileSystem().read_text(f"{source.removeprefix('hf://')}/{PUBLISHED}")
        else:
            text = (Path(source) / PUBLISHED).read_text(encoding="utf-8")
        content = dict(json.loads(text))
        if not isinstance(content.get("format"), int):
            raise ValueError("it names no format")
    except Exception as error:  # the Hub's client lets out errors of whichever HTTP library it is built on
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"{source} is no frame set published by surgvista_hf, or cannot be reached: {reason}"
        ) from error
    if problem := other_version(source, content, "publish the frame set again"):
        raise DatasetError(problem)
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
    """Return the features without the excluded classes if these are the last ones; otherwise no class is renumbered."""
    labels = dict(info.labels)
    for column, classes in protocol.exclude.items():
        names = labels[column].names
        left = tuple(name for name in names if name not in classes)
        if names[: len(left)] == left:
            labels[column] = Label(labels[column].kind, left)
    return replace(info, labels=labels).features

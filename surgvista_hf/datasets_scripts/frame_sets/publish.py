"""Publishing a frame set as a native Hub data set: Parquet files with the frames inside, and a card.

Frames are written once, whatever the number of protocols: the videos of a file are in the same splits of all protocols,
and each protocol is a configuration that lists files. Rows of a split keep their order, and no video is cut by the end of
a file.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData, HfApi

from ... import __version__
from ...util.errors import SurgVistaError
from ...util.files import OutputError, atomic_folder
from ..schema.info import DatasetError, DatasetInfo, Protocol
from .load import PUBLISHED, StoredFrameSet, StoredVideo
from .overlap import find_overlaps, find_suspicions
from .prepare import FORMAT, MANIFEST, other_version, video_file
from .registry import list_datasets

SHARD_BYTES = 500_000_000
_ROWS_IN_A_GROUP = 256
_LICENSE_IDS = {"Apache-2.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0"}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


class LicenseError(SurgVistaError):
    """The license or the terms of access do not allow passing the data on."""


class PublishError(SurgVistaError):
    """The data set was not sent to the Hub; it is complete on the disk."""


@dataclass
class _File:
    """A Parquet file: its name, its videos and their size."""

    name: str
    videos: list[StoredVideo] = field(default_factory=list)
    size: int = 0


_Layout = dict[str, dict[str, list[_File]]]  # files by protocol and split


def publish_frame_set(
    frame_set: Path | str,
    output: Path | str,
    *,
    protocols: Sequence[str] = (),
    allow_missing: bool = False,
    i_have_the_right: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a frame set as a Hub data set.

    Args:
        frame_set: folder made by `prepare_frame_set`.
        output: folder to write, which `upload` sends. If an earlier call wrote it from the same frame set and arguments, it
            is left as it is.
        protocols: names of the protocols to publish; by default all. The first becomes the default configuration.
        allow_missing: accept that videos which the protocols list are not in the frame set.
        i_have_the_right: state that the caller has the right to pass the data on.
        shard_bytes: size in bytes at which a new file is begun, between two videos.

    Returns:
        `output`, which stock `datasets.load_dataset(output, protocol, split=...)` reads.

    Raises:
        LicenseError: the data may not be passed on.
        DatasetError: there is no frame set, a protocol is unknown, or videos are missing.
        OutputError: `output` holds something else.

    Example:
        >>> publish_frame_set("frame_sets/synthetic", "published")  # doctest: +SKIP
    """
    stored = StoredFrameSet.open(Path(frame_set))
    info = stored.info
    if not (info.redistributable or i_have_the_right):
        raise LicenseError(
            f"{info.title} may not be passed on: its license is {info.license}, it is given out by {info.access} "
            f"({info.homepage}). If its owners allowed you to publish it, say so with --i-have-the-right; the card will "
            "state that you vouch for it"
        )
    chosen = {name: info.protocol(name)[1] for name in protocols or info.protocols}
    files, layout = _plan_files(stored, chosen, allow_missing, shard_bytes)
    marker = _marker(stored, layout, i_have_the_right)
    if _is_there(Path(output), marker):
        return Path(output)
    with atomic_folder(output) as folder:
        (folder / "data").mkdir()
        for file in files:
            _write_parquet(folder / file.name, stored, file.videos)
        (folder / "README.md").write_text(_card(stored, layout, files, i_have_the_right), encoding="utf-8")
        (folder / PUBLISHED).write_text(marker, encoding="utf-8")
    return Path(output)


def upload(folder: Path | str, repo_id: str, *, private: bool = True) -> str:
    """Send a published folder to the Hub.

    Args:
        folder: folder written by `publish_frame_set`; nothing in it is changed.
        repo_id: `organization/name` of the repository; created if it does not exist.
        private: send nothing to a repository that everybody can read.

    Returns:
        Address of the data set.

    Raises:
        PublishError: there is no token or no network, the Hub refused, or the repository is public.
    """
    api = HfApi()
    try:
        repository = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        exposed = private and not api.repo_info(repository.repo_id, repo_type="dataset").private
        if not exposed:
            api.upload_folder(repo_id=repository.repo_id, folder_path=str(folder), repo_type="dataset")
    except Exception as error:  # the Hub's client lets out errors of whichever HTTP library it is built on
        reason = " ".join(str(error).split())
        raise PublishError(
            f"{repo_id} was not published: {reason[:300]}. The data set lies complete in {folder}; after `hf auth login`, "
            "run the same command again"
        ) from error
    if exposed:
        raise PublishError(
            f"{repo_id} exists and is public; nothing was sent. Make it private, choose another, or say --public. "
            f"The data set lies complete in {folder}"
        )
    return str(repository)


# ------------------------------------------------------------------------------------------- files


def _plan_files(
    stored: StoredFrameSet, protocols: dict[str, Protocol], allow_missing: bool, shard_bytes: int
) -> tuple[list[_File], _Layout]:
    """Distribute the videos over as few files as possible, so that every split is a list of files in the right order.

    A video joins a file only if that is the last one of all its splits, and of no other split.

    Returns:
        The files, and those of each split by protocol and split.
    """
    files: list[_File] = []
    layout: dict[tuple[str, str], list[_File]] = {}
    members: dict[str, frozenset[tuple[str, str]]] = {}
    for name, protocol in protocols.items():
        for split in protocol.names:
            for video in _videos(stored, split, protocol, allow_missing):
                members[video.video_id] = members.get(video.video_id, frozenset()) | {(name, split)}
                layout.setdefault((name, split), [])
    last: dict[frozenset[tuple[str, str]], _File] = {}
    for video in stored.videos:
        splits = members.get(video.video_id, frozenset())
        if not splits:
            continue
        file = last.get(splits)
        if file is None or file.size >= shard_bytes or any(layout[member][-1] is not file for member in splits):
            file = last[splits] = _File(f"data/{len(files):05d}.parquet")
            files.append(file)
            for member in splits:
                layout[member].append(file)
        file.videos.append(video)
        file.size += video_file(stored.folder, video.video_id).stat().st_size
    if not files:
        raise DatasetError(f"{stored.folder} holds no video of the protocols {list(protocols)}")
    there = {
        name: {split: layout[name, split] for split in protocol.names if (name, split) in layout}
        for name, protocol in protocols.items()
    }
    return files, {name: parts for name, parts in there.items() if parts}


def _videos(stored: StoredFrameSet, split: str, protocol: Protocol, allow_missing: bool) -> list[StoredVideo]:
    try:
        return stored.split(split, protocol, allow_missing=allow_missing)
    except DatasetError:
        if allow_missing:
            return []
        raise


def _is_there(output: Path, marker: str) -> bool:
    """Return whether the same was written before, by the fingerprint of frames and labels in the marker.

    Raises:
        OutputError: another frame set was written before, or other splits of this one.
    """
    path = output / PUBLISHED
    if not path.is_file() or path.read_text(encoding="utf-8") == marker:
        return path.is_file()
    try:
        before, now = dict(json.loads(path.read_text(encoding="utf-8"))), json.loads(marker)
    except (ValueError, TypeError) as error:
        raise OutputError(f"{path} cannot be read; remove {output}, or choose another output") from error
    if problem := other_version(output, before, "remove it, or choose another output"):
        raise OutputError(problem)
    was, requested = ({key: each.get(key) for key in now if before.get(key) != now[key]} for each in (before, now))
    raise OutputError(
        f"{output} was published with {was}, now {requested} is requested; remove it, or choose another output"
    )


def _write_parquet(path: Path, stored: StoredFrameSet, videos: Sequence[StoredVideo]) -> None:
    schema = stored.info.features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for video in videos:
            with pa.memory_map(str(video_file(stored.folder, video.video_id))) as source:
                for batch in pa.ipc.open_stream(source):
                    writer.write_table(pa.Table.from_batches([batch], schema), row_group_size=_ROWS_IN_A_GROUP)


def _marker(stored: StoredFrameSet, layout: _Layout, vouched: bool) -> str:
    content = {
        "format": FORMAT,
        "name": stored.info.name,
        "protocols": {name: list(splits) for name, splits in layout.items()},
        "fingerprint": stored.fingerprint,
        "options": _options(stored),
        "frame_interval": stored.interval,
        "bridged": stored.bridged,
        "vouched": vouched,
    }
    return json.dumps(content, indent=1) + "\n"


def _options(stored: StoredFrameSet) -> dict[str, Any]:
    return dict(json.loads((stored.folder / MANIFEST).read_text(encoding="utf-8"))["options"])


# ------------------------------------------------------------------------------------------- card


def _card(stored: StoredFrameSet, layout: _Layout, files: Sequence[_File], vouched: bool) -> str:
    info = stored.info
    configs = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": [file.name for file in part]} for split, part in splits.items()],
            **({"default": True} if position == 0 else {}),
        }
        for position, (name, splits) in enumerate(layout.items())
    ]
    frames = sum(video.frames for file in files for video in file.videos)
    known = info.license in _LICENSE_IDS
    data = DatasetCardData(
        pretty_name=info.title,
        license=info.license.lower() if known else "other",
        license_name=None if known else f"{info.name}-terms",
        license_link=info.homepage if not known and info.homepage.startswith("http") else None,
        task_categories=["video-classification"],
        tags=["surgery", "video", info.task],
        size_categories=[_SIZES[min(max(len(str(frames)) - 3, 0), len(_SIZES) - 1)]],
        configs=configs,
    )
    vouch = "\n\nWhoever uploaded this data set states that they have the right to do so." if vouched else ""
    first = next(iter(layout))
    split = next(iter(layout[first]))
    return f"""---
{data.to_yaml()}
---

# {info.title}

One row per frame, in order, with labels. Made by surgvista_hf {__version__} from the original videos ({_sampling(stored)}).

- Procedure: {info.procedure}
- Citation: {info.citation or "none"}
- Original data: {info.homepage} ({info.access})
- License: {info.license}{vouch}

{info.notes}

For research. Not a medical device, and never a basis for decisions about patients.

## Splits

{_split_table(info, layout)}
{_leaks(info, layout)}{_overlaps(info, files)}
## Labels

{_label_list(info)}

## Use

```python
from datasets import load_dataset

frames = load_dataset("path/of/this/data_set", "{first}", split="{split}")  # streaming=True reads without downloading all
```

or, as clips:

```python
from surgvista_hf import load_frame_set
from surgvista_hf.clips import StreamingClipDataset

frames = load_frame_set("{info.name}", "hf://datasets/path/of/this/data_set", "{split}", streaming=True)
clips = StreamingClipDataset(frames, num_frames=16, frame_stride=4)
```
"""


def _sampling(stored: StoredFrameSet) -> str:
    options = _options(stored)
    if options["every"]:
        rate = f"one of {options['every']} frames"
    else:
        rate = f"{options['frames_per_second']:g} Hz" if options["frames_per_second"] else "every frame"
    size = f"shorter side at most {options['short_side']} pixels" if options["short_side"] else "original size"
    crop = ", black border cut off" if options["crop_border"] else ""
    dropped = ", frames without a label left out" if options["unlabeled"] == "drop" else ""
    return f"{rate}, {size}, JPEG quality {options['quality']}{crop}{dropped}"


def _split_table(info: DatasetInfo, layout: _Layout) -> str:
    lines = ["| protocol | split | videos | frames | origin |", "|---|---|---|---|---|"]
    for name, splits in layout.items():
        for split, files in splits.items():
            frames = [video.frames for file in files for video in file.videos]
            origin = info.protocols[name].origin
            lines.append(f"| `{name}` | {split} | {len(frames)} | {sum(frames):,} | {origin} |")
    return "\n".join(lines)


def _leaks(info: DatasetInfo, layout: _Layout) -> str:
    leaks = {name: info.protocols[name].leaks for name in layout}
    lines = [f"- **{name}**: {leak}." for name, leak in leaks.items() if leak]
    return "\nTake care with these splits:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _overlaps(info: DatasetInfo, files: Sequence[_File]) -> str:
    own = {info.name: [video.video_id for file in files for video in file.videos]}
    lines = []
    for other in list_datasets():
        if other.name == info.name or not other.video_ids:
            continue
        theirs = {other.name: other.video_ids}
        operations = {overlap.operation for overlap in find_overlaps(own, theirs)}
        reasons = [suspicion.reason for suspicion in find_suspicions(own, theirs)]
        if operations or reasons:
            known = f"{len(operations)} operations" if operations else "perhaps"
            lines.append(f"- {other.title}: {'; '.join([known, *reasons])}.")
    return (
        "\nOperations that are also in other data sets, so do not train on one and test on the other:\n\n"
        + "\n".join(lines)
        + "\n"
        if lines
        else ""
    )


def _label_list(info: DatasetInfo) -> str:
    kinds = {"class": "one of", "classes": "a set of", "numbers": "numbers for"}
    lines = [
        f"- `{name}`: {kinds[label.kind]} {len(label.names)}: {'; '.join(label.names[:12])}"
        + ("; …" if len(label.names) > 12 else "")
        for name, label in info.labels.items()
    ]
    return "\n".join(lines) or "None."

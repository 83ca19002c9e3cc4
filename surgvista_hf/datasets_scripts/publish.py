"""A frame set as a native Hub data set: Parquet files with the pictures inside, and a card.

Pictures are written once, whatever the number of protocols: a file holds a run of videos that are in the same splits of all
protocols, and each protocol is a configuration that lists files. So rows keep their order,
and no video is cut by the end of a file.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData, HfApi

from .. import __version__
from ..modeling.errors_surgvista import SurgVistaError
from ..util.files import atomic_folder
from .facts import DatasetError, DatasetFacts, Protocol
from .frame_set import PUBLISHED, StoredFrameSet, StoredVideo
from .prepare import FORMAT, MANIFEST, video_file

SHARD_BYTES = 500_000_000
_ROWS_IN_A_GROUP = 256
_LICENCE_IDS = {"Apache-2.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0"}


class LicenceError(SurgVistaError):
    """The licence or the terms of access do not allow to pass the data on."""


class PublishError(SurgVistaError):
    """The Hub did not take the data set; it lies complete on the disk."""


@dataclass(frozen=True)
class _File:
    """A Parquet file: its name, its videos, and the (protocol, split) that it belongs to."""

    name: str
    videos: tuple[StoredVideo, ...]
    splits: frozenset[tuple[str, str]]


def publish_frame_set(
    frame_set: Path | str,
    output: Path | str,
    *,
    protocols: Sequence[str] = (),
    allow_missing: bool = False,
    i_have_the_right: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Writes a frame set as a Hub data set.

    Args:
        frame_set: folder made by `prepare_frame_set`.
        output: folder to write; `upload` sends it.
        protocols: which splits to offer; by default all that the data set has. The first becomes the default configuration.
        allow_missing: accept that videos of the lists are not there.
        i_have_the_right: the caller vouches for the right to pass the data on.
        shard_bytes: size at which a new file is begun, between two videos.

    Returns:
        `output`, which stock `datasets.load_dataset(output, protocol, split=...)` reads.

    Raises:
        LicenceError: the data may not be passed on.
        DatasetError: no frame set, an unknown protocol, or missing videos.
        OutputError: `output` exists.

    Example:
        >>> publish_frame_set("frame_sets/synthetic", "published")  # doctest: +SKIP
    """
    stored = StoredFrameSet.open(Path(frame_set))
    facts = stored.facts
    if not (facts.redistributable or i_have_the_right):
        raise LicenceError(
            f"{facts.title} may not be passed on: its licence is {facts.licence}, it is given out by {facts.access} "
            f"({facts.homepage}). If its owners allowed you to publish it, say so with --i-have-the-right; the card will "
            "state that you vouch for it"
        )
    chosen = {name: facts.protocol(name)[1] for name in protocols or facts.protocols}
    files = list(_plan(stored, chosen, allow_missing, shard_bytes))
    with atomic_folder(output) as folder:
        (folder / "data").mkdir()
        for file in files:
            _write_parquet(folder / file.name, stored, file.videos)
        (folder / PUBLISHED).write_text(_marker(stored, chosen), encoding="utf-8")
        (folder / "README.md").write_text(_card(stored, chosen, files, i_have_the_right), encoding="utf-8")
    return Path(output)


def upload(folder: Path | str, repo_id: str, *, private: bool = True) -> str:
    """Sends a published folder to the Hub.

    Args:
        folder: what `publish_frame_set` wrote; nothing in it is changed.
        repo_id: `organisation/name`; created if it does not exist.
        private: of a new repository.

    Returns:
        Address of the data set.

    Raises:
        PublishError: no token, no network, or refused by the Hub.
    """
    api = HfApi()
    try:
        address = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=str(folder), repo_type="dataset")
    except Exception as error:  # the Hub's client lets out errors of whichever HTTP library it is built on
        reason = " ".join(str(error).split())
        raise PublishError(
            f"{repo_id} was not published: {reason[:300]}. The data set lies complete in {folder}; after `hf auth login`, "
            "run the same command again"
        ) from error
    return str(address)


def is_published(folder: Path, frame_set: Path) -> bool:
    """Whether a folder already holds this very frame set, from a run whose upload failed."""
    marker = folder / PUBLISHED
    if not marker.is_file():
        return False
    return bool(json.loads(marker.read_text())["fingerprint"] == StoredFrameSet.open(frame_set).fingerprint)


# ------------------------------------------------------------------------------------------- files


def _plan(
    stored: StoredFrameSet, protocols: dict[str, Protocol], allow_missing: bool, shard_bytes: int
) -> Iterator[_File]:
    """Runs of videos that are in the same splits."""
    member: dict[str, set[tuple[str, str]]] = {}
    for name, protocol in protocols.items():
        for split in protocol.names:
            try:
                videos = stored.split(split, protocol, allow_missing=allow_missing)
            except DatasetError:
                if not allow_missing:
                    raise
                continue
            for video in videos:
                member.setdefault(video.video_id, set()).add((name, split))
    run: list[StoredVideo] = []
    splits: frozenset[tuple[str, str]] = frozenset()
    size = number = 0
    for video in stored.videos:
        there = frozenset(member.get(video.video_id, ()))
        if run and (there != splits or size >= shard_bytes):
            yield _File(f"data/{number:05d}.parquet", tuple(run), splits)
            run, size, number = [], 0, number + 1
        splits = there
        if there:
            run.append(video)
            size += video_file(stored.folder, video.video_id).stat().st_size
    if run:
        yield _File(f"data/{number:05d}.parquet", tuple(run), splits)


def _write_parquet(path: Path, stored: StoredFrameSet, videos: Sequence[StoredVideo]) -> None:
    schema = stored.facts.features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for video in videos:
            with pa.memory_map(str(video_file(stored.folder, video.video_id))) as source:
                for batch in pa.ipc.open_stream(source):
                    writer.write_table(pa.Table.from_batches([batch], schema), row_group_size=_ROWS_IN_A_GROUP)


def _marker(stored: StoredFrameSet, protocols: dict[str, Protocol]) -> str:
    splits = {name: list(protocol.names) for name, protocol in protocols.items()}
    content = {"format": FORMAT, "name": stored.facts.name, "protocols": splits, "fingerprint": stored.fingerprint}
    return json.dumps(content, indent=1) + "\n"


# ------------------------------------------------------------------------------------------- card


def _card(stored: StoredFrameSet, protocols: dict[str, Protocol], files: Sequence[_File], vouched: bool) -> str:
    facts = stored.facts
    configs = [
        {
            "config_name": name,
            "data_files": [
                {"split": split, "path": paths}
                for split in protocol.names
                if (paths := [file.name for file in files if (name, split) in file.splits])
            ],
            **({"default": True} if position == 0 else {}),
        }
        for position, (name, protocol) in enumerate(protocols.items())
    ]
    known = facts.licence in _LICENCE_IDS
    data = DatasetCardData(
        pretty_name=facts.title,
        license=facts.licence.lower() if known else "other",
        license_name=None if known else facts.licence,
        task_categories=["video-classification"],
        tags=["surgery", "surgical-video", facts.task],
        configs=configs,
    )
    vouch = "\n\nWhoever uploaded this data set states that they have the right to do so." if vouched else ""
    first = next(iter(protocols))
    return f"""---
{data.to_yaml()}
---

# {facts.title}

{facts.procedure.capitalize()}: one row per frame, in order, with labels. Made by surgvista_hf {__version__} from the original
videos ({_sampling(stored)}).

- Citation: {facts.citation or "none"}
- Original data: {facts.homepage} ({facts.access})
- Licence: {facts.licence}{vouch}

{facts.notes}

For research. Not a medical device, and never a basis for decisions about patients.

## Splits

{_split_table(stored, protocols, files)}
{_leaks(protocols)}
## Labels

{_label_list(facts)}

## Use

```python
from datasets import load_dataset

frames = load_dataset("path/of/this/data_set", "{first}", split="train")  # streaming=True reads without downloading all
```

or, as clips:

```python
from surgvista_hf import load_frame_set
from surgvista_hf.clips import StreamingClipDataset

frames = load_frame_set("{facts.name}", "hf://datasets/path/of/this/data_set", "train", streaming=True)
clips = StreamingClipDataset(frames, num_frames=16, frame_stride=4)
```
"""


def _sampling(stored: StoredFrameSet) -> str:
    options = json.loads((stored.folder / MANIFEST).read_text(encoding="utf-8"))["options"]
    if options["every"]:
        rate = f"every {options['every']}th frame"
    else:
        rate = f"{options['frames_per_second']:g} frames a second" if options["frames_per_second"] else "every frame"
    size = f"shorter side at most {options['short_side']} pixels" if options["short_side"] else "original size"
    return f"{rate}, {size}, JPEG quality {options['quality']}"


def _split_table(stored: StoredFrameSet, protocols: dict[str, Protocol], files: Sequence[_File]) -> str:
    lines = ["| protocol | split | videos | frames | origin |", "|---|---|---|---|---|"]
    for name, protocol in protocols.items():
        for split in protocol.names:
            videos = [video for file in files if (name, split) in file.splits for video in file.videos]
            frames = sum(video.frames for video in videos)
            lines.append(f"| `{name}` | {split} | {len(videos)} | {frames:,} | {protocol.origin} |")
    return "\n".join(lines)


def _leaks(protocols: dict[str, Protocol]) -> str:
    lines = [f"- **{name}**: {protocol.leaks}." for name, protocol in protocols.items() if protocol.leaks]
    return "\nTake care with these splits:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _label_list(facts: DatasetFacts) -> str:
    kinds = {"class": "one of", "classes": "a set of", "numbers": "numbers for"}
    lines = [
        f"- `{name}`: {kinds[label.kind]} {len(label.names)}: {', '.join(label.names[:12])}"
        + (", …" if len(label.names) > 12 else "")
        for name, label in facts.labels.items()
    ]
    return "\n".join(lines) or "None."

"""Frozen features of whole videos, one vector for each frame, for temporal models and probes.

A folder of features holds one Arrow file for each video and a description. Videos whose features are there, of the same frames
and labels, are not computed again; several processes divide the rest among themselves
(`accelerate launch -m surgvista_hf.cli.main extract-features …`), or an executor does (`extract_features_of`).
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from datasets import ClassLabel, Dataset
from datasets.features.features import FeatureType
from transformers import AutoConfig, AutoModelForVideoClassification, AutoVideoProcessor, PreTrainedModel
from transformers.video_processing_utils import BaseVideoProcessor

from ...clips import ClipIndex
from ...clips.dataset import decode_image, label_tensor
from ...clips.sampling.timeline import Timeline
from ...clips.sampling.windows import ClipWindow
from ...datasets_scripts.frame_sets.fingerprints import folder_of, video_fingerprints
from ...evaluation.probes import Features
from ...modeling.adapters import merge_adapter
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.features import FeatureExtractor, Pooling
from ...modeling.loading import (
    clip_length,
    load_any_encoder,
    make_classifier_processor,
    resolve_frame_stride,
    stored_frame_interval,
)
from ...modeling.precision import resolve_dtype
from ...modeling.processors import prepare_clips
from ...util.console import progress_bar
from ...util.errors import InputError, SurgVistaError
from ...util.executors import Executor, Lazy, check_executor, run_over
from ...util.files import at_work, atomic_file, check_settings
from ...util.fingerprint import model_fingerprint, state_fingerprint, weights_fingerprint
from ...util.messages import first_line, preview
from ...util.source_records import SourceRecords

logger = logging.getLogger(__name__)
_FRAMES_AT_ONCE = 32
_CONTENT = b"frames"  # key of the fingerprint in the metadata of a file of features


class ExtractionError(SurgVistaError):
    """The features of some videos could not be computed; those of the others are finished."""


@dataclass(frozen=True)
class VideoFeatures:
    """Features of one video.

    Args:
        source: name of the data set.
        video_id: id of the video.
        seconds: time of each frame in seconds, (frames,).
        values: features, (frames, width) fp32.
        labels: class numbers (frames,), or labels (frames, classes); -1 where a frame has none.
    """

    source: str
    video_id: str
    seconds: np.ndarray
    values: np.ndarray
    labels: np.ndarray

    @property
    def name(self) -> str:
        """Return the name `source/video id`."""
        return f"{self.source}/{self.video_id}"

    @property
    def frames_per_second(self) -> float | None:
        """Return one over the median time between two features; `None` where there is only one."""
        if len(self.seconds) < 2:
            return None
        return 1 / float(np.median(np.diff(self.seconds.astype(np.float64))))

    @property
    def labeled(self) -> np.ndarray:
        """Return the indices of the frames that have labels."""
        return np.flatnonzero(self.labels.reshape(len(self.labels), -1)[:, 0] >= 0)


class VideoFeatureExtractor:
    """Computes one feature vector for every frame of a video, from the clip that ends with it.

    The features of a trained classifier are the input of its last layer; those of an encoder are the mean of its normalized
    tokens, or of an image encoder its feature of the frame; see `FeatureExtractor`.

    Args:
        start: folder or Hub id of a classifier, an adapter or an encoder; or a classifier.
        processor: processor of a classifier that is given as an object.
        frame_stride: seconds between two frames of a clip; by default the model's own, or 4 with a remark.
        num_frames: frames of a clip, for encoders without training on clips; by default 1 for image encoders.
        device: device to run on; by default a GPU if there is one.
        dtype: precision: `"float32"`, `"bfloat16"` (autocast), or `"auto"`: bfloat16 where the device has it in hardware.
        pooling: `"tubelets"`: the features of a video encoder are the means of each tubelet, one after the other, so that time
            is kept; see `FeatureExtractor`. Image encoders have none.

    Raises:
        InputError: nothing can be loaded from there, a classifier was trained on clips of another spacing, or the tubelets of
            a classifier are requested.

    Example:
        >>> extractor = VideoFeatureExtractor("my-encoder")  # doctest: +SKIP
        >>> extractor.extract(frame_set, Path("features"), label="phase")  # doctest: +SKIP
    """

    def __init__(
        self,
        start: str | Path | PreTrainedModel,
        processor: BaseVideoProcessor | None = None,
        *,
        frame_stride: float | None = None,
        num_frames: int | None = None,
        device: str | torch.device | None = None,
        dtype: str = "float32",
        pooling: Pooling = "mean",
    ) -> None:
        self._is_saved = not isinstance(start, PreTrainedModel)
        self.name = str(start) if self._is_saved else "model"
        model, layer = (start, "classifier") if isinstance(start, PreTrainedModel) else _load(start, num_frames)
        self.model: Any = model.eval()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model.to(self.device)
        self.dtype = resolve_dtype(dtype, self.device)
        own = processor or (_stored_processor(start) if layer == "classifier" else None)
        self.frame_stride = resolve_frame_stride(
            model.config, own, frame_stride, source=self.name, encoder=layer != "classifier"
        )
        self.is_encoder = is_encoder = layer != "classifier"  # used as it is, so its own resize and crop hold
        self.processor = processor or make_classifier_processor(
            model, start, self.frame_stride, keep_geometry=is_encoder
        )
        self.frame_interval = stored_frame_interval(model.config, own)
        self.num_frames = clip_length(model.config)
        self.pooling = pooling
        if pooling == "tubelets" and not is_encoder:
            raise InputError(f"{self.name} is a classifier, which has pooled its tubelets already: take pooling mean")
        if pooling == "tubelets" and self.model.sees_clips:
            self._extractor = FeatureExtractor(self.model.encoder, pooling=pooling)
        else:
            self._extractor = FeatureExtractor(self.model, layer=layer)

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """Return the fingerprints that the model may be known by: that of its files, if it has some, and of its tensors."""
        own = weights_fingerprint(self.name) if self._is_saved else model_fingerprint(self.model)
        return own, state_fingerprint(self.model)

    def prepare(self, frames: torch.Tensor) -> torch.Tensor:
        """Return frames (frames, 3, height, width) uint8 as the model takes them; sizes may change, the order may not."""
        return prepare_clips(self.processor, frames)[0]

    @torch.inference_mode()
    def features(self, clips: torch.Tensor) -> np.ndarray:
        """Return the features (B, width) of prepared clips (B, frames, channels, height, width)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            features = self._extractor(clips.to(self.device)).features
        return features.float().cpu().numpy()

    def extract(
        self,
        frames: Dataset,
        output: Path,
        *,
        label: str | None = None,
        batch_size: int = 16,
        progress: bool = True,
        wait: bool = False,
    ) -> None:
        """Write the features of every video of a frame set that is not in the folder yet, or whose frames or labels changed.

        Args:
            frames: frame set.
            output: folder of the features.
            label: column of labels that is stored with the features.
            batch_size: number of clips in one pass.
            progress: show a progress bar.
            wait: wait for another run that is at work on the folder, instead of raising an error.

        Raises:
            OutputError: the folder holds features of another model, of other clips, or of namesakes in another frame set, or
                another run is at work on it.
            FrameSetError: frames of the set are further apart than those of a clip.
        """
        extract_features_of(
            Lazy.of(self),
            frames,
            output,
            label=label,
            batch_size=batch_size,
            progress=progress,
            wait=wait,
        )

    def write_video(
        self,
        index: ClipIndex,
        timeline: Timeline,
        frames: Dataset,
        video: int,
        file: Path,
        content: str,
        *,
        label: str | None,
        batch_size: int,
    ) -> None:
        """Write the features of one video.

        Args:
            index, timeline: rows and times of the frame set.
            frames: frame set.
            video: number of the video in the index.
            file: file to write.
            content: fingerprint of the video's frames and labels.
            label, batch_size: arguments of `extract`.
        """
        source, name = index.source_names[index.sources[video]], str(index.video_ids[video])
        start = int(index.starts[video])
        rows = range(start, start + int(index.lengths[video]))
        times = [timeline.second(video, frame) for frame in range(len(rows))]
        _write(file, self._video(frames, rows, source, name, label, batch_size, times), content)

    def _video(
        self,
        frames: Dataset,
        rows: range,
        source: str,
        name: str,
        label: str | None,
        batch_size: int,
        times: Sequence[float],
    ) -> VideoFeatures:
        columns = ["timestamp", *([label] if label else [])]
        table: pa.Table = frames.with_format("arrow", columns=columns)[rows.start : rows.stop]
        values: list[np.ndarray] = []
        batch: list[torch.Tensor] = []
        window = ClipWindow(self.num_frames, self.frame_stride, self.frame_interval)
        for second, frame in zip(times, self._prepared(frames, rows, name), strict=True):
            batch.append(window.push(second, frame))
            if len(batch) == batch_size:
                values.append(self.features(torch.stack(batch)))
                batch.clear()
        if batch:
            values.append(self.features(torch.stack(batch)))
        labels = np.full(len(rows), -1, np.int64)
        if label:
            labels = _labels(table[label].to_pylist(), frames.features[label])
        seconds = table["timestamp"].to_numpy().astype(np.float32)
        return VideoFeatures(source, name, seconds, np.concatenate(values), labels)

    def _prepared(self, frames: Dataset, rows: range, name: str) -> Iterator[torch.Tensor]:
        """Yield every frame of a video, decoded and prepared once, (channels, height, width)."""
        table = frames.with_format("arrow", columns=["image"])
        for start in range(rows.start, rows.stop, _FRAMES_AT_ONCE):
            cells = table[start : min(start + _FRAMES_AT_ONCE, rows.stop)]["image"].to_pylist()
            images = [decode_image(cell, f"a frame of video {name}") for cell in cells]
            clip = torch.stack(images).permute(0, 3, 1, 2)  # (frames, 3, height, width)
            yield from self.prepare(clip)


def extract_features_of(
    extractor: Lazy[VideoFeatureExtractor],
    frames: Dataset,
    output: Path,
    *,
    label: str | None = None,
    batch_size: int = 16,
    progress: bool = True,
    wait: bool = False,
    num_proc: int = 1,
    executor: Executor = "local",
) -> None:
    """Write the features of every video of a frame set on an executor; otherwise like `VideoFeatureExtractor.extract`.

    Args:
        extractor: extractor that each process loads.
        frames, output, label, batch_size, progress, wait: arguments of `VideoFeatureExtractor.extract`.
        num_proc, executor: arguments of `run_over`.

    Raises:
        OutputError, FrameSetError: see `VideoFeatureExtractor.extract`.
        ExtractionError: the processes that worked on some videos were killed. The others are finished.

    Example:
        >>> extractor = Lazy(partial(VideoFeatureExtractor, "my-encoder"))  # doctest: +SKIP
        >>> extract_features_of(extractor, frame_set, Path("features"), executor="ray", num_proc=0)  # doctest: +SKIP
    """
    check_executor(executor, num_proc)
    own, state = extractor.value, PartialState()
    description = {
        "model": own.fingerprints[0],
        "num_frames": own.num_frames,
        "frame_stride": own.frame_stride,
        "label": label,
        "classes": _class_names(frames, label),
        # Earlier versions noted neither, where these are their values.
        **({} if own.pooling == "mean" else {"pooling": own.pooling}),
        **({} if own.dtype == "float32" else {"dtype": own.dtype}),
    }
    clips, contents = Lazy(partial(_index_clips, frames)), video_fingerprints(frames)
    index, timeline = clips.value
    if own.num_frames > 1:
        timeline.check_stride(own.frame_stride, index)
    with at_work(output, wait=wait):
        if state.is_main_process:
            check_settings(output, description, names={"model": _short_name(own.name)})
            _check_origins(output, contents, folder_of(frames))
        state.wait_for_everyone()
        names = [
            f"{index.source_names[source]}/{video_id}"
            for source, video_id in zip(index.sources, index.video_ids, strict=True)
        ]
        mine = list(enumerate(names))[state.process_index :: state.num_processes]
        tasks = [
            _VideoTask(video, name, contents[name])
            for video, name in mine
            if _stored_content(output / f"{name}.arrow") != contents[name]
        ]
        work = _Extraction(extractor, clips, frames, output, label, batch_size)
        results = run_over(work, tasks, _crashed, num_proc=num_proc, executor=executor, name=lambda task: task.name)
        shown, before = progress and state.is_local_main_process, len(mine) - len(tasks)
        lost = []
        with progress_bar("features", total=len(mine), initial=before, unit="videos", shown=shown) as bar:
            for result in results:
                lost += [result] if result else []
                bar.update()
        if lost:
            raise ExtractionError(
                f"the features of {len(lost)} videos are missing: {preview(lost)}. The others are finished; run the same again"
            )
        state.wait_for_everyone()


@dataclass(frozen=True)
class _VideoTask:
    """A video of a frame set: its number, its name and the fingerprint of its frames and labels."""

    video: int
    name: str
    content: str


@dataclass(frozen=True)
class _Extraction:
    """The work on each video of a frame set, as it is sent to other processes."""

    extractor: Lazy[VideoFeatureExtractor]
    clips: Lazy[tuple[ClipIndex, Timeline]]
    frames: Dataset
    output: Path
    label: str | None
    batch_size: int

    def __call__(self, task: _VideoTask) -> str:
        """Write the features of one video, and return an empty message."""
        index, timeline = self.clips.value
        file = self.output / f"{task.name}.arrow"
        self.extractor.value.write_video(
            index, timeline, self.frames, task.video, file, task.content, label=self.label, batch_size=self.batch_size
        )
        return ""


def _index_clips(frames: Dataset) -> tuple[ClipIndex, Timeline]:
    """Return the rows and the times of a frame set by video."""
    index = ClipIndex.from_frame_set(frames)
    return index, Timeline.from_frame_set(frames, index)


def _crashed(task: _VideoTask, reason: str) -> str:
    return f"{task.name}: {reason}"


def load_video_features(folder: Path, videos: Mapping[str, Collection[str]] | None = None) -> list[VideoFeatures]:
    """Read a folder of features.

    Args:
        folder: folder that `VideoFeatureExtractor.extract` wrote.
        videos: ids of the videos by the name of their data set; by default all videos of the folder.

    Returns:
        The features of each video, in the order of their names.

    Raises:
        InputError: no such folder, or videos without features.
    """
    if not (folder / "settings.json").is_file():
        raise InputError(f"{folder} holds no features: settings.json is missing")
    found = {(file.parent.name, file.stem): file for file in sorted(folder.glob("*/*.arrow"))}
    wanted = (
        sorted(found)
        if videos is None
        else [(name, video) for name in sorted(videos) for video in sorted(videos[name])]
    )
    missing = [f"{name}/{video}" for name, video in wanted if (name, video) not in found]
    if missing or not wanted:
        raise InputError(f"{folder} lacks features of {', '.join(missing[:5]) or 'any video'}")
    return [_read(found[key]) for key in wanted]


def check_features_of(folder: Path, fingerprint: str, name: str) -> None:
    """Check that features were computed by a model.

    Args:
        folder: folder that `VideoFeatureExtractor.extract` wrote.
        fingerprint: fingerprint of the model's files, see `weights_fingerprint`.
        name: name of the model, for messages.

    Raises:
        InputError: no such folder, or features of another model.
    """
    file = folder / "settings.json"
    if not file.is_file():
        raise InputError(f"{folder} holds no features: settings.json is missing")
    stored = json.loads(file.read_text(encoding="utf-8"))
    if stored["model"] != fingerprint:
        called = stored.get("names", {}).get("model", "a model")
        raise InputError(
            f"the features in {folder} were computed by {called} ({stored['model']}), not by {name} ({fingerprint}), so they "
            f"cannot be compared; extract them anew with {name}"
        )


def as_clips(videos: Sequence[VideoFeatures]) -> Features:
    """Return the features of all labeled frames for a probe."""
    return Features(
        values=np.concatenate([video.values[video.labeled] for video in videos]),
        labels=np.concatenate([video.labels[video.labeled] for video in videos]),
        videos=np.concatenate([np.full(len(video.labeled), video.name) for video in videos]),
    )


# ------------------------------------------------------------------------------------------- models


def _load(start: str | Path, num_frames: int | None) -> tuple[PreTrainedModel, str]:
    """Return a model and the name of the layer whose input is the feature."""
    if (Path(start) / "adapter_config.json").is_file():
        return merge_adapter(start), "classifier"
    name = folder_or_hub_name(start)
    try:
        config = AutoConfig.from_pretrained(name)
        if any(architecture.endswith("ForVideoClassification") for architecture in config.architectures or ()):
            return AutoModelForVideoClassification.from_pretrained(name), "classifier"
    except SurgVistaError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{start} cannot be loaded: {first_line(error)}{not_a_folder_either(name)}") from error
    return load_any_encoder(start, num_frames), "fc_norm"


def _stored_processor(start: str | Path | PreTrainedModel) -> BaseVideoProcessor | None:
    """Return the processor beside a classifier, if there is one."""
    if isinstance(start, PreTrainedModel):
        return None
    try:
        return AutoVideoProcessor.from_pretrained(str(start))
    except (OSError, ValueError, KeyError):
        return None


# ------------------------------------------------------------------------------------------- files


def _class_names(frames: Dataset, label: str | None) -> list[str] | None:
    if label is None:
        return None
    if label not in frames.column_names:
        raise InputError(f"there is no column {label!r}; there are {', '.join(frames.column_names)}")
    feature = frames.features[label]
    return list(getattr(getattr(feature, "feature", feature), "names", None) or ()) or None


def _labels(cells: list[Any], feature: FeatureType) -> np.ndarray:
    """Return the labels of frames, (frames,) or (frames, classes), with -1 for frames that have none."""
    if isinstance(feature, ClassLabel):
        return np.array([-1 if cell is None else cell for cell in cells], np.int64)
    known = [label_tensor(cell, feature).numpy() for cell in cells if cell is not None]
    if not known:
        raise InputError("a video has no labels")
    return np.stack(
        [np.full_like(known[0], -1) if cell is None else label_tensor(cell, feature).numpy() for cell in cells]
    )


def _short_name(name: str) -> str:
    """Return the name that people know a model by: its folder without the path, or its Hub id."""
    return Path(name).name if Path(name).exists() else name


def _stored_content(file: Path) -> str | None:
    """Return the fingerprint of the frames that features were computed from.

    It is empty where the file does not say it, and `None` without a file.
    """
    try:
        with pa.memory_map(str(file)) as source:
            stored = (pa.ipc.open_stream(source).schema.metadata or {}).get(_CONTENT, b"")
            return str(stored.decode())
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError):
        return ""


def _check_origins(output: Path, contents: Mapping[str, str], folder: Path | None) -> None:
    """Refuse videos of another frame set with the same names, and warn of features that are stale."""
    found = {name: _stored_content(output / f"{name}.arrow") for name in contents}
    changed = {
        name: (stored or "not noted", contents[name])
        for name, stored in found.items()
        if stored is not None and stored != contents[name]
    }
    origins = SourceRecords(output, folder and folder.parent)
    origins.check(changed)
    origins.note(contents)
    for name in changed:
        logger.warning("%s has other frames or labels than before: its features are computed anew", name)


def _write(file: Path, video: VideoFeatures, content: str) -> None:
    width = video.values.shape[1]
    table = pa.table(
        {
            "source": [video.source] * len(video.seconds),
            "video_id": [video.video_id] * len(video.seconds),
            "frame_index": np.arange(len(video.seconds), dtype=np.int32),
            "timestamp": video.seconds,
            "features": pa.FixedSizeListArray.from_arrays(video.values.astype(np.float32).ravel(), width),
            "label": video.labels.tolist(),
        }
    ).replace_schema_metadata({_CONTENT: content})
    with (
        atomic_file(file) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)


def _read(file: Path) -> VideoFeatures:
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_stream(source).read_all().combine_chunks()
        values = table["features"].combine_chunks()
        return VideoFeatures(
            table["source"][0].as_py(),
            table["video_id"][0].as_py(),
            table["timestamp"].to_numpy(),
            values.flatten().to_numpy().reshape(len(values), -1),
            np.array(table["label"].to_pylist()),
        )
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{file} is no file of features: {error}. Remove it and extract again") from error

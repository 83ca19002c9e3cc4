"""Preparation of videos for the models: decoding, choice of frames, resizing, normalization. Travels with a checkpoint.

The defaults are the validation transform of the published fine-tuning recipe: frames squeezed to 224 × 224 by bilinear
interpolation without antialiasing, divided by 255, ImageNet mean and deviation.
"""

import math
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
from transformers.processing_utils import VideosKwargs
from transformers.utils import is_torchvision_available
from transformers.video_processing_utils import BaseVideoProcessor

from .errors_surgvista import InputError, VideoReadError
from .video_reading_surgvista import Source, VideoReader, rgb_pixels

TOLERANCE = 1.5e-3  # seconds by which a frame may begin late and still be the one shown at a moment
_FRAME_CHANNELS = (1, 3, 4)


def online_clip_seconds(
    end: float, num_frames: int, frame_stride: float, frame_interval: float | None = None
) -> list[float]:
    """Return the moments of the clip that ends at a second and uses only the past (published rule of SurgVISTA).

    Going back from `end` in steps of `frame_stride`, a step that would leave the video is not taken, so near the start the
    earliest moment that was reached repeats. A clip shows the frames shown at these moments.

    Args:
        end: labeled second, from the start of the video.
        num_frames: number of frames in a clip.
        frame_stride: seconds between two frames of a clip; may lie below one.
        frame_interval: spacing of a frame set in seconds: its last frame before each moment is taken.

    Returns:
        `num_frames` seconds, ascending. Whole numbers stay whole: they are also indices of frames at one a second.

    Raises:
        InputError: a negative second, a count below 1, or a stride that is not positive.

    Example:
        >>> online_clip_seconds(10, 4, 4)
        [2, 2, 6, 10]
        >>> online_clip_seconds(1.0, 4, 0.4)
        [0.2, 0.2, 0.6, 1.0]
        >>> online_clip_seconds(60, 16, 4)
        [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60]
    """
    if end < 0 or num_frames < 1 or not frame_stride > 0:
        raise InputError(f"no clip of {num_frames} frames with stride {frame_stride} ends at second {end}")
    steps = math.floor((end + TOLERANCE) / frame_stride)
    seconds = [round(end - min(step, steps) * frame_stride, 9) for step in reversed(range(num_frames))]
    if frame_interval is None:
        return seconds
    return [round(math.floor((second + TOLERANCE) / frame_interval) * frame_interval, 9) for second in seconds]


def uniform_clip_seconds(duration: float, num_frames: int) -> list[float]:
    """Return the middles of `num_frames` equal parts of a video of `duration` seconds.

    Example:
        >>> uniform_clip_seconds(8.0, 4)
        [1.0, 3.0, 5.0, 7.0]
    """
    return [(part + 0.5) * duration / num_frames for part in range(num_frames)]


class SurgVistaVideosKwargs(VideosKwargs, total=False):
    """Options of `SurgVistaVideoProcessor` beside those of every video processor."""

    frame_sampling: Literal["online", "uniform"] | None
    frame_stride: float | int | None
    frame_interval: float | int | None
    end_second: float | int | None
    antialias: bool | None
    video_backend: Literal["pyav", "torchcodec"] | None


class SurgVistaVideoProcessor(BaseVideoProcessor):
    r"""Prepares videos for the SurgVISTA models.

    A video is a path, the bytes of a file, a list of PIL images, or an array or tensor of frames, (frames, height, width,
    channels) or (frames, channels, height, width); a batch is a list of videos. Gray, CMYK and RGBA become RGB. Pixels are
    integers in 0 … 255 or floating-point numbers in 0 … 255 or 0 … 1: a video whose numbers all lie in 0 … 1 counts as divided
    by 255 already and is not divided again. With `do_rescale=False` numbers are taken as they are.

    Args:
        num_frames: number of frames in a clip.
        frame_sampling: `"online"`: the clip ends with `end_second` and reaches back in steps of `frame_stride`, as in
            training for workflow recognition; `"uniform"`: spread over the whole video.
        frame_stride: seconds between two frames of an online clip; may lie below one.
        frame_interval: seconds between the frames of the set that the model was trained on, where `frame_stride` is no whole
            number of them: the frames of a clip are then those that such a set has at its moments.
        end_second: labeled second of an online clip, given per call; it may have a fraction. By default it is the last whole
            second.
        do_sample_frames: choose frames; `False` takes every frame. Frames given as images or arrays are taken as they are
            unless this is said in the call, and then count as one a second.
        antialias: smooth while shrinking, unlike the recipe.
        video_backend: `"pyav"` or `"torchcodec"`, which decodes only what is shown as it is stored; pixels that are not
            square, interlaced or turned frames and DICOM files are read with PyAV all the same.

    Returns:
        `pixel_values` (batch, frames, channels, height, width), fp32.

    Raises:
        InputError: the input is no video, or an option is wrong.
        VideoReadError: a file cannot be decoded.

    Example:
        >>> processor = SurgVistaVideoProcessor()
        >>> processor("operation.mp4", return_tensors="pt")["pixel_values"].shape  # doctest: +SKIP
        torch.Size([1, 16, 3, 224, 224])
    """

    resample = PILImageResampling.BILINEAR
    image_mean = [0.485, 0.456, 0.406]
    image_std = [0.229, 0.224, 0.225]
    size = {"height": 224, "width": 224}
    default_to_square = True
    do_resize = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    do_convert_rgb = False  # done before, see _as_frames
    do_sample_frames = True
    num_frames = 16
    frame_sampling = "online"
    frame_stride = 4
    frame_interval = None
    end_second = None
    antialias = False
    video_backend = "pyav"
    model_input_names = ["pixel_values"]
    valid_kwargs = SurgVistaVideosKwargs  # type: ignore[assignment]

    def __init__(self, **kwargs: Any) -> None:
        if not is_torchvision_available():
            raise ImportError("SurgVistaVideoProcessor resizes with torchvision: pip install torchvision")
        super().__init__(**kwargs)

    def preprocess(self, videos: object, **kwargs: Any) -> BatchFeature:
        """Prepare a batch of videos; the class describes input, options and result."""
        requested = kwargs.pop("do_sample_frames", None)
        layout = kwargs.pop("input_data_format", None)
        sampling: dict[str, Any] = {
            name: kwargs.get(name) if kwargs.get(name) is not None else getattr(self, name, None)
            for name in (
                "num_frames",
                "frame_sampling",
                "frame_stride",
                "frame_interval",
                "end_second",
                "video_backend",
                "fps",
            )
        }
        _check_sampling(sampling)
        clips, metadata = [], []
        for video in _split_batch(videos):
            if _is_file(video):
                sample = self.do_sample_frames if requested is None else requested
                clip, about = _read_clip(video, sampling if sample else None, sampling["video_backend"])
            else:
                clip, about = _take_clip(_as_frames(video, layout), sampling if requested else None)
            rescales = self.do_rescale if kwargs.get("do_rescale") is None else kwargs["do_rescale"]
            clips.append(_from_0_to_255(clip) if rescales else clip)
            metadata.append(about)
        if kwargs.get("video_metadata") is None:
            kwargs["video_metadata"] = metadata
        batch = super().preprocess(
            clips, do_sample_frames=False, input_data_format=ChannelDimension.FIRST, do_convert_rgb=False, **kwargs
        )
        batch["pixel_values"] = batch.pop("pixel_values_videos")
        return batch

    def _preprocess(  # type: ignore[override]
        self,
        videos: list[torch.Tensor],
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling,
        antialias: bool,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | Sequence[float],
        image_std: float | Sequence[float],
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Resize and crop as uint8, then rescale and normalize while copying into the batch."""
        if do_resize:
            videos = [self.resize(video, size=size, resample=resample, antialias=antialias) for video in videos]
        if do_center_crop:
            videos = [self.center_crop(video, crop_size) for video in videos]
        mean, deviation = (_per_channel(v) for v in ((image_mean, image_std) if do_normalize else (0.0, 1.0)))
        factor, shift = (rescale_factor if do_rescale else 1.0) / deviation, -mean / deviation
        # Rescaling and normalization are one product and one sum a channel: x · factor + shift.
        clips: torch.Tensor | list[torch.Tensor]
        if len({video.shape for video in videos}) == 1:
            clips = torch.empty(len(videos), *videos[0].shape, device=videos[0].device)
        else:
            clips = [torch.empty(video.shape, device=video.device) for video in videos]
        for clip, video in zip(clips, videos, strict=True):
            torch.addcmul(shift.to(clip), clip.copy_(video), factor.to(clip), out=clip)
        return BatchFeature(data={"pixel_values_videos": clips}, tensor_type=return_tensors)


def _per_channel(values: float | Sequence[float]) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64).view(-1, 1, 1)


# ------------------------------------------------------------------------------------------- choosing frames


def _check_sampling(sampling: dict[str, Any]) -> None:
    for name, choices in (("frame_sampling", ("online", "uniform")), ("video_backend", ("pyav", "torchcodec"))):
        if sampling[name] not in choices:
            raise InputError(f"{name} is {sampling[name]!r}; it must be one of {choices}")
    if not isinstance(sampling["num_frames"], int) or sampling["num_frames"] < 1:
        raise InputError(f"num_frames is {sampling['num_frames']!r}; it must be an integer of at least 1")
    for name in ("frame_stride", "frame_interval"):
        value = sampling[name]
        if name == "frame_interval" and value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise InputError(f"{name} is {value!r}; it must be a positive number of seconds")
    if sampling["fps"] is not None:
        raise InputError("fps has no meaning here: online clips have frame_stride seconds between two frames")


def _clip_seconds(duration: float, last_second: float, sampling: dict[str, Any]) -> list[float]:
    """Return the times of the frames of a clip from a video whose last frame begins at `last_second`."""
    if sampling["frame_sampling"] == "uniform":
        return uniform_clip_seconds(duration, sampling["num_frames"])
    end = float(math.floor(last_second + 1e-3)) if sampling["end_second"] is None else float(sampling["end_second"])
    if not 0 <= end < duration:
        raise InputError(f"no clip ends at second {end:g}: the video lasts {duration:g} s")
    return online_clip_seconds(end, sampling["num_frames"], sampling["frame_stride"], sampling["frame_interval"])


def _take_clip(frames: torch.Tensor, sampling: dict[str, Any] | None) -> tuple[torch.Tensor, dict[str, Any]]:
    """Choose a clip from frames (frames, channels, height, width), one a second; return it and the video's metadata."""
    count, _, height, width = frames.shape
    indices = list(range(count))
    if sampling is not None:
        if sampling["frame_sampling"] == "online" and sampling["num_frames"] > 1 and sampling["frame_stride"] < 1:
            raise InputError(
                f"frames given as images count as one a second, but the frames of a clip are {sampling['frame_stride']:g} s "
                "apart: give a video file, or the frames of the clip themselves with do_sample_frames=False"
            )
        indices = [min(math.floor(second), count - 1) for second in _clip_seconds(count, count - 1, sampling)]
        frames = frames[indices]
    return frames, {"total_num_frames": count, "height": height, "width": width, "frames_indices": indices}


def _read_clip(video: Source, sampling: dict[str, Any] | None, backend: str) -> tuple[torch.Tensor, dict[str, Any]]:
    """Read a clip from a file, (frames, channels, height, width), uint8; return it and the video's metadata."""
    with VideoReader(video) as reader:
        info = reader.info
        seconds = None
        if sampling is not None:
            frame_duration = 1 / info.frames_per_second if info.frames_per_second else 1.0
            last = info.duration_seconds - frame_duration
            if sampling["frame_sampling"] == "uniform" or sampling["end_second"] is None or last <= 0:
                last = reader.last_second  # the promised duration is not exact
            seconds = _clip_seconds(last + frame_duration, last, sampling)
        if backend == "torchcodec" and info.is_plain and not reader.is_dicom:
            frames = _read_with_torchcodec(video, seconds)
        elif seconds is None:
            frames = _channels_first(np.stack([frame for _, frame in reader.iterate(None)]))
        else:
            frames = _channels_first(reader.frames_at(seconds))
    rate, most = info.frames_per_second, max(info.num_frames - 1, 0)
    shown = range(len(frames)) if seconds is None else (min(math.floor(s * rate + 1e-6), most) for s in seconds)
    about = {
        "total_num_frames": info.num_frames,
        "fps": rate or None,
        "width": info.width,
        "height": info.height,
        "duration": info.duration_seconds,
        "video_backend": backend,
        "frames_indices": list(shown),
    }
    return frames, about


def _channels_first(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def _read_with_torchcodec(video: Source, seconds: Sequence[float] | None) -> torch.Tensor:
    """Decode the frames shown at these times, or all: (frames, channels, height, width), uint8."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:  # absent, or FFmpeg's libraries are
        raise InputError(
            "video_backend='torchcodec' needs torchcodec and FFmpeg's libraries; 'pyav' needs neither"
        ) from error
    try:
        source = os.fspath(video) if isinstance(video, os.PathLike) else video
        decoder: Any = VideoDecoder(source)  # type: ignore[arg-type]  # it takes any binary file
        if seconds is None:
            return decoder[:]
        start, end = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
        shown = [min(max(start + second, start), np.nextafter(end, 0)) for second in seconds]
        return decoder.get_frames_played_at(shown).data
    except (RuntimeError, ValueError, IndexError) as error:
        raise VideoReadError(
            f"torchcodec cannot decode {video if not isinstance(video, bytes) else 'the video'}: {error}"
        ) from error


# ------------------------------------------------------------------------------------------- kinds of input


def _is_file(video: object) -> TypeGuard[Source]:
    return isinstance(video, str | os.PathLike | bytes) or hasattr(video, "read")


def _is_frame(item: object) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray | torch.Tensor) and item.ndim in (2, 3))


def _split_batch(videos: object) -> list[Any]:
    """Split a batch into videos, each a file, an array of frames, or a list of frames."""
    if _is_file(videos):
        return [videos]
    if isinstance(videos, np.ndarray | torch.Tensor) and videos.ndim in (4, 5):
        return [videos] if videos.ndim == 4 else list(videos)
    if isinstance(videos, list | tuple) and videos:
        if all(_is_frame(item) for item in videos):
            return [list(videos)]
        if not any(_is_frame(item) for item in videos):
            return [video for item in videos for video in _split_batch(item)]
    found = type(videos).__name__
    if isinstance(videos, np.ndarray | torch.Tensor):
        found += f" of shape {tuple(videos.shape)}"
    raise InputError(
        f"{found} is no video: give a path, bytes, a list of images, an array (frames, height, width, channels), "
        "or a list of these"
    )


def _as_frames(video: np.ndarray | torch.Tensor | list[Any], layout: str | ChannelDimension | None) -> torch.Tensor:
    """Make a tensor (frames, 3, height, width) of an array or of a list of images or arrays."""
    images = video if isinstance(video, list) else []
    prefers_first = isinstance(images[0] if images else video, torch.Tensor)
    frames = _as_tensor(video) if not isinstance(video, list) else _stack(images)
    if not len(frames):
        raise InputError("the video has no frames")
    if layout is None:
        first, last = frames.shape[1] in _FRAME_CHANNELS, frames.shape[3] in _FRAME_CHANNELS
        if not first and not last:
            raise InputError(f"frames of shape {tuple(frames.shape)} have no axis of 1, 3 or 4 channels")
        channels_first = first and (prefers_first or not last)
    else:
        channels_first = ChannelDimension(layout) == ChannelDimension.FIRST
    frames = frames if channels_first else frames.permute(0, 3, 1, 2)
    return frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]


def _stack(images: list[Any]) -> torch.Tensor:
    """Stack images of one size to a tensor (frames, …); gray ones get a channel axis."""
    frames = [_as_tensor(rgb_pixels(i) if isinstance(i, Image.Image) else i) for i in images]
    sizes = {tuple(frame.shape) for frame in frames}
    if len(sizes) > 1:
        raise InputError(f"the frames of a video differ in size: {sorted(sizes)}")
    stacked = torch.stack(frames)
    return stacked[..., None] if stacked.ndim == 3 else stacked


def _from_0_to_255(frames: torch.Tensor) -> torch.Tensor:
    """Bring floating-point frames that are in 0 … 1 to 0 … 255; interpolation may have overshot a little."""
    if not frames.is_floating_point():
        return frames
    low, high = frames.min().item(), frames.max().item()
    if not (math.isfinite(low) and math.isfinite(high)) or (low < -0.1 and high < 10):
        raise InputError(
            f"the pixels of a video range from {low:g} to {high:g}; frames are in 0 … 255 or 0 … 1. Normalized frames are "
            "what this makes: give the original ones, or say do_rescale=False and do_normalize=False"
        )
    return frames * 255 if high <= 1.1 else frames


def _as_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Make a tensor of bytes or of floating-point numbers.

    Raises:
        InputError: the array holds something else than pixels.
    """
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "uif":
            raise InputError(f"an array of {array.dtype} is no video; pixels are numbers, best uint8")
        array = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    if array.dtype == torch.uint8 or array.is_floating_point():
        return array
    array = array.long()
    if array.numel() and (array.min() < 0 or array.max() > 255):
        raise InputError(f"pixels range from {array.min()} to {array.max()}; integers must be in 0 … 255")
    return array.byte()

"""Prepare clips as the programs of other video encoders do. This file travels with a checkpoint."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict

from .resizing_surgvista import is_bicubic, resize_as_pillow, resize_plainly
from .video_processing_surgvista import SurgVistaVideoProcessor, SurgVistaVideosKwargs


class SurgicalVideosKwargs(SurgVistaVideosKwargs, total=False):
    """Options of `SurgicalVideoProcessor` beside those of `SurgVistaVideoProcessor`."""

    storage_size: dict[str, int] | None
    arithmetic: Literal["torchvision", "pillow", "opencv", "float"] | None
    crop_rounding: Literal["nearest", "up"] | None
    do_flip_channel_order: bool | None
    input_name: str | None


class SurgicalVideoProcessor(SurgVistaVideoProcessor):
    r"""Prepare clips by the rules of other encoders' programs: the short side and the central crop, an earlier resize, BGR.

    Videos, frames and the choice of frames are those of `SurgVistaVideoProcessor`; `size` may be `{"shortest_edge": pixels}`
    with `do_center_crop` and `crop_size`.

    Args:
        storage_size: Height and width to which frames are squeezed first, as Pillow's `BICUBIC` does, because the original's
            data set stores them so.
        arithmetic: How frames are resized: `"torchvision"`, with `resample` and `antialias`; `"pillow"`, with `resample` and
            to the last bit as Pillow, which antialiases; `"opencv"`, bilinear to the last bit as OpenCV; `"float"`, bilinear
            without rounding to bytes. The last two do not antialias.
        crop_rounding: Where an odd number of pixels is cut off, the first row or column that is kept is rounded: `"nearest"`
            (half to even, as torchvision and the programs of VideoMAE and V-JEPA) or `"up"` (as SlowFast's).
        do_flip_channel_order: Return blue, green, red.
        input_name: The name of the returned tensor, the model's `main_input_name`.

    Returns:
        The tensor `input_name`, (batch, frames, channels, height, width), fp32.

    Example:
        >>> options = {"size": {"shortest_edge": 8}, "crop_size": {"height": 7, "width": 7}, "do_center_crop": True}
        >>> processor = SurgicalVideoProcessor(**options, input_name="pixel_values_videos")
        >>> clip = torch.zeros(2, 3, 20, 30, dtype=torch.uint8)
        >>> processor(clip, return_tensors="pt")["pixel_values_videos"].shape
        torch.Size([1, 2, 3, 7, 7])
    """

    _auto_class = "AutoVideoProcessor"  # saving writes the code along: transformers has no such class
    valid_kwargs = SurgicalVideosKwargs
    storage_size: dict[str, int] | None = None
    arithmetic = "torchvision"
    crop_rounding = "nearest"
    do_flip_channel_order = False
    input_name = "pixel_values"

    def preprocess(self, videos: object, **kwargs: Any) -> BatchFeature:
        """Prepare videos; see the class and `SurgVistaVideoProcessor`."""
        name = kwargs.pop("input_name", None) or self.input_name
        batch = super().preprocess(videos, **kwargs)
        batch[name] = batch.pop("pixel_values")
        return batch

    def _preprocess(  # type: ignore[override]
        self,
        videos: list[torch.Tensor],
        *,
        storage_size: dict[str, int] | None,
        arithmetic: str,
        crop_rounding: str,
        do_flip_channel_order: bool,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling,
        antialias: bool,
        **kwargs: Any,
    ) -> BatchFeature:
        if storage_size:
            stored = (storage_size["height"], storage_size["width"])
            videos = [resize_as_pillow(_bytes(video), stored, bicubic=True) for video in videos]
        if do_resize and arithmetic == "pillow":
            bicubic = is_bicubic(resample)
            videos = [resize_as_pillow(_bytes(video), _target(video, size), bicubic=bicubic) for video in videos]
        elif do_resize and arithmetic != "torchvision":
            videos = [resize_plainly(video, _target(video, size), arithmetic) for video in videos]
        elif do_resize:
            videos = [self.resize(video, size=size, resample=resample, antialias=antialias) for video in videos]
        if do_center_crop:
            videos = [
                _central_crop(video, crop_size, math.ceil if crop_rounding == "up" else round) for video in videos
            ]
        if do_flip_channel_order:
            videos = [video.flip(-3) for video in videos]
        return super()._preprocess(
            videos,
            do_resize=False,
            size=size,
            resample=resample,
            antialias=antialias,
            do_center_crop=False,
            crop_size=crop_size,
            **kwargs,
        )


def _bytes(video: torch.Tensor) -> torch.Tensor:
    """Return frames as bytes; those of another type are rounded, as Pillow has no other color images."""
    return video if video.dtype == torch.uint8 else video.round().clamp(0, 255).to(torch.uint8)


def _target(video: torch.Tensor, size: SizeDict) -> tuple[int, int]:
    """Return height and width of (frames, channels, height, width) after the short side has the wanted length."""
    height, width = video.shape[-2:]
    if not size.shortest_edge:
        assert size.height is not None
        assert size.width is not None
        return (size.height, size.width)
    short = size.shortest_edge
    return (short, int(short * width / height)) if height <= width else (int(short * height / width), short)


def _central_crop(video: torch.Tensor, size: SizeDict, rounded: Callable[[float], int]) -> torch.Tensor:
    """Return the middle of (frames, channels, height, width)."""
    assert size.height is not None
    assert size.width is not None
    top, left = (
        rounded((length - kept) / 2) for length, kept in zip(video.shape[-2:], (size.height, size.width), strict=True)
    )
    return video[..., top : top + size.height, left : left + size.width]

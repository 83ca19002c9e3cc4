"""The video processors that are saved with models, and one call that prepares clips with any of them.

A SurgVISTA model has ours, which repeats its published transform and travels with its code. Every other model gets a class of
transformers itself, so that `AutoVideoProcessor` and `pipeline("video-classification")` load the folder where this package is
not installed. Both squeeze frames to the model's size with bilinear interpolation; transformers' smooths while it shrinks
(antialias), so that is what training and prediction do for those models too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LlavaOnevisionVideoProcessor, VideoMAEVideoProcessor
from transformers.image_utils import PILImageResampling
from transformers.video_processing_utils import BaseVideoProcessor

from ..util.errors import InputError
from .configuration_surgvista import SurgVistaConfig
from .protocols import ClipProcessor
from .video_processing_encoder_surgvista import SurgicalVideoProcessor
from .video_processing_surgvista import SurgVistaVideoProcessor

# `VJEPA2VideoProcessor` overwrites the size it is given and cuts the sides of a frame off; the class below is the plainest of
# transformers under the same input name, and does what its fields say.
_STOCK: dict[str, type[BaseVideoProcessor]] = {
    "pixel_values": VideoMAEVideoProcessor,
    "pixel_values_videos": LlavaOnevisionVideoProcessor,
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_processor(
    model_type: str,
    size: tuple[int, int],
    num_frames: int,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    **sampling: Any,
) -> BaseVideoProcessor:
    """Return the processor for a model that takes clips.

    Args:
        model_type: the `model_type` of the model's configuration.
        size: height and width of its frames, in pixels.
        num_frames: number of frames in a clip.
        mean, std: statistics of the normalization, one number a channel, for pixels in 0 … 1.
        sampling: `frame_stride` (seconds) and `frame_sampling`, by which clips were chosen in training. transformers'
            classes keep such fields and do not use them: given a file, they take `num_frames` frames spread over all of it.

    Example:
        >>> type(make_processor("vjepa2", (256, 256), 16, frame_stride=4)).__name__
        'LlavaOnevisionVideoProcessor'
    """
    fields: dict[str, Any] = {
        "size": {"height": size[0], "width": size[1]},
        "num_frames": num_frames,
        "image_mean": list(mean),
        "image_std": list(std),
        **sampling,
    }
    if model_type == "surgvista":
        return SurgVistaVideoProcessor(**fields)
    stock = _STOCK["pixel_values_videos" if model_type == "vjepa2" else "pixel_values"]
    return stock(
        **fields,
        crop_size=fields["size"],
        do_center_crop=False,
        do_sample_frames=True,
        resample=PILImageResampling.BILINEAR,
    )


def make_encoder_processor(
    model_type: str,
    size: tuple[int, int],
    num_frames: int,
    *,
    short_side: int | None = None,
    squeezed_to: tuple[int, int] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    **fields: Any,
) -> SurgicalVideoProcessor:
    """Return the processor that prepares clips as an encoder's own program does, where neither ours nor a stock one can.

    Args:
        model_type: The type of the model's configuration.
        size: Height and width of its frames, in pixels.
        num_frames: Frames of a clip.
        short_side: Resize the short side to so many pixels and cut the middle out; by default frames are squeezed.
        squeezed_to: Height and width to squeeze frames to before the middle is cut out, instead of `short_side`.
        mean, std: The normalization, one number for each channel.
        fields: Further fields of `SurgicalVideoProcessor`, such as `antialias`, `storage_size` or `frame_stride`.

    Example:
        >>> make_encoder_processor("vjepa2", (256, 256), 64, short_side=292).size["shortest_edge"]
        292
    """
    target = {"height": size[0], "width": size[1]}
    before = target if squeezed_to is None else {"height": squeezed_to[0], "width": squeezed_to[1]}
    return SurgicalVideoProcessor(
        size={"shortest_edge": short_side} if short_side else before,
        do_center_crop=short_side is not None or squeezed_to is not None,
        crop_size=target,
        num_frames=num_frames,
        image_mean=list(mean),
        image_std=list(std),
        input_name="pixel_values_videos" if model_type == "vjepa2" else "pixel_values",
        **fields,
    )


def preparation_of(processor: object, size: tuple[int, int], *, keep_geometry: bool) -> dict[str, Any]:
    """Return how a processor differs from a plain bilinear squeeze, as arguments of `make_encoder_processor`.

    Args:
        processor: The image or video processor of an encoder, or `None`.
        size: Height and width of the frames that the model takes now.
        keep_geometry: Whether the short side, the crop and a first resize are kept too; else frames are squeezed.

    Returns:
        Nothing for a processor that squeezes bilinearly as transformers' do.

    Example:
        >>> preparation_of(make_encoder_processor("vit", (64, 64), 8, short_side=73), (128, 128), keep_geometry=True)
        {'antialias': False, 'short_side': 146}
    """
    if type(processor) is SurgVistaVideoProcessor:
        return {}
    found: dict[str, Any] = {}
    if getattr(processor, "resample", PILImageResampling.BILINEAR) == PILImageResampling.BICUBIC:
        found["resample"] = PILImageResampling.BICUBIC
    if getattr(processor, "do_flip_channel_order", False):
        found["do_flip_channel_order"] = True
    arithmetic = getattr(processor, "arithmetic", "torchvision")
    # Pillow's result is that of torchvision to a level of 255, for which stock classes are not given up in training.
    if arithmetic in ("opencv", "float") or (arithmetic == "pillow" and keep_geometry):
        found["arithmetic"] = arithmetic
    if keep_geometry and isinstance(processor, SurgicalVideoProcessor) and getattr(processor, "do_center_crop", False):
        found |= _geometry_of(processor, size)
    # Whether a special processor smooths is always said, since that of stock classes is not the default of ours.
    return {"antialias": smooths(processor), **found} if found or not smooths(processor) else {}


def _geometry_of(processor: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Return how a processor that crops resizes before it, for frames of another size."""
    before, cut = processor.size, processor.crop_size
    found: dict[str, Any] = {}
    if before["shortest_edge"]:
        found["short_side"] = int(before["shortest_edge"] * size[0] / cut["height"])
    else:
        scales = (size[0] / cut["height"], size[1] / cut["width"])
        found["squeezed_to"] = (round(before["height"] * scales[0]), round(before["width"] * scales[1]))
    for name in ("storage_size", "crop_rounding"):
        if getattr(processor, name) != getattr(SurgicalVideoProcessor, name):
            found[name] = getattr(processor, name)
    return found


def make_surgvista_processor(
    config: SurgVistaConfig, frame_stride: float | None = None, **sampling: Any
) -> SurgVistaVideoProcessor:
    """Return the processor for a model of this package, with the frame size and the statistics of its configuration.

    Args:
        config: configuration of the model.
        frame_stride: seconds between two frames of a clip; the special strides of training become 1. By default it is that
            of `SurgVistaVideoProcessor`.
        sampling: further fields by which clips were chosen in training, such as `frame_sampling`.

    Example:
        >>> make_surgvista_processor(SurgVistaConfig(image_size=64), frame_stride=-1).frame_stride
        1
    """
    if frame_stride is not None:
        sampling["frame_stride"] = stride_in_use(frame_stride)
    height, width = config.frame_size
    return SurgVistaVideoProcessor(
        size={"height": height, "width": width},
        num_frames=config.num_frames,
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
        **sampling,
    )


def stride_in_use(frame_stride: float) -> float:
    """Return the seconds between two frames of a clip with which a model is used; special strides of training become 1."""
    return frame_stride if frame_stride > 0 else 1


def prepare_clips(
    processor: ClipProcessor | BaseVideoProcessor,
    clips: np.ndarray | torch.Tensor | Sequence[np.ndarray] | Sequence[torch.Tensor],
) -> torch.Tensor:
    """Return all given frames as a model takes them, whatever the processor calls its output.

    Args:
        processor: video processor of this package or of transformers.
        clips: uint8 frames of one clip or of several, as arrays (frames, height, width, 3) or tensors (frames, 3, height,
            width).

    Returns:
        Tensor (clips, frames, channels, height, width), fp32.

    Raises:
        InputError: frames of another type than uint8.
    """
    first = clips if isinstance(clips, np.ndarray | torch.Tensor) else clips[0]
    # transformers' classes would divide numbers in 0 … 1 by 255 once more.
    if first.dtype not in (np.uint8, torch.uint8):
        raise InputError(f"frames are {first.dtype}; pixels of uint8, in 0 … 255, are needed")
    layout = "channels_last" if isinstance(first, np.ndarray) else "channels_first"
    batch = processor(clips, do_sample_frames=False, input_data_format=layout, return_tensors="pt")
    pixels: torch.Tensor = batch["pixel_values" if "pixel_values" in batch else "pixel_values_videos"]
    return pixels


def smooths(processor: object) -> bool:
    """Return whether a processor smooths while it shrinks a frame; transformers' always do.

    Example:
        >>> smooths(make_processor("surgvista", (224, 224), 16)), smooths(make_processor("vit", (224, 224), 8))
        (False, True)
    """
    return bool(getattr(processor, "antialias", True))

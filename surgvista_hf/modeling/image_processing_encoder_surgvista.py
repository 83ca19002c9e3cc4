"""Prepare images as the programs of other encoders do where no class of transformers can. This file travels with a checkpoint."""

from typing import Any, Literal

import torch
from transformers import ViTImageProcessor
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ImagesKwargs

from .resizing_surgvista import resize_as_opencv, resize_in_float


class SurgicalImageKwargs(ImagesKwargs, total=False):
    """Options of `SurgicalImageProcessor` beside those of every image processor."""

    arithmetic: Literal["opencv", "float"] | None
    do_flip_channel_order: bool | None


class SurgicalImageProcessor(ViTImageProcessor):
    r"""Squeeze images to one size, bilinear without antialiasing, optionally with the channels in the order blue, green, red.

    Args:
        arithmetic: `"opencv"`, to the last bit as OpenCV resizes bytes, or `"float"`, without rounding to bytes.
        do_flip_channel_order: Return blue, green, red, for networks that were trained on images as OpenCV reads them.

    Returns:
        `pixel_values`, (batch, channels, height, width), fp32.

    Example:
        >>> import torch
        >>> processor = SurgicalImageProcessor(size={"height": 2, "width": 2}, do_normalize=False, do_flip_channel_order=True)
        >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
        >>> processor(red, return_tensors="pt")["pixel_values"][0, :, 0, 0].tolist()
        [0.0, 0.0, 1.0]
    """

    _auto_class = "AutoImageProcessor"  # saving writes the code along: transformers has no such class
    valid_kwargs = SurgicalImageKwargs
    antialias = False
    arithmetic = "opencv"
    do_flip_channel_order = False

    def _preprocess(
        self, images: list[torch.Tensor], *, arithmetic: str, do_flip_channel_order: bool, **kwargs: Any
    ) -> BatchFeature:
        if kwargs.pop("do_resize"):
            size = (kwargs["size"].height, kwargs["size"].width)
            images = [
                resize_as_opencv(image, size)
                if arithmetic == "opencv" and image.dtype == torch.uint8
                else resize_in_float(image, size)
                for image in images
            ]
        if do_flip_channel_order:
            images = [image.flip(-3) for image in images]
        return super()._preprocess(images, do_resize=False, **kwargs)

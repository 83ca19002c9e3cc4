"""Prepare images as other encoders' programs do where no class of transformers can. This file travels with a checkpoint."""

from typing import Any, Literal

import torch
from transformers import ViTImageProcessor
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from .resizing_surgvista import is_bicubic, resize_as_pillow, resize_plainly


class SurgicalImageKwargs(ImagesKwargs, total=False):
    """Options of `SurgicalImageProcessor` beside those of every image processor."""

    arithmetic: Literal["pillow", "opencv", "float"] | None
    do_flip_channel_order: bool | None


class SurgicalImageProcessor(ViTImageProcessor):
    r"""Squeeze images to one size with another library's arithmetic, optionally in the order blue, green, red.

    Args:
        arithmetic: `"opencv"` or `"pillow"`, to the last bit as those libraries resize bytes, or `"float"`, without rounding
            to bytes. Pillow antialiases and knows `resample`, bilinear or bicubic; the other two are bilinear without
            antialiasing.
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
    arithmetic = "opencv"
    do_flip_channel_order = False

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("antialias", None)  # follows from the arithmetic; the fields may be shared with a video processor
        super().__init__(**kwargs)

    @property
    def antialias(self) -> bool:
        """Return whether images are smoothed while they shrink."""
        return self.arithmetic == "pillow"

    def _preprocess(  # type: ignore[override]
        self, images: list[torch.Tensor], *, arithmetic: str, do_flip_channel_order: bool, **kwargs: Any
    ) -> BatchFeature:
        if kwargs.pop("do_resize"):
            size = (kwargs["size"].height, kwargs["size"].width)
            images = [self._squeeze(image, size, arithmetic, kwargs["resample"]) for image in images]
        if do_flip_channel_order:
            images = [image.flip(-3) for image in images]
        return super()._preprocess(images, do_resize=False, **kwargs)

    def _squeeze(
        self, image: torch.Tensor, size: tuple[int, int], arithmetic: str, resample: PILImageResampling
    ) -> torch.Tensor:
        """Return an image (channels, height, width) in another size; only bytes have the arithmetic of bytes."""
        if arithmetic != "pillow":
            return resize_plainly(image, size, arithmetic)
        if image.dtype == torch.uint8:
            return resize_as_pillow(image, size, bicubic=is_bicubic(resample))
        return self.resize(image, SizeDict(height=size[0], width=size[1]), resample)

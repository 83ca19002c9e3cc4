"""Resize frames with the arithmetic of other libraries, where a level of 255 is not to be lost. Travels with a checkpoint."""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

_SCALE_BITS = 11  # OpenCV's weights are multiples of 1/2048


def resize_as_opencv(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize bilinearly without antialiasing, in the fixed-point arithmetic of OpenCV's `INTER_LINEAR` for bytes.

    Args:
        frames: uint8 (…, height, width).
        size: Height and width of the result.

    Returns:
        uint8 (…, *size), equal to OpenCV's `resize` to the last bit.

    Example:
        >>> resize_as_opencv(torch.tensor([[0, 100, 200, 255]], dtype=torch.uint8), (1, 2)).tolist()
        [[50, 228]]
    """
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    top, bottom, top_weight, bottom_weight = _taps(size[0], frames.shape[-2], frames.device, snap=False)
    left, right, left_weight, right_weight = _taps(size[1], frames.shape[-1], frames.device, snap=True)
    resized = []
    # One frame of three channels at a time: the sums take four bytes a pixel.
    for frame in frames.reshape(-1, *frames.shape[-2:]).split(3):
        rows = frame[..., left].int() * left_weight + frame[..., right].int() * right_weight
        above = (rows[..., top, :] >> 4) * top_weight[:, None] >> 16
        below = (rows[..., bottom, :] >> 4) * bottom_weight[:, None] >> 16
        resized.append((above + below + 2 >> 2).clamp_(0, 255).to(torch.uint8))
    return torch.cat(resized).view(*frames.shape[:-2], *size)


def _taps(length: int, source: int, device: torch.device, *, snap: bool) -> tuple[torch.Tensor, ...]:
    """Return, for every output pixel of one axis, the two source pixels and their integer weights.

    Beyond the border OpenCV takes the outermost column alone (`snap`), but the outermost row twice, by both weights.
    """
    step = 1 / (length / source)
    position = ((torch.arange(length, dtype=torch.float64) + 0.5) * step - 0.5).float()
    first = position.floor()
    fraction = position - first
    if snap:
        fraction[(first < 0) | (first >= source - 1)] = 0
    weights = [(part * 2**_SCALE_BITS).round().int() for part in (1 - fraction, fraction)]
    ends = [(first.long() + step).clamp_(0, source - 1) for step in (0, 1)]
    return tuple(part.to(device) for part in (*ends, *weights))


def resize_in_float(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize bilinearly without antialiasing and without rounding to bytes, as programs do that resize normalized tensors.

    Args:
        frames: Numbers of any type, (frames, channels, height, width) or (channels, height, width).
        size: Height and width of the result.

    Returns:
        fp32, of the same number of axes.
    """
    batch = frames.float() if frames.ndim == 4 else frames.float()[None]
    resized = functional.interpolate(batch, size, mode="bilinear", align_corners=False)
    return resized if frames.ndim == 4 else resized[0]


def resize_plainly(frames: torch.Tensor, size: tuple[int, int], arithmetic: str) -> torch.Tensor:
    """Resize bilinearly without antialiasing, by the arithmetic of a library.

    Args:
        frames: (frames, channels, height, width) or (channels, height, width).
        size: Height and width of the result.
        arithmetic: `"opencv"` or `"float"`. Only bytes have OpenCV's arithmetic of bytes.
    """
    is_opencv = arithmetic == "opencv" and frames.dtype == torch.uint8
    return resize_as_opencv(frames, size) if is_opencv else resize_in_float(frames, size)


def resize_as_pillow(frames: torch.Tensor, size: tuple[int, int], *, bicubic: bool = False) -> torch.Tensor:
    """Resize with antialiasing by Pillow itself.

    torchvision's resizing of bytes has the same filters with coarser weights, and is one level of 255 off here and there.

    Args:
        frames: uint8 (…, height, width).
        size: Height and width of the result.
        bicubic: Use Pillow's `BICUBIC` filter instead of `BILINEAR`.

    Returns:
        uint8 (…, *size), on the device of the frames; Pillow computes on the CPU.

    Example:
        >>> resize_as_pillow(torch.tensor([[0, 100, 200, 255]], dtype=torch.uint8), (1, 2)).tolist()
        [[71, 209]]
    """
    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    resized = torch.empty(frames.shape[:-2].numel(), *size, dtype=torch.uint8)
    # Pillow filters the channels of an image independently, so that each can be an image of its own.
    for plane, result in zip(frames.reshape(-1, *frames.shape[-2:]).cpu().numpy(), resized, strict=True):
        result.copy_(torch.from_numpy(np.array(Image.fromarray(plane).resize(size[::-1], resample))))
    return resized.view(*frames.shape[:-2], *size).to(frames.device)


def is_bicubic(resample: object) -> bool:
    """Return whether an interpolation, by Pillow's number or torchvision's name, is bicubic.

    Raises:
        ValueError: It is neither bilinear nor bicubic.

    Example:
        >>> is_bicubic(3), is_bicubic(2)
        (True, False)
    """
    name = getattr(resample, "value", resample)
    if name not in (2, 3, "bilinear", "bicubic"):
        raise ValueError(f"resample is {resample}; Pillow's arithmetic is known for 2 (bilinear) and 3 (bicubic)")
    return name in (3, "bicubic")

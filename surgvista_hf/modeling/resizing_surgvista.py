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
    for frame in frames.reshape(-1, *frames.shape[-2:]).split(
        3
    ):  # one frame at a time: the sums take four bytes a pixel
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


def resize_with_pillow(frames: torch.Tensor, size: tuple[int, int], resample: int) -> torch.Tensor:
    """Resize with Pillow itself, which antialiases. torchvision's result for bytes differs from it by a level here and there.

    Args:
        frames: uint8 (..., 3, height, width).
        size: Height and width of the result.
        resample: The interpolation, a number of Pillow's `Resampling`.

    Returns:
        uint8 (..., 3, *size), on the device of the frames.

    Example:
        >>> resize_with_pillow(torch.zeros(3, 8, 8, dtype=torch.uint8), (2, 4), Image.Resampling.BICUBIC).shape
        torch.Size([3, 2, 4])
    """
    flat = frames.reshape(-1, *frames.shape[-3:]).permute(0, 2, 3, 1).cpu().numpy()  # (N, height, width, 3)
    way = Image.Resampling(int(resample))
    resized = np.stack([np.asarray(Image.fromarray(frame).resize(size[::-1], way)) for frame in flat])
    return torch.from_numpy(resized).permute(0, 3, 1, 2).reshape(*frames.shape[:-2], *size).to(frames.device)


def resize_by(arithmetic: str, frames: torch.Tensor, size: tuple[int, int], resample: int) -> torch.Tensor:
    """Resize with the arithmetic of a library.

    Args:
        arithmetic: `"opencv"`, `"pillow"` or `"float"`. Numbers that are no bytes are never rounded to bytes; they are
            antialiased if it is Pillow's.
        frames: (..., channels, height, width).
        size: Height and width of the result.
        resample: Pillow's interpolation; the others are bilinear.
    """
    if arithmetic == "pillow" and frames.dtype != torch.uint8:
        mode = "bicubic" if int(resample) == Image.Resampling.BICUBIC else "bilinear"
        batch = frames.float().reshape(-1, *frames.shape[-3:])
        resized = functional.interpolate(batch, size, mode=mode, align_corners=False, antialias=True)
        return resized.reshape(*frames.shape[:-2], *size)
    if frames.dtype != torch.uint8 or arithmetic == "float":
        return resize_in_float(frames, size)
    return resize_as_opencv(frames, size) if arithmetic == "opencv" else resize_with_pillow(frames, size, resample)

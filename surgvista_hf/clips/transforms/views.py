"""Views of images for self-distillation: random crops in two sizes, colors, blur, noise and solarization.

DINO (arXiv 2104.14294) with the companion frames of LEMON (arXiv 2503.19740). The parameters of a view are drawn in the
workers, as a function of (seed, epoch, sample). The pixels are computed on the device, for all samples of a batch at once: a
crop is two matrices, and so is a blur. Shapes in comments: B samples, V views, P images of a sample, S the side of a view.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from ...modeling.modeling_surgvista import keyed_uniform
from ..dataset import ClipItem
from ..sampling.randomness import keyed_generator
from .augmentation import normalize_clips, random_box

_FLIP, _JITTER, _GRAY = 0.5, 0.8, 0.2  # probabilities
_STRENGTHS = (0.4, 0.4, 0.2)  # brightness, contrast and saturation
_ASPECT_RATIO = (3 / 4, 4 / 3)
BLUR_DEVIATION = (0.1, 2.0)  # pixels, published for views of 224 and 96 pixels
_NOISE = 1 / 255  # standard deviation: one gray level
_GRAY_WEIGHTS = (0.299, 0.587, 0.114)
_CUBIC = -0.5  # the shape of Pillow's bicubic filter

Drawn = Mapping[str, torch.Tensor]  # drawn parameters of views by name, see `draw_view`


@dataclass(frozen=True)
class View:
    """One view of a sample.

    Args:
        image: index of the image that it shows: 0 for the frame, then its companions.
        size: side of the view, in pixels.
        scale: smallest and largest fraction of the image's area.
        blur, noise, solarize: probabilities of these effects.
        blur_deviation: smallest and largest standard deviation of the blur, in pixels of the view.
    """

    image: int
    size: int
    scale: tuple[float, float]
    blur: float
    noise: float = 0.0
    solarize: float = 0.0
    blur_deviation: tuple[float, float] = BLUR_DEVIATION


def surgfm_views(
    global_size: int = 224,
    local_size: int = 96,
    *,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    local_views: int = 8,
    blur_deviation: tuple[float, float] = BLUR_DEVIATION,
) -> tuple[View, ...]:
    """Return the published views in their order.

    They are two global views of the frame, a global and two local views of each companion, and local views of the frame. The
    teacher sees the first two.

    Args:
        global_size, local_size: sides in pixels.
        global_scale, local_scale: smallest and largest fraction of the image's area.
        local_views: number of local views of the frame.
        blur_deviation: smallest and largest standard deviation of the blur, in pixels of a view.

    Example:
        >>> [view.size for view in surgfm_views()]
        [224, 224, 224, 96, 96, 224, 96, 96, 96, 96, 96, 96, 96, 96, 96, 96]
    """

    def view(image: int, *, is_global: bool, **effects: float) -> View:
        size, scale = (global_size, global_scale) if is_global else (local_size, local_scale)
        return View(image, size, scale, blur_deviation=blur_deviation, **effects)

    first = view(0, is_global=True, blur=1.0)
    second = view(0, is_global=True, blur=0.1, noise=0.2, solarize=0.2)
    of_companions: list[View] = []
    for image in (1, 2):
        of_companions.append(view(image, is_global=True, blur=0.5, noise=0.2))
        of_companions += [view(image, is_global=False, blur=0.5)] * 2
    return first, second, *of_companions, *[view(0, is_global=False, blur=0.5)] * local_views


def draw_view(view: View, width: int, height: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the parameters of one view.

    Args:
        view: kind of view.
        width, height: size of the image, in pixels.
        generator: source of randomness.

    Returns:
        `box` (5,): left, top, width, height, and 1 if flipped; `factors` (3,) of brightness, contrast and saturation; `order`
        (3,) in which they are applied; `effects` (4,): gray or not, deviation of the blur in pixels, deviation of the noise,
        solarized or not; `key`, from which the noise and other random numbers of the view are computed.
    """
    box = random_box(generator, width, height, view.scale, _ASPECT_RATIO, _FLIP)
    jitter, gray, blur, noise, solarize = generator.random(5) < (_JITTER, _GRAY, view.blur, view.noise, view.solarize)
    factors = 1 + jitter * generator.uniform(-1, 1, 3) * _STRENGTHS
    effects = [gray, blur * generator.uniform(*view.blur_deviation), noise * _NOISE, solarize]
    return {
        "box": np.array(box, np.float32),
        "factors": factors.astype(np.float32),
        "order": generator.permutation(3),
        "effects": np.array(effects, np.float32),
        "key": np.array(generator.integers(2**63 - 1), np.int64),
    }


@dataclass(frozen=True)
class ViewCollator:
    """Collator that makes a batch of items of `CompanionDataset` and draws its views.

    Args:
        views: views of a sample.
        seed: seed of the run.
    """

    views: tuple[View, ...]
    seed: int = 0

    def __call__(self, items: Sequence[ClipItem]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: items of one data set.

        Returns:
            `pixel_values` (B, P, 3, height, width), or lists of images where these differ in size; `views`, the results of
            `draw_view`, each (B, V, …); the other values of the items.
        """
        images = [item["pixel_values"] for item in items]
        rest = [{name: value for name, value in item.items() if name != "pixel_values"} for item in items]
        alike = len({image.shape for own in images for image in own}) == 1
        return {
            "pixel_values": torch.stack([torch.stack(own) for own in images]) if alike else images,
            "views": default_collate([self._drawn(item) for item in items]),
            **default_collate(rest),
        }

    def _drawn(self, item: ClipItem) -> dict[str, np.ndarray]:
        drawn = []
        for number, view in enumerate(self.views):
            height, width = item["pixel_values"][view.image].shape[-2:]
            generator = keyed_generator(self.seed, int(item["epoch"]), int(item["key"]), f"view {number}")
            drawn.append(draw_view(view, width, height, generator))
        return {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}


@torch.no_grad()
def make_views(
    views: Sequence[View],
    images: torch.Tensor | Sequence[Sequence[torch.Tensor]],
    drawn: Drawn,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> list[torch.Tensor]:
    """Compute the views of a batch, on the device of the images.

    Args:
        views: views of a sample.
        images, drawn: `pixel_values` and `views` of a `ViewCollator`.
        mean, std: one number a channel, for `normalize_clips`.

    Returns:
        For each view, (B, 3, S, S) fp32.
    """
    stacked = isinstance(images, torch.Tensor)
    made = []
    device = drawn["box"].device.type
    with torch.autocast(device, enabled=False):  # pixels keep their precision, whatever the step runs in
        for number, view in enumerate(views):
            own = {name: values[:, number] for name, values in drawn.items()}
            if stacked:
                pixels = crop_bicubic(images[:, view.image], own["box"], view.size)  # type: ignore[call-overload]
            else:
                parts = zip(images, own["box"], strict=True)
                pixels = torch.cat([crop_bicubic(p[view.image][None], box[None], view.size) for p, box in parts])
            pixels = apply_effects(pixels, own, noisy=view.noise > 0)  # (B, 3, S, S)
            made.append(normalize_clips(pixels * 255, mean, std))
    return made


def crop_bicubic(images: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Crop images and resize them, bicubically and with antialiasing as Pillow does.

    Args:
        images: (B, channels, height, width) uint8.
        boxes: (B, 5): left, top, width, height, and 1 if left and right are exchanged.
        size: side of the result, in pixels.

    Returns:
        (B, channels, size, size) fp32 in 0 … 1.
    """
    left, top, width, height, flip = boxes.float().unbind(1)
    rows = _resampling(top, height, images.shape[-2], size)  # (B, size, height)
    columns = _resampling(left, width, images.shape[-1], size)  # (B, size, width)
    columns = torch.where(flip[:, None, None] > 0, columns.flip(1), columns)
    return _apply(rows, images.float() / 255, columns).clamp_(0, 1)


def _resampling(start: torch.Tensor, length: torch.Tensor, pixels: int, size: int) -> torch.Tensor:
    """Return the weight of each pixel in each pixel of the result along one axis, (B, size, pixels)."""
    start, length = start[:, None, None], length[:, None, None]
    step = length / size
    stretch = step.clamp(min=1)
    positions = (
        torch.arange(pixels, device=start.device) + 0.5 - start
    )  # (B, 1, pixels), from the beginning of the crop
    centers = (torch.arange(size, device=start.device)[:, None] + 0.5) * step  # (B, size, 1)
    x = ((positions - centers) / stretch).abs()
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x**2 + 1
    far = ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    weights = torch.where((positions > 0) & (positions < length), weights, 0.0)
    return weights / weights.sum(dim=2, keepdim=True)


def apply_effects(pixels: torch.Tensor, drawn: Drawn, *, noisy: bool = True) -> torch.Tensor:
    """Apply color, blur, noise and solarization to images in 0 … 1.

    Args:
        pixels: (B, 3, S, S) fp32.
        drawn: results of `draw_view`, each (B, …).
        noisy: whether any image can have noise.

    Returns:
        The same shape, 0 … 1.
    """
    gray, blur, noise, solarized = (effect[:, None, None, None] for effect in drawn["effects"].unbind(1))
    pixels = _jitter(pixels, drawn["factors"], drawn["order"])
    pixels = torch.where(gray > 0, _gray(pixels), pixels)
    kernel = _blur(blur[:, 0], pixels.shape[-1])
    pixels = _apply(kernel, pixels, kernel)
    if noisy:
        # On a CPU only where there is noise; a device would have to be waited for.
        rows = noise.flatten().nonzero().flatten() if noise.device.type == "cpu" else slice(None)
        pixels[rows] += noise[rows] * keyed_normal(drawn["key"][rows], pixels.shape[1:])
    pixels = pixels.clamp(0, 1)
    return torch.where((solarized > 0) & (pixels >= 128 / 255), 1 - pixels, pixels)


def _jitter(pixels: torch.Tensor, factors: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation: mix with black, with the mean gray, and with the gray image."""
    for turn in range(3):
        kind = order[:, turn]
        factor = factors.gather(1, kind[:, None])[:, :, None, None]
        kind = kind[:, None, None, None]
        gray = _gray(pixels)
        other = torch.where(kind == 1, gray.mean(dim=(2, 3), keepdim=True), torch.where(kind == 2, gray, 0.0))
        pixels = (factor * pixels + (1 - factor) * other).clamp(0, 1)
    return pixels


def _gray(pixels: torch.Tensor) -> torch.Tensor:
    """Return the gray images, (B, 1, S, S)."""
    red, green, blue = (weight * pixels[:, [channel]] for channel, weight in enumerate(_GRAY_WEIGHTS))
    return red + green + blue


def _blur(deviation: torch.Tensor, size: int) -> torch.Tensor:
    """Return the matrices of a Gaussian blur along one axis, (B, size, size).

    Weights are normalized where the Gaussian reaches over the edge; a deviation of 0 leaves the image as it is.
    """
    positions = torch.arange(size, device=deviation.device, dtype=torch.float32)
    squares = (positions - positions[:, None]) ** 2
    weights = torch.exp(-squares / (2 * deviation.clamp(min=1e-2) ** 2))
    return weights / weights.sum(dim=2, keepdim=True)


def _apply(rows: torch.Tensor, pixels: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Compute rows · pixels · columnsᵀ for each image and channel."""
    return rows[:, None] @ pixels @ columns[:, None].transpose(2, 3)


def keyed_normal(keys: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return standard normal numbers that are a function of a key (Box and Muller, 1958).

    Args:
        keys: (B,) int64.
        shape: shape of the numbers of each key.

    Returns:
        (B, *shape) fp32.
    """
    count = int(np.prod(shape))
    each = keys[:, None] + torch.arange(count, device=keys.device) * 0x2545F4914F6CDD1D
    radius = torch.sqrt(-2 * torch.log1p(-keyed_uniform(each, 0)))
    return (radius * torch.cos(2 * torch.pi * keyed_uniform(each, 1))).view(-1, *shape)

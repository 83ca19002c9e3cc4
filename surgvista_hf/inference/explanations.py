"""Explanations of a classifier: heat maps over a clip, and nearest neighbors of its features.

Heat maps say what the computation depended on, not why, and not whether it is right.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..modeling.loading import frame_size
from ..util.errors import InputError
from ..util.files import atomic_file
from .models.clip_model import ClipModel
from .writers.timeline import NOTICE

_BLOCK = re.compile(r"(?:^|\.)(?:layers?|blocks?)\.\d+$")
_COLUMNS = 8
_STRENGTH = 0.55  # opacity of the colors over the image


def gradient_heatmap(model: ClipModel, clip: torch.Tensor, target: int | None = None) -> np.ndarray:
    r"""Compute how much each patch of a clip speaks for a class: Grad-CAM (arXiv 1610.02391) on the input of the last block.

    With activations :math:`A_{nd}` of token n and the class's logit y:
    :math:`\max(0, \sum_d A_{nd}\,\partial y/\partial A_{nd})`.

    Args:
        model: a classifier whose encoder consists of blocks.
        clip: clip (frames, channels, height, width), prepared.
        target: index of the class; the most probable one by default.

    Returns:
        Heat map (temporal, rows, columns), 0-1; the temporal index is a frame of an image encoder, a tubelet of a video
        encoder.

    Raises:
        InputError: the model has no blocks of tokens or feature maps.
    """
    blocks = [
        module for name, module in model.model.named_modules() if _BLOCK.search(name) and "predictor" not in name
    ]
    if not blocks:
        raise InputError(f"{type(model.model).__name__} has no blocks that a heat map could be made of")
    seen: list[torch.Tensor] = []

    def record(module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        """Record the input of the block, with a gradient even where the encoder is frozen."""
        states = (
            args[0] if args else kwargs["hidden_states"]
        )  # (1 or frames, tokens, width) or (frames, width, rows, columns)
        seen.append(states if states.requires_grad else states.requires_grad_())

    hook = blocks[-1].register_forward_pre_hook(record, with_kwargs=True)
    try:
        with torch.enable_grad():
            pixels = clip[None].to(model.device).float().requires_grad_()
            logits = model.model(**{model.model.main_input_name: pixels}).logits[0]
            chosen = int(logits.argmax()) if target is None else target
            (gradient,) = torch.autograd.grad(logits[chosen], seen[0])
    finally:
        hook.remove()
    states = seen[0].detach()
    weights = (states * gradient).sum(dim=1 if states.ndim == 4 else -1).clamp(min=0)  # summed over the width
    return _scale(_to_grid(model, weights.float().cpu().numpy(), len(clip)))


def attention_rollout(model: ClipModel, clip: torch.Tensor) -> np.ndarray:
    r"""Compute how much of each patch reaches the clip's mean token through all attention (arXiv 2005.00928).

    With the mean over heads of block l's attention :math:`A_l`: the product of :math:`(A_l + I) / 2`, averaged over tokens.

    Args:
        model: a classifier on a video encoder with attention (SurgVISTA, VideoMAE).
        clip: clip (frames, channels, height, width), prepared.

    Returns:
        Heat map (temporal, rows, columns), 0-1.

    Raises:
        InputError: the model gives no attention over the tokens of a clip.
    """
    before = model.model.config._attn_implementation
    model.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            pixels = clip[None].to(model.device)
            output = model.model(**{model.model.main_input_name: pixels}, output_attentions=True)
    finally:
        with suppress(ValueError):  # the parts of a model without attention cannot be told how to attend
            model.model.set_attn_implementation(before)
    attentions = getattr(output, "attentions", None)
    if not attentions:
        raise InputError(f"{type(model.model).__name__} shows no attention over the tokens of a clip")
    reach = torch.eye(attentions[0].shape[-1], device=model.device)  # (tokens, tokens)
    for attention in attentions:
        reach = ((attention[0].float().mean(dim=0) + torch.eye(len(reach), device=model.device)) / 2) @ reach
    return _scale(_to_grid(model, reach.mean(dim=0, keepdim=True).cpu().numpy(), len(clip)))


@dataclass(frozen=True)
class Neighbor:
    """A second of a video that looks like another to a model.

    Args:
        index: its row among the features.
        similarity: cosine of the two features, -1 to 1.
    """

    index: int
    similarity: float


def nearest_neighbors(
    query: np.ndarray, features: np.ndarray, k: int = 5, groups: np.ndarray | None = None
) -> list[Neighbor]:
    """Find the features nearest to one by cosine similarity.

    Args:
        query: (width,) feature.
        features: (rows, width) features to search.
        k: number of neighbors.
        groups: (rows,) groups, such as the video of each row: of each group only the nearest row counts, since neighboring
            seconds are alike.

    Returns:
        At most k neighbors, the nearest first.

    Raises:
        InputError: the features have another width than the query.

    Example:
        >>> nearest_neighbors(np.array([1.0, 0.0]), np.array([[0.0, 1.0], [2.0, 0.0]]), k=1)
        [Neighbor(index=1, similarity=1.0)]
    """
    if features.ndim != 2 or query.shape != features.shape[1:]:
        raise InputError(
            f"a feature of shape {query.shape} has no neighbors among {features.shape}: they are of other models"
        )
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(query)
    similarity = features @ query / np.maximum(lengths, 1e-12)
    found: list[Neighbor] = []
    seen: set[object] = set()
    for index in np.argsort(-similarity, kind="stable"):
        group = int(index) if groups is None else groups[index]
        if group not in seen:
            seen.add(group)
            found.append(Neighbor(int(index), float(similarity[index])))
        if len(found) == k:
            break
    return found


def overlay(frames: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Paint a heat map over the frames of its clip.

    Args:
        frames: frames (frames, height, width, 3), uint8.
        heatmap: heat map (temporal, rows, columns), 0-1.

    Returns:
        Frames (frames, height, width, 3), uint8.

    Raises:
        InputError: the number of frames is no multiple of the temporal size of the heat map.
    """
    if len(frames) % len(heatmap):
        raise InputError(f"a heat map of temporal size {len(heatmap)} does not fit {len(frames)} frames")
    blended = np.empty_like(frames)
    height, width = frames.shape[1:3]
    for index, frame in enumerate(frames):
        heat = Image.fromarray((255 * heatmap[index * len(heatmap) // len(frames)]).astype(np.uint8))
        smooth = np.asarray(heat.resize((width, height), Image.Resampling.BICUBIC), np.float32)[..., None] / 255
        colors = np.asarray(colormaps["inferno"](smooth[..., 0]))[..., :3] * 255
        blended[index] = (frame * (1 - _STRENGTH * smooth) + colors * _STRENGTH * smooth).astype(np.uint8)
    return blended


def draw_heatmap(frames: np.ndarray, heatmap: np.ndarray, path: str | Path, title: str = "") -> None:
    """Draw frames of a clip, and below them the same under the heat map.

    Args:
        frames, heatmap: the arguments of `overlay`.
        path: image file to write; its suffix decides the format.
        title: title of the plot.
    """
    shown = np.unique(np.linspace(0, len(frames) - 1, _COLUMNS).round().astype(int))
    rows = [frames, overlay(frames, heatmap)]
    figure = Figure(figsize=(1.7 * len(shown), 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subplots(2, len(shown), squeeze=False)
    for row, images in zip(cells, rows, strict=True):
        for axes, index in zip(row, shown, strict=True):
            axes.imshow(images[index])
            axes.set(xticks=(), yticks=())
    cells[0, 0].set_ylabel("frames")
    cells[1, 0].set_ylabel("heat map")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.supxlabel(f"what the score depended on, not why; {NOTICE}", fontsize=8, color="#555555")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _to_grid(model: ClipModel, weights: np.ndarray, frames: int) -> np.ndarray:
    """Return weights (1 or frames, tokens) or (frames, rows, columns) as (temporal, rows, columns)."""
    if weights.ndim == 3:
        return weights
    config: Any = getattr(model.model.config, "encoder_config", model.model.config)
    height, width = frame_size(config)
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    temporal = frames // (getattr(config, "tubelet_size", None) or 1) if len(weights) == 1 else 1
    size = temporal * (height // patch) * (width // patch)
    if weights.shape[1] < size:
        raise InputError(f"{weights.shape[1]} tokens cannot be laid out on {height // patch}×{width // patch} patches")
    return weights[:, -size:].reshape(-1, height // patch, width // patch)  # special tokens come first


def _scale(heatmap: np.ndarray) -> np.ndarray:
    heatmap = heatmap - heatmap.min()
    return np.asarray(heatmap / (heatmap.max() or 1.0), np.float32)

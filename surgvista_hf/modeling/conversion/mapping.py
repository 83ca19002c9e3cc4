"""Where every tensor of a model is found in an original checkpoint: one table of names, read in both directions.

The table is driven by the target: each parameter of the model asks for its source. What is missing, left over or of the
wrong shape follows from that.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from .reading import CheckpointError


@dataclass(frozen=True)
class Source:
    """A tensor of the original checkpoint.

    Args:
        key: its name.
        part: number of the part that is wanted of a fused tensor, such as 0, 1 or 2 of query, key and value; `None` for the
            whole.
        of: parts of a fused tensor.
    """

    key: str
    part: int | None = None
    of: int = 3


Naming = Callable[[str], Source]
_FUSED = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
QKV = ("query", "key", "value")
_PATCH_WEIGHT = "patch_embeddings.projection.weight"

_RENAMES = (
    (r"^surgvista\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layers\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    *(
        rename
        for ours, theirs in (("video_decoder", "vid"), ("image_decoder", "img"))
        for rename in (
            (rf"^{ours}\.projection\.", f"down_{theirs}."),
            (rf"^{ours}\.mask_token$", f"mask_token_{theirs}"),
            (rf"^{ours}\.encoder\.layers\.", f"decoder_{theirs}.blocks."),
            (rf"^{ours}\.layernorm\.", f"decoder_{theirs}.norm."),
            (rf"^{ours}\.head\.", f"decoder_{theirs}.head."),
        )
    ),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
)


def renamed(name: str, rules: Iterable[tuple[str, str | Callable[[re.Match[str]], str]]]) -> str:
    """Apply to a name rules of (pattern, replacement), one after the other."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def fused_source(name: str, parts: tuple[str, ...] = QKV, fused: str = "qkv", kinds: str = "weight|bias") -> Source:
    """Return the source of a name that is the original's already, but for projections that the original fuses.

    Args:
        name: such as `blocks.0.attn.key.weight`.
        parts: the projections, in the order in which they are fused.
        fused: Their common name.
        kinds: The tensors that are fused, alternatives of a regular expression.
    """
    if match := re.fullmatch(rf"(.+\.attn\.)({'|'.join(parts)})\.({kinds})", name):
        return Source(f"{match[1]}{fused}.{match[3]}", parts.index(match[2]), len(parts))
    return Source(name)


def surgvista_naming(prefix: str = "", fused_bias: bool = False) -> Naming:
    """Return the names of SurgVISTA's program and of its relatives (MVD, VideoMAE, UMT, timm's vision transformers).

    Args:
        prefix: The beginning of the encoder's names.
        fused_bias: `qkv.bias` (image models) instead of `q_bias` and `v_bias` (video models).

    Returns:
        Function from a name in our models to its source.
    """

    def _source(target: str) -> Source:
        name = renamed(target, _RENAMES)
        if match := re.fullmatch(r"(.+\.attn\.)([qkv]_proj)\.(weight|bias)", name):
            stem, projection, kind = match.groups()
            if kind == "weight" or fused_bias:
                return Source(f"{prefix}{stem}qkv.{kind}", _FUSED[projection])
            return Source(f"{prefix}{stem}{projection[0]}_bias")
        return Source(prefix + name)

    return _source


@dataclass(frozen=True)
class Mapped:
    """Result of `map_tensors`.

    Args:
        tensors: name in our model -> tensor.
        sources: name in our model -> name in the checkpoint.
        absent: names in our model that the checkpoint does not have, all of them allowed to be absent.
    """

    tensors: dict[str, torch.Tensor]
    sources: dict[str, str]
    absent: tuple[str, ...]


def map_tensors(
    targets: Mapping[str, torch.Size],
    naming: Naming,
    tensors: Mapping[str, torch.Tensor],
    may_be_absent: Iterable[str] = (),
) -> Mapped:
    """Fill the parameters of a model from a checkpoint.

    Args:
        targets: parameter name -> shape.
        naming: Gives the source of each.
        tensors: the checkpoint.
        may_be_absent: prefixes of parameters that keep their initial values when the checkpoint lacks them.

    Returns:
        The tensors and where they came from.

    Raises:
        CheckpointError: a needed tensor is missing or has the wrong shape.
    """
    mapped: dict[str, torch.Tensor] = {}
    sources: dict[str, str] = {}
    absent: list[tuple[str, str]] = []
    missing: list[tuple[str, str]] = []
    misshapen: list[str] = []
    for target, shape in targets.items():
        source = naming(target)
        if source.key not in tensors:
            (absent if target.startswith(tuple(may_be_absent)) else missing).append((target, source.key))
            continue
        tensor = _fit(tensors[source.key], source, target, shape)
        if tensor is None:
            misshapen.append(
                f"{source.key} has shape {tuple(tensors[source.key].shape)}, {target} needs {tuple(shape)}"
            )
            continue
        mapped[target], sources[target] = tensor, source.key
    if missing or misshapen:
        raise CheckpointError(_refusal([key for _, key in missing], misshapen))
    return Mapped(mapped, sources, tuple(target for target, _ in absent))


def same_shape(tensor: torch.Tensor, source: Source, target: str, shape: torch.Size) -> bool:
    """Return whether a tensor of the checkpoint can be a parameter of this shape.

    Args:
        tensor: The tensor, whose numbers do not matter.
        source: The part of it that is wanted.
        target: The parameter's name.
        shape: The parameter's shape.
    """
    return _fit(tensor.to("meta"), source, target, shape) is not None


def _fit(tensor: torch.Tensor, source: Source, target: str, shape: torch.Size) -> torch.Tensor | None:
    """Return the tensor in the shape that the model wants, or None if it cannot have it."""
    if source.part is not None:
        if tensor.shape[0] != source.of * shape[0]:
            return None
        tensor = tensor.chunk(source.of)[source.part]
    elif target.endswith(_PATCH_WEIGHT) and len(shape) == 2:
        tensor = inflate(tensor, shape[1]).flatten(1)
    if _without_ones(tensor.shape) != _without_ones(shape):
        return None
    return tensor.reshape(shape).clone(memory_format=torch.contiguous_format)


def _without_ones(shape: torch.Size) -> list[int]:
    """Return the axes that count: a channel's scale is (C) or (C, 1, 1), a linear layer may be a point-wise convolution."""
    return [length for length in shape if length != 1]


def inflate(weight: torch.Tensor, width: int) -> torch.Tensor:
    """Repeat a patch weight of one frame over the frames of a tubelet, divided by their number.

    A clip of identical frames then embeds as the frame did (Carreira & Zisserman, CVPR 2017).

    Args:
        weight: (D, channels, rows, columns) or (D, channels, frames, rows, columns).
        width: values that one token should have, channels · frames · rows · columns.

    Returns:
        (D, channels, frames, rows, columns); `weight` itself if it spans more than one frame.
    """
    if weight.ndim == 4:
        weight = weight[:, :, None]
    if weight.ndim != 5 or weight.shape[2] != 1 or width % weight[0].numel():
        return weight
    frames = width // weight[0].numel()
    return weight.repeat(1, 1, frames, 1, 1) / frames if frames > 1 else weight


def _refusal(missing: list[str], misshapen: list[str]) -> str:
    lines = []
    if missing:
        shown = ", ".join(sorted(set(missing))[:6])
        lines.append(f"{len(set(missing))} needed tensors are missing, such as {shown}")
    lines += misshapen[:6]
    return "; ".join(lines) + ". Is this the right family, and does config= say the right sizes?"


def unmap_tensors(
    tensors: Mapping[str, torch.Tensor], naming: Naming, patch_shape: tuple[int, ...] | None = None
) -> dict[str, torch.Tensor]:
    """Return the parameters of our model under the names and shapes of the original.

    Args:
        tensors: parameter name -> tensor.
        naming: The naming of `map_tensors`.
        patch_shape: shape of the original patch weight after its first axis, where our model stores it flat.

    Returns:
        Original name -> tensor.
    """
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for target, tensor in tensors.items():
        source = naming(target)
        if target.endswith(_PATCH_WEIGHT) and patch_shape is not None:
            tensor = tensor.unflatten(1, patch_shape)
        parts.setdefault(source.key, {})[source.part or 0] = tensor
    return {
        key: torch.cat([pieces[i] for i in sorted(pieces)]) if len(pieces) > 1 else pieces[0]
        for key, pieces in parts.items()
    }

"""What a family of checkpoints is, and how the sizes of a model are read from tensors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.image_utils import PILImageResampling
from transformers.video_processing_utils import BaseVideoProcessor

from ...util.errors import InputError
from ...util.messages import did_you_mean
from ..configuration_surgvista import SurgVistaConfig
from ..image_processing_encoder_surgvista import SurgicalImageProcessor
from ..loading import frame_size
from ..processors import IMAGENET_MEAN as IMAGENET_MEAN
from ..processors import IMAGENET_STD as IMAGENET_STD
from ..processors import make_encoder_processor, make_processor
from ..video_processing_encoder_surgvista import SurgicalVideoProcessor
from .mapping import Naming
from .reading import CONTAINERS, CheckpointError

Tensors = Mapping[str, torch.Tensor]
Values = Mapping[str, Any]  # values of a configuration by name: whatever JSON can hold
Sizes = dict[str, Any]  # such values as they are read from tensors

# Heads cannot be read from a tensor. These widths are the published ones (encoders and decoders).
_HEADS_OF_WIDTH = {192: 3, 384: 6, 512: 8, 640: 8, 768: 12, 1024: 16, 1280: 16, 1408: 22}


class Processor(Protocol):
    """A processor of images, clips or texts, as far as conversion needs it."""

    def save_pretrained(self, folder: str | Path, /) -> object:
        """Write its files to a folder."""


@dataclass(frozen=True)
class Blueprint:
    """A plan of the model that a checkpoint becomes.

    Args:
        model_class: class of the model.
        config: its configuration.
        tensors: the checkpoint, prepared.
        targets: parameter name -> shape, under the names that the model is saved with.
        naming: Gives the source of each in the checkpoint.
        processor: Prepares images or clips for it.
        may_be_absent: prefixes of parameters that start fresh when the checkpoint lacks them.
        ignored: (pattern of names, reason) of tensors that are left out knowingly.
        options: further arguments of `from_pretrained`.
        twins: families that a file like this one may as well be of; nothing in it tells them apart.
    """

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    tensors: Tensors
    targets: Mapping[str, torch.Size]
    naming: Naming
    processor: Processor
    may_be_absent: tuple[str, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    options: Values = field(default_factory=dict)
    twins: tuple[str, ...] = ()


class HubFile(NamedTuple):
    """A file of a repository of the Hub."""

    repository: str
    name: str


@dataclass(frozen=True)
class Family:
    """Checkpoints that share one layout.

    Args:
        name: The name that `convert_checkpoint` takes.
        title: The title for people.
        paper: The publication.
        source: The place of its weights.
        license: The license of the weights, as the Hub writes it; "other" where it must be looked up.
        plan: (tensors, what the caller said of the configuration) -> blueprint.
        restore: type of model -> way back from (its tensors, its configuration) to original names and shapes.
        input: The size of its input.
        preparation: The work of its processor on a frame, which is that of the original program.
        becomes: The classes.
        checked: The parts of the original program that it was compared with.
        unknown: Open questions that need the weights.
        hub: The original file on the Hub, if it is known.
        containers: keys of a checkpoint that the weights may lie under, the first that is there counts.
        beside: further keys, whose tensors are read too, with the key as prefix.
        image_teacher: it gives features of single pictures.
        final_norm: features to distil are taken behind the last normalization.
        usage: lines for the model card.
        tokenizer: the tokenizer on the Hub that its program prepares texts with, for families with a text encoder.
    """

    name: str
    title: str
    paper: str
    source: str
    license: str
    plan: Callable[[Tensors, Values], Blueprint]
    restore: Mapping[str, Callable[[Tensors, Any], dict[str, torch.Tensor]]]
    input: str
    becomes: str
    checked: str
    preparation: str
    unknown: str = "no published file could be loaded where this converter was written"
    hub: HubFile | None = None
    containers: tuple[str, ...] = CONTAINERS
    beside: tuple[str, ...] = ()
    image_teacher: bool = False
    final_norm: bool = True
    usage: str = ""
    tokenizer: str = ""


# ------------------------------------------------------------------------------------- reading sizes from tensors


def shape_of(tensors: Tensors, name: str) -> torch.Size:
    """Return the shape of a tensor that the family must have."""
    if name not in tensors:
        raise CheckpointError(f"the checkpoint has no tensor {name}: it is not of this family")
    return tensors[name].shape


def prefix_of(tensors: Tensors, name: str) -> str:
    """Return what stands before a tensor's name, the shortest where several have it.

    Raises:
        CheckpointError: no tensor is called so.
    """
    found = sorted(
        (key.removesuffix(name) for key in tensors if re.search(rf"(^|\.){re.escape(name)}$", key)), key=len
    )
    if not found:
        raise CheckpointError(
            f"the checkpoint has no tensor {name}, with or without a prefix: it is not of this family"
        )
    return found[0]


def num_blocks(tensors: Tensors, stem: str) -> int:
    """Count the numbers, from 0, that follow a beginning of names such as `blocks.`."""
    pattern = re.compile(rf"{re.escape(stem)}(\d+)\.")
    return 1 + max((int(match[1]) for name in tensors if (match := pattern.match(name))), default=-1)


def encoder_sizes(tensors: Tensors, prefix: str) -> Sizes:
    """Return width, channels, patch, depth and MLP ratio of a vision transformer with the names of timm."""
    patch = shape_of(tensors, f"{prefix}patch_embed.proj.weight")
    if len(patch) not in (4, 5) or patch[-1] != patch[-2]:
        raise CheckpointError(f"{prefix}patch_embed.proj.weight has shape {tuple(patch)}; square patches are needed")
    return {
        "hidden_size": patch[0],
        "num_channels": patch[1],
        "patch_size": patch[-1],
        "num_hidden_layers": num_blocks(tensors, f"{prefix}blocks."),
        "mlp_ratio": shape_of(tensors, f"{prefix}blocks.0.mlp.fc1.weight")[0] / patch[0],
    }


def tubelet_of(tensors: Tensors, prefix: str) -> int:
    """Return the number of frames that a patch spans."""
    shape = shape_of(tensors, f"{prefix}patch_embed.proj.weight")
    return shape[2] if len(shape) == 5 else 1


def make_config(
    config_class: type[PreTrainedConfig],
    found: Sizes,
    overrides: Values,
    heads: tuple[str, ...] = ("",),
) -> Any:
    """Make a configuration from what the tensors show and what the caller says; they may not contradict each other.

    Args:
        config_class: its class.
        found: Values that the tensors show.
        overrides: Values from the caller, and defaults of the family.
        heads: prefixes of the blocks whose number of heads follows from their width unless it is said.
    """
    known = set(config_class().to_dict()) | {"num_labels"}
    for name, value in overrides.items():
        if name not in known:
            raise InputError(f"{config_class.__name__} has no option {name!r}; {did_you_mean(name, known)}")
        if name in found and found[name] != value:
            raise CheckpointError(f"config= says {name}={value}, the tensors of the checkpoint say {found[name]}")
    merged = {**found, **overrides}
    for block in heads:
        width = merged[f"{block}hidden_size"]
        if f"{block}num_attention_heads" not in merged:
            if width not in _HEADS_OF_WIDTH:
                raise InputError(
                    f"the number of heads cannot be read from a checkpoint, and {width} is no published width: "
                    f"say config={{'{block}num_attention_heads': ...}}"
                )
            merged[f"{block}num_attention_heads"] = _HEADS_OF_WIDTH[width]
    return config_class(**merged)


def parameter_shapes(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, torch.Size]:
    """Return the names and shapes of a model's tensors, without making it."""
    with torch.device("meta"):
        model = model_class(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def square_side(num_patches: int) -> int:
    """Patch along a side of a square picture."""
    side = round(num_patches**0.5)
    if side**2 != num_patches:
        raise CheckpointError(f"pos_embed holds {num_patches} patches, which is no square image")
    return side


def refuse_class_token(tensors: Tensors) -> None:
    """Refuse a class token, for families whose models have no place for one."""
    if "cls_token" in tensors:
        raise CheckpointError(
            "the checkpoint has a class token, which changes every output; models with one do not exist here"
        )


# ------------------------------------------------------------------------------------- processors


def image_processor(
    side: int,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    *,
    width: int | None = None,
    resample: PILImageResampling = PILImageResampling.BILINEAR,
) -> SurgicalImageProcessor:
    """Return a processor that squeezes images to one size as Pillow does, scales them to 0-1 and normalizes them.

    Args:
        side: Height in pixels, and width where no other is given.
        mean, std: The normalization, one number for each channel.
        width: Width in pixels.
        resample: The interpolation.
    """
    size = {"height": side, "width": width or side}
    statistics = {"image_mean": list(mean), "image_std": list(std)}
    return SurgicalImageProcessor(size=size, **statistics, resample=resample, arithmetic="pillow")


def plain_image_processor(
    side: int, mean: tuple[float, ...], std: tuple[float, ...], *, arithmetic: str, blue_first: bool = False
) -> SurgicalImageProcessor:
    """Return a processor that squeezes images to a square without antialiasing.

    Args:
        side: Height and width in pixels.
        mean, std: The normalization, one number for each channel.
        arithmetic: The arithmetic of `SurgicalImageProcessor`.
        blue_first: Return blue, green, red.
    """
    return SurgicalImageProcessor(
        size={"height": side, "width": side},
        image_mean=list(mean),
        image_std=list(std),
        arithmetic=arithmetic,
        do_flip_channel_order=blue_first,
    )


def short_side_processor(config: PreTrainedConfig, *, scale: float = 1.0, **fields: Any) -> SurgicalVideoProcessor:
    """Return a processor that resizes the short side as OpenCV does and cuts the middle out.

    Args:
        config: The model's configuration.
        scale: Length of the short side over that of the crop.
        fields: Further arguments of `make_encoder_processor`.
    """
    side, frames = (config.crop_size, config.frames_per_clip) if config.model_type == "vjepa2" else (None, None)
    side = side or frame_size(config)[0]
    options: Sizes = {"arithmetic": "opencv", "antialias": False, "short_side": int(side * scale), **fields}
    return make_encoder_processor(config.model_type, (side, side), frames or config.num_frames, **options)


def make_surgvista_processor(config: SurgVistaConfig, **sampling: Any) -> BaseVideoProcessor:
    """Return the processor of a model of ours, which squeezes frames."""
    statistics = {"mean": config.image_mean, "std": config.image_std}
    return make_processor(config.model_type, config.frame_size, config.num_frames, **statistics, **sampling)

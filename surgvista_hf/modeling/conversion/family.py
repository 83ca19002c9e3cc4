"""What a family of checkpoints is, and how the sizes of a model are read from tensors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig, PreTrainedModel, ViTImageProcessor

from ...util.errors import InputError
from ...util.messages import did_you_mean
from ..processors import IMAGENET_MEAN as IMAGENET_MEAN
from ..processors import IMAGENET_STD as IMAGENET_STD
from .mapping import Naming
from .reading import CONTAINERS, CheckpointError

Tensors = Mapping[str, torch.Tensor]

# Heads cannot be read from a tensor. These widths are the published ones (encoders and decoders).
_HEADS_OF_WIDTH = {192: 3, 384: 6, 512: 8, 640: 8, 768: 12, 1024: 16, 1280: 16, 1408: 22}


@dataclass(frozen=True)
class Blueprint:
    """What a checkpoint becomes.

    Args:
        model_class: class of the model.
        config: its configuration.
        tensors: the checkpoint, prepared.
        targets: parameter name -> shape, under the names that the model is saved with.
        naming: where each is found in the checkpoint.
        processor: what prepares pictures or clips for it.
        may_be_absent: prefixes of parameters that start fresh when the checkpoint lacks them.
        ignored: (pattern of names, reason) of tensors that are left out knowingly.
        options: further arguments of `from_pretrained`.
    """

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    tensors: Tensors
    targets: Mapping[str, torch.Size]
    naming: Naming
    processor: Any
    may_be_absent: tuple[str, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class HubFile(NamedTuple):
    """A file of a repository of the Hub."""

    repository: str
    name: str


@dataclass(frozen=True)
class Family:
    """Checkpoints that share one layout.

    Args:
        name: as given to `convert_checkpoint`.
        title: for people.
        paper: where it was published.
        source: where its weights are found.
        license: of the weights, as the Hub writes it; "other" where it must be looked up.
        plan: (tensors, what the caller said of the configuration) -> blueprint.
        restore: type of model -> way back from (its tensors, its configuration) to original names and shapes.
        input: size of what it sees.
        becomes: classes.
        checked: what was compared here, and with what.
        unknown: what could not be verified without the weights.
        hub: where the original file is known to lie on the Hub.
        containers: keys of a checkpoint that the weights may lie under, the first that is there counts.
        beside: further keys, whose tensors are read too, with the key as prefix.
        image_teacher: it gives features of single pictures.
        final_norm: features to distil are taken behind the last normalization.
        usage: lines for the model card.
    """

    name: str
    title: str
    paper: str
    source: str
    license: str
    plan: Callable[[Tensors, Mapping[str, Any]], Blueprint]
    restore: Mapping[str, Callable[[Tensors, Any], dict[str, torch.Tensor]]]
    input: str
    becomes: str
    checked: str
    unknown: str = "no published file could be loaded where this converter was written"
    hub: HubFile | None = None
    containers: tuple[str, ...] = CONTAINERS
    beside: tuple[str, ...] = ()
    image_teacher: bool = False
    final_norm: bool = True
    usage: str = ""


# ------------------------------------------------------------------------------------- reading sizes from tensors


def shape_of(tensors: Tensors, name: str) -> torch.Size:
    """Shape of a tensor that the family must have."""
    if name not in tensors:
        raise CheckpointError(f"the checkpoint has no tensor {name}: it is not of this family")
    return tensors[name].shape


def prefix_of(tensors: Tensors, name: str) -> str:
    """What stands before a tensor's name, the shortest where several have it.

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
    """How many numbers, from 0, follow a beginning of names such as `blocks.`."""
    pattern = re.compile(rf"{re.escape(stem)}(\d+)\.")
    return 1 + max((int(match[1]) for name in tensors if (match := pattern.match(name))), default=-1)


def encoder_sizes(tensors: Tensors, prefix: str) -> dict[str, Any]:
    """Width, channels, patch, depth and MLP ratio of a vision transformer with the names of timm."""
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
    """Frames that a patch spans."""
    shape = shape_of(tensors, f"{prefix}patch_embed.proj.weight")
    return shape[2] if len(shape) == 5 else 1


def make_config(
    config_class: type[PreTrainedConfig],
    found: dict[str, Any],
    said: Mapping[str, Any],
    heads: tuple[str, ...] = ("",),
) -> Any:
    """A configuration from what the tensors show and what the caller says; they may not contradict each other.

    Args:
        config_class: its class.
        found: what the tensors show.
        said: what the caller says, and defaults of the family.
        heads: prefixes of the blocks whose number of heads follows from their width unless it is said.
    """
    known = set(config_class().to_dict()) | {"num_labels"}
    for name, value in said.items():
        if name not in known:
            raise InputError(f"{config_class.__name__} has no option {name!r}; {did_you_mean(name, known)}")
        if name in found and found[name] != value:
            raise CheckpointError(f"config= says {name}={value}, the tensors of the checkpoint say {found[name]}")
    merged = {**found, **said}
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
    """For families whose models have no place for one."""
    if "cls_token" in tensors:
        raise CheckpointError(
            "the checkpoint has a class token, which changes every output; models with one do not exist here"
        )


# ------------------------------------------------------------------------------------- processors


def image_processor(
    side: int, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> ViTImageProcessor:
    """Pictures squeezed to a square, scaled to 0-1 and normalized."""
    return ViTImageProcessor(size={"height": side, "width": side}, image_mean=list(mean), image_std=list(std))

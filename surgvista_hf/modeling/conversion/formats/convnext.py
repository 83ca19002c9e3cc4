"""SurgFM, now LemonFM, which becomes transformers' `ConvNextModel`; and the layouts in which ConvNeXt weights come.

| LemonFM | |
|---|---|
| paper | LEMON (first Surg-3M), CVPR 2026, arXiv 2503.19740 |
| weights | visurg/LemonFM on the Hub, `lemonfm.pth` |
| license | Apache-2.0 (its page on the Hub); the data set is for non-commercial research |
| key layout | torchvision's `convnext_large` under `teacher`, after `backbone.` |
| beside it | `student`, an optimizer, a Namespace, the projection heads |
| preprocessing | 224² squeezed, bicubic with antialiasing (PIL's default, in its README), RGB, ImageNet's mean and deviation |
| feature | `pooler_output`, 1536 numbers: normalized mean over places |

timm's and the authors' own layout of ConvNeXt are read too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import ConvNextConfig, ConvNextModel, PreTrainedModel
from transformers.image_utils import PILImageResampling

from ..family import (
    Blueprint,
    CheckpointError,
    Family,
    HubFile,
    Tensors,
    Values,
    image_processor,
    make_config,
    num_blocks,
    parameter_shapes,
    prefix_of,
    shape_of,
)
from ..mapping import Naming, Source, unmap_tensors
from ..reading import CONTAINERS

_EPSILON = 1e-6  # of every norm; transformers' default differs


@dataclass(frozen=True)
class ConvNextLayout:
    """Names of a program's ConvNeXt. `{s}` is a stage from 0 on, `{even}` and `{odd}` are 2s and 2s + 1.

    Args:
        patches, patch_norm: first convolution and its norm.
        downsampling: The beginning before 0, the norm, and 1, the convolution, ahead of a stage.
        blocks: The beginning before the number of a block.
        parts: name in a block of transformers -> name here.
        norm: The norm of the pooled features.
    """

    patches: str
    patch_norm: str
    downsampling: str
    blocks: str
    parts: Mapping[str, str]
    norm: str

    def name(self, template: str, stage: int | str) -> str:
        """Fill the number of a stage into a template of names."""
        return template.format(s=int(stage), even=2 * int(stage), odd=2 * int(stage) + 1)

    def source(self, target: str) -> str:
        """Return the name of a parameter of `ConvNextModel` or `ConvNextV2Model` here."""
        if match := re.fullmatch(r"encoder\.stages\.(\d+)\.downsampling_layer\.(\d\..+)", target):
            return self.name(self.downsampling, match[1]) + match[2]
        if match := re.fullmatch(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(.+)", target):
            part = next((theirs + match[3].removeprefix(ours) for ours, theirs in self._parts(match[3])), match[3])
            return f"{self.name(self.blocks, match[1])}{match[2]}.{part}"
        for ours, theirs in (
            ("embeddings.patch_embeddings.", self.patches),
            ("embeddings.layernorm.", self.patch_norm),
            ("layernorm.", self.norm),
        ):
            if target.startswith(ours):
                return theirs + target.removeprefix(ours)
        return target

    def _parts(self, part: str) -> list[tuple[str, str]]:
        return [(ours, theirs) for ours, theirs in self.parts.items() if part.startswith(ours)]


LAYOUTS = (
    ConvNextLayout(  # torchvision
        "features.0.0.",
        "features.0.1.",
        "features.{even}.",
        "features.{odd}.",
        {
            "dwconv": "block.0",
            "layernorm": "block.2",
            "pwconv1": "block.3",
            "pwconv2": "block.5",
            "layer_scale_parameter": "layer_scale",
        },
        "classifier.0.",
    ),
    ConvNextLayout(  # timm
        "stem.0.",
        "stem.1.",
        "stages.{s}.downsample.",
        "stages.{s}.blocks.",
        {
            "dwconv": "conv_dw",
            "layernorm": "norm",
            "pwconv1": "mlp.fc1",
            "pwconv2": "mlp.fc2",
            "grn": "mlp.grn",
            "layer_scale_parameter": "gamma",
        },
        "head.norm.",
    ),
    ConvNextLayout(  # the authors
        "downsample_layers.0.0.",
        "downsample_layers.0.1.",
        "downsample_layers.{s}.",
        "stages.{s}.",
        {
            "layernorm": "norm",
            "grn.weight": "grn.gamma",
            "grn.bias": "grn.beta",
            "layer_scale_parameter": "gamma",
        },
        "norm.",
    ),
)


def plan_convnext(
    model_class: type[PreTrainedModel],
    tensors: Tensors,
    overrides: Values,
    ignored: tuple[tuple[str, str], ...] = (),
    **preparation: Any,
) -> Blueprint:
    """Plan a ConvNeXt or ConvNeXt V2 in any of the layouts, after any prefix; `preparation` goes to its processor."""
    layout, prefix = _layout(tensors)
    patches = shape_of(tensors, f"{prefix}{layout.patches}weight")
    depths = [_depth(layout, tensors, prefix, stage) for stage in range(4)]
    depths = depths[: depths.index(0)] if 0 in depths else depths
    reductions = [f"{prefix}{layout.name(layout.downsampling, stage)}1.weight" for stage in range(1, len(depths))]
    widths = [patches[0], *(shape_of(tensors, name)[0] for name in reductions)]
    found = {
        "num_channels": patches[1],
        "patch_size": patches[-1],
        "num_stages": len(depths),
        "hidden_sizes": widths,
        "depths": depths,
    }
    config_class: Any = model_class.config_class
    config = make_config(config_class, found, {"layer_norm_eps": _EPSILON, "image_size": 224, **overrides}, ())
    return Blueprint(
        model_class,
        config,
        tensors,
        parameter_shapes(model_class, config),
        convnext_naming(layout, prefix),
        image_processor(config.image_size, **preparation),
        ignored=ignored,
    )


def _layout(tensors: Tensors) -> tuple[ConvNextLayout, str]:
    for layout in LAYOUTS:
        try:
            return layout, prefix_of(tensors, f"{layout.patches}weight")
        except CheckpointError:
            continue
    raise CheckpointError("the checkpoint has no ConvNeXt in the layout of torchvision, timm or its authors")


def _depth(layout: ConvNextLayout, tensors: Tensors, prefix: str, stage: int) -> int:
    return num_blocks(tensors, prefix + layout.name(layout.blocks, stage))


def convnext_naming(layout: ConvNextLayout, prefix: str) -> Naming:
    """Return where the tensors of a model lie in a checkpoint of this layout."""
    return lambda target: Source(prefix + layout.source(target))


def _plan_lemonfm(tensors: Tensors, overrides: Values) -> Blueprint:
    heads = (
        (r"(.*\.)?head\.(mlp|last_layer)\.", "the projection head of self-distillation"),
        (r"(.*\.)?(classifier\.2|head\.fc|head)\.", "a classifier; it is no part of the encoder"),
    )
    return plan_convnext(ConvNextModel, tensors, overrides, heads, resample=PILImageResampling.BICUBIC)


def _restore(tensors: Tensors, config: ConvNextConfig) -> dict[str, torch.Tensor]:
    """Return torchvision's layout as the release has it, under `backbone.`."""
    original = unmap_tensors(tensors, convnext_naming(LAYOUTS[0], "backbone."))
    return {
        name: tensor[:, None, None] if name.endswith("layer_scale") else tensor for name, tensor in original.items()
    }


FAMILIES = (
    Family(
        "lemonfm",
        "LemonFM (first released as SurgFM)",
        "LEMON: A Large Endoscopic MONocular Dataset and Foundation Model for Perception in Surgical Settings (first "
        "Surg-3M), CVPR 2026, arXiv 2503.19740",
        "huggingface.co/visurg/LemonFM",
        "apache-2.0",
        _plan_lemonfm,
        {ConvNextConfig.model_type: _restore},
        input="224×224",
        becomes="ConvNextModel",
        checked="torchvision's network as its program builds it, and the transform of its README: features and pixels; timm's "
        "ConvNeXt; all key names of the large one",
        preparation="squeezed, bicubic with antialiasing; ImageNet's mean and deviation",
        hub=HubFile("visurg/LemonFM", "lemonfm.pth"),
        containers=("teacher", *CONTAINERS),
        image_teacher=True,
        usage="A picture's feature is `pooler_output`, 1536 numbers for the released size:\n\n"
        "```python\n"
        'features = model(**processor(images, return_tensors="pt")).pooler_output\n'
        "```\n",
    ),
)

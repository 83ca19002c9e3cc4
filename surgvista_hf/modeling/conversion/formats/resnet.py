"""The layout of torchvision's ResNets, which several families share."""

import re

from ..family import Sizes, Tensors, num_blocks, shape_of
from ..mapping import Naming, Source

_STAGES = 4


def resnet_naming(prefix: str) -> Naming:
    """Return the names of torchvision's ResNets after a prefix, for those of `ResNetModel` with or without a classifier."""

    def _source(target: str) -> Source:
        name = target.removeprefix("resnet.").replace("classifier.1.", "fc.")
        name = name.replace("embedder.embedder.convolution.", "conv1.").replace(
            "embedder.embedder.normalization.", "bn1."
        )
        if match := re.fullmatch(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(.+)", name):
            block = f"layer{int(match[1]) + 1}.{match[2]}"
            part = re.sub(r"^shortcut\.convolution\.", "downsample.0.", match[3])
            part = re.sub(r"^shortcut\.normalization\.", "downsample.1.", part)
            part = re.sub(r"^layer\.(\d+)\.convolution\.", lambda found: f"conv{int(found[1]) + 1}.", part)
            part = re.sub(r"^layer\.(\d+)\.normalization\.", lambda found: f"bn{int(found[1]) + 1}.", part)
            name = f"{block}.{part}"
        return Source(prefix + name)

    return _source


def resnet_sizes(tensors: Tensors, prefix: str = "") -> Sizes:
    """Return the sizes of a ResNet of torchvision, as names of `ResNetConfig`.

    Args:
        tensors: The checkpoint.
        prefix: The beginning of its names.
    """
    stages = [f"{prefix}layer{number}." for number in range(1, _STAGES + 1)]
    last = "conv3" if f"{prefix}layer1.0.conv3.weight" in tensors else "conv2"
    first = shape_of(tensors, f"{prefix}conv1.weight")
    return {
        "num_channels": first[1],
        "embedding_size": first[0],
        "hidden_sizes": [shape_of(tensors, f"{stage}0.{last}.weight")[0] for stage in stages],
        "depths": [num_blocks(tensors, stage) for stage in stages],
        "layer_type": "bottleneck" if last == "conv3" else "basic",
    }

"""The classifiers with which Surg-3M, now LEMON, was curated; they become transformers' `ResNetForImageClassification`.

| | storyboards | frames |
|---|---|---|
| paper | LEMON (first Surg-3M), CVPR 2026, arXiv 2503.19740 | the same |
| weights | visurg/LEMON_curation_models on the Hub, several networks of an ensemble | the same |
| license | Apache-2.0 (the page of the weights on the Hub) | the same |
| key layout | torchvision's `resnet18` under `net`, after `module.` | the same |
| classes | informative, uninformative | surgical, non-surgical |
| preprocessing | 384² squeezed as by OpenCV, RGB; mean and deviation of their own | the same, other numbers |

The third kind of curation model there, detectors of non-surgical regions, are pickles of ultralytics (AGPL-3.0). They are not
read; train a detector of transformers instead (`surgvista_hf.curation.models.training`).
"""

from collections.abc import Callable
from functools import partial

import torch
from transformers import ResNetConfig, ResNetForImageClassification

from ..family import (
    Blueprint,
    CheckpointError,
    Family,
    Tensors,
    Values,
    make_config,
    parameter_shapes,
    plain_image_processor,
    shape_of,
)
from ..mapping import unmap_tensors
from ..reading import CONTAINERS
from .resnet import resnet_naming, resnet_sizes

_SIDE = 384


def _plan(
    classes: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    tensors: Tensors,
    overrides: Values,
) -> Blueprint:
    found = resnet_sizes(tensors)
    labels = {"id2label": dict(enumerate(classes)), "label2id": {name: number for number, name in enumerate(classes)}}
    config = make_config(ResNetConfig, found, {**labels, **overrides}, ())
    outputs = shape_of(tensors, "fc.weight")[0]
    if outputs != config.num_labels:
        raise CheckpointError(
            f"the checkpoint has {outputs} classes, not {config.num_labels} ({', '.join(classes)}): "
            "it is no classifier of this kind"
        )
    return Blueprint(
        ResNetForImageClassification,
        config,
        tensors,
        parameter_shapes(ResNetForImageClassification, config),
        resnet_naming(""),
        plain_image_processor(_SIDE, mean, std, arithmetic="opencv"),
        twins=("lemon-storyboards", "lemon-frames"),
    )


def _restore(tensors: Tensors, config: ResNetConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, resnet_naming(""))


def _family(name: str, what: str, plan: Callable[[Tensors, Values], Blueprint]) -> Family:
    return Family(
        name,
        f"LEMON's classifier of {what}",
        "LEMON: A Large Endoscopic MONocular Dataset and Foundation Model for Perception in Surgical Settings (first "
        "Surg-3M), CVPR 2026, arXiv 2503.19740",
        "huggingface.co/visurg/LEMON_curation_models",
        "apache-2.0",
        plan,
        {ResNetConfig.model_type: _restore},
        input=f"{_SIDE}×{_SIDE}",
        becomes="ResNetForImageClassification",
        checked="torchvision's resnet18 and the resize of its program (OpenCV): logits and pixels",
        preparation="squeezed, bilinear without antialiasing; mean and deviation of its own",
        containers=("net", *CONTAINERS),
        usage="One member of an ensemble; `surgvista curate` takes the mean of the members' logits.\n",
    )


FAMILIES = (
    _family(
        "lemon-storyboards",
        "storyboards",
        partial(
            _plan,
            ("informative", "uninformative"),
            (0.44476654, 0.35751768, 0.34613244),
            (0.28885465, 0.25989645, 0.26113421),
        ),
    ),
    _family(
        "lemon-frames",
        "frames",
        partial(
            _plan,
            ("surgical", "non-surgical"),
            (0.4299694, 0.29676908, 0.27707579),
            (0.24373249, 0.20208984, 0.19319402),
        ),
    ),
)

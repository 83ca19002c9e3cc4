"""SelfSupSurg: ResNet-50 trained on Cholec80 with MoCo v2, SimCLR, SwAV or DINO; it becomes transformers' `ResNetModel`.

| | |
|---|---|
| paper | Medical Image Analysis 2023, arXiv 2207.00449 |
| weights | https://s3.unistra.fr/camma_public/github/selfsupsurg/models/, one file for each method: |
| | `model_final_checkpoint_moco_v2_surg.torch`, `…_simclr_surg.torch`, `…_swav_surg.torch`, `…_dino_surg.torch` |
| license | CC BY-NC-SA 4.0 |
| key layout | torchvision's under `classy_state_dict`, `base_model`, `model`, `trunk`, after `_feature_blocks.` |
| beside it | `heads`, and under `classy_state_dict.loss` MoCo's and DINO's slow average, which is not the trunk |
| preprocessing | squeezed to 224×399, bilinear with antialiasing (PIL), ImageNet's mean and deviation |
| feature | mean over places, 2048 numbers |
"""

import torch
from transformers import ResNetConfig, ResNetModel

from ..family import Blueprint, Family, Tensors, Values, image_processor, make_config, parameter_shapes, prefix_of
from ..mapping import unmap_tensors
from .resnet import resnet_naming, resnet_sizes

_PREFIX = "_feature_blocks."
_HEIGHT, _WIDTH = 224, 399


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    prefix = prefix_of(tensors, f"{_PREFIX}conv1.weight") + _PREFIX
    config = make_config(ResNetConfig, resnet_sizes(tensors, prefix), overrides, ())
    config.image_size = [_HEIGHT, _WIDTH]  # the configuration has no word of its own for it
    return Blueprint(
        ResNetModel,
        config,
        tensors,
        parameter_shapes(ResNetModel, config),
        resnet_naming(prefix),
        image_processor(_HEIGHT, width=_WIDTH),
    )


def _restore(tensors: Tensors, config: ResNetConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, resnet_naming(_PREFIX))


FAMILIES = (
    Family(
        "selfsupsurg",
        "SelfSupSurg (MoCo v2, SimCLR, SwAV, DINO)",
        "Dissecting self-supervised learning methods for surgical computer vision, Medical Image Analysis 2023, "
        "arXiv 2207.00449",
        "s3.unistra.fr/camma_public/github/selfsupsurg/models/model_final_checkpoint_{moco_v2,simclr,swav,dino}_surg.torch",
        "cc-by-nc-sa-4.0",
        _plan,
        {ResNetConfig.model_type: _restore},
        input="224×399",
        becomes="ResNetModel",
        checked="VISSL's ResNet and the transform of its evaluation: features and pixels",
        preparation="squeezed to 224×399, bilinear with antialiasing; ImageNet's mean and deviation",
        unknown="the released files, which may hold objects beside the weights that are refused",
        containers=("classy_state_dict/base_model/model/trunk",),
        image_teacher=True,
        usage="An image's feature is `pooler_output`, 2048 numbers for the released size.\n",
    ),
)

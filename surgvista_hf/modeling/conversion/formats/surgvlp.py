"""SurgVLP, HecVL and PeskaVLP: a ResNet-50 and a clinical BERT, which become a `SurgicalClipModel`.

| | |
|---|---|
| papers | SurgVLP: Medical Image Analysis 2025, arXiv 2307.15220; HecVL: MICCAI 2024, arXiv 2405.10075; |
| | PeskaVLP: NeurIPS 2024, arXiv 2410.00263 |
| weights | links to seafile.unistra.fr in github.com/CAMMA-public/SurgVLP, one file for each |
| license | CC BY-NC-SA 4.0 (README of its repository) |
| key layout | flat: `backbone_img.model.` torchvision's ResNet-50 without `fc`, `backbone_img.global_embedder`, |
| | `backbone_text.model.` BERT with a pooler that nothing uses |
| images | squeezed to 360×640, bilinear with antialiasing (PIL); middle 224²; ImageNet's mean and deviation |
| texts | Bio_ClinicalBERT's tokenizer, 77 tokens; last four layers summed, mean over 77 positions, padding counts as zeros |
| feature | 768 numbers, compared by cosine times 100 |

The three files have the same tensors: nothing but their names tells them apart.
"""

import torch
from transformers import ResNetConfig
from transformers.image_utils import PILImageResampling

from ...configuration_surgical_clip import SurgicalClipConfig
from ...image_processing_encoder_surgvista import SurgicalImageProcessor
from ...modeling_surgical_clip import SurgicalClipModel
from ...video_processing_encoder_surgvista import SurgicalVideoProcessor
from ..family import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Blueprint,
    Family,
    Sizes,
    Tensors,
    Values,
    make_config,
    parameter_shapes,
    prefix_of,
    shape_of,
)
from ..mapping import Naming, Source, unmap_tensors
from ..tokenizers import ImageProcessors
from .image_text import UNUSED, bert_config, split_overrides, whole_config
from .resnet import resnet_naming, resnet_sizes

_NAMES = ("surgvlp", "hecvl", "peskavlp")
_IMAGE, _TEXT, _PROJECTION = "backbone_img.model.", "backbone_text.model.", "backbone_img.global_embedder."
_SIZE, _CROP = {"height": 360, "width": 640}, {"height": 224, "width": 224}


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    prefix = prefix_of(tensors, f"{_PROJECTION}weight")
    parts = split_overrides(overrides, vision_has_heads=False)
    vision = make_config(ResNetConfig, resnet_sizes(tensors, prefix + _IMAGE), parts.vision, ())
    found = {
        "projection_dim": shape_of(tensors, f"{prefix}{_PROJECTION}weight")[0],
        "text_pooling_layer": f"{prefix}{_TEXT}pooler.dense.weight" in tensors,
    }
    config = whole_config(found, parts.whole, vision, bert_config(tensors, prefix + _TEXT, parts.text))
    targets = parameter_shapes(SurgicalClipModel, config)
    return Blueprint(
        SurgicalClipModel, config, tensors, targets, _naming(prefix), _processors(), ignored=UNUSED, twins=_NAMES
    )


def _processors() -> ImageProcessors:
    normalization: Sizes = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    resizing: Sizes = {
        "size": _SIZE,
        "crop_size": _CROP,
        "resample": PILImageResampling.BILINEAR,
        "do_center_crop": True,
        "arithmetic": "pillow",
        "antialias": True,
    }
    return ImageProcessors(
        SurgicalImageProcessor(**resizing, **normalization),
        SurgicalVideoProcessor(**resizing, **normalization, num_frames=1),
    )


def _naming(prefix: str) -> Naming:
    of_images = resnet_naming(f"{prefix}{_IMAGE}")

    def source(target: str) -> Source:
        """Return where a parameter of the model lies."""
        if target.startswith("vision_model."):
            return of_images(target.removeprefix("vision_model."))
        name = target.replace("visual_projection.", _PROJECTION).replace("text_model.", _TEXT)
        return Source(prefix + name)

    return source


def _restore(tensors: Tensors, config: SurgicalClipConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _naming(""))


def _family(name: str, title: str, paper: str) -> Family:
    return Family(
        name,
        title,
        paper,
        f"github.com/CAMMA-public/SurgVLP, the link of {title} there",
        "cc-by-nc-sa-4.0",
        _plan,
        {SurgicalClipConfig.model_type: _restore},
        input="224×224, and texts of 77 tokens",
        becomes="SurgicalClipModel",
        checked="its two networks and its image transform: features of images and texts, and pixels",
        preparation="squeezed to 360×640, bilinear with antialiasing, middle 224×224; ImageNet's mean and deviation",
        unknown="the released file",
        tokenizer="emilyalsentzer/Bio_ClinicalBERT",
        usage="`get_image_features` and `get_text_features` give the vectors (`pooler_output`) that are compared.\n",
    )


FAMILIES = (
    _family(
        "surgvlp",
        "SurgVLP",
        "Learning multi-modal representations by watching hundreds of surgical video lectures, arXiv 2307.15220",
    ),
    _family(
        "hecvl",
        "HecVL",
        "HecVL: hierarchical video-language pretraining for zero-shot surgical phase recognition, MICCAI 2024, "
        "arXiv 2405.10075",
    ),
    _family(
        "peskavlp",
        "PeskaVLP",
        "Procedure-aware surgical video-language pretraining with hierarchical knowledge augmentation, NeurIPS 2024, "
        "arXiv 2410.00263",
    ),
)

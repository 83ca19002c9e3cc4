"""The tensors of the published files, as far as names and shapes are known, without numbers (on the meta device)."""

from collections.abc import Callable
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]


def meta(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    """Return tensors without numbers."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Return the two tensors of a layer norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    """Return the two tensors of a linear layer."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def block(name: str, width: int, inner: int, bias: str = "fused", scaled: bool = False) -> dict[str, tuple[int, ...]]:
    """Return a transformer block under the names of timm; `bias` is "fused", "split" (q and v only) or "separate"."""
    shapes = {
        **norm(f"{name}.norm1", width),
        **norm(f"{name}.norm2", width),
        **linear(f"{name}.attn.proj", width, width),
    }
    shapes |= {**linear(f"{name}.mlp.fc1", inner, width), **linear(f"{name}.mlp.fc2", width, inner)}
    if bias == "separate":
        for part in "qkv":
            shapes |= linear(f"{name}.attn.{part}", width, width)
        return shapes
    shapes[f"{name}.attn.qkv.weight"] = (3 * width, width)
    if bias == "fused":
        shapes[f"{name}.attn.qkv.bias"] = (3 * width,)
    else:
        shapes |= {f"{name}.attn.q_bias": (width,), f"{name}.attn.v_bias": (width,)}
    if scaled:
        shapes |= {f"{name}.ls1.gamma": (width,), f"{name}.ls2.gamma": (width,)}
    return shapes


def vit(
    width: int,
    depth: int,
    *,
    patch: tuple[int, ...] = (3, 16, 16),
    inner: int | None = None,
    positions: int = 0,
    class_token: bool = False,
    bias: str = "fused",
    scaled: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Return a vision transformer under the names of timm."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (width, *patch),
        "patch_embed.proj.bias": (width,),
        **norm("norm", width),
    }
    if positions:
        shapes["pos_embed"] = (1, positions, width)
    if class_token:
        shapes["cls_token"] = (1, 1, width)
    for number in range(depth):
        shapes |= block(f"blocks.{number}", width, inner or 4 * width, bias, scaled)
    return shapes


def prefixed(prefix: str, shapes: dict[str, Any]) -> dict[str, Any]:
    """Return the same under longer names."""
    return {prefix + name: value for name, value in shapes.items()}


def joint_embedding(width: int, depth: int, inner: int, masks: int, tokens: int = 0) -> Tensors:
    """Return a V-JEPA with its predictor, with stored tables where `tokens` is given."""
    encoder = vit(width, depth, patch=(3, 2, 16, 16), inner=inner, positions=tokens)
    predictor: dict[str, tuple[int, ...]] = {
        **linear("predictor_embed", 384, width),
        **linear("predictor_proj", width, 384),
        **norm("predictor_norm", 384),
        **{f"mask_tokens.{number}": (1, 1, 384) for number in range(masks)},
    }
    if tokens:
        predictor["predictor_pos_embed"] = (1, tokens, 384)
    for number in range(12):
        predictor |= block(f"predictor_blocks.{number}", 384, 4 * 384)
    return meta(prefixed("backbone.", encoder) | prefixed("predictor.backbone.", predictor))


def masked_autoencoder() -> Tensors:
    """Return VideoMAE-B with its decoder."""
    decoder: dict[str, tuple[int, ...]] = {
        "encoder_to_decoder.weight": (384, 768),
        "mask_token": (1, 1, 384),
        **norm("decoder.norm", 384),
        **linear("decoder.head", 1536, 384),
    }
    for number in range(4):
        decoder |= block(f"decoder.blocks.{number}", 384, 1536, "split")
    return meta(prefixed("encoder.", vit(768, 12, patch=(3, 2, 16, 16), bias="split")) | decoder)


def umt() -> Tensors:
    """Return stage 1 of UMT-B: patches of one frame, and the decoder of CLIP's features."""
    decoder = {**linear("clip_decoder.0.head", 768, 768), **norm("clip_decoder.0.norm", 768)}
    return meta(prefixed("encoder.", vit(768, 12, patch=(3, 1, 16, 16), bias="split")) | decoder)


def two_decoders(width: int, depth: int, video_depth: int, targets: tuple[int, int]) -> Tensors:
    """Return a student of MVD or SurgVISTA with its decoders and with real tables of positions.

    Args:
        width: Width of the encoder; the decoders are half as wide.
        depth: Blocks of the encoder.
        video_depth: Blocks of the video decoder.
        targets: Numbers that the video and the image decoder give for a token.
    """
    from surgvista_hf.modeling.modeling_surgvista import sincos_3d_table

    shapes, inner = vit(width, depth, patch=(3, 2, 16, 16), bias="split"), width // 2
    tables = {"pos_embed": width}
    for kind, blocks, outputs in (("vid", video_depth, targets[0]), ("img", 2, targets[1])):
        tables[f"pos_embed_{kind}"] = inner
        shapes[f"mask_token_{kind}"] = (1, 1, inner)
        shapes |= {**linear(f"down_{kind}", inner, width), **norm(f"decoder_{kind}.norm", inner)}
        shapes |= linear(f"decoder_{kind}.head", outputs, inner)
        for number in range(blocks):
            shapes |= block(f"decoder_{kind}.blocks.{number}", inner, 4 * inner, "split")
    return meta(shapes) | {name: sincos_3d_table((8, 14, 14), size)[None] for name, size in tables.items()}


def image_mae() -> Tensors:
    """Return an image MAE-B with its decoder."""
    decoder: dict[str, tuple[int, ...]] = {
        "mask_token": (1, 1, 512),
        "decoder_pos_embed": (1, 197, 512),
        **linear("decoder_embed", 512, 768),
        **norm("decoder_norm", 512),
        **linear("decoder_pred", 768, 512),
    }
    for number in range(8):
        decoder |= block(f"decoder_blocks.{number}", 512, 2048)
    return meta(vit(768, 12, positions=197, class_token=True) | decoder)


def second_dino(width: int, depth: int) -> Tensors:
    """Return DINOv2 at 336 pixels with four registers."""
    shapes = vit(width, depth, patch=(3, 14, 14), positions=577, class_token=True, scaled=True)
    return meta(shapes | {"register_tokens": (1, 4, width), "mask_token": (1, width)})


def third_dino(width: int, depth: int) -> Tensors:
    """Return DINOv3 without storage tokens."""
    shapes = vit(width, depth, class_token=True, scaled=True)
    return meta(shapes | {"mask_token": (1, width), "rope_embed.periods": (16,)})


def timesformer() -> Tensors:
    """Return TimeSformer-B with divided attention over 8 frames."""
    shapes = vit(768, 12, positions=197, class_token=True) | {"time_embed": (1, 8, 768)}
    for number in range(12):
        name = f"blocks.{number}.temporal_"
        shapes |= {**norm(f"{name}norm1", 768), **linear(f"{name}attn.qkv", 2304, 768)}
        shapes |= {**linear(f"{name}attn.proj", 768, 768), **linear(f"{name}fc", 768, 768)}
    return meta(prefixed("backbone.", shapes))


def bert(prefix: str, words: int, pooler: bool) -> dict[str, Any]:
    """Return the names and shapes of BERT-base."""
    shapes: dict[str, Any] = {
        "embeddings.word_embeddings.weight": (words, 768),
        "embeddings.position_embeddings.weight": (512, 768),
        "embeddings.token_type_embeddings.weight": (2, 768),
        **norm("embeddings.LayerNorm", 768),
    }
    for number in range(12):
        name = f"encoder.layer.{number}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear(f"{name}attention.{part}", 768, 768)
        shapes |= {**norm(f"{name}attention.output.LayerNorm", 768), **norm(f"{name}output.LayerNorm", 768)}
        shapes |= {**linear(f"{name}intermediate.dense", 3072, 768), **linear(f"{name}output.dense", 768, 3072)}
    return prefixed(prefix, shapes | (linear("pooler.dense", 768, 768) if pooler else {}))


def surgvlp() -> Tensors:
    """Return a ResNet-50 and Bio_ClinicalBERT, with the numbers of positions that older versions of transformers store."""
    from torchvision.models import resnet50

    images = {name: t for name, t in of_module(resnet50, "backbone_img.model.").items() if ".fc." not in name}
    texts = bert("backbone_text.model.", 28996, pooler=True)
    positions = {"backbone_text.model.embeddings.position_ids": (1, 512)}
    return images | meta({**texts, **positions, **linear("backbone_img.global_embedder", 768, 2048)})


def surgclip() -> Tensors:
    """Return TimeSformer-B over 16 frames and BERT-base."""
    frames = {name.removeprefix("backbone."): tuple(tensor.shape) for name, tensor in timesformer().items()}
    frames |= {"time_embed": (1, 16, 768), **norm("pool_norm", 768)}
    projections = {**linear("vision_proj", 256, 768), **linear("text_proj", 256, 768), **norm("vision_layernorm", 768)}
    texts = bert("text_encoder.", 30522, pooler=False)
    return meta({"temp": (), **prefixed("vision_encoder.model.", frames), **projections, **texts})


def of_module(make: Callable[[], torch.nn.Module], prefix: str = "") -> Tensors:
    """Return the tensors of a network of torchvision or timm."""
    with torch.device("meta"):
        return prefixed(prefix, dict(make().state_dict()))


def lemonfm() -> Tensors:
    """Return torchvision's convnext_large without its classifier."""
    from torchvision.models import convnext_large

    return {name: t for name, t in of_module(convnext_large, "backbone.").items() if "classifier.2" not in name}


def surgical_resnet() -> Tensors:
    """Return VISSL's ResNet-50."""
    from torchvision.models import resnet50

    return {name: t for name, t in of_module(resnet50, "_feature_blocks.").items() if ".fc." not in name}


def curation_resnet() -> Tensors:
    """Return torchvision's resnet18 with two classes."""
    from torchvision.models import resnet18

    return of_module(lambda: resnet18(num_classes=2))


def caformer() -> Tensors:
    """Return CAFormer-S18 with plain ReLU, under timm's names."""
    import timm

    tensors = of_module(lambda: timm.create_model("caformer_s18", num_classes=0))
    return {name: t for name, t in tensors.items() if ".act" not in name}


def efficient_vit() -> Tensors:
    """Return EfficientViT-M5 under the names of GSViT's release."""
    import timm

    from surgvista_hf.modeling.conversion.formats.gsvit import _naming

    naming = _naming("evit.")
    tensors = of_module(lambda: timm.create_model("efficientvit_m5", num_classes=0))
    return {naming(f"timm_model.{name}").key: tensor for name, tensor in tensors.items()}


def convnext_v2() -> Tensors:
    """Return timm's ConvNeXt V2 Tiny."""
    import timm

    return of_module(lambda: timm.create_model("convnextv2_tiny", num_classes=0))


def pyramid() -> Tensors:
    """Return PVT v2 B2 under the names of its authors."""
    import timm

    from .originals import renamed

    return renamed(
        of_module(lambda: timm.create_model("pvt_v2_b2", num_classes=0)),
        (r"^patch_embed\.", "patch_embed1."),
        (r"^stages\.(\d)\.downsample\.", lambda found: f"patch_embed{int(found[1]) + 1}."),
        (r"^stages\.(\d)\.blocks\.", lambda found: f"block{int(found[1]) + 1}."),
        (r"^stages\.(\d)\.norm\.", lambda found: f"norm{int(found[1]) + 1}."),
        (r"\.dwconv\.", ".dwconv.dwconv."),
    )


IMAGE_VIT_B = {"positions": 197, "class_token": True}
# (family, size) -> its tensors and the heads that its configuration must have.
PUBLISHED: dict[tuple[str, str], tuple[Callable[[], Tensors], Any]] = {
    ("surgvista", "base"): (lambda: two_decoders(768, 12, 4, (1536, 1024)), 12),
    ("mvd", "base"): (lambda: two_decoders(768, 12, 2, (768, 768)), 12),
    ("mvd", "large"): (lambda: two_decoders(1024, 24, 2, (1024, 1024)), 16),
    ("videomae", "base"): (masked_autoencoder, 12),
    ("surgrec-mae", "base"): (masked_autoencoder, 12),
    ("umt", "base"): (umt, 12),
    ("mae", "base"): (lambda: meta(vit(768, 12, **IMAGE_VIT_B)), 12),
    ("dino", "base"): (lambda: meta(vit(768, 12, **IMAGE_VIT_B)), 12),
    ("supervised", "base"): (lambda: meta(vit(768, 12, **IMAGE_VIT_B) | linear("head", 1000, 768)), 12),
    ("surgrec-jepa", "large"): (lambda: joint_embedding(1024, 24, 4096, 2, 1568), 16),
    ("vjepa", "large"): (lambda: joint_embedding(1024, 24, 4096, 2, 1568), 16),
    ("vjepa", "huge"): (lambda: joint_embedding(1280, 32, 5120, 2, 1568), 16),
    ("vjepa2", "large"): (lambda: joint_embedding(1024, 24, 4096, 10), 16),
    ("vjepa2", "huge"): (lambda: joint_embedding(1280, 32, 5120, 10), 16),
    ("vjepa2", "giant"): (lambda: joint_embedding(1408, 40, 6144, 10, 8192), 22),
    ("surgmotion", "large"): (lambda: joint_embedding(1024, 24, 4096, 10, 8192), 16),
    ("surgmotion", "giant"): (lambda: joint_embedding(1408, 40, 6144, 10), 22),
    ("lemonfm", "large"): (lemonfm, None),
    ("surgenet", "CAFormer-S18"): (caformer, None),
    ("surgenet", "ConvNeXt V2 Tiny"): (convnext_v2, None),
    ("surgenet", "PVT v2 B2"): (pyramid, [1, 2, 5, 8]),
    ("surgenet-dino", "v1 small"): (lambda: meta(vit(384, 12, **IMAGE_VIT_B)), 6),
    ("surgenet-dino", "v1 base"): (lambda: meta(vit(768, 12, **IMAGE_VIT_B)), 12),
    ("surgenet-dino", "v2 small"): (lambda: second_dino(384, 12), 6),
    ("surgenet-dino", "v2 base"): (lambda: second_dino(768, 12), 12),
    ("surgenet-dino", "v2 large"): (lambda: second_dino(1024, 24), 16),
    ("surgenet-dino", "v3 small"): (lambda: third_dino(384, 12), 6),
    ("surgenet-dino", "v3 base"): (lambda: third_dino(768, 12), 12),
    ("surgenet-dino", "v3 large"): (lambda: third_dino(1024, 24), 16),
    ("pl-stitch", "base"): (lambda: meta(prefixed("backbone.", vit(768, 12, **IMAGE_VIT_B))), 12),
    ("selfsupsurg", "ResNet-50"): (surgical_resnet, None),
    ("endo-fm", "base"): (timesformer, 12),
    ("surgvlp", "base"): (surgvlp, None),
    ("hecvl", "base"): (surgvlp, None),
    ("peskavlp", "base"): (surgvlp, None),
    ("surgclip-b", "base"): (surgclip, None),
    ("endovit", "base"): (image_mae, 12),
    ("endossl-teacher", "large"): (
        lambda: meta(vit(1024, 24, positions=196, bias="separate") | {"cls_token": (1, 1, 1024)}),
        16,
    ),
    ("gsvit", "M5"): (efficient_vit, None),
    ("lemon-storyboards", "ResNet-18"): (curation_resnet, None),
    ("lemon-frames", "ResNet-18"): (curation_resnet, None),
}

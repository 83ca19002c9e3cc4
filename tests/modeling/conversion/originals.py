"""Checkpoints of released families re-created at tiny sizes in their original key layouts, with the programs that they are
compared with: torchvision's and timm's models, and the published formulas written out.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from surgvista_hf.modeling.modeling_surgvista import sincos_1d_table, sincos_3d_equal_table

Tensors = dict[str, torch.Tensor]


class Original(NamedTuple):
    """A tiny checkpoint.

    family: its name. checkpoint: what lies in the file. overrides: what `config=` must say of so small a model. expected:
    pictures or clips -> the numbers that the converted model must give. answer: its output -> these numbers. pixels: a batch.
    """

    family: str
    checkpoint: dict[str, Any]
    overrides: dict[str, Any]
    expected: Callable[[torch.Tensor], torch.Tensor]
    answer: Callable[[Any], torch.Tensor]
    pixels: torch.Tensor

    def save(self, folder: Path) -> Path:
        torch.save(self.checkpoint, folder / "original.pth")
        return folder / "original.pth"


def pictures(side: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(5))


def clips() -> torch.Tensor:
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(6))


def randomized(model: nn.Module) -> nn.Module:
    """Weights far from their initial values, so that a scale or a norm left out shows."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(1 + 0.1 * noise.abs())
        else:
            tensor.mul_(0.8).add_(0.1 * noise)
    return model.eval()


def with_prefix(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def renamed(tensors: Tensors, *rules: tuple[str, Any]) -> Tensors:
    names = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        names[name] = tensor
    return names


# ------------------------------------------------------------------------------------------- ConvNeXt


def lemonfm() -> Original:
    """A training checkpoint of self-distillation over torchvision's network: teacher, student, optimizer, Namespace."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    settings = [
        CNBlockConfig(8, 16, 1),
        CNBlockConfig(16, 24, 2),
        CNBlockConfig(24, 32, 1),
        CNBlockConfig(32, None, 1),
    ]
    model = randomized(ConvNeXt(settings, layer_scale=0.5))
    model.classifier[2] = nn.Identity()
    teacher = with_prefix("backbone.", dict(model.state_dict()))
    teacher |= {f"head.mlp.{i}.{kind}": torch.zeros(4) for i in (0, 2, 4) for kind in ("weight", "bias")}
    teacher |= {"head.last_layer.weight_g": torch.ones(4, 1), "head.last_layer.weight_v": torch.ones(4, 4)}
    checkpoint = {
        "student": with_prefix("module.", {name: torch.zeros_like(tensor) for name, tensor in teacher.items()}),
        "teacher": teacher,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 99,
        "args": argparse.Namespace(arch="convnext_large", patch_size=16),
        "loss": {"center": torch.zeros(1, 4)},
        "fp16_scaler": {"scale": 65536.0},
    }
    return Original("lemonfm", checkpoint, {}, model, lambda output: output.pooler_output, pictures())


def timm_convnext(version: int, authors: bool = False) -> tuple[nn.Module, Tensors]:
    """A tiny ConvNeXt of timm, and its tensors in timm's layout or in that of its authors."""
    import timm

    sizes: dict[str, Any] = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": 0}
    if version == 2:
        sizes |= {"use_grn": True, "ls_init_value": None}
    model = randomized(timm.models.convnext.ConvNeXt(**sizes))
    tensors = dict(model.state_dict())
    if not authors:
        return model, tensors
    tensors = renamed(
        tensors,
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^(stages\.\d)\.blocks\.", r"\1."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
        (r"\.mlp\.grn\.weight$", ".grn.gamma"),
        (r"\.mlp\.grn\.bias$", ".grn.beta"),
        (r"^head\.norm\.", "norm."),
    )
    return model, {name: tensor[None, None, None] if ".grn." in name else tensor for name, tensor in tensors.items()}


def lemonfm_of_timm() -> Original:
    model, tensors = timm_convnext(1)
    return Original("lemonfm", tensors, {}, model, lambda output: output.pooler_output, pictures())


def surgenet_convnext() -> Original:
    model, tensors = timm_convnext(2, authors=True)
    return Original("surgenet", tensors, {}, model, lambda output: output.pooler_output, pictures())


# ------------------------------------------------------------------------------------------- other networks of timm


def surgenet_caformer() -> Original:
    """In the layout of MetaFormer's authors, in which point-wise convolutions are linear layers."""
    import timm

    torch.manual_seed(0)
    model = randomized(timm.create_model("caformer_s18", num_classes=0))
    tensors = renamed(
        dict(model.state_dict()),
        (r"^stem\.conv\.", "downsample_layers.0.conv."),
        (r"^stem\.norm\.", "downsample_layers.0.post_norm."),
        (r"^stages\.(\d)\.downsample\.norm\.", r"downsample_layers.\1.pre_norm."),
        (r"^stages\.(\d)\.downsample\.conv\.", r"downsample_layers.\1.conv."),
        (r"^(stages\.\d)\.blocks\.", r"\1."),
        (r"^head\.norm\.", "norm."),
    )
    point_wise = re.compile(r"(pwconv\d|fc\d|qkv|proj)\.weight$")
    tensors = {name: t.flatten(1) if point_wise.search(name) else t for name, t in tensors.items()}
    head = {"head.fc1.weight": torch.zeros(4, 512), "head.fc1.bias": torch.zeros(4)}
    overrides = {"hidden_act": "star_relu"}  # timm's; SurgeNet's own has plain ReLU
    return Original("surgenet", tensors | head, overrides, model, lambda output: output.pooler_output, pictures())


def surgenet_pvt() -> Original:
    from timm.models.pvt_v2 import PyramidVisionTransformerV2

    sizes: dict[str, Any] = {"depths": (1, 2, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 3, 4)}
    model = randomized(
        PyramidVisionTransformerV2(**sizes, num_classes=0, sr_ratios=(8, 4, 2, 1), mlp_ratios=(8, 8, 4, 4))
    )
    tensors = renamed(
        dict(model.state_dict()),
        (r"^patch_embed\.", "patch_embed1."),
        (r"^stages\.(\d)\.downsample\.", lambda found: f"patch_embed{int(found[1]) + 1}."),
        (r"^stages\.(\d)\.blocks\.", lambda found: f"block{int(found[1]) + 1}."),
        (r"^stages\.(\d)\.norm\.", lambda found: f"norm{int(found[1]) + 1}."),
        (r"\.dwconv\.", ".dwconv.dwconv."),
    )
    overrides = {"num_attention_heads": [1, 2, 3, 4]}
    return Original(
        "surgenet", tensors, overrides, model.forward_features, lambda output: output.last_hidden_state, pictures()
    )


def gsvit(architecture: str = "efficientvit_m0") -> Original:
    """EfficientViT's authors' names, with the parts of the network numbered after `evit.`."""
    import timm

    torch.manual_seed(0)
    model = randomized(timm.create_model(architecture, num_classes=0))
    steps = {"res1": 0, "patchmerge": 1, "res2": 2}
    tensors = renamed(
        dict(model.state_dict()),
        (r"^patch_embed\.conv(\d)\.", lambda found: f"evit.0.{2 * (int(found[1]) - 1)}."),
        (r"^stages\.(\d)\.downsample\.(\w+)\.", lambda found: f"evit.{int(found[1]) + 1}.{steps[found[2]]}."),
        (r"^stages\.0\.blocks\.(\d)\.", r"evit.1.\1."),
        (r"^stages\.(\d)\.blocks\.(\d)\.", lambda found: f"evit.{int(found[1]) + 1}.{int(found[2]) + 3}."),
        (r"\.conv\.weight$", ".c.weight"),
    )
    tensors["evit.1.0.mixer.m.attn.attention_bias_idxs"] = torch.zeros(49, 49, dtype=torch.int64)
    return Original("gsvit", tensors, {}, model, lambda output: output.pooler_output, pictures(224))


def endovit() -> Original:
    """The encoder of a masked autoencoder over images, with its decoder, under `model`."""
    from timm.models.vision_transformer import VisionTransformer

    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
    model = randomized(VisionTransformer(**sizes, num_classes=0))
    decoder = {"decoder_embed.weight": torch.zeros(8, 48), "mask_token": torch.zeros(1, 1, 8)}
    checkpoint = {"model": dict(model.state_dict()) | decoder, "optimizer": {}, "epoch": 14, "scaler": {}}
    overrides = {"num_attention_heads": 4}
    return Original(
        "endovit", checkpoint, overrides, model.forward_features, lambda output: output.last_hidden_state, pictures(32)
    )


# ------------------------------------------------------------------------------------------- video, from the formulas

WIDTH, HEADS, DEPTH, PATCH, TUBELET = 48, 4, 2, 8, 2
GRID = (2, 4, 4)


def block_tensors(name: str, width: int, generator: torch.Generator, bias: str) -> Tensors:
    """A transformer block with the names of timm; `bias`: "fused" or "split" (queries and values only)."""

    def numbers(*shape: int) -> torch.Tensor:
        return 0.2 * torch.randn(shape, generator=generator)

    tensors = {
        **{f"{norm}.weight": 1 + numbers(width) for norm in ("norm1", "norm2")},
        **{f"{norm}.bias": numbers(width) for norm in ("norm1", "norm2")},
        "attn.qkv.weight": numbers(3 * width, width),
        "attn.proj.weight": numbers(width, width),
        "attn.proj.bias": numbers(width),
        "mlp.fc1.weight": numbers(4 * width, width),
        "mlp.fc1.bias": numbers(4 * width),
        "mlp.fc2.weight": numbers(width, 4 * width),
        "mlp.fc2.bias": numbers(width),
    }
    if bias == "fused":
        tensors["attn.qkv.bias"] = numbers(3 * width)
    else:
        tensors |= {"attn.q_bias": numbers(width), "attn.v_bias": numbers(width)}
    return with_prefix(f"{name}.", tensors)


def encoder_tensors(bias: str, depth: int = DEPTH) -> Tensors:
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "patch_embed.proj.weight": 0.2 * torch.randn((WIDTH, 3, TUBELET, PATCH, PATCH), generator=generator),
        "patch_embed.proj.bias": 0.2 * torch.randn(WIDTH, generator=generator),
        "norm.weight": 1 + 0.2 * torch.randn(WIDTH, generator=generator),
        "norm.bias": 0.2 * torch.randn(WIDTH, generator=generator),
    }
    for i in range(depth):
        tensors |= block_tensors(f"blocks.{i}", WIDTH, generator, bias)
    return tensors


def norm(x: torch.Tensor, tensors: Tensors, name: str) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps=1e-6)


def linear(x: torch.Tensor, tensors: Tensors, name: str) -> torch.Tensor:
    return functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def block(
    x: torch.Tensor,
    tensors: Tensors,
    name: str,
    heads: int,
    rotate: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """x + attention(norm1(x)), then x + MLP(norm2(x)); `rotate` acts on queries and keys, (B, heads, N, head width)."""
    hidden = norm(x, tensors, f"{name}.norm1")
    bias = tensors.get(f"{name}.attn.qkv.bias")
    if bias is None:
        q, v = tensors[f"{name}.attn.q_bias"], tensors[f"{name}.attn.v_bias"]
        bias = torch.cat([q, torch.zeros_like(q), v])
    fused = functional.linear(hidden, tensors[f"{name}.attn.qkv.weight"], bias)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in fused.chunk(3, dim=2))
    if rotate is not None:
        q, k = rotate(q), rotate(k)
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)
    x = x + linear((weights @ v).transpose(1, 2).flatten(2), tensors, f"{name}.attn.proj")
    hidden = functional.gelu(linear(norm(x, tensors, f"{name}.norm2"), tensors, f"{name}.mlp.fc1"))
    return x + linear(hidden, tensors, f"{name}.mlp.fc2")


def embedded(pixels: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """Tokens (B, N, D) in the order slice, row, column."""
    weight, bias = tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"]
    hidden = functional.conv3d(pixels.transpose(1, 2), weight, bias, stride=(TUBELET, PATCH, PATCH))
    return hidden.flatten(2).transpose(1, 2)


def encoded(pixels: torch.Tensor, tensors: Tensors, table: torch.Tensor, visible: Any = None) -> torch.Tensor:
    x = embedded(pixels, tensors) + table
    x = x if visible is None else x[:, visible]
    for i in range(DEPTH):
        x = block(x, tensors, f"blocks.{i}", HEADS)
    return norm(x, tensors, "norm")


VIDEO_OVERRIDES = {"image_size": 32, "num_frames": 4, "num_attention_heads": HEADS}


def surgrec_mae() -> Original:
    """A bare encoder under VideoMAE's prefix."""
    tensors = encoder_tensors("split")
    table = sincos_1d_table(GRID, WIDTH)
    return Original(
        "surgrec-mae",
        {"model": with_prefix("encoder.", tensors), "epoch": 149, "args": argparse.Namespace(decoder_depth=4)},
        VIDEO_OVERRIDES,
        lambda pixels: encoded(pixels, tensors, table),
        lambda output: output.last_hidden_state,
        clips(),
    )


DECODER_WIDTH = 24
MASKED = [i for i in range(32) if i % 16 in (1, 4, 6, 11, 12)]


def surgrec_mae_pretraining() -> Original:
    """Encoder and decoder; the answer is what is reconstructed of the masked tokens `MASKED`."""
    generator = torch.Generator().manual_seed(2)
    tensors = encoder_tensors("split")
    decoder = {
        **block_tensors("decoder.blocks.0", DECODER_WIDTH, generator, "split"),
        "decoder.norm.weight": 1 + 0.2 * torch.randn(DECODER_WIDTH, generator=generator),
        "decoder.norm.bias": 0.2 * torch.randn(DECODER_WIDTH, generator=generator),
        "decoder.head.weight": 0.2 * torch.randn((3 * TUBELET * PATCH**2, DECODER_WIDTH), generator=generator),
        "decoder.head.bias": 0.2 * torch.randn(3 * TUBELET * PATCH**2, generator=generator),
        "encoder_to_decoder.weight": 0.2 * torch.randn((DECODER_WIDTH, WIDTH), generator=generator),
        "mask_token": 0.2 * torch.randn((1, 1, DECODER_WIDTH), generator=generator),
    }
    visible = [i for i in range(32) if i not in MASKED]

    def expected(pixels: torch.Tensor) -> torch.Tensor:
        seen = encoded(pixels, tensors, sincos_1d_table(GRID, WIDTH), visible)
        table = sincos_1d_table(GRID, DECODER_WIDTH)
        hidden = functional.linear(seen, decoder["encoder_to_decoder.weight"]) + table[visible]
        unknown = (decoder["mask_token"] + table[MASKED]).expand(len(pixels), -1, -1)
        x = block(torch.cat([hidden, unknown], dim=1), decoder, "decoder.blocks.0", 2)[:, -len(MASKED) :]
        return linear(norm(x, decoder, "decoder.norm"), decoder, "decoder.head")

    overrides = {**VIDEO_OVERRIDES, "decoder_num_attention_heads": 2}
    checkpoint = {"model": with_prefix("encoder.", tensors) | decoder}
    return Original("surgrec-mae", checkpoint, overrides, expected, lambda output: output.logits, clips())


def surgrec_mae_classifier() -> Original:
    """A fine-tuned one: mean of the tokens, `fc_norm`, `head`; no final norm."""
    tensors = {name: tensor for name, tensor in encoder_tensors("split").items() if not name.startswith("norm.")}
    generator = torch.Generator().manual_seed(4)
    tensors |= {
        "fc_norm.weight": 1 + 0.2 * torch.randn(WIDTH, generator=generator),
        "fc_norm.bias": 0.2 * torch.randn(WIDTH, generator=generator),
        "head.weight": torch.randn((7, WIDTH), generator=generator),
        "head.bias": torch.randn(7, generator=generator),
    }
    identity = {"norm.weight": torch.ones(WIDTH), "norm.bias": torch.zeros(WIDTH)}

    def expected(pixels: torch.Tensor) -> torch.Tensor:
        x = embedded(pixels, tensors | identity) + sincos_1d_table(GRID, WIDTH)
        for i in range(DEPTH):
            x = block(x, tensors, f"blocks.{i}", HEADS)
        return linear(norm(x.mean(dim=1), tensors, "fc_norm"), tensors, "head")

    return Original("surgrec-mae", tensors, VIDEO_OVERRIDES, expected, lambda output: output.logits, clips())


def joint_embedding_file(encoder: Tensors, predictor: Tensors) -> dict[str, Any]:
    """As V-JEPA's programs write it; the average differs from what was trained."""
    encoder = with_prefix("module.backbone.", encoder)
    return {
        "encoder": encoder,
        "predictor": with_prefix("module.backbone.", predictor),
        "target_encoder": {name: tensor + 1 for name, tensor in encoder.items()},
        "opt": {"state": {}, "param_groups": []},
        "scaler": {"scale": 1.0},
        "epoch": 131,
        "loss": 0.4,
        "batch_size": 24,
    }


def predictor_tensors() -> Tensors:
    generator = torch.Generator().manual_seed(8)
    return {
        "predictor_embed.weight": 0.2 * torch.randn((DECODER_WIDTH, WIDTH), generator=generator),
        "predictor_embed.bias": 0.2 * torch.randn(DECODER_WIDTH, generator=generator),
        **{f"mask_tokens.{i}": 0.2 * torch.randn((1, 1, DECODER_WIDTH), generator=generator) for i in range(3)},
        **block_tensors("predictor_blocks.0", DECODER_WIDTH, generator, "fused"),
        "predictor_norm.weight": 1 + 0.2 * torch.randn(DECODER_WIDTH, generator=generator),
        "predictor_norm.bias": 0.2 * torch.randn(DECODER_WIDTH, generator=generator),
        "predictor_proj.weight": 0.2 * torch.randn((WIDTH, DECODER_WIDTH), generator=generator),
        "predictor_proj.bias": 0.2 * torch.randn(WIDTH, generator=generator),
    }


def surgrec_jepa() -> Original:
    """V-JEPA 1: the fixed table is stored."""
    tensors = encoder_tensors("fused")
    table = sincos_3d_equal_table(GRID, WIDTH)
    predictor = predictor_tensors() | {"predictor_pos_embed": sincos_3d_equal_table(GRID, DECODER_WIDTH)[None]}
    return Original(
        "surgrec-jepa",
        joint_embedding_file(tensors | {"pos_embed": table[None]}, predictor),
        VIDEO_OVERRIDES,
        lambda pixels: encoded(pixels, tensors, table),
        lambda output: output.last_hidden_state,
        clips(),
    )


def rotated(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rotary positions of V-JEPA 2: three slices of a head's channels turn with slice, row and column.

    Each slice has 2·((d // 3) // 2) channels; neighbors (2i, 2i + 1) form a pair, while angles are tiled twice, so a pair
    turns by two angles: the quirk that the weights were trained with. Channels left over stay.
    """
    rows, columns = GRID[1:]
    axes = (positions // (rows * columns), positions % (rows * columns) // columns, positions % columns)
    width = 2 * ((x.shape[-1] // 3) // 2)
    parts = []
    for axis, place in enumerate(axes):
        part = x[..., axis * width : (axis + 1) * width]
        angles = place[:, None].float() / 10000 ** (torch.arange(width // 2) / (width / 2))
        tiled = angles.repeat(1, 2)
        turned = torch.stack([-part[..., 1::2], part[..., ::2]], dim=-1).flatten(-2)
        parts.append(part * tiled.cos() + turned * tiled.sin())
    return torch.cat([*parts, x[..., 3 * width :]], dim=-1)


def surgmotion() -> Original:
    """V-JEPA 2: no table; the answer is the tokens, and what the predictor says of all tokens from all tokens."""
    tensors, predictor = encoder_tensors("fused"), predictor_tensors()
    places = torch.arange(32)

    def expected(pixels: torch.Tensor) -> torch.Tensor:
        x = embedded(pixels, tensors)
        for i in range(DEPTH):
            x = block(x, tensors, f"blocks.{i}", HEADS, lambda heads: rotated(heads, places))
        tokens = norm(x, tensors, "norm")
        context = linear(tokens, predictor, "predictor_embed")
        # Context and targets of a place share its position; the order among tokens does not matter to attention.
        x = torch.cat([context, predictor["mask_tokens.1"].expand_as(context)], dim=1)
        both = torch.cat([places, places])
        x = block(x, predictor, "predictor_blocks.0", 2, lambda heads: rotated(heads, both))
        guessed = linear(norm(x, predictor, "predictor_norm")[:, 32:], predictor, "predictor_proj")
        return torch.cat([tokens, guessed], dim=2)

    return Original(
        "surgmotion",
        joint_embedding_file(tensors, predictor),
        {"crop_size": 32, "frames_per_clip": 4, "num_attention_heads": HEADS, "pred_num_attention_heads": 2},
        expected,
        lambda output: torch.cat([output.last_hidden_state, output.predictor_output.last_hidden_state], dim=2),
        clips(),
    )


NEED_TIMM = ("lemonfm_of_timm", "surgenet_convnext", "surgenet_caformer", "surgenet_pvt", "gsvit", "endovit")
ORIGINALS: dict[str, Callable[[], Original]] = {
    maker.__name__: maker
    for maker in (
        lemonfm,
        lemonfm_of_timm,
        surgenet_convnext,
        surgenet_caformer,
        surgenet_pvt,
        gsvit,
        endovit,
        surgrec_mae,
        surgrec_mae_pretraining,
        surgrec_mae_classifier,
        surgrec_jepa,
        surgmotion,
    )
}

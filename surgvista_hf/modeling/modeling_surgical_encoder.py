"""A classifier of clips over any encoder that transformers knows: image backbones frame by frame, attentive probes.

SurgVISTA, VideoMAE and V-JEPA 2 have classifiers of their own; this one is for the rest (ConvNeXt, ViT, DINO, …), and for
attentive pooling over all of them.
"""

import inspect
import os
from typing import Any, Self

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput

from .configuration_frame_timesformer import FrameTimesformerConfig
from .configuration_surgenet import CaformerConfig, SurgeNetPvtConfig
from .configuration_surgical_encoder import SurgicalEncoderConfig
from .configuration_surgvista import SurgVistaConfig
from .errors_surgvista import InputError, folder_or_hub_name
from .losses_surgvista import classification_loss


class AttentivePooling(nn.Module):
    """Pools tokens by a learned query that attends to all of them, then an MLP. `(B, N, D) -> (B, D)`."""

    def __init__(self, config: SurgicalEncoderConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.layernorm_before = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.num_heads = config.attentive_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        self.layernorm_after = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pool the tokens (B, N, D) of each clip."""
        tokens = self.layernorm_before(tokens)
        query = self.query.expand(len(tokens), -1, -1)  # (B, 1, D)
        parts = (layer(part) for layer, part in ((self.q_proj, query), (self.k_proj, tokens), (self.v_proj, tokens)))
        # (B, 1 or N, D) -> (B, heads, 1 or N, D / heads), and the result back to (B, 1, D)
        heads = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        seen = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        pooled = query + self.o_proj(seen)
        pooled = pooled + self.mlp(self.layernorm_after(pooled))
        return pooled[:, 0]


class SurgicalEncoderForVideoClassification(PreTrainedModel):
    r"""Classifies clips with any encoder: pooling, layer normalization, dropout and one linear layer.

    An image encoder sees each frame by itself. Under mean pooling the order of the frames is lost, as in the published
    baselines with image models; attentive pooling adds a sinusoid of the frame's number to its tokens.

    Example:
        >>> vit = {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
        >>> model = SurgicalEncoderForVideoClassification(SurgicalEncoderConfig(vit, num_frames=2, num_labels=7))
        >>> model(torch.zeros(1, 2, 3, 32, 32)).logits.shape
        torch.Size([1, 7])
    """

    config_class = SurgicalEncoderConfig
    config: SurgicalEncoderConfig
    _auto_class = "AutoModelForVideoClassification"  # saving writes the code along: transformers has no such class
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    input_modalities = "video"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: SurgicalEncoderConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder_config)
        self.sees_clips = takes_clips(self.encoder)
        self.pooling = AttentivePooling(config) if config.pooling == "attentive" else None
        self.fc_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, int(config.num_labels or 0))
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: object, **kwargs: Any
    ) -> Self:
        """Load a model as `PreTrainedModel.from_pretrained` does; a folder that is not there is no Hub name."""
        name = pretrained_model_name_or_path
        return super().from_pretrained(name if name is None else folder_or_hub_name(name), *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds the input of the encoder."""
        return self.encoder.get_input_embeddings()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize the new parts; the encoder's own are initialized by its own rules."""
        deviation = self.config.initializer_range
        if isinstance(module, AttentivePooling):
            init.trunc_normal_(module.query, std=deviation)
        elif isinstance(module, nn.Linear):
            deviation *= self.config.classifier_init_scale if module is self.classifier else 1.0
            init.trunc_normal_(module.weight, std=deviation) if deviation else init.zeros_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: object,
    ) -> ImageClassifierOutput:
        """Classify clips.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            labels: class numbers (B,), or floats (B, classes) for a multi-label problem.
            num_items_in_batch: number of labels of a whole optimizer step, see `classification_loss`.
            kwargs: further arguments of the Trainer, which are ignored.

        Returns:
            `logits` (B, classes) and, with labels, `loss`.

        Raises:
            InputError: `pixel_values` is no batch of clips.
        """
        logits = self.classifier(self.dropout(self.extract_features(pixel_values)))
        loss = None if labels is None else classification_loss(logits, labels, self.config, num_items_in_batch)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def extract_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return what the classifier sees of each clip, (B, D), for `pixel_values` (B, frames, channels, height, width)."""
        if pixel_values.ndim != 5:
            raise InputError(f"clips are (batch, frames, channels, height, width), not {tuple(pixel_values.shape)}")
        if self.pooling is not None:
            return self.fc_norm(self.pooling(self._tokens(pixel_values)))  # (B, N, D) -> (B, D)
        if self.sees_clips:
            tokens = self._encode(pixel_values).last_hidden_state  # (B, N, D)
            return self.fc_norm(tokens[:, 0] if self.config.frame_feature == "first" else tokens.mean(dim=1))
        return self.fc_norm(self.frame_features(pixel_values).mean(dim=1))

    def frame_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return one vector for each frame of an image encoder, (B, frames, D)."""
        output = self._encode(
            pixel_values.flatten(0, 1)
        )  # tokens (B · frames, N, D), or maps (B · frames, D, rows, columns)
        if self.config.frame_feature == "pooler":
            features = output.pooler_output.flatten(1)
        elif self.config.frame_feature == "first":
            features = output.last_hidden_state[:, 0]
        elif self.config.frame_feature == "patches":
            features = output.last_hidden_state[:, 1:].mean(dim=1)
        else:
            features = _as_tokens(output.last_hidden_state).mean(dim=1)
        return features.unflatten(0, pixel_values.shape[:2])

    def _tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return all tokens of each clip, (B, N, D); those of an image encoder get a sinusoid of their frame's number."""
        if self.sees_clips:
            return self._encode(pixel_values).last_hidden_state
        tokens = _as_tokens(self._encode(pixel_values.flatten(0, 1)).last_hidden_state)
        tokens = tokens.unflatten(0, pixel_values.shape[:2])  # (B, frames, N, D)
        return (tokens + _time_table(tokens.shape[1], tokens.shape[3]).to(tokens)[:, None]).flatten(1, 2)

    def _encode(self, pixels: torch.Tensor) -> Any:
        extra = {"skip_predictor": True} if self.encoder.config.model_type == "vjepa2" else {}
        return self.encoder(**{self.encoder.main_input_name: pixels}, **extra)


def takes_clips(encoder: nn.Module) -> bool:
    """Return whether an encoder sees clips and not single images; transformers calls TimeSformer an image model."""
    if not isinstance(encoder, PreTrainedModel):
        return False
    return "video" in str(encoder.input_modalities) or encoder.config.model_type == "timesformer"


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Build an encoder of a configuration, with new weights."""
    if config.model_type == SurgVistaConfig.model_type:  # not registered where this file traveled with a checkpoint
        # Not at the top: transformers imports this file while that one is being imported.
        from .modeling_surgvista import SurgVistaModel

        return SurgVistaModel._from_config(config)
    if config.model_type in (CaformerConfig.model_type, SurgeNetPvtConfig.model_type):  # likewise
        from .modeling_surgenet import CaformerModel, SurgeNetPvtModel

        kind = CaformerModel if config.model_type == CaformerConfig.model_type else SurgeNetPvtModel
        return kind._from_config(config)
    if config.model_type == FrameTimesformerConfig.model_type:  # likewise
        from .modeling_surgical_clip import FrameTimesformerModel

        return FrameTimesformerModel._from_config(config)
    return AutoModel.from_config(config, **without_pooling_layer(config))


def without_pooling_layer(config: PreTrainedConfig) -> dict[str, bool]:
    """Return the argument that builds an encoder without the pooling layer, for which most checkpoints have no weights."""
    if type(config) not in AutoModel._model_mapping:
        return {}
    kind: Any = AutoModel._model_mapping[type(config)]
    parameters = inspect.signature(kind).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


def _as_tokens(features: torch.Tensor) -> torch.Tensor:
    """Reshape the maps (B, D, rows, columns) of a convolutional encoder to tokens (B, N, D)."""
    return features.flatten(2).transpose(1, 2) if features.ndim == 4 else features


def _time_table(frames: int, width: int) -> torch.Tensor:
    """Return a sinusoid (frames, width) of the frame's number: sines in even, cosines in odd columns."""
    angles = torch.arange(frames)[:, None] / 10000 ** (2 * torch.arange((width + 1) // 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]

"""The image-text models SurgVLP, HecVL, PeskaVLP and SurgCLIP. This file travels with a checkpoint.

SurgVLP is arXiv 2307.15220, HecVL arXiv 2405.10075, PeskaVLP arXiv 2410.00263. All are two encoders with one common space, as
CLIP's (arXiv 2103.00020); an image and a text are compared by the cosine of their vectors, divided by a temperature.
"""

import os
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from .configuration_frame_timesformer import FrameTimesformerConfig
from .configuration_surgical_clip import SurgicalClipConfig
from .errors_surgvista import InputError, folder_or_hub_name


class FrameTimesformerAttention(nn.Module):
    """Attend among tokens, `(B, N, D) -> (B, N, D)`."""

    def __init__(self, config: FrameTimesformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what each token gathers from all tokens of its row of the batch."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        gathered = nn.functional.scaled_dot_product_attention(query, key, value)  # (B, heads, N, D / heads)
        return self.proj(gathered.transpose(1, 2).flatten(2))


class FrameTimesformerLayer(GradientCheckpointingLayer):
    """Attend in time, then within each frame, then apply an MLP (TimeSformer, arXiv 2102.05095, figure 2).

    SurgCLIP's program gives attention within a frame the frame's first patch, as it was before attention in time, where
    TimeSformer has a class token, and doubles what comes out of it. The weights were trained so.
    """

    def __init__(self, config: FrameTimesformerConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.temporal_layernorm = nn.LayerNorm(width, eps=eps)
        self.temporal_attention = FrameTimesformerAttention(config)
        self.temporal_dense = nn.Linear(width, width)
        self.layernorm_before = nn.LayerNorm(width, eps=eps)
        self.attention = FrameTimesformerAttention(config)
        self.layernorm_after = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.intermediate_size), nn.GELU(), nn.Linear(config.intermediate_size, width)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, frames, 1 + patches, D) into the same shape; the first token of each frame is not read."""
        batch, frames = tokens.shape[:2]
        patches = tokens[:, :, 1:]
        first = patches[:, :, :1]
        in_time = patches.transpose(1, 2).flatten(0, 1)  # (B · patches, frames, D)
        in_time = self.temporal_dense(self.temporal_attention(self.temporal_layernorm(in_time)))
        patches = patches + in_time.unflatten(0, (batch, -1)).transpose(1, 2)
        in_frame = torch.cat([first, patches], dim=2).flatten(0, 1)  # (B · frames, 1 + patches, D)
        found = self.attention(self.layernorm_before(in_frame)).unflatten(0, (batch, frames))
        tokens = torch.cat([2 * found[:, :, :1], patches + found[:, :, 1:]], dim=2)
        return tokens + self.mlp(self.layernorm_after(tokens))


class SurgicalClipPreTrainedModel(PreTrainedModel):
    """The base of the models of this file."""

    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["FrameTimesformerLayer", "BertLayer", "ResNetConvLayer"]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: object, **kwargs: Any
    ) -> Self:
        """Load a model as `PreTrainedModel.from_pretrained` does; a folder that is not there is no Hub name."""
        name = pretrained_model_name_or_path
        return super().from_pretrained(name if name is None else folder_or_hub_name(name), *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, FrameTimesformerModel):
            for table in (module.cls_token, module.position_embeddings, module.time_embeddings):
                init.normal_(table, std=self.config.initializer_range)


class FrameTimesformerModel(SurgicalClipPreTrainedModel):
    r"""SurgCLIP's video encoder, a TimeSformer that gives as many vectors for a clip as it has frames.

    Each vector is the mean of one group of neighboring tokens, taken over all frames.

    Example:
        >>> sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        >>> model = FrameTimesformerModel(FrameTimesformerConfig(**sizes, image_size=32, num_frames=2))
        >>> model(torch.zeros(1, 2, 3, 32, 32)).pooler_output.shape
        torch.Size([1, 2, 32])
    """

    config_class = FrameTimesformerConfig
    config: FrameTimesformerConfig
    _auto_class = "AutoModel"  # saving writes the code along: transformers has no such class
    base_model_prefix = "vision_model"
    input_modalities = "video"

    def __init__(self, config: FrameTimesformerConfig) -> None:
        super().__init__(config)
        width, patch = config.hidden_size, config.patch_size
        patches = (config.image_size // patch) ** 2
        self.patch_embeddings = nn.Conv2d(config.num_channels, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))  # of no effect, see `FrameTimesformerLayer`
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.time_embeddings = nn.Parameter(torch.zeros(1, config.num_frames, width))
        self.layers = nn.ModuleList(FrameTimesformerLayer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.pool_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.token_layernorm = nn.LayerNorm(width, eps=config.token_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that turns pixels into tokens."""
        return self.patch_embeddings

    def forward(self, pixel_values: torch.Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values: Normalized frames (B, frames, channels, height, width), of the configuration's `image_size`.

        Returns:
            `last_hidden_state` (B, frames · (1 + patches), D), group by group, and `pooler_output` (B, frames, D).

        Raises:
            InputError: No clips, or frames of another size.
        """
        side = self.config.image_size
        if pixel_values.ndim != 5 or pixel_values.shape[-2:] != (side, side):
            raise InputError(
                f"clips are (batch, frames, channels, {side}, {side}) for this model, not {tuple(pixel_values.shape)}"
            )
        frames = pixel_values.shape[1]
        patches = self.patch_embeddings(pixel_values.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B · frames, N, D)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.position_embeddings
        tokens = tokens.unflatten(0, (-1, frames))  # (B, frames, 1 + N, D)
        if frames > 1:  # a single image has no time
            tokens = torch.cat([tokens[:, :, :1], tokens[:, :, 1:] + self._times(frames)], dim=2)
        for layer in self.layers:
            tokens = layer(tokens)
        # The program orders tokens by patch, then frame, and cuts them into as many groups as there are frames by the other
        # order: a group holds neighboring patches of all frames. The weights were trained so.
        tokens = self.layernorm(tokens).transpose(1, 2).flatten(1, 2).unflatten(1, (frames, -1))
        pooled = self.pool_layernorm(tokens[:, :, 1:].mean(dim=2))
        return BaseModelOutputWithPooling(
            last_hidden_state=self.token_layernorm(tokens).flatten(1, 2), pooler_output=pooled
        )

    def _times(self, frames: int) -> torch.Tensor:
        """Return the embeddings of so many frames, (1, frames, 1, D)."""
        table: torch.Tensor = self.time_embeddings
        if frames != table.shape[1]:
            table = nn.functional.interpolate(table.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)
        return table[:, :, None]


@dataclass
class SurgicalClipOutput(ModelOutput):
    """Output of `SurgicalClipModel`.

    Args:
        logits_per_image: (images, texts) cosine similarities over the temperature, for a clip the mean over its vectors.
        logits_per_text: (texts, images), the same.
        image_embeds: (images, D) of length 1, or (clips, frames, D).
        text_embeds: (texts, D) of length 1.
        vision_model_output: Output of the vision encoder.
        text_model_output: Output of the text encoder.
    """

    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None


class SurgicalClipModel(SurgicalClipPreTrainedModel):
    r"""An encoder of images or clips and a BERT with one common space.

    Example:
        >>> vision = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
        >>> text = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
        >>> model = SurgicalClipModel(SurgicalClipConfig(vision, text, projection_dim=32)).eval()
        >>> model(torch.ones(2, 3, dtype=torch.long), torch.zeros(1, 3, 64, 64)).logits_per_image.shape
        torch.Size([1, 2])
    """

    config_class = SurgicalClipConfig
    config: SurgicalClipConfig
    _auto_class = "AutoModel"  # saving writes the code along: transformers has no such class
    base_model_prefix = "surgical_clip"
    input_modalities = ("image", "text")  # type: ignore[assignment]

    def __init__(self, config: SurgicalClipConfig) -> None:
        super().__init__(config)
        self.vision_model = (
            FrameTimesformerModel._from_config(config.vision_config)
            if config.is_video
            else AutoModel.from_config(config.vision_config)
        )
        self.text_model = AutoModel.from_config(config.text_config, add_pooling_layer=config.text_pooling_layer)
        sizes = getattr(config.vision_config, "hidden_sizes", None)
        self.visual_projection = nn.Linear(
            int(sizes[-1] if sizes else config.vision_config.hidden_size), config.projection_dim
        )
        self.text_projection = (
            nn.Linear(config.text_config.hidden_size, config.projection_dim)
            if config.text_projection
            else nn.Identity()
        )
        self.temperature = (
            nn.Parameter(torch.tensor(config.similarity_temperature)) if config.learned_temperature else None
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and self.temperature is not None:
            init.constant_(self.temperature, self.config.similarity_temperature)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of words."""
        return self.text_model.get_input_embeddings()

    @property
    def logit_scale(self) -> torch.Tensor:
        """Return the logarithm of what cosine similarities are multiplied by, as CLIP's parameter of this name."""
        fixed = torch.tensor(self.config.similarity_temperature, device=self.device)
        return -(fixed if self.temperature is None else self.temperature).float().log()

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        """Encode images, or clips of them, in the common space.

        Args:
            pixel_values: Normalized images (B, channels, height, width), or clips (B, frames, channels, height, width). A
                video encoder takes an image for a clip of one frame; an image encoder sees each frame by itself.

        Returns:
            The encoder's output, with `pooler_output` (B, D) of images and (B, frames, D) of clips, not normalized.

        Raises:
            InputError: Neither images nor clips.
        """
        if pixel_values.ndim not in (4, 5):
            raise InputError(
                "pixel_values are (batch, channels, height, width) or (batch, frames, channels, height, width), not "
                f"{tuple(pixel_values.shape)}"
            )
        is_clip = pixel_values.ndim == 5
        if self.config.is_video:
            output = self.vision_model(pixel_values if is_clip else pixel_values[:, None])
            pooled = output.pooler_output if is_clip else output.pooler_output[:, 0]
        else:
            output = self.vision_model(pixel_values.flatten(0, 1) if is_clip else pixel_values)
            pooled = output.pooler_output.flatten(1)  # (B or B · frames, width)
            pooled = pooled.unflatten(0, pixel_values.shape[:2]) if is_clip else pooled
        return BaseModelOutputWithPooling(
            last_hidden_state=output.last_hidden_state, pooler_output=self.visual_projection(pooled)
        )

    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: object,
    ) -> BaseModelOutputWithPooling:
        """Encode texts in the common space.

        Args:
            input_ids: (B, positions) token numbers.
            attention_mask: (B, positions), 0 where a text is padded; by default wherever the padding token stands.
            token_type_ids: (B, positions); by default 0.

        Returns:
            The BERT's output, with `pooler_output` (B, D), not normalized. Under `text_feature="layers"` its length, but not
            its direction, depends on how far texts are padded.
        """
        if attention_mask is None:
            attention_mask = (input_ids != (self.config.text_config.pad_token_id or 0)).long()
        by_layers = self.config.text_feature == "layers"
        output = self.text_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            output_hidden_states=by_layers,
            return_dict=True,
        )
        if by_layers:
            summed = torch.stack(output.hidden_states[-self.config.text_layers :]).sum(dim=0)  # (B, positions, D)
            pooled = (summed * attention_mask[:, :, None].to(summed.dtype)).mean(dim=1)
        else:
            pooled = output.last_hidden_state[:, 0]
        return BaseModelOutputWithPooling(
            last_hidden_state=output.last_hidden_state, pooler_output=self.text_projection(pooled)
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: object,
    ) -> SurgicalClipOutput:
        """Compare every image or clip with every text; see `get_image_features` and `get_text_features`.

        Returns:
            Similarities and vectors.
        """
        seen = self.get_image_features(pixel_values)
        read = self.get_text_features(input_ids, attention_mask, token_type_ids)
        images, texts = _unit(seen), _unit(read)
        # The mean of a clip's cosines is the product with the mean of its frames' vectors.
        of_clips = images.mean(dim=1) if images.ndim == 3 else images
        logits = self.logit_scale.exp().to(images.dtype) * of_clips @ texts.T  # (images, texts)
        return SurgicalClipOutput(
            logits_per_image=logits,
            logits_per_text=logits.T,
            image_embeds=images,
            text_embeds=texts,
            vision_model_output=seen,
            text_model_output=read,
        )


def _unit(output: BaseModelOutputWithPooling) -> torch.Tensor:
    """Return the pooled vectors of an output, (..., D), with length 1."""
    assert output.pooler_output is not None
    return nn.functional.normalize(output.pooler_output, dim=-1)

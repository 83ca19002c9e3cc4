"""Joint-embedding predictive models (V-JEPA, arXiv 2404.08471; V-JEPA 2, arXiv 2506.09985): features of masked tokens are
predicted from visible ones, and the features to predict come from a slow average of the encoder itself.

Two of them: on transformers' `VJEPA2Model` with rotary positions, and on our own encoder with a sin-cos table, as V-JEPA 1 and
most likely SurgRec-JEPA (arXiv 2603.29966) have it. `VJEPA2Model.forward` itself cannot be trained with: it encodes all
tokens before it picks the visible ones, so the targets leak into the context. Here only visible tokens are encoded.

A checkpoint loads as a plain encoder with `AutoModel`. Shapes in comments: B clips, N tokens, of which C in the context
and T targets, D the width of the encoder, d that of the predictor.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import VJEPA2Config, VJEPA2Model, VJEPA2PreTrainedModel
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Encoder
from transformers.utils import ModelOutput

from ..configuration_surgvista import SurgVistaConfig
from ..modeling_surgvista import SurgVistaDecoder, SurgVistaModel, SurgVistaPreTrainedModel, pick_tokens

MASK_SETS = 2  # of the published recipe; each has a mask token of its own in V-JEPA 1
_TARGET = "target_encoder."


@dataclass
class JointEmbeddingOutput(ModelOutput):
    """Output of a joint-embedding model.

    Args:
        loss: scalar, mean absolute error, averaged over the sets of masks.
        predictions: predicted features of the targets for each set of masks, (B, T, D).
        feature_std: scalar, standard deviation of the targets over clips and tokens, averaged over features: it tends to 0
            when the representation collapses.
    """

    loss: torch.Tensor | None = None
    predictions: list[torch.Tensor] | None = None
    feature_std: torch.Tensor | None = None


class JointEmbedding(nn.Module):
    """Holds what both models share: the loss, and the target encoder.

    For each set of masks the encoder sees the context, the predictor predicts the features of the targets, and the loss is the
    mean absolute difference from the target encoder's features of the whole clip, layer-normalized without weights; the
    losses of the sets are averaged. The target encoder has no gradient: after an update of the weights, `update_target`
    moves it.
    """

    accepts_loss_kwargs = False  # the Trainer divides the loss by the number of batches of a step
    target_encoder: nn.Module

    @property
    @abstractmethod
    def online_encoder(self) -> nn.Module:
        """Return the encoder that is trained, of which the target encoder is a moving average."""

    @abstractmethod
    def encode_context(self, pixel_values: torch.Tensor, context_ids: torch.Tensor) -> torch.Tensor:
        """Encode the tokens at `context_ids` (B, C), which see nothing but each other: (B, C, D)."""

    def encode_targets(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the target encoder's features of all tokens, (B, N, D)."""
        features: torch.Tensor = self.target_encoder(pixel_values).last_hidden_state
        return features

    @abstractmethod
    def predict(
        self,
        encoded: torch.Tensor,
        context_ids: torch.Tensor,
        target_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        mask_set: int,
    ) -> torch.Tensor:
        """Predict the features of the targets, (B, T, D).

        Args:
            encoded: features of the context, (B, C, D).
            context_ids, target_ids: indices of the tokens, (B, C) and (B, T).
            pixel_values: normalized frames (B, frames, channels, height, width), for the grid of tokens.
            mask_set: index of the set of masks.
        """

    def forward(
        self,
        pixel_values: torch.Tensor,
        context_ids: Sequence[torch.Tensor],
        target_ids: Sequence[torch.Tensor],
        **kwargs: object,
    ) -> JointEmbeddingOutput:
        """Compute the loss of a batch.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            context_ids, target_ids: indices of tokens for each set of masks, (B, C) and (B, T), in (time, row, column) order.
            kwargs: further arguments of the Trainer, which are ignored.
        """
        with torch.no_grad():
            features = self.encode_targets(pixel_values).float()
            features = functional.layer_norm(features, features.shape[-1:])  # (B, N, D)
        losses, predictions = [], []
        for mask_set, (context, target) in enumerate(zip(context_ids, target_ids, strict=True)):
            encoded = self.encode_context(pixel_values, context)  # (B, C, D)
            predicted = self.predict(encoded, context, target, pixel_values, mask_set)
            losses.append(functional.l1_loss(predicted.float(), pick_tokens(features, target)))
            predictions.append(predicted)
        spread = features.flatten(0, 1).std(dim=0).mean()
        return JointEmbeddingOutput(torch.stack(losses).mean(), predictions, spread)

    # ------------------------------------------------------------------------------------------- target encoder

    @torch.no_grad()
    def reset_target(self) -> None:
        """Make the target encoder a copy of the encoder."""
        self.update_target(0.0)

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Move the target encoder: target ← momentum · target + (1 - momentum) · encoder."""
        pairs = zip(self.target_encoder.parameters(), self.online_encoder.parameters(), strict=True)
        targets, online = map(list, zip(*pairs, strict=True))
        torch._foreach_lerp_(targets, online, 1 - momentum)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; the target encoder stays in evaluation mode."""
        super().train(mode)
        self.target_encoder.eval()
        return self

    @classmethod
    def from_pretrained(cls, *args: object, **kwargs: Any) -> Any:
        """Load a model as `PreTrainedModel.from_pretrained` does; a missing target encoder starts as a copy of the encoder."""
        with_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        model.target_encoder.requires_grad_(False)
        absent = {name for name in info["missing_keys"] if name.startswith(_TARGET)}
        if absent:
            model.reset_target()
            info["missing_keys"] = set(info["missing_keys"]) - absent
        return (model, info) if with_info else model


class VJEPA2ForJointEmbedding(JointEmbedding, VJEPA2PreTrainedModel):
    """Trains V-JEPA 2: transformers' encoder and predictor with a target encoder; see `JointEmbedding`.

    Args:
        config: configuration of the model.
        mask_token: index of the predictor's mask token that stands for the targets: the published program trains the first,
            transformers' own forward reads the second.

    Example:
        >>> from transformers import VJEPA2Config
        >>> model = VJEPA2ForJointEmbedding(VJEPA2Config())  # doctest: +SKIP
        >>> model(clips, **BlockMasking((8, 16, 16))(0, range(2))).loss  # doctest: +SKIP
    """

    def __init__(self, config: VJEPA2Config, mask_token: int = 0) -> None:
        super().__init__(config)
        self.vjepa2 = VJEPA2Model(config)
        self.target_encoder = VJEPA2Encoder(config).requires_grad_(False)
        self.mask_token = mask_token
        self.post_init()
        self.reset_target()
        self.train(self.training)

    @property
    def online_encoder(self) -> nn.Module:
        """Return the encoder that is trained."""
        return self.vjepa2.encoder

    def encode_context(self, pixel_values: torch.Tensor, context_ids: torch.Tensor) -> torch.Tensor:
        """Encode the tokens of the context only; transformers' own forward would encode all tokens first."""
        encoder = self.vjepa2.encoder
        hidden_states = pick_tokens(encoder.embeddings(pixel_values), context_ids)  # (B, N, D) -> (B, C, D)
        for layer in encoder.layer:
            hidden_states = layer(hidden_states, context_ids)[0]
        return encoder.layernorm(hidden_states)

    def predict(
        self,
        encoded: torch.Tensor,
        context_ids: torch.Tensor,
        target_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        mask_set: int,
    ) -> torch.Tensor:
        """Predict the features of the targets, (B, T, D)."""
        predictor = self.vjepa2.predictor
        context = predictor.embeddings.predictor_embeddings(encoded)  # (B, C, d)
        unknown = predictor.embeddings.mask_tokens[self.mask_token].expand(*target_ids.shape, -1)
        hidden_states = torch.cat([context, unknown.to(context.dtype)], dim=1)  # (B, C + T, d)
        positions = torch.cat([context_ids, target_ids], dim=1)
        for layer in predictor.layer:  # tokens need no sorting: their positions say where they are
            hidden_states = layer(hidden_states, positions)[0]
        return predictor.proj(predictor.layernorm(hidden_states[:, context_ids.shape[1] :]))


class SurgVistaForJointEmbedding(JointEmbedding, SurgVistaPreTrainedModel):
    """Trains the encoder of this package as V-JEPA 1: fixed positions, `SurgVistaDecoder` as predictor; see `JointEmbedding`.

    The predictor has the size of the configuration's video decoder. `position_embedding_type="sincos_3d_equal"`,
    `initialization="normal"` and `key_bias=True` are V-JEPA's.

    Example:
        >>> from surgvista_hf import SurgVistaConfig
        >>> config = SurgVistaConfig(position_embedding_type="sincos_3d_equal", initialization="normal", key_bias=True)
        >>> model = SurgVistaForJointEmbedding(config)  # doctest: +SKIP
    """

    def __init__(self, config: SurgVistaConfig) -> None:
        super().__init__(config)
        self.surgvista = SurgVistaModel(config)
        self.predictor = SurgVistaDecoder(
            config,
            width=config.video_decoder_hidden_size,
            num_layers=config.video_decoder_num_hidden_layers,
            num_heads=config.video_decoder_num_attention_heads,
            output_size=config.hidden_size,
            num_mask_tokens=MASK_SETS,
        )
        self.target_encoder = SurgVistaModel(config).requires_grad_(False)
        self.post_init()
        self.reset_target()
        self.train(self.training)

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds the input."""
        return self.surgvista.get_input_embeddings()

    @property
    def online_encoder(self) -> nn.Module:
        """Return the encoder that is trained."""
        return self.surgvista

    def encode_context(self, pixel_values: torch.Tensor, context_ids: torch.Tensor) -> torch.Tensor:
        """Encode the tokens of the context, (B, C, D)."""
        return self.surgvista(pixel_values, visible_indices=context_ids).last_hidden_state

    def predict(
        self,
        encoded: torch.Tensor,
        context_ids: torch.Tensor,
        target_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        mask_set: int,
    ) -> torch.Tensor:
        """Predict the features of the targets, (B, T, D)."""
        grid = self.surgvista.token_grid(pixel_values)
        output = self.predictor(encoded, context_ids, target_ids, grid, mask_token=mask_set)
        return cast(torch.Tensor, output.logits)

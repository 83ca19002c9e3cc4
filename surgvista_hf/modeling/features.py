"""The features of clips: one vector a clip, from a model of any family, with or without a classifier."""

import threading
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from transformers import PreTrainedModel

from ..util.errors import InputError
from .modeling_surgical_encoder import takes_clips
from .modeling_surgvista import mean_tokens

Pooling = Literal["mean", "tubelets"]


class ClipFeatures(NamedTuple):
    """Hold the features of a batch of clips and the output of the pass that gave them.

    Args:
        features: (B, D), in the precision that the model computes in.
        output: the output of the model; that of a classifier has `logits` (B, classes).
    """

    features: torch.Tensor
    output: Any  # a `ModelOutput` with the fields of the model


class FeatureExtractor:
    """Compute the features of clips and the output of the model in one pass.

    The features are

    - of a classifier, the input of its last layer,
    - of a video encoder, the mean of its last tokens over the clip, or over each tubelet; of one whose feature is its class
      token (TimeSformer, Endo-FM), that token,
    - of an image encoder, its pooled output, averaged over the frames.

    Gradients, precision and device are those of the caller. Several threads may share an extractor and its model.

    Args:
        model: the classifier or encoder.
        layer: name of the layer whose input is the feature; by default `"classifier"` where the model has one. Models without
            such a layer are encoders.
        pooling: `"mean"` over all tokens of a video encoder, or `"tubelets"`: one mean for each tubelet, one after the other,
            so that time is kept.

    Example:
        >>> from surgvista_hf import SurgVistaConfig, SurgVistaForVideoClassification
        >>> config = SurgVistaConfig(image_size=32, num_frames=4, num_hidden_layers=1, hidden_size=64, num_attention_heads=2)
        >>> features, output = FeatureExtractor(SurgVistaForVideoClassification(config).eval())(torch.zeros(2, 4, 3, 32, 32))
        >>> tuple(features.shape), tuple(output.logits.shape)
        ((2, 64), (2, 2))
    """

    def __init__(self, model: PreTrainedModel, *, layer: str | None = None, pooling: Pooling = "mean") -> None:
        self.model = model
        self.layer = layer or ("classifier" if hasattr(model, "classifier") else None)
        self.pooling = pooling
        self._lock = threading.Lock()

    def __call__(self, pixel_values: torch.Tensor, **options: bool) -> ClipFeatures:
        """Run the model.

        Args:
            pixel_values: prepared clips (B, frames, channels, height, width), on the device of the model.
            options: further arguments of the model, such as `output_hidden_states`.

        Raises:
            InputError: an image encoder without a pooled output.
        """
        if self.layer is not None:
            return self._input_of_layer(self.layer, pixel_values, options)
        return (self._video_features if takes_clips(self.model) else self._image_features)(pixel_values, options)

    def _input_of_layer(self, layer: str, pixel_values: torch.Tensor, options: Mapping[str, bool]) -> ClipFeatures:
        thread = threading.get_ident()
        inputs: list[torch.Tensor] = []

        def keep(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            """Keep the input of the layer."""
            if threading.get_ident() == thread:  # another thread may run the same model for itself
                inputs.append(args[0])

        # The hook lives for this pass only: the model is left as it was, and `torch.export` sees no state.
        with self._lock:
            handle = self.model.get_submodule(layer).register_forward_pre_hook(keep)
            try:
                output = self._run(pixel_values, options)
            finally:
                handle.remove()
        return ClipFeatures(inputs[-1], output)

    def _video_features(self, pixel_values: torch.Tensor, options: Mapping[str, bool]) -> ClipFeatures:
        config = self.model.config
        if config.model_type == "vjepa2":
            options = {"skip_predictor": True, **options}  # it has no part in the features
        output = self._run(pixel_values, options)
        if config.model_type == "timesformer":  # its tokens are not in the order of time
            return ClipFeatures(output.last_hidden_state[:, 0].float(), output)
        groups = pixel_values.shape[1] // config.tubelet_size if self.pooling == "tubelets" else 1
        tokens = output.last_hidden_state.float()  # (B, N, D)
        return ClipFeatures(mean_tokens(tokens, groups).flatten(1), output)

    def _image_features(self, pixel_values: torch.Tensor, options: Mapping[str, bool]) -> ClipFeatures:
        output = self._run(pixel_values.flatten(0, 1), options)
        pooled = getattr(output, "pooler_output", None)  # (B · frames, D, …)
        if pooled is None:
            raise InputError(
                f"{type(self.model).__name__} has no pooled output; load it with `load_any_encoder`, which knows the feature "
                "of a frame in every family"
            )
        frames = pooled.float().flatten(1).unflatten(0, tuple(pixel_values.shape[:2]))  # (B, frames, D)
        return ClipFeatures(frames.mean(dim=1), output)

    def _run(self, pixel_values: torch.Tensor, options: Mapping[str, bool]) -> Any:
        return self.model(**{self.model.main_input_name: pixel_values}, **options)

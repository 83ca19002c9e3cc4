"""Configuration of the multi-stage temporal convolutional network (TeCNO, arXiv 2003.10751)."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from .errors_surgvista import InputError


class MsTcnConfig(PreTrainedConfig):
    r"""Sizes and options of `MsTcnForFrameClassification`. The defaults are those published for Cholec80.

    Args:
        input_size: width of the features.
        num_stages: number of stages, the first and those that refine it.
        num_layers: dilated layers of a stage; layer i looks 2^i frames back, twice.
        num_feature_maps: width of a stage.
        dropout: dropout rate of every layer.
        causal: look back only.
        class_weights: weights of the classes in the cross-entropy; `None`: all classes count alike.
        legacy_double_softmax: give probabilities to the cross-entropy, as the published program does by mistake.
        frames_per_second: rate of the features that the model was trained on; `None`: not known.
        features_from: fingerprints of the encoder whose features the model was trained on; those of another one mean nothing
            to it.
        kwargs: fields of every configuration, such as `num_labels`.

    Raises:
        InputError: sizes below 1, or weights for another number of classes.

    Example:
        >>> MsTcnConfig(num_labels=7).receptive_field
        1021
    """

    model_type = "ms_tcn"

    def __init__(
        self,
        input_size: int = 2048,
        num_stages: int = 2,
        num_layers: int = 8,
        num_feature_maps: int = 32,
        dropout: float = 0.5,
        causal: bool = True,
        class_weights: Sequence[float] | None = None,
        legacy_double_softmax: bool = False,
        frames_per_second: float | None = None,
        features_from: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.input_size = input_size
        self.num_stages = num_stages
        self.num_layers = num_layers
        self.num_feature_maps = num_feature_maps
        self.dropout = dropout
        self.causal = causal
        self.class_weights = list(class_weights) if class_weights is not None else None
        self.legacy_double_softmax = legacy_double_softmax
        self.frames_per_second = frames_per_second
        self.features_from = list(features_from) if features_from is not None else None
        super().__init__(**kwargs)
        if min(input_size, num_stages, num_layers, num_feature_maps) < 1:
            raise InputError("input_size, num_stages, num_layers and num_feature_maps must be at least 1")
        if num_layers > 30 or num_stages > 100 or num_feature_maps > 2**16:
            raise InputError(
                f"at most 30 num_layers (the last one looks 2^30 frames back), 100 num_stages and 65536 num_feature_maps are "
                f"possible; got {num_layers}, {num_stages} and {num_feature_maps}"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"dropout is {dropout}; it must be at least 0 and below 1")
        if self.class_weights is not None and len(self.class_weights) != self.num_labels:
            raise InputError(f"there are {len(self.class_weights)} class_weights for {self.num_labels} classes")

    @property
    def receptive_field(self) -> int:
        """Return how many frames a prediction depends on, the present one included."""
        return 1 + self.num_stages * 2 * (2**self.num_layers - 1)

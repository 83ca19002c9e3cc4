"""Configuration of the image-text models SurgVLP, HecVL, PeskaVLP and SurgCLIP. This file travels with a checkpoint."""

from typing import Any, Literal

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from .configuration_frame_timesformer import FrameTimesformerConfig
from .errors_surgvista import InputError


class SurgicalClipConfig(PreTrainedConfig):
    r"""Sizes and options of `SurgicalClipModel`. The defaults are those of SurgVLP.

    Args:
        vision_config: Configuration of the image or video encoder, or its content as a dictionary.
        text_config: Configuration of the BERT, or its content as a dictionary.
        projection_dim: Width of the common space of images and texts.
        text_feature: The feature of a text: `"layers"`, the sum over the last `text_layers` layers of the mean over all
            positions, in which padding counts as zeros (SurgVLP), or `"first"`, the class token of the last layer (SurgCLIP).
        text_layers: Number of layers that `"layers"` sums over.
        text_projection: A linear layer follows the text feature. Without one, the BERT must be `projection_dim` wide.
        text_pooling_layer: The BERT has a pooling layer. It is stored in files of SurgVLP and never used.
        similarity_temperature: Cosine similarities are divided by it.
        learned_temperature: The temperature is a parameter of the checkpoint.
        max_text_length: Number of tokens that the processor pads and cuts texts to.
        num_frames: Frames of a clip, 1 for a model of single images.
        frame_stride: Seconds between two frames of a clip.
        initializer_range: Standard deviation of fresh weights.

    Raises:
        InputError: An unknown encoder, or widths that do not fit.

    Example:
        >>> SurgicalClipConfig().logit_scale
        100.0
    """

    model_type = "surgical_clip"
    _auto_class = "AutoConfig"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        projection_dim: int = 768,
        text_feature: Literal["layers", "first"] = "layers",
        text_layers: int = 4,
        text_projection: bool = False,
        text_pooling_layer: bool = False,
        similarity_temperature: float = 0.01,
        learned_temperature: bool = False,
        max_text_length: int = 77,
        num_frames: int = 1,
        frame_stride: float | None = None,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _configuration(vision_config, "resnet")
        self.text_config = _configuration(text_config, "bert")
        self.projection_dim = projection_dim
        self.text_feature = text_feature
        self.text_layers = text_layers
        self.text_projection = text_projection
        self.text_pooling_layer = text_pooling_layer
        self.similarity_temperature = similarity_temperature
        self.learned_temperature = learned_temperature
        self.max_text_length = max_text_length
        self.num_frames = num_frames
        if frame_stride is not None:
            self.frame_stride = frame_stride
        self.initializer_range = initializer_range
        self._check()
        super().__init__(**kwargs)

    def _check(self) -> None:
        if self.text_feature not in ("layers", "first"):
            raise InputError(f"text_feature is {self.text_feature!r}; a SurgicalClipConfig has 'layers' or 'first'")
        if not self.text_projection and self.text_config.hidden_size != self.projection_dim:
            raise InputError(
                f"texts of width {self.text_config.hidden_size} do not fit a projection_dim of {self.projection_dim} without "
                "a projection: set text_projection"
            )
        if not self.similarity_temperature > 0:
            raise InputError(f"similarity_temperature is {self.similarity_temperature!r}; it must be positive")
        if not 0 < self.max_text_length <= self.text_config.max_position_embeddings:
            raise InputError(
                f"max_text_length is {self.max_text_length}; the text encoder has {self.text_config.max_position_embeddings} "
                "positions"
            )
        if not 0 < self.text_layers <= self.text_config.num_hidden_layers + 1:
            raise InputError(
                f"text_layers is {self.text_layers}; there are {self.text_config.num_hidden_layers} layers"
            )

    @property
    def logit_scale(self) -> float:
        """Return what cosine similarities are multiplied by, one over the (first) temperature."""
        return 1 / self.similarity_temperature

    @property
    def is_video(self) -> bool:
        """Return whether the encoder sees the frames of a clip together."""
        return self.vision_config.model_type == FrameTimesformerConfig.model_type


def _configuration(content: dict[str, Any] | PreTrainedConfig | None, usual: str) -> PreTrainedConfig:
    """Return a part's configuration from its content."""
    if isinstance(content, PreTrainedConfig):
        return content
    fields = dict(content or {})
    kind = fields.pop("model_type", usual)
    if kind == FrameTimesformerConfig.model_type:  # known here even where it is not registered
        return FrameTimesformerConfig(**fields)
    if kind not in CONFIG_MAPPING:
        raise InputError(f"transformers knows no encoder of type {kind!r}")
    return CONFIG_MAPPING[kind](**fields)

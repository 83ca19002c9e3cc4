"""Configuration of a classifier over any encoder that transformers knows, video or image."""

from typing import Any, Literal

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from .configuration_frame_timesformer import FrameTimesformerConfig
from .configuration_surgenet import CaformerConfig, SurgeNetPvtConfig
from .configuration_surgvista import SurgVistaConfig
from .errors_surgvista import InputError

_FRAME_FEATURES = ("pooler", "first", "mean", "patches")


def feature_width(config: PreTrainedConfig) -> int:
    """Return the width of an encoder's output, by whichever name its configuration has for it."""
    sizes = getattr(config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else getattr(config, "hidden_size", None) or config.num_features)


def input_size(config: PreTrainedConfig) -> tuple[int, int]:
    """Return height and width of an encoder's input, in pixels; 224 where its configuration does not say it."""
    size = getattr(config, "frame_size", None) or getattr(config, "image_size", None)
    if size is None:
        timm = getattr(config, "pretrained_cfg", None) or {}
        size = getattr(config, "crop_size", None) or tuple(timm.get("input_size", (224, 224)))[-2:]
    return (size, size) if isinstance(size, int) else (size[0], size[1])


class SurgicalEncoderConfig(PreTrainedConfig):
    r"""Sizes and options of `SurgicalEncoderForVideoClassification`.

    Args:
        encoder_config: configuration of the encoder, or its content as a dictionary.
        num_frames: frames of a clip. An image encoder sees each by itself.
        pooling: `"mean"` over tokens, and over frames of an image encoder; or `"attentive"`: a learned query attends to all
            tokens (the attentive probe of V-JEPA, arXiv 2404.08471).
        frame_feature: feature that stands for a frame under mean pooling: `"pooler"`, the encoder's own pooled output;
            `"first"`, its class token; `"mean"`, the mean of its tokens; `"patches"`, that of the tokens behind the first.
        attentive_heads: number of heads of attentive pooling.
        mlp_ratio: width of the MLP after attentive pooling over the encoder's.
        layer_norm_eps: epsilon of the norms that are not the encoder's.
        initializer_range: standard deviation of new weights.
        classifier_dropout: dropout rate before the classifier.
        classifier_init_scale: factor on the classifier's initial weights; 0 makes all first logits 0.
        kwargs: fields of every configuration, such as `num_labels`.

    Raises:
        InputError: an encoder of an unknown type.

    Example:
        >>> SurgicalEncoderConfig(encoder_config={"model_type": "vit", "hidden_size": 96}, num_frames=1).hidden_size
        96
    """

    model_type = "surgical_encoder"
    _auto_class = "AutoConfig"  # saving writes the code along: transformers has no such class
    sub_configs = {"encoder_config": AutoConfig}

    def __init__(
        self,
        encoder_config: dict[str, Any] | PreTrainedConfig | None = None,
        num_frames: int = 8,
        pooling: Literal["mean", "attentive"] = "mean",
        frame_feature: Literal["pooler", "first", "mean", "patches"] = "mean",
        attentive_heads: int = 12,
        mlp_ratio: float = 4.0,
        layer_norm_eps: float = 1e-6,
        initializer_range: float = 0.02,
        classifier_dropout: float = 0.0,
        classifier_init_scale: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if isinstance(encoder_config, dict) or encoder_config is None:
            content = dict(encoder_config or {"model_type": "vit"})
            kind = content.pop("model_type", None)
            # Known here even where they are not registered.
            own = (SurgVistaConfig, CaformerConfig, SurgeNetPvtConfig, FrameTimesformerConfig)
            if kind in [each.model_type for each in own]:
                encoder_config = next(each for each in own if each.model_type == kind)(**content)
            elif kind in CONFIG_MAPPING:
                encoder_config = CONFIG_MAPPING[kind](**content)
            else:
                raise InputError(f"transformers knows no encoder of type {kind!r}")
        self.encoder_config = encoder_config
        self.num_frames = num_frames
        self.pooling = pooling
        self.frame_feature = frame_feature
        self.attentive_heads = attentive_heads
        self.mlp_ratio = mlp_ratio
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.classifier_dropout = classifier_dropout
        self.classifier_init_scale = classifier_init_scale
        if pooling not in ("mean", "attentive") or frame_feature not in _FRAME_FEATURES:
            raise InputError(f"pooling is {pooling!r} and frame_feature {frame_feature!r}; see SurgicalEncoderConfig")
        if pooling == "attentive" and self.hidden_size % attentive_heads:
            raise InputError(f"{self.hidden_size} features cannot be divided among {attentive_heads} attentive_heads")
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Return the width of the encoder's output."""
        return feature_width(self.encoder_config)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Return height and width of a frame, in pixels."""
        return input_size(self.encoder_config)

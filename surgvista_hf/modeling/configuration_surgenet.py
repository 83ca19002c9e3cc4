"""Configurations of the two SurgeNet networks that transformers has no equal class for."""

from transformers import PreTrainedConfig

from .errors_surgvista import InputError


class CaformerConfig(PreTrainedConfig):
    r"""Sizes and options of `CaformerModel`. The defaults are those of CAFormer-S18 as SurgeNet trained it.

    Args:
        num_channels: Channels of an image.
        hidden_sizes: Channels of each stage.
        depths: Blocks of each stage. The first two stages mix tokens by separable convolution, the others by attention.
        mlp_ratio: Width of a block's MLP over the stage's width.
        expansion_ratio: Width inside a separable convolution over the stage's width.
        head_size: Channels of one attention head.
        hidden_act: `"relu"`, as SurgeNet trained it, or `"star_relu"`, the published CAFormer's
            scale · relu(x)² + bias with a learned scale and bias in each activation.
        layer_norm_eps: Epsilon of all norms.
        initializer_range: Standard deviation of fresh weights.
        image_size: Height and width in pixels that the processor makes; the network takes any.
        frame_feature: What stands for a frame; see `SurgicalEncoderConfig`.

    Example:
        >>> CaformerConfig().hidden_size
        512
    """

    model_type = "surgenet_caformer"
    _auto_class = "AutoConfig"  # saving writes the code along: transformers has no such class

    num_channels: int = 3
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 320, 512)
    depths: list[int] | tuple[int, ...] = (3, 3, 9, 3)
    mlp_ratio: float | int = 4.0
    expansion_ratio: float | int = 2.0
    head_size: int = 32
    hidden_act: str = "relu"
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    image_size: int | list[int] | tuple[int, int] = 224
    frame_feature: str = "pooler"

    def __post_init__(self, **kwargs: object) -> None:
        if self.hidden_act not in ("relu", "star_relu"):
            raise InputError(f"hidden_act is {self.hidden_act!r}; a CAFormer has 'relu' or 'star_relu'")
        if len(self.hidden_sizes) != len(self.depths):
            raise InputError(f"{len(self.hidden_sizes)} hidden_sizes do not fit {len(self.depths)} depths")
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Return the width of the last stage, which is that of the features."""
        return int(self.hidden_sizes[-1])


class SurgeNetPvtConfig(PreTrainedConfig):
    r"""Sizes and options of `SurgeNetPvtModel`: those of transformers' `PvtV2Config` and one more epsilon.

    It does not derive from that class, which cannot be imported while the Auto classes are.

    Args:
        image_size: Height and width in pixels that the processor makes; the network takes any.
        num_channels: Channels of an image.
        num_encoder_blocks: Stages.
        depths: Blocks of each stage.
        sr_ratios: Spatial reductions of keys and values in each stage.
        hidden_sizes: Channels of each stage.
        patch_sizes: Sides of the patches that each stage embeds.
        strides: Strides of these.
        num_attention_heads: Attention heads of each stage.
        mlp_ratios: Width of the MLPs over that of the stage.
        hidden_act: The activation of the MLPs.
        hidden_dropout_prob: Dropout of embeddings and MLPs.
        attention_probs_dropout_prob: Dropout of attention weights.
        initializer_range: Standard deviation of fresh weights.
        drop_path_rate: Stochastic depth of the last block.
        layer_norm_eps: Epsilon of the norms in blocks and behind stages.
        reduction_norm_eps: Epsilon of the norms in patch embeddings and in attention with spatial reduction, which the
            authors build with another one than the rest.
        qkv_bias: Whether queries, keys and values have biases.
        linear_attention: Use pooling instead of strided convolution in the reduction.

    Example:
        >>> SurgeNetPvtConfig().reduction_norm_eps
        1e-05
    """

    model_type = "surgenet_pvt_v2"
    _auto_class = "AutoConfig"

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    num_encoder_blocks: int = 4
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    sr_ratios: list[int] | tuple[int, ...] = (8, 4, 2, 1)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 320, 512)
    patch_sizes: list[int] | tuple[int, ...] = (7, 3, 3, 3)
    strides: list[int] | tuple[int, ...] = (4, 2, 2, 2)
    num_attention_heads: list[int] | tuple[int, ...] = (1, 2, 5, 8)
    mlp_ratios: list[int] | tuple[int, ...] = (8, 8, 4, 4)
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    drop_path_rate: float | int = 0.0
    layer_norm_eps: float = 1e-6
    reduction_norm_eps: float = 1e-5
    qkv_bias: bool = True
    linear_attention: bool = False

    @property
    def hidden_size(self) -> int:
        """Return the width of the last stage, which is that of the features."""
        return int(self.hidden_sizes[-1])

"""Configuration of SurgCLIP's video encoder. This file travels with a checkpoint.

It stands alone because it must be importable while the Auto classes of transformers are being imported.
"""

from transformers import PreTrainedConfig


class FrameTimesformerConfig(PreTrainedConfig):
    r"""Sizes and options of `FrameTimesformerModel`. The defaults are those of SurgCLIP-B.

    Args:
        image_size: Height and width of a frame in pixels.
        patch_size: Height and width of a patch in pixels.
        num_channels: Channels of a frame.
        num_frames: Frames of a clip.
        hidden_size: Width of a token.
        num_hidden_layers: Number of layers.
        num_attention_heads: Attention heads of a layer, in time and within a frame.
        intermediate_size: Width inside the MLP of a layer.
        qkv_bias: Queries, keys and values have biases.
        layer_norm_eps: Epsilon of the norms in layers and behind them.
        token_norm_eps: Epsilon of the last norm of the tokens. The pooled frames do not pass through it.
        initializer_range: Standard deviation of fresh weights.

    Example:
        >>> FrameTimesformerConfig().num_frames
        16
    """

    model_type = "frame_timesformer"
    _auto_class = "AutoConfig"  # saving writes the code along: transformers has no such class

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    num_frames: int = 16
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-6
    token_norm_eps: float = 1e-12
    initializer_range: float = 0.02

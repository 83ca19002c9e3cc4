"""Configuration of the SurgVISTA models.

SurgVISTA is a video vision transformer with two decoders (arXiv 2506.02692, npj Digital Medicine 2026): one reconstructs
the masked tubelets, one distils the features of a surgical image teacher. This file travels with a checkpoint.
"""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .errors_surgvista import InputError


@strict
class SurgVistaConfig(PreTrainedConfig):
    r"""Sizes and options of `SurgVistaModel` and its heads. The defaults are the published base configuration.

    Args:
        image_size: height and width of a frame in pixels, one number or `(height, width)`; multiples of `patch_size`.
            Other resolutions work at run time: position tables are computed.
        patch_size: side of a patch in pixels.
        num_channels: color channels of a frame.
        num_frames: frames of a clip; a multiple of `tubelet_size`. Other counts work at run time.
        tubelet_size: frames that one token spans; 1 makes the image variant, which embeds every frame by itself.
        hidden_size, num_hidden_layers, num_attention_heads: width, blocks and heads of the encoder.
        video_decoder_hidden_size, video_decoder_num_hidden_layers, video_decoder_num_attention_heads: the decoder that
            reconstructs pixels.
        image_decoder_hidden_size, image_decoder_num_hidden_layers, image_decoder_num_attention_heads: the decoder that
            predicts the teacher's features. 0 hidden layers: no such decoder, a plain masked autoencoder.
        image_target_size: width of the teacher's features.
        mlp_ratio: width of an MLP's hidden layer over the width of its block.
        hidden_act: activation of the MLPs.
        qkv_bias: queries and values have a bias.
        key_bias: keys have one too. It cannot change the attention; image checkpoints store it.
        layer_norm_eps: epsilon of every layer normalization.
        hidden_dropout_prob, attention_probs_dropout_prob: dropout rates.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first. The published recipes
            use 0.1.
        initialization: `"xavier"` as SurgVISTA, or `"normal"` as V-JEPA: all matrices with standard deviation
            `initializer_range`, mask tokens 0.
        initializer_range: standard deviation of the mask tokens and of the classifier before `classifier_init_scale`.
        position_embedding_type: `"sincos_3d"` (SurgVISTA, MVD), `"sincos_3d_equal"` (a third of the columns an axis: V-JEPA 1)
            or `"sincos_1d"` (one interleaved sinusoid over all tokens: VideoMAE, UMT, image models).
        mask_ratio: fraction of masked tokens.
        mask_type: `"tube"`, the same rows and columns at every temporal index, or `"random"`, any tokens.
        video_loss_weight, image_loss_weight: weights of the two losses.
        norm_pix_loss: pixel targets are normalized per token and color channel.
        image_loss_type: `"smooth_l1"` (beta 1), `"l1"` or `"l2"`.
        norm_teacher_features: teacher features are layer-normalized before they become targets.
        image_mean, image_std: normalization of `pixel_values`, needed to rebuild pixels.
        final_norm: the encoder normalizes its output. The published classifier goes without and normalizes after pooling;
            `False` says so of an encoder that was taken from one.
        classifier_dropout: dropout before the classifier. The published recipe uses 0.5.
        classifier_init_scale: factor on the classifier's initial weights; the published 0 makes all first logits 0.

    Raises:
        InputError: sizes that do not fit each other.

    Example:
        >>> from surgvista_hf import SurgVistaConfig
        >>> SurgVistaConfig(num_frames=8, image_size=112).num_tokens
        196
    """

    model_type = "surgvista"

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    num_channels: int = 3
    num_frames: int = 16
    tubelet_size: int = 2
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    video_decoder_hidden_size: int = 384
    video_decoder_num_hidden_layers: int = 4
    video_decoder_num_attention_heads: int = 6
    image_decoder_hidden_size: int = 384
    image_decoder_num_hidden_layers: int = 2
    image_decoder_num_attention_heads: int = 6
    image_target_size: int = 1024
    mlp_ratio: float | int = 4.0
    hidden_act: str = "gelu"
    qkv_bias: bool = True
    key_bias: bool = False
    layer_norm_eps: float = 1e-6
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    initialization: Literal["xavier", "normal"] = "xavier"
    initializer_range: float = 0.02
    position_embedding_type: Literal["sincos_3d", "sincos_3d_equal", "sincos_1d"] = "sincos_3d"
    mask_ratio: float | int = 0.85
    mask_type: Literal["tube", "random"] = "tube"
    video_loss_weight: float | int = 1.0
    image_loss_weight: float | int = 0.05
    norm_pix_loss: bool = True
    image_loss_type: Literal["smooth_l1", "l1", "l2"] = "smooth_l1"
    norm_teacher_features: bool = False
    image_mean: list[float] | tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: list[float] | tuple[float, ...] = (0.229, 0.224, 0.225)
    final_norm: bool = True
    classifier_dropout: float | int = 0.0
    classifier_init_scale: float | int = 0.0

    def __post_init__(self, **kwargs: object) -> None:
        self._check_block("", self.hidden_size, self.num_attention_heads)
        self._check_block("video_decoder_", self.video_decoder_hidden_size, self.video_decoder_num_attention_heads)
        if self.image_decoder_num_hidden_layers:
            self._check_block("image_decoder_", self.image_decoder_hidden_size, self.image_decoder_num_attention_heads)
        self.token_grid(self.num_frames, *self.frame_size)
        if not 0 <= self.mask_ratio < 1:
            raise InputError(f"mask_ratio is {self.mask_ratio}; it must be in [0, 1)")
        if not len(self.image_mean) == len(self.image_std) == self.num_channels:
            raise InputError(
                f"image_mean has {len(self.image_mean)} and image_std {len(self.image_std)} values; "
                f"num_channels is {self.num_channels}"
            )
        super().__post_init__(**kwargs)

    def _check_block(self, prefix: str, width: int, heads: int) -> None:
        if heads < 1 or width % heads:
            raise InputError(f"{prefix}hidden_size {width} is not a multiple of {prefix}num_attention_heads {heads}")
        multiple = 16 if self.position_embedding_type == "sincos_3d" else 2
        if width % multiple:
            raise InputError(
                f"{prefix}hidden_size is {width}; {self.position_embedding_type} position tables need a multiple of "
                f"{multiple}"
            )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Return height and width of a frame, in pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        height, width = self.image_size
        return height, width

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens in a clip of the configured size."""
        time, rows, columns = self.token_grid(self.num_frames, *self.frame_size)
        return time * rows * columns

    def token_grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the temporal indices, rows and columns of tokens in a clip of `frames` × `height` × `width` pixels.

        Raises:
            InputError: the clip cannot be cut into whole tubelets and patches.
        """
        if frames < 1 or frames % self.tubelet_size:
            raise InputError(f"a clip of {frames} frames cannot be cut into tubelets of {self.tubelet_size} frames")
        if min(height, width) < 1 or height % self.patch_size or width % self.patch_size:
            raise InputError(
                f"a frame of {height}×{width} pixels cannot be cut into patches of {self.patch_size}×{self.patch_size}"
            )
        return frames // self.tubelet_size, height // self.patch_size, width // self.patch_size

    def num_masked_tokens(self, grid: tuple[int, int, int]) -> int:
        """Return how many tokens of a clip with this grid are masked, by `mask_ratio` and `mask_type`."""
        time, rows, columns = grid
        if self.mask_type == "tube":
            # Rounded per temporal index, so that every one has equally many.
            return time * int(self.mask_ratio * rows * columns)
        return int(self.mask_ratio * time * rows * columns)

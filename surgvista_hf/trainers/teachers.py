"""Image teachers: any frozen vision model with a patch grid, asked for features on the student's grid.

The published teacher is EndoSSL's ViT-L (`surgvista convert --family endossl-teacher`); DINOv2, DINOv3, MAE and ConvNeXt
models of the Hub serve as well. It sees the first frame of every tubelet, which is the only one whose features are used.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel

from ..modeling.errors_surgvista import InputError
from .float8 import Float8Linear, use_float8

_FINAL_NORMS = ("layernorm", "norm", "post_layernorm")


class ImageTeacher(nn.Module):
    """A frozen image model that gives one feature vector for every token of a clip.

    Args:
        model: takes `pixel_values` (images, 3, height, width) and gives `last_hidden_state`, (images, tokens, D) with special
            tokens first, or (images, D, rows, columns).
        final_norm: take the features behind the model's last normalisation; EndoSSL's were published without it.
        dtype: that it computes in, or `torch.float8_e4m3fn`: bf16 with products in 8 bits (`use_float8`). Features come out
            in fp32.
        batch_size: images at a time; `None`: all of a batch of clips.
        compile: run it through `torch.compile`.

    Raises:
        InputError: no images at a time, `final_norm=False` for a model without one, or 8 bits on a device without them.

    Example:
        >>> teacher = ImageTeacher.from_pretrained("endossl-teacher", final_norm=False)  # doctest: +SKIP
        >>> teacher(clips, grid=(8, 14, 14)).shape  # doctest: +SKIP
        torch.Size([2, 1568, 1024])
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        final_norm: bool = True,
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise InputError(f"a teacher needs at least one image at a time, not {batch_size}")
        if not final_norm:
            _drop_final_norm(model)
        self.model: PreTrainedModel = model.eval().requires_grad_(False)
        self.batch_size, self.in_float8 = batch_size, dtype == torch.float8_e4m3fn
        if dtype is not None:
            self.model.to(torch.bfloat16 if self.in_float8 else dtype)
        if compile:
            self.model.compile()

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> "ImageTeacher":
        """Loads a folder or a model of the Hub.

        Raises:
            InputError: it cannot be loaded.
        """
        try:
            return cls(AutoModel.from_pretrained(str(name)), **kwargs)
        except (OSError, ValueError) as error:
            raise InputError(f"the teacher {name} cannot be loaded: {error}") from error

    def train(self, mode: bool = True) -> "ImageTeacher":
        """Stays in evaluation mode."""
        return super().train(False)

    def to(self, *args: Any, **kwargs: Any) -> "ImageTeacher":
        """Moves it; where it computes in 8 bits, only now, since the device must be able to."""
        super().to(*args, **kwargs)
        if self.in_float8 and not any(isinstance(module, Float8Linear) for module in self.modules()):
            use_float8(self.model)
        return self

    @property
    def feature_size(self) -> int:
        """D, the width of its features."""
        config = self.model.config
        sizes = getattr(config, "hidden_sizes", None)
        return int(sizes[-1] if sizes else config.hidden_size)

    @torch.no_grad()
    def forward(self, clips: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Features of every token.

        Args:
            clips: normalised, (B, frames, 3, height, width).
            grid: slices, rows and columns of the student's tokens.

        Returns:
            (B, slices · rows · columns, D), fp32.
        """
        slices, rows, columns = grid
        frames = clips[:, :: clips.shape[1] // slices].flatten(0, 1).to(next(self.model.parameters()).dtype)
        device = clips.device.type
        # Its own precision holds, whatever the student's step runs in.
        with torch.autocast(device, enabled=False) if device != "meta" else nullcontext():
            parts = [self._features(part, (rows, columns)) for part in frames.split(self.batch_size or len(frames))]
        features = torch.cat(parts)
        return features.view(clips.shape[0], slices * rows * columns, -1)

    def _features(self, images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(images, rows · columns, D) on the student's grid."""
        hidden = self.model(pixel_values=images).last_hidden_state.float()
        if hidden.ndim == 3:
            hidden = self._as_map(hidden, images)
        if hidden.shape[-2:] != grid:
            hidden = functional.interpolate(hidden, grid, mode="bilinear", align_corners=False, antialias=True)
        return hidden.flatten(2).transpose(1, 2)

    def _as_map(self, hidden: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Patch tokens as a picture; class and register tokens stand before them."""
        patch = self.model.config.patch_size
        rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
        special = hidden.shape[1] - rows * columns
        if special < 0:
            raise InputError(
                f"the teacher gives {hidden.shape[1]} tokens for images of {tuple(images.shape[-2:])} pixels in patches of "
                f"{patch}"
            )
        return hidden[:, special:].transpose(1, 2).unflatten(2, (rows, columns))


def _drop_final_norm(model: nn.Module) -> None:
    """Puts nothing in the place of the last normalisation: cheaper than keeping every block's output to take the last."""
    for name in _FINAL_NORMS:
        if isinstance(getattr(model, name, None), nn.LayerNorm):
            setattr(model, name, nn.Identity())
            return
    raise InputError(f"{type(model).__name__} has no final normalisation to leave out: set final_norm to true")

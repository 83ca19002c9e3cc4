"""Image teachers: any frozen vision model with a grid of features, which are resampled to the student's grid of tokens.

The published teacher is EndoSSL's ViT-L (`surgvista convert --family endossl-teacher`). A recipe names a teacher by

| name | teacher |
|---|---|
| a folder | a model that `surgvista convert` wrote, or any image model of transformers |
| `lemonfm`, `endovit`, `surgenet` | the family's file on the Hub, fetched and converted once |
| `endossl`, `gsvit` | an error that says how to get there: no file of theirs is known on the Hub |
| anything else | a model of the Hub: DINOv2, DINOv3, ConvNeXt, timm's |

The teacher is given the first frame of every tubelet, the only one whose features are used. Clips come normalized for the
student; for a teacher with another normalization they are converted.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedModel
from transformers.utils import logging

from ...modeling.configuration_surgical_encoder import feature_width
from ...modeling.conversion import FAMILIES
from ...modeling.conversion.hub import converted_from_hub
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.loading import normalization
from ...modeling.modeling_surgical_encoder import takes_clips, without_pooling_layer
from ...util.errors import InputError, SurgVistaError
from .float8 import Float8Linear, use_float8

logger = logging.get_logger(__name__)
_FINAL_NORMS = ("layernorm", "norm", "post_layernorm")
_SHORT_NAMES = {"endossl": "endossl-teacher", "surgfm": "lemonfm"}


class ImageTeacher(nn.Module):
    """A frozen image model that gives one feature vector for every token of a clip.

    Args:
        model: image model that takes `pixel_values` (images, 3, height, width) and returns `last_hidden_state`, (images,
            tokens, D) with special tokens first, or (images, D, rows, columns).
        final_norm: use the features after the model's last normalization; EndoSSL's were published without it.
        normalized: mean and standard deviation of the images that the model was trained with; `None`: those of the clips.
        blue_first: whether to flip the channels, for a model that was trained on images with blue first.
        dtype: precision that the model computes in, or `torch.float8_e4m3fn`: bf16 with matrix products in 8 bits
            (`use_float8`). Features are returned in fp32.
        batch_size: number of images at a time; `None`: all of a batch of clips.
        compile: run the model through `torch.compile`.

    Raises:
        InputError: the model is a video encoder, `batch_size` is below 1, `final_norm=False` is set for a model without a
            final normalization, or the device cannot compute in 8 bits.

    Example:
        >>> teacher = ImageTeacher.from_pretrained("endossl-teacher")  # doctest: +SKIP
        >>> teacher(clips, grid=(8, 14, 14)).shape  # doctest: +SKIP
        torch.Size([2, 1568, 1024])
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        final_norm: bool = True,
        normalized: tuple[Sequence[float], Sequence[float]] | None = None,
        blue_first: bool = False,
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if takes_clips(model):
            raise InputError(f"{type(model).__name__} encodes clips; a teacher must be an image model")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"a teacher needs at least one image at a time, not {batch_size}")
        if not final_norm:
            _drop_final_norm(model)
        self.model: PreTrainedModel = model.eval().requires_grad_(False)
        self.normalized, self.blue_first = normalized, blue_first
        # Affine map, (3, 1, 1) each, from the normalization of the clips to that of the teacher; `None`: they are the same.
        self.scale: torch.Tensor | None
        self.shift: torch.Tensor | None
        self.register_buffer("scale", None, persistent=False)
        self.register_buffer("shift", None, persistent=False)
        self.batch_size, self.in_float8 = batch_size, dtype == torch.float8_e4m3fn
        if dtype is not None:
            self.model.to(torch.bfloat16 if self.in_float8 else dtype)
        if compile:
            self.model.compile()

    @classmethod
    def from_pretrained(cls, name: str | Path, *, final_norm: bool | None = None, **kwargs: Any) -> "ImageTeacher":
        """Load a folder, a family by its name, or a model of the Hub; see the table at the head of this module.

        Args:
            name: folder, family or Hub id.
            final_norm: use the features after the last normalization; the default is the usage of the family that the model
                was converted from, or true.
            kwargs: further arguments of `ImageTeacher`.

        Raises:
            InputError: the model cannot be loaded, or is no image model.
            WeightsElsewhereError: the weights of the family must be fetched by hand.
        """
        path = teacher_path(name)
        try:
            config = AutoConfig.from_pretrained(path)
            model = AutoModel.from_pretrained(path, **without_pooling_layer(config))
        except SurgVistaError:
            raise
        except (OSError, ValueError, KeyError, ImportError) as error:
            other = not_a_folder_either(name)
            raise InputError(f"the teacher {name} cannot be loaded: {error}{other}") from error
        if final_norm is None:
            family = FAMILIES.get(getattr(config, "converted_from", ""))
            final_norm = family.final_norm if family else True
        normalized, blue_first = _preparation(path)
        return cls(model, final_norm=final_norm, normalized=normalized, blue_first=blue_first, **kwargs)

    def set_input_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set how the clips are normalized, so that they can be converted to the teacher's own normalization.

        Args:
            mean: mean of the clips' normalization, one number a channel.
            std: standard deviation of the clips' normalization, one number a channel.
        """
        if self.normalized is None or (list(mean), list(std)) == tuple(map(list, self.normalized)):
            self.scale = self.shift = None
            return
        device = next(self.model.parameters()).device
        # ((x · std + mean) - own mean) / own std, as one scale and one shift; each value becomes (3, 1, 1)
        of_clips, own = (
            torch.tensor(values, device=device)[:, :, None, None] for values in ((mean, std), self.normalized)
        )
        self.scale = of_clips[1] / own[1]
        self.shift = (of_clips[0] - own[0]) / own[1]

    def train(self, mode: bool = True) -> "ImageTeacher":
        """Leave the teacher in evaluation mode, whatever the mode of the student."""
        return super().train(False)

    def to(self, *args: Any, **kwargs: Any) -> "ImageTeacher":
        """Move the teacher to a device, and prepare its products in 8 bits there, since not every device has them."""
        super().to(*args, **kwargs)
        if self.in_float8 and not any(isinstance(module, Float8Linear) for module in self.modules()):
            use_float8(self.model)
        return self

    @property
    def feature_size(self) -> int:
        """Return D, the width of the features."""
        return feature_width(self.model.config)

    @torch.no_grad()
    def forward(self, clips: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Compute the features of every token of the student.

        Args:
            clips: normalized clips, (B, frames, 3, height, width).
            grid: numbers of tubelets, rows and columns of the student's tokens.

        Returns:
            (B, tubelets · rows · columns, D), fp32.
        """
        tubelets, rows, columns = grid
        frames = clips[:, :: clips.shape[1] // tubelets].flatten(
            0, 1
        )  # (B · tubelets, 3, height, width): the first of each
        if self.scale is not None and self.shift is not None:
            frames = frames * self.scale + self.shift
        if self.blue_first:
            frames = frames.flip(1)
        frames = frames.to(next(self.model.parameters()).dtype)
        device = clips.device.type
        # The teacher computes in its own precision, whatever the mixed precision of the student's step.
        with torch.autocast(device, enabled=False) if device != "meta" else nullcontext():
            parts = [self._features(part, (rows, columns)) for part in frames.split(self.batch_size or len(frames))]
        features = torch.cat(parts)  # (B · tubelets, rows · columns, D)
        return features.view(clips.shape[0], tubelets * rows * columns, -1)

    def _features(self, images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Return the features of images on the student's grid, (images, rows · columns, D)."""
        features = self.model(pixel_values=images).last_hidden_state.float()
        if features.ndim == 3:
            features = self._as_map(features, images)
        if features.shape[-2:] != grid:
            features = functional.interpolate(features, grid, mode="bilinear", align_corners=False, antialias=True)
        return features.flatten(2).transpose(1, 2)

    def _as_map(self, tokens: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return patch tokens (images, tokens, D) as a map (images, D, rows, columns), without class and register tokens."""
        patch = self.model.config.patch_size
        rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
        special = tokens.shape[1] - rows * columns  # class and register tokens, which stand before the patches
        if special < 0:
            raise InputError(
                f"the teacher gives {tokens.shape[1]} tokens for images of {tuple(images.shape[-2:])} pixels in patches of "
                f"{patch}"
            )
        return tokens[:, special:].transpose(1, 2).unflatten(2, (rows, columns))


def teacher_path(name: str | Path) -> str:
    """Return the folder or Hub id that a teacher's name stands for.

    Raises:
        InputError: the family has no image teacher.
        WeightsElsewhereError: the weights of the family must be fetched by hand.
    """
    family = FAMILIES.get(_SHORT_NAMES.get(str(name), str(name)))
    if family is None or Path(name).is_dir():
        return folder_or_hub_name(name)
    if not family.image_teacher:
        raise InputError(
            f"{family.name} is no image teacher; those are "
            f"{', '.join(sorted(known.name for known in FAMILIES.values() if known.image_teacher))}"
        )
    return str(converted_from_hub(family.name))


def _preparation(path: str) -> tuple[tuple[Sequence[float], Sequence[float]] | None, bool]:
    """Return mean and deviation of red, green and blue, and whether the teacher takes blue first."""
    try:
        processor = AutoImageProcessor.from_pretrained(path)
    except (OSError, ValueError, KeyError, ImportError):
        logger.warning("the teacher %s has no image processor; it gets the frames as the student does", path)
        return None, False
    blue_first = bool(getattr(processor, "do_flip_channel_order", False))
    found = normalization(processor)
    if found and blue_first:  # the processor normalizes after it has flipped
        found = (tuple(reversed(found[0])), tuple(reversed(found[1])))
    return found, blue_first


def _drop_final_norm(model: nn.Module) -> None:
    """Replace the last normalization by an identity, which is cheaper than returning the output of every block."""
    for name in _FINAL_NORMS:
        if isinstance(getattr(model, name, None), nn.LayerNorm):
            setattr(model, name, nn.Identity())
            return
    raise InputError(f"{type(model).__name__} has no final normalization to leave out: set final_norm to true")

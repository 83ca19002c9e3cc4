"""Masked pre-training: SurgVISTA with its image teacher (arXiv 2506.02692), and masked autoencoders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel, VideoMAEForPreTraining

from ..clips import ClipDataset, ClipMasking, MultiScaleCrop, collate_clips, keyed_generator, normalize_clips
from ..clips.augmentation import CropBox, crop_and_resize
from ..modeling.errors_surgvista import InputError
from ..modeling.modeling_surgvista import SurgVistaForPreTraining
from .arguments import PretrainingArguments
from .base import ClipTrainer
from .teachers import ImageTeacher


@dataclass(frozen=True)
class PretrainingCollator:
    """Makes a batch, and everything random about it: crops, masks and keys, each a function of (seed, epoch, sample).

    This runs in the workers, so the device never waits for it. Pixels stay uint8; they are cropped where they are used.

    Args:
        masking: masks of the samples.
        crop: crops of the samples.
        seed: of the run.
    """

    masking: ClipMasking
    crop: MultiScaleCrop
    seed: int = 0

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch = collate_clips(items)
        keys = [(int(item["epoch"]), int(item["index"])) for item in items]
        sizes = [item["pixel_values"].shape[-2:] for item in items]
        epoch = keys[0][0]
        boxes = [self.crop.box(size[1], size[0], *key) for size, key in zip(sizes, keys, strict=True)]
        draws = [keyed_generator(self.seed, *key, "drop path").integers(2**63 - 1) for key in keys]
        return {
            **batch,
            "boxes": [list(box) for box in boxes],
            "bool_masked_pos": self.masking(epoch, [index for _, index in keys]),
            "drop_path_keys": torch.from_numpy(np.array(draws, np.int64)),
        }


@dataclass(frozen=True)
class ClipShape:
    """What a model takes and hides.

    Args:
        num_frames: of a clip.
        size: side of the square frames, in pixels.
        grid: slices, rows and columns of tokens.
        mask_ratio, mask_type: see `ClipMasking`.
        mean, std: of the normalisation.
    """

    num_frames: int
    size: int
    grid: tuple[int, int, int]
    mask_ratio: float
    mask_type: Literal["tube", "random"]
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)


class MaskedPretrainer(ClipTrainer):
    """What masked pre-training has in common: crops, masks, and the clips that a model is given. Subclasses have the loss.

    Args:
        model: what is trained.
        args: arguments.
        train_dataset: clips of `shape.num_frames` frames, without labels.
        shape: what the model takes and hides.
        kwargs: see `ClipTrainer` and `transformers.Trainer`.

    Raises:
        InputError: clips and model do not fit together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: PretrainingArguments,
        train_dataset: ClipDataset,
        shape: ClipShape,
        **kwargs: Any,
    ) -> None:
        if train_dataset.num_frames != shape.num_frames:
            raise InputError(f"clips have {train_dataset.num_frames} frames; the model takes {shape.num_frames}")
        self.shape = shape
        collator = PretrainingCollator(
            masking=ClipMasking(shape.grid, shape.mask_ratio, shape.mask_type, args.seed),
            crop=MultiScaleCrop(shape.size, args.seed),
            seed=args.seed,
        )
        super().__init__(model, args, train_dataset, data_collator=collator, **kwargs)

    @torch.no_grad()
    def prepared(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Crops, resizes and normalises on the device: (B, frames, 3, size, size), fp32."""
        pairs = zip(batch["pixel_values"], batch["boxes"], strict=True)
        clips = torch.stack([crop_and_resize(clip, CropBox(*box), self.shape.size) for clip, box in pairs])
        return normalize_clips(clips, self.shape.mean, self.shape.std)


class SurgVistaPretrainer(MaskedPretrainer):
    """Trains `SurgVistaForPreTraining` on clips.

    Args:
        model: student with its decoders.
        args: arguments.
        train_dataset: clips of `model.config.num_frames` frames, without labels.
        teacher: gives features to distil; `None`: a plain masked autoencoder.
        kwargs: see `ClipTrainer` and `transformers.Trainer`.

    Raises:
        InputError: clips, teacher and model do not fit together.

    Example:
        >>> clips = ClipDataset(load_frame_set("synthetic", "frame_sets/synthetic", "train"))  # doctest: +SKIP
        >>> trainer = SurgVistaPretrainer(model, PretrainingArguments("run"), clips, teacher=teacher)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: SurgVistaForPreTraining,
        args: PretrainingArguments,
        train_dataset: ClipDataset,
        *,
        teacher: ImageTeacher | None = None,
        **kwargs: Any,
    ) -> None:
        config = model.config
        if config.frame_size[0] != config.frame_size[1]:
            raise InputError(f"the crops of the recipe are square; the model takes {config.frame_size}")
        if teacher is not None:
            _check_teacher(model, teacher)
        shape = ClipShape(
            num_frames=config.num_frames,
            size=config.frame_size[0],
            grid=config.token_grid(config.num_frames, *config.frame_size),
            mask_ratio=config.mask_ratio,
            mask_type=config.mask_type,
            mean=config.image_mean,
            std=config.image_std,
        )
        super().__init__(model, args, train_dataset, shape, **kwargs)
        self.student = model
        self.teacher = teacher.to(self.args.device) if teacher else None

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        clips = self.prepared(batch)
        self.student.set_drop_path_keys(batch["drop_path_keys"])
        features = self.teacher(clips, self.shape.grid) if self.teacher else None
        output = model(pixel_values=clips, bool_masked_pos=batch["bool_masked_pos"], teacher_features=features)
        parts = {"video": output.video_loss}
        if output.image_loss is not None:
            parts["image"] = output.image_loss
        return output.loss, parts


class MaePretrainer(MaskedPretrainer):
    """Trains transformers' `VideoMAEForPreTraining` on clips: SurgRec-MAE (arXiv 2603.29966), VideoMAE (NeurIPS 2022).

    Args:
        model: encoder and decoder; its own loss is used.
        args: arguments.
        train_dataset: clips of `model.config.num_frames` frames, without labels.
        mask_ratio: share of hidden tubes.
        kwargs: see `ClipTrainer` and `transformers.Trainer`.

    Raises:
        InputError: clips and model do not fit together.

    Example:
        >>> trainer = MaePretrainer(VideoMAEForPreTraining(config), PretrainingArguments("run"), clips)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: VideoMAEForPreTraining,
        args: PretrainingArguments,
        train_dataset: ClipDataset,
        *,
        mask_ratio: float = 0.9,
        **kwargs: Any,
    ) -> None:
        config = model.config
        if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
            raise InputError(f"the crops of the recipe are square; the model takes {config.image_size}")
        side = config.image_size // config.patch_size
        shape = ClipShape(
            num_frames=config.num_frames,
            size=config.image_size,
            grid=(config.num_frames // config.tubelet_size, side, side),
            mask_ratio=mask_ratio,
            mask_type="tube",
        )
        super().__init__(model, args, train_dataset, shape, **kwargs)

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output = model(pixel_values=self.prepared(batch), bool_masked_pos=batch["bool_masked_pos"])
        return output.loss, {"video": output.loss}


def _check_teacher(model: SurgVistaForPreTraining, teacher: ImageTeacher) -> None:
    if model.image_decoder is None:
        raise InputError("the model has no image decoder to distil into: set image_decoder_num_hidden_layers")
    if teacher.feature_size != model.config.image_target_size:
        raise InputError(
            f"the teacher's features have {teacher.feature_size} numbers; image_target_size is "
            f"{model.config.image_target_size}"
        )

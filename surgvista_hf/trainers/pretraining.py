"""Pre-training of SurgVISTA (arXiv 2506.02692): masked video and, with a teacher, distilled images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

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


class SurgVistaPretrainer(ClipTrainer):
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
        _check_fit(model, train_dataset, teacher)
        self.grid = config.token_grid(config.num_frames, *config.frame_size)
        self.size = config.frame_size[0]
        self.student = model
        collator = PretrainingCollator(
            masking=ClipMasking(self.grid, config.mask_ratio, config.mask_type, args.seed),
            crop=MultiScaleCrop(self.size, args.seed),
            seed=args.seed,
        )
        super().__init__(model, args, train_dataset, data_collator=collator, **kwargs)
        self.teacher = teacher.to(self.args.device) if teacher else None

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        clips = self.prepared(batch)
        self.student.set_drop_path_keys(batch["drop_path_keys"])
        features = self.teacher(clips, self.grid) if self.teacher else None
        output = model(pixel_values=clips, bool_masked_pos=batch["bool_masked_pos"], teacher_features=features)
        parts = {"video": output.video_loss}
        if output.image_loss is not None:
            parts["image"] = output.image_loss
        return output.loss, parts

    @torch.no_grad()
    def prepared(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Crops, resizes and normalises on the device: (B, frames, 3, size, size), fp32."""
        pairs = zip(batch["pixel_values"], batch["boxes"], strict=True)
        clips = torch.stack([crop_and_resize(clip, CropBox(*box), self.size) for clip, box in pairs])
        return normalize_clips(clips, self.student.config.image_mean, self.student.config.image_std)


def _check_fit(model: SurgVistaForPreTraining, clips: ClipDataset, teacher: ImageTeacher | None) -> None:
    config = model.config
    if clips.num_frames != config.num_frames:
        raise InputError(f"clips have {clips.num_frames} frames; the model takes {config.num_frames}")
    if config.frame_size[0] != config.frame_size[1]:
        raise InputError(f"the crops of the recipe are square; the model takes {config.frame_size}")
    if teacher is None:
        return
    if model.image_decoder is None:
        raise InputError("the model has no image decoder to distil into: set image_decoder_num_hidden_layers")
    if teacher.feature_size != config.image_target_size:
        raise InputError(
            f"the teacher's features have {teacher.feature_size} numbers; image_target_size is {config.image_target_size}"
        )

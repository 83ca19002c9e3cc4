"""What all pre-training has in common, and what masked pre-training has: crops, masks, and the clips that a model is given.

An objective is one file with a subclass of `Pretrainer` (`surgvista.py`, `mae.py`, `jepa.py`, `dino.py`), which
`objectives.py` names.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import BaseImageProcessor, BaseVideoProcessor, PreTrainedModel

from ...clips import ClipCrop, ClipDataset, MultiScaleCrop, collate_clips, keyed_generator, normalize_clips
from ...clips.transforms.augmentation import CropBox, crop_and_resize
from ...modeling.configuration_surgvista import SurgVistaConfig
from ...util.errors import InputError
from ..common.arguments import PretrainingArguments
from ..common.clip_trainer import ClipTrainer
from ..common.schedule import parameter_groups

Masks = Callable[[int, Sequence[int]], Mapping[str, Any]]


@dataclass(frozen=True)
class PretrainingCollator:
    """Makes a batch, and everything random about it: crops, masks and keys, each a function of (seed, epoch, sample).

    This runs in the workers, so the device never waits for it. Pixels stay uint8; they are cropped where they are used.

    Args:
        masks: masks of the samples of an epoch, by the names that the model gives them.
        crop: crops of the samples.
        seed: of the run.
    """

    masks: Masks
    crop: ClipCrop
    seed: int = 0

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        keys = [(int(item["epoch"]), int(item["key"])) for item in items]
        sizes = [item["pixel_values"].shape[-2:] for item in items]
        boxes = [self.crop.box(size[1], size[0], *key) for size, key in zip(sizes, keys, strict=True)]
        draws = [keyed_generator(self.seed, *key, "drop path").integers(2**63 - 1) for key in keys]
        return {
            **collate_clips(items),
            "boxes": [list(box) for box in boxes],
            "masks": dict(self.masks(keys[0][0], [key for _, key in keys])),
            "drop_path_keys": torch.from_numpy(np.array(draws, np.int64)),
        }


@dataclass(frozen=True)
class ClipShape:
    """What a model takes.

    Args:
        num_frames: of a clip.
        size: side of the square frames, in pixels.
        grid: slices, rows and columns of tokens.
        mean, std: of the normalization.
    """

    num_frames: int
    size: int
    grid: tuple[int, int, int]
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)


class Pretrainer(ClipTrainer):
    """A trainer that recipes know. A subclass is an objective: it says what models it trains, on what data, and the loss."""

    arguments_class: ClassVar[type[PretrainingArguments]] = PretrainingArguments
    models: ClassVar[Mapping[str, type[PreTrainedModel]]]  # by model type; the first is the usual one
    takes_teacher: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def processor_for(config: Any, frame_stride: float) -> BaseVideoProcessor | BaseImageProcessor:
        """The processor that is saved with a model of this configuration."""

    @staticmethod
    def dataset_for(args: Any) -> Callable[..., ClipDataset]:
        """What makes samples of a frame set, for these arguments."""
        return ClipDataset

    def save_result(self, folder: Path) -> None:
        """Save what a run is for, with its processor."""
        self.save_model(str(folder))


class MaskedPretrainer(Pretrainer):
    """Crops, masks and clips of masked pre-training.

    Args:
        model: what is trained.
        args: arguments.
        train_dataset: clips of `shape.num_frames` frames, without labels.
        shape: what the model takes.
        masks: see `PretrainingCollator`.
        crop: by default the published one of SurgVISTA.
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
        masks: Masks,
        *,
        crop: ClipCrop | None = None,
        **kwargs: Any,
    ) -> None:
        if train_dataset.num_frames != shape.num_frames:
            raise InputError(f"clips have {train_dataset.num_frames} frames; the model takes {shape.num_frames}")
        self.shape = shape
        collator = PretrainingCollator(masks, crop or MultiScaleCrop(shape.size, args.seed), args.seed)
        super().__init__(model, args, train_dataset, data_collator=collator, **kwargs)

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        decays: bool = self.args.decay_mask_tokens  # type: ignore[attr-defined]
        return parameter_groups(model.named_parameters(), self.args.weight_decay, decay_mask_tokens=decays)

    @torch.no_grad()
    def prepared(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Crop, resize and normalize on the device: (B, frames, 3, size, size), fp32."""
        pairs = zip(batch["pixel_values"], batch["boxes"], strict=True)
        clips = torch.stack([crop_and_resize(clip, CropBox(*box), self.shape.size) for clip, box in pairs])
        return normalize_clips(clips, self.shape.mean, self.shape.std)


def shape_of_surgvista(config: SurgVistaConfig) -> ClipShape:
    """What a model of our own takes."""
    if config.frame_size[0] != config.frame_size[1]:
        raise InputError(f"the crops of the recipe are square; the model takes {config.frame_size}")
    return ClipShape(
        num_frames=config.num_frames,
        size=config.frame_size[0],
        grid=config.token_grid(config.num_frames, *config.frame_size),
        mean=config.image_mean,
        std=config.image_std,
    )

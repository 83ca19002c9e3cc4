"""The base of all pre-training, and that of masked pre-training with its crops and masks.

An objective is one file with a subclass of `Pretrainer` (`surgvista.py`, `mae.py`, `jepa.py`, `dino.py`), which
`objectives.py` names.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from transformers import BaseImageProcessor, BaseVideoProcessor, PreTrainedConfig, PreTrainedModel

from ...clips import ClipCrop, ClipDataset, MultiScaleCrop, collate_clips, keyed_generator, normalize_clips
from ...clips.sampling.balance import EpochSampler
from ...clips.transforms.augmentation import CropBox, crop_and_resize
from ...modeling.configuration_surgvista import SurgVistaConfig
from ...util.errors import InputError
from ..common.arguments import PretrainingArguments
from ..common.clip_trainer import ClipTrainer
from ..common.protocols import ClipBatch, ParameterGroups, Sample, TrainerOptions
from ..common.schedule import parameter_groups

# Masks of the samples of an epoch, (epoch, keys of the samples) -> tensors (B, …) by the names of the model's arguments.
Masks = Callable[[int, Sequence[int]], Mapping[str, Any]]


class PretrainerOptions(TrainerOptions, total=False):
    """Name the options that every objective takes."""

    sampler: EpochSampler | None
    processing_class: BaseVideoProcessor | BaseImageProcessor | None


@dataclass(frozen=True)
class PretrainingCollator:
    """Makes a batch and draws its crops, masks and drop-path keys, each a function of (seed, epoch, sample).

    This runs in the workers, so the device never waits for it. Pixels stay uint8.

    Args:
        masks: function that draws the masks of the samples of an epoch, by the names of the model's arguments.
        crop: random crop of the samples.
        seed: seed of the run.
        size: side of the clips in pixels, to which the workers crop them, where the device would take time from training
            for it: the CPU; `None`: the trainer crops on the device.
    """

    masks: Masks
    crop: ClipCrop
    seed: int = 0
    size: int | None = None

    def __call__(self, items: Sequence[Sample]) -> dict[str, Any]:
        keys = [(int(item["epoch"]), int(item["key"])) for item in items]
        sizes = [item["pixel_values"].shape[-2:] for item in items]
        boxes = [self.crop.box(size[1], size[0], *key) for size, key in zip(sizes, keys, strict=True)]
        draws = [keyed_generator(self.seed, *key, "drop path").integers(2**63 - 1) for key in keys]
        if self.size is not None:
            items = [
                {**item, "pixel_values": crop_and_resize(item["pixel_values"], box, self.size)}
                for item, box in zip(items, boxes, strict=True)
            ]
        return {
            **collate_clips(items),
            "boxes": [list(box) for box in boxes],
            "is_cropped": self.size is not None,
            "masks": dict(self.masks(keys[0][0], [key for _, key in keys])),
            "drop_path_keys": torch.from_numpy(np.array(draws, np.int64)),
        }


@dataclass(frozen=True)
class ClipShape:
    """The clips that a model takes.

    Args:
        num_frames: number of frames of a clip.
        size: side of the square frames, in pixels.
        grid: numbers of temporal indices, rows and columns of tokens.
        mean: mean of the normalization, one number a channel.
        std: standard deviation of the normalization, one number a channel.
    """

    num_frames: int
    size: int
    grid: tuple[int, int, int]
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)


class Pretrainer(ClipTrainer):
    """A trainer that recipes can name. A subclass is an objective: its models, its data set and its loss."""

    arguments_class: ClassVar[type[PretrainingArguments]] = PretrainingArguments
    models: ClassVar[Mapping[str, type[PreTrainedModel]]]  # by model type; the first is the usual one
    takes_teacher: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def processor_for(config: PreTrainedConfig, frame_stride: float) -> BaseVideoProcessor | BaseImageProcessor:
        """Return the processor that is saved with a model of this configuration."""

    @staticmethod
    def dataset_for(args: PretrainingArguments) -> Callable[..., ClipDataset]:
        """Return the function that makes samples of a frame set, for these arguments."""
        return ClipDataset

    def save_result(self, folder: Path) -> None:
        """Save the model that the run was made for, with its processor."""
        self.save_model(str(folder))


class MaskedPretrainer(Pretrainer):
    """Crops, masks and clips of masked pre-training.

    Args:
        model: model to train.
        args: arguments of the run.
        train_dataset: clips of `shape.num_frames` frames, without labels.
        shape: clips that the model takes.
        masks: function that draws masks, see `PretrainingCollator`.
        crop: random crop; the default is the published one of SurgVISTA.
        kwargs: further options, such as `sampler` and `processing_class`.

    Raises:
        InputError: the clips do not fit the model.
    """

    args: PretrainingArguments

    def __init__(
        self,
        model: PreTrainedModel,
        args: PretrainingArguments,
        train_dataset: ClipDataset,
        shape: ClipShape,
        masks: Masks,
        *,
        crop: ClipCrop | None = None,
        **kwargs: Unpack[PretrainerOptions],
    ) -> None:
        if train_dataset.num_frames != shape.num_frames:
            raise InputError(f"clips have {train_dataset.num_frames} frames; the model takes {shape.num_frames}")
        self.shape = shape
        crop = crop or MultiScaleCrop(shape.size, args.seed)
        collator = PretrainingCollator(masks, crop, args.seed, shape.size if args.device.type == "cpu" else None)
        super().__init__(model, args, train_dataset, data_collator=collator, **kwargs)

    def parameter_groups(self, model: torch.nn.Module) -> ParameterGroups:
        """Return the usual groups; mask tokens decay as `decay_mask_tokens` says."""
        return parameter_groups(
            model.named_parameters(), self.args.weight_decay, decay_mask_tokens=self.args.decay_mask_tokens
        )

    @torch.no_grad()
    def prepare_pixels(self, batch: ClipBatch) -> torch.Tensor:
        """Crop and resize the clips of a batch on the device, unless the workers did, and normalize them.

        Returns:
            (B, frames, 3, size, size), fp32.
        """
        clips = batch["pixel_values"]
        if not batch.get("is_cropped"):
            pairs = zip(clips, batch["boxes"], strict=True)  # one by one: frames may differ in size
            clips = torch.stack([crop_and_resize(clip, CropBox(*box), self.shape.size) for clip, box in pairs])
        return normalize_clips(clips, self.shape.mean, self.shape.std)


def surgvista_clip_shape(config: SurgVistaConfig) -> ClipShape:
    """Return the clips that a SurgVISTA model takes.

    Raises:
        InputError: its frames are not square.
    """
    if config.frame_size[0] != config.frame_size[1]:
        raise InputError(f"the crops of the recipe are square; the model takes {config.frame_size}")
    return ClipShape(
        num_frames=config.num_frames,
        size=config.frame_size[0],
        grid=config.token_grid(config.num_frames, *config.frame_size),
        mean=config.image_mean,
        std=config.image_std,
    )

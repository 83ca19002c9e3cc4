"""Masked autoencoders: transformers' VideoMAE (NeurIPS 2022), which SurgRec-MAE (arXiv 2603.29966) is as well."""

from dataclasses import dataclass, field
from typing import Unpack

import torch
from transformers import PreTrainedConfig, VideoMAEForPreTraining
from transformers.video_processing_utils import BaseVideoProcessor

from ...clips import ClipDataset, ClipMasking
from ...modeling.processors import make_processor, stride_in_use
from ...util.errors import InputError
from ...util.values import Rate
from ..common.arguments import PretrainingArguments
from ..common.protocols import ClipBatch, Loss
from .trainer import ClipShape, MaskedPretrainer, PretrainerOptions


@dataclass
class MaeArguments(PretrainingArguments):
    """Arguments of masked autoencoders; the defaults are VideoMAE's."""

    base_min_learning_rate: float = field(default=1e-5, metadata={"help": "floor of the schedule for a batch of 256"})
    num_train_epochs: float = field(default=800.0, metadata={"help": "passes over all clips"})
    mask_ratio: Rate = field(default=0.9, metadata={"help": "fraction of the tubes that are masked"})


class MaePretrainer(MaskedPretrainer):
    """Trains transformers' `VideoMAEForPreTraining` on clips: SurgRec-MAE (arXiv 2603.29966), VideoMAE (NeurIPS 2022).

    Args:
        model: encoder and decoder, whose own loss is used.
        args: arguments of the run.
        train_dataset: clips of `model.config.num_frames` frames, without labels.
        kwargs: further options, such as `sampler` and `processing_class`.

    Raises:
        InputError: the clips do not fit the model.

    Example:
        >>> trainer = MaePretrainer(VideoMAEForPreTraining(config), MaeArguments("run"), clips)  # doctest: +SKIP
    """

    arguments_class = MaeArguments
    models = {"videomae": VideoMAEForPreTraining}

    def __init__(
        self,
        model: VideoMAEForPreTraining,
        args: MaeArguments,
        train_dataset: ClipDataset,
        **kwargs: Unpack[PretrainerOptions],
    ) -> None:
        config = model.config
        if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
            raise InputError(f"the crops of the recipe are square; the model takes {config.image_size}")
        side = config.image_size // config.patch_size
        shape = ClipShape(
            num_frames=config.num_frames,
            size=config.image_size,
            grid=(config.num_frames // config.tubelet_size, side, side),
        )
        masks = ClipMasking(shape.grid, args.mask_ratio, "tube", args.seed)
        super().__init__(model, args, train_dataset, shape, masks, **kwargs)

    @staticmethod
    def processor_for(config: PreTrainedConfig, frame_stride: float) -> BaseVideoProcessor:
        """Return the video processor of a VideoMAE model."""
        side = int(config.image_size)
        return make_processor("videomae", (side, side), config.num_frames, frame_stride=stride_in_use(frame_stride))

    def clip_loss(self, model: torch.nn.Module, batch: ClipBatch) -> Loss:
        """Return the mean squared error of the pixels of masked tubes."""
        output = model(pixel_values=self.prepare_pixels(batch), **batch["masks"])
        return output.loss, {}

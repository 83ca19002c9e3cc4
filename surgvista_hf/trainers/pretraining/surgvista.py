"""SurgVISTA (arXiv 2506.02692): a masked video is reconstructed, and a surgical image teacher is distilled."""

from typing import Unpack

import torch
from transformers import PreTrainedConfig

from ...clips import ClipDataset, ClipMasking
from ...modeling.configuration_surgvista import SurgVistaConfig
from ...modeling.modeling_surgvista import SurgVistaForPreTraining
from ...modeling.processors import make_surgvista_processor
from ...modeling.video_processing_surgvista import SurgVistaVideoProcessor
from ...util.errors import InputError
from ..common.arguments import PretrainingArguments
from ..common.protocols import ClipBatch, Loss
from .reconstruction import ReconstructionCallback
from .teachers import ImageTeacher
from .trainer import MaskedPretrainer, PretrainerOptions, surgvista_clip_shape


class SurgVistaPretrainer(MaskedPretrainer):
    """Trains `SurgVistaForPreTraining` on clips.

    Args:
        model: student with its decoders.
        args: arguments of the run.
        train_dataset: clips of `model.config.num_frames` frames, without labels.
        teacher: image teacher whose features are distilled; `None`: a plain masked autoencoder.
        kwargs: further options, such as `sampler` and `processing_class`.

    Raises:
        InputError: clips, teacher and model do not fit together.

    Example:
        >>> clips = ClipDataset(load_frame_set("synthetic", "frame_sets/synthetic", "train"))  # doctest: +SKIP
        >>> trainer = SurgVistaPretrainer(model, PretrainingArguments("run"), clips, teacher=teacher)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    models = {"surgvista": SurgVistaForPreTraining}
    takes_teacher = True

    def __init__(
        self,
        model: SurgVistaForPreTraining,
        args: PretrainingArguments,
        train_dataset: ClipDataset,
        *,
        teacher: ImageTeacher | None = None,
        **kwargs: Unpack[PretrainerOptions],
    ) -> None:
        if teacher is not None:
            _check_teacher(model, teacher)
            teacher.set_input_normalization(model.config.image_mean, model.config.image_std)
        shape = surgvista_clip_shape(model.config)
        masks = ClipMasking(shape.grid, model.config.mask_ratio, model.config.mask_type, args.seed)
        super().__init__(model, args, train_dataset, shape, masks, **kwargs)
        self.student = model
        self.teacher = teacher.to(self.args.device) if teacher else None
        if args.reconstruction_steps:
            if self.shards_model:
                raise InputError(
                    "images of reconstructions need the whole model in one process: set reconstruction_steps to 0 with FSDP "
                    "or DeepSpeed"
                )
            self.add_callback(ReconstructionCallback(self, args.reconstruction_steps))

    @staticmethod
    def processor_for(config: PreTrainedConfig, frame_stride: float) -> SurgVistaVideoProcessor:
        """Return the video processor of a SurgVISTA model."""
        assert isinstance(config, SurgVistaConfig)
        return make_surgvista_processor(config, frame_stride)

    def sample(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first clip as the model is given it in epoch 0, (1, frames, 3, size, size), and its mask (1, tokens)."""
        batch = self.data_collator([{**self.train_dataset[0], "epoch": 0}])
        return self.prepare_pixels(batch), batch["masks"]["bool_masked_pos"]

    def clip_loss(self, model: torch.nn.Module, batch: ClipBatch) -> Loss:
        """Return the loss of the pixels and, with a teacher, of its features."""
        clips = self.prepare_pixels(batch)  # (B, frames, 3, size, size)
        self.student.set_drop_path_keys(
            batch["drop_path_keys"]
        )  # paths are dropped by sample, not by the global generator
        features = self.teacher(clips, self.shape.grid) if self.teacher else None  # (B, tokens, teacher's D)
        output = model(pixel_values=clips, teacher_features=features, **batch["masks"])
        parts = {"loss_video": output.video_loss}
        if output.image_loss is not None:
            parts["loss_image"] = output.image_loss
        return output.loss, parts


def _check_teacher(model: SurgVistaForPreTraining, teacher: ImageTeacher) -> None:
    if model.image_decoder is None:
        raise InputError("the model has no image decoder to distil into: set image_decoder_num_hidden_layers")
    if teacher.feature_size != model.config.image_target_size:
        raise InputError(
            f"the teacher's features have {teacher.feature_size} numbers; image_target_size is "
            f"{model.config.image_target_size}"
        )

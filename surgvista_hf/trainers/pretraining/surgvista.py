"""SurgVISTA: masked video is reconstructed, and a surgical image teacher distilled (arXiv 2506.02692)."""

from collections.abc import Mapping
from typing import Any

import torch

from ...clips import ClipDataset, ClipMasking
from ...modeling.modeling_surgvista import SurgVistaForPreTraining
from ...modeling.processors import make_surgvista_processor
from ...util.errors import InputError
from ..common.arguments import PretrainingArguments
from .reconstruction import PictureCallback
from .teachers import ImageTeacher
from .trainer import MaskedPretrainer, shape_of_surgvista


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

    models = {"surgvista": SurgVistaForPreTraining}
    takes_teacher = True
    processor_for = staticmethod(make_surgvista_processor)

    def __init__(
        self,
        model: SurgVistaForPreTraining,
        args: PretrainingArguments,
        train_dataset: ClipDataset,
        *,
        teacher: ImageTeacher | None = None,
        **kwargs: Any,
    ) -> None:
        if teacher is not None:
            _check_teacher(model, teacher)
            teacher.expect(model.config.image_mean, model.config.image_std)
        shape = shape_of_surgvista(model.config)
        masks = ClipMasking(shape.grid, model.config.mask_ratio, model.config.mask_type, args.seed)
        super().__init__(model, args, train_dataset, shape, masks, **kwargs)
        self.student = model
        self.teacher = teacher.to(self.args.device) if teacher else None
        if args.picture_steps:
            if self.shards_model:
                raise InputError(
                    "pictures need the whole model in one process: set picture_steps to 0 with FSDP or DeepSpeed"
                )
            self.add_callback(PictureCallback(self, args.picture_steps))

    def sample(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The first clip as the model sees it in epoch 0, (1, frames, 3, size, size), and its mask (1, tokens)."""
        batch = self.data_collator([{**self.train_dataset[0], "epoch": 0}])
        return self.prepared(batch), batch["masks"]["bool_masked_pos"]

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        clips = self.prepared(batch)
        self.student.set_drop_path_keys(batch["drop_path_keys"])
        features = self.teacher(clips, self.shape.grid) if self.teacher else None
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

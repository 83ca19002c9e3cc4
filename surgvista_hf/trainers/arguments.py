"""What a pre-training run can be told, beside everything that `transformers.TrainingArguments` knows."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..modeling.errors_surgvista import InputError


@dataclass
class PretrainingArguments(TrainingArguments):
    """Arguments of pre-training; the defaults are the published recipe's, except for the batch.

    The peak learning rate follows from the whole batch (processes × clips × accumulation): `base_learning_rate` · batch / 256,
    and so does the floor of the schedule. Give `learning_rate` to set the peak itself.
    """

    base_learning_rate: float = field(default=1.5e-4, metadata={"help": "peak learning rate for a batch of 256 clips"})
    base_min_learning_rate: float = field(default=1e-4, metadata={"help": "floor of the schedule for a batch of 256"})
    learning_rate: float = field(default=0.0, metadata={"help": "peak learning rate; 0: from base_learning_rate"})
    warmup_epochs: float = field(default=40.0, metadata={"help": "epochs of linear warm-up"})
    warmup_start: float = field(default=0.0, metadata={"help": "share of the peak that the warm-up starts from"})
    cooldown_epochs: float | None = field(
        default=None,
        metadata={"help": "plateau at the peak, then a line to the floor in so many epochs; none: a cosine"},
    )
    schedule_stretch: float = field(
        default=1.0, metadata={"help": "the schedule is longer than the run by this factor"}
    )
    num_train_epochs: float = field(default=201.0, metadata={"help": "passes over all clips"})
    weight_decay: float = field(default=0.05, metadata={"help": "of matrices; vectors and biases do not decay"})
    final_weight_decay: float | None = field(
        default=None, metadata={"help": "weight decay at the end of a cosine; none: it is constant"}
    )
    decay_mask_tokens: bool = field(default=True, metadata={"help": "decay mask tokens, as published by mistake"})
    adam_beta2: float = field(default=0.95, metadata={"help": "second moment of AdamW"})
    max_grad_norm: float = field(default=0.0, metadata={"help": "gradients are not clipped"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "a loss that is not finite stops the run"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "clips keep their keys"})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "leave out the last incomplete batch"})
    picture_steps: int = field(default=0, metadata={"help": "steps between two pictures of a reconstruction; 0: none"})
    peak_tflops: float | None = field(
        default=None,
        metadata={"help": "of one device, for the log's MFU; none: from the device's name, if it is known"},
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "all parameters are used"})

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = self.num_train_epochs
        if self.warmup_epochs < 0 or self.warmup_epochs + (self.cooldown_epochs or 0) > whole:
            raise InputError(
                f"warmup_epochs {self.warmup_epochs} and cooldown_epochs {self.cooldown_epochs or 0} do not fit into "
                f"{whole} epochs"
            )
        if not 0 <= self.warmup_start <= 1 or self.schedule_stretch < 1:
            raise InputError(
                f"warmup_start is {self.warmup_start} and schedule_stretch {self.schedule_stretch}; a share of 0 … 1 and a "
                "factor of at least 1 are needed"
            )
        if not 0 <= self.base_min_learning_rate <= self.base_learning_rate:
            raise InputError(
                f"base_min_learning_rate {self.base_min_learning_rate} must not exceed base_learning_rate "
                f"{self.base_learning_rate}"
            )

    @property
    def total_batch(self) -> int:
        """Clips that one update of the weights sees."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def peak_learning_rate(self) -> float:
        """Learning rate after the warm-up."""
        return self.learning_rate or self.base_learning_rate * self.total_batch / 256

    @property
    def floor(self) -> float:
        """Share of the peak at which the schedule ends."""
        return self.base_min_learning_rate / self.base_learning_rate

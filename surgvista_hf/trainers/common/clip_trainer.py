"""The base of all trainers over clips: seeded order, exact resume, complete checkpoints, logs, a stop at the first bad loss.

transformers' `Trainer` does the rest. Every random choice is a function of (seed, epoch, sample), so a resumed run repeats an
uninterrupted one, whatever the state of PyTorch's global generator.

The path of a batch: the sampler draws (`_get_train_sampler`), workers of the `DataLoader` read clips as uint8 and the collator
draws crops, masks and augmentation for them; the stock `training_step` calls `compute_loss`, which calls the objective's
`clip_loss`. That one crops and normalizes on the device (`prepare_pixels`), runs the model and returns the loss.
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from transformers import (
    BaseImageProcessor,
    BaseVideoProcessor,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import TrainOutput

from ...clips import ClipDataset, ShuffledSampler
from ...clips.sampling.balance import EpochSampler
from ...modeling.remote_code import add_remote_code
from ...util.command import run_with_console
from ...util.console import move_log
from ...util.errors import InputError, SurgVistaError
from ...util.files import atomic_file
from ...util.messages import preview
from ...util.trainer_callback import show_on_console
from .arguments import ClipArguments
from .checkpoints import complete_checkpoints, keep_newest, mark_complete, remove_incomplete
from .flops import count_flops, utilization
from .protocols import ClipBatch, Collator, EpochListener, Loss, ParameterGroups, TrainerOptions
from .schedule import cosine, parameter_groups, warmup_cosine, warmup_plateau


class NonFiniteLossError(SurgVistaError):
    """The loss is infinite or not a number; the message names the clips of the first such batch."""


def end_processes() -> None:
    """Wait for all processes of a run and end their group; a process that leaves early would make the others abort."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def run_command(
    name: str, usage: str | None, argv: Sequence[str] | None, train: Callable[[str, list[str]], Path]
) -> int:
    """Run a recipe that is named on the command line, as `python -m` and `accelerate launch -m` do.

    `--verbose` shows on the console what otherwise only the log holds.

    Args:
        name: name of the command, for errors.
        usage: text that is printed when there is no recipe.
        argv: recipe and overrides; by default those of the command line.
        train: function of a recipe and its overrides that returns the folder of the trained model.

    Returns:
        Exit status.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = [argument for argument in given if argument != "--verbose"]
    if not arguments or arguments[0].startswith("-"):
        print(usage)
        return 0 if arguments else 2

    def train_and_report() -> None:
        """Train, and print where the model is."""
        folder = train(arguments[0], arguments[1:])
        end_processes()
        print(f"trained model: {folder}")

    return run_with_console(name, arguments, train_and_report, verbose=arguments != given)


def last_loss(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the last loss of a trainer's log as text; of a run too short for a line of the log, the mean loss.

    Example:
        >>> last_loss([{"loss": 0.5}, {"loss": 0.25}, {"eval_loss": 1.0}])
        'loss 0.25'
    """
    losses = [line["loss"] for line in history if "loss" in line]
    losses = losses or [line["train_loss"] for line in history if "train_loss" in line]
    return f"loss {losses[-1]:.3g}" if losses else ""


class _EpochCallback(TrainerCallback):
    """Tells the data set and the sampler which epoch begins."""

    def __init__(self, *listeners: EpochListener) -> None:
        self.listeners = listeners

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Pass the number of the epoch on."""
        for listener in self.listeners:
            listener.set_epoch(int(state.epoch or 0))


class _WeightDecayCallback(TrainerCallback):
    """Moves the weight decay along its cosine."""

    def __init__(self, args: ClipArguments, final_weight_decay: float) -> None:
        self.args, self.final_weight_decay = args, final_weight_decay

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the weight decay of this step."""
        progress = state.global_step / (state.max_steps * self.args.schedule_stretch)
        for group in kwargs["optimizer"].param_groups:
            if group["weight_decay"]:  # 0 marks the group of vectors and biases, which never decay
                group["weight_decay"] = cosine(self.args.weight_decay, self.final_weight_decay, progress)


class ClipTrainer(Trainer, ABC):
    """A `Trainer` whose samples are clips of a frame set. Subclasses define the loss of a batch (`clip_loss`).

    Args:
        model: model to train.
        args: arguments of the run.
        train_dataset: training clips.
        data_collator: function that makes a batch of samples.
        sampler: order of the samples; by default shuffled anew every epoch.
        eval_dataset: clips of the validation.
        processing_class: processor that is saved with the model.
        kwargs: further options of `transformers.Trainer`, such as `callbacks`.

    Raises:
        InputError: fewer clips than one update of the weights needs.
    """

    args: ClipArguments
    train_dataset: ClipDataset
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: PreTrainedModel,
        args: ClipArguments,
        train_dataset: ClipDataset,
        *,
        data_collator: Collator,
        sampler: EpochSampler | None = None,
        eval_dataset: torch.utils.data.Dataset[dict[str, Any]] | None = None,
        processing_class: BaseVideoProcessor | BaseImageProcessor | None = None,
        **kwargs: Unpack[TrainerOptions],
    ) -> None:
        self.sampler = sampler or ShuffledSampler(len(train_dataset), seed=args.seed)
        # Alone, a process may make its only update of an epoch with an incomplete batch.
        needs_whole_batch = args.dataloader_drop_last or args.world_size > 1
        if len(self.sampler) < (args.total_batch if needs_whole_batch else 1):
            raise InputError(f"one update needs {args.total_batch} clips; an epoch has {len(self.sampler)}")
        super().__init__(
            model,
            args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        # The loss is a mean, so accumulated ones have to be divided. Versions of transformers read one or the other of this
        # and `loss_is_scaled_for_ga`.
        self.model_accepts_loss_kwargs = False
        show_on_console(self)
        self.add_callback(_EpochCallback(train_dataset, self.sampler))
        if args.final_weight_decay is not None:
            self.add_callback(_WeightDecayCallback(args, args.final_weight_decay))
        # Since the last line of the log: sums over batches, () each on the device; batches; clips; seconds spent on waiting.
        self._sums: dict[str, torch.Tensor] = {}
        self._batches = self._clips = 0
        self._waited, self._since = 0.0, time.perf_counter()
        self._flops_of_clip = 0.0
        self._bad: torch.Tensor | None = None  # (batch,) numbers of the clips of the first bad batch; -1: none

    @property
    def shards_model(self) -> bool:
        """Return whether no process has the whole model, as with FSDP and DeepSpeed."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    @property
    def trained_module(self) -> torch.nn.Module:
        """Return the model without the wrappers of distributed training."""
        return cast(torch.nn.Module, self.model)

    @abstractmethod
    def clip_loss(self, model: torch.nn.Module, batch: ClipBatch) -> Loss:
        """Return the loss of a batch on the device, (), and further numbers for the log: `loss_…` for parts of the loss."""

    # ------------------------------------------------------------------------------------------- data

    def _get_train_sampler(self, train_dataset: object = None) -> EpochSampler:
        return self.sampler

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], torch.Tensor | int | None]:
        """Fetch the batches of an update, and measure how long that takes."""
        start = time.perf_counter()
        result = super().get_batch_samples(*args, **kwargs)
        self._waited += time.perf_counter() - start
        return result

    def floating_point_ops(self, inputs: ClipBatch) -> int:
        """Return the FLOP of a batch, for the total in the trainer's state: those counted on one clip, for each of its clips.

        The Trainer would multiply the elements of the model's input by its parameters, but clips of several sources are a
        list until they are cropped, and the size of the model's input does not depend on the size of their frames.
        """
        return round(self._flops_of_clip * len(inputs["index"]))

    # ------------------------------------------------------------------------------------------- optimization

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer over `parameter_groups` at the peak learning rate."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)  # type: ignore[arg-type]
            options["lr"] = self.args.peak_learning_rate
            self.optimizer = kind(self.parameter_groups(self.trained_module if model is None else model), **options)
        return self.optimizer

    def parameter_groups(self, model: torch.nn.Module) -> ParameterGroups:
        """Return the parameters for the optimizer with their weight decay, and with `lr` where it is not the common one."""
        return parameter_groups(model.named_parameters(), self.args.weight_decay)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Create the schedule of the learning rate: a warm-up, then a cosine or a plateau with a linear decay."""
        if self.lr_scheduler is None:
            args, steps_per_epoch = self.args, num_training_steps / self.args.num_train_epochs
            shape: dict[str, Any] = {
                "warmup_steps": round(args.warmup_epochs * steps_per_epoch),
                "total_steps": round(num_training_steps * args.schedule_stretch),
                "floor": args.floor,
                "start": args.warmup_start,
            }
            factor = partial(warmup_cosine, **shape)
            if args.cooldown_epochs is not None:
                factor = partial(warmup_plateau, cooldown_steps=round(args.cooldown_epochs * steps_per_epoch), **shape)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.create_optimizer(), factor)
        return self.lr_scheduler

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: ClipBatch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the loss of a batch, (), and add it to the sums for the log."""
        loss, parts = self.clip_loss(model, inputs)
        self._tally({"loss": loss, **parts}, inputs["index"])
        return loss

    # ------------------------------------------------------------------------------------------- log

    @torch.no_grad()
    def _tally(self, parts: Mapping[str, torch.Tensor], index: torch.Tensor) -> None:
        """Add the losses of a batch up on the device; nothing waits for them until the next line of the log.

        Args:
            parts: the loss and further numbers of the batch, () each.
            index: (B,) numbers of its clips.
        """
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        self._batches += 1
        self._clips += len(index)
        finite = torch.isfinite(parts["loss"].detach())
        missing = self.args.train_batch_size - len(index)  # an epoch's last batch may be smaller
        index = torch.nn.functional.pad(index, (0, missing), value=-1)
        if self._bad is None:
            self._bad = torch.full_like(index, -1)
        # `where` instead of `if`: a branch would make the host wait for the device in every step.
        self._bad = torch.where(finite | (self._bad >= 0).any(), self._bad, index)

    def check_finite(self) -> None:
        """Wait for the device, and stop the run if a loss was not finite.

        Raises:
            NonFiniteLossError: a loss was not finite; the message names the clips of the first such batch of this process.
        """
        if self._bad is None or not bool((self._bad >= 0).any()):
            return
        clips = [self.train_dataset.name(index) for index in self._bad.tolist() if index >= 0]
        raise NonFiniteLossError(
            f"the loss became infinite or not a number at or before step {self.state.global_step}, first with the clips "
            f"{preview(clips, shown=64)}. Look at these clips; if they are sound, lower "
            "the learning rate or lengthen the warm-up. The last complete checkpoint is from before"
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a line of the log, with the means since the last one if it is a line about training."""
        if "loss" in logs and self._batches:
            self.check_finite()
            logs = {**logs, **self._means(), **self._replaced()}
        super().log(logs, start_time)

    def _means(self) -> dict[str, float]:
        """Return means since the last line of the log over all processes, and begin new sums."""
        names = sorted(self._sums)
        values = torch.stack([self._sums[name] for name in names]) / self._batches
        values = self.accelerator.gather(values[None]).mean(dim=0)
        elapsed = max(time.perf_counter() - self._since, 1e-9)
        metrics = {name: float(value) for name, value in zip(names, values, strict=True)}
        metrics["clips_per_second"] = round(self._clips * self.args.world_size / elapsed, 2)
        if self._flops_of_clip:
            metrics |= utilization(self._flops_of_clip * self._clips / elapsed, self.args)
        metrics["data_wait_fraction"] = round(min(self._waited / elapsed, 1.0), 4)
        self._sums, self._batches, self._clips = {}, 0, 0
        self._waited, self._since = 0.0, time.perf_counter()
        return metrics

    def _replaced(self) -> dict[str, float]:
        """Return the number of clips that could not be decoded; their names are written into the run's folder."""
        found = self.train_dataset.unreadable
        count = int(self.accelerator.gather(torch.tensor([len(found)], device=self.args.device)).sum())
        if found:
            path = Path(str(self.args.output_dir)) / f"unreadable_clips_{self.args.process_index}.txt"
            with atomic_file(path) as temporary:
                temporary.write_text("".join(f"{self.train_dataset.name(index)}\n" for index in found))
        return {"unreadable_clips": count} if count else {}

    # ------------------------------------------------------------------------------------------- checkpoints

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, and go on where an earlier run in the same folder stopped.

        Args:
            resume_from_checkpoint: `True`: the newest complete checkpoint, if there is one; a path; or `None`: start anew.
            args: further arguments of `Trainer.train`.
            kwargs: further arguments of `Trainer.train`.
        """
        folder = Path(str(self.args.output_dir))
        if resume_from_checkpoint is True:
            if self.args.should_save:
                remove_incomplete(folder)
            self.accelerator.wait_for_everyone()
            found = complete_checkpoints(folder)
            resume_from_checkpoint = str(found[-1]) if found else None
        if not self.shards_model:
            self._flops_of_clip = count_flops(self)
        move_log(folder / "surgvista.log")
        if resume_from_checkpoint and not self.shards_model:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            if 0 < self.args.max_steps <= state.global_step:
                return self._stay_finished(str(resume_from_checkpoint), state)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _stay_finished(self, checkpoint: str, state: TrainerState) -> TrainOutput:
        """Take over a run that has made all its updates; in the middle of an epoch the stock loop would make one more."""
        self.state = state
        self._load_from_checkpoint(checkpoint)
        if self.args.load_best_model_at_end and state.best_model_checkpoint:
            self._load_best_model()
        return TrainOutput(state.global_step, 0.0, {})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Load through `from_pretrained`, which knows the names that a model is saved under.

        Trainer copies tensors by name and only warns of those that do not fit. VideoMAE is saved under names of its original
        program, so its attention biases would start anew after every resume.
        """
        target = self.trained_module if model is None else model
        if self.shards_model or not isinstance(target, PreTrainedModel):  # an adapter's weights have their own names
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(saved.state_dict(), strict=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, with its code files if `with_code` is set."""
        super().save_model(output_dir, _internal_call)
        folder = Path(output_dir or str(self.args.output_dir))
        if self.args.with_code and self.args.should_save and (folder / "config.json").is_file():
            add_remote_code(folder)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _save_checkpoint(self, model: torch.nn.Module, trial: dict[str, Any] | None) -> None:
        self.check_finite()
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # older ones go when this one is complete
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(str(self.args.output_dir))
            mark_complete(folder / f"checkpoint-{self.state.global_step}")
            best = self.state.best_model_checkpoint
            keep_newest(folder, limit, best=Path(best) if best else None)

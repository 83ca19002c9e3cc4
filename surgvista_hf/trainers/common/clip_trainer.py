"""What all trainers over clips share: keyed order, exact resume, complete checkpoints, logs, a stop at the first bad loss.

transformers' `Trainer` does the rest. Every random choice is a function of (seed, epoch, sample), so a resumed run repeats an
uninterrupted one; what PyTorch's global generator holds plays no part.
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerState
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
from .schedule import cosine, parameter_groups, warmup_cosine, warmup_plateau


class NonFiniteLossError(SurgVistaError):
    """The loss is not a number; the message names the clips of the first such batch."""


def end_processes() -> None:
    """Let all processes of a run end together; one that leaves early makes others abort."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def run_command(
    name: str, usage: str | None, words: Sequence[str] | None, train: Callable[[str, list[str]], Path]
) -> int:
    """What `python -m` or `accelerate launch -m` does with a module of recipes.

    Args:
        name: of the command, for errors.
        usage: printed when there is no recipe.
        words: recipe and changes; by default those of the command line.
        train: takes a recipe and changes; gives the folder of the trained model.

    The word `--verbose` shows what otherwise only the log holds.

    Returns:
        Exit status.
    """
    given = sys.argv[1:] if words is None else list(words)
    arguments = [word for word in given if word != "--verbose"]
    if not arguments or arguments[0].startswith("-"):
        print(usage)
        return 0 if arguments else 2

    def work() -> None:
        folder = train(arguments[0], arguments[1:])
        end_processes()
        print(f"trained model: {folder}")

    return run_with_console(name, arguments, work, verbose=arguments != given)


def last_loss(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the last loss of a trainer's log for the end of a step's line, or that of a short run as a whole.

    Example:
        >>> last_loss([{"loss": 0.5}, {"loss": 0.25}, {"eval_loss": 1.0}])
        'loss 0.25'
    """
    losses = [line["loss"] for line in history if "loss" in line]
    losses = losses or [line["train_loss"] for line in history if "train_loss" in line]
    return f"loss {losses[-1]:.3g}" if losses else ""


class _Epochs(TrainerCallback):
    """Tells the data which epoch begins."""

    def __init__(self, *listeners: Any) -> None:
        self.listeners = listeners

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for listener in self.listeners:
            if hasattr(listener, "set_epoch"):
                listener.set_epoch(int(state.epoch or 0))


class _WeightDecay(TrainerCallback):
    """Moves the weight decay along its cosine."""

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        progress = state.global_step / (state.max_steps * args.schedule_stretch)
        for group in optimizer.param_groups:
            if group["weight_decay"]:
                group["weight_decay"] = cosine(args.weight_decay, args.final_weight_decay, progress)


class ClipTrainer(Trainer, ABC):
    """A `Trainer` whose samples are clips of a frame set. Subclasses say what the loss of a batch is (`clip_loss`).

    Args:
        model: what is trained.
        args: arguments.
        train_dataset: clips.
        data_collator: makes a batch of items.
        sampler: order of the samples; by default shuffled anew every epoch.

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
        data_collator: Callable[[list[Any]], dict[str, Any]],
        sampler: EpochSampler | None = None,
        **kwargs: Any,
    ) -> None:
        self.sampler = sampler or ShuffledSampler(len(train_dataset), seed=args.seed)
        if len(self.sampler) < args.total_batch:
            raise InputError(f"one update needs {args.total_batch} clips; an epoch has {len(self.sampler)}")
        super().__init__(model, args, data_collator=data_collator, train_dataset=train_dataset, **kwargs)
        self.model_accepts_loss_kwargs = (
            False  # the loss is a mean: accumulated ones are divided (both versions need it)
        )
        show_on_console(self)
        self.add_callback(_Epochs(train_dataset, self.sampler))
        if args.final_weight_decay is not None:
            self.add_callback(_WeightDecay)
        self._sums: dict[str, torch.Tensor] = {}
        self._batches = self._clips = 0
        self._flops_of_clip = 0.0
        self._waited, self._since = 0.0, time.perf_counter()
        self._bad: torch.Tensor | None = None

    @property
    def shards_model(self) -> bool:
        """No process has the whole model: FSDP and DeepSpeed."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    @abstractmethod
    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch on the device, and further figures for the log: `loss_…` for parts of the loss."""

    # ------------------------------------------------------------------------------------------- data

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self.sampler

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = super().get_batch_samples(*args, **kwargs)
        self._waited += time.perf_counter() - start
        return result

    def floating_point_ops(self, inputs: Any) -> int:
        """Return the FLOP of a batch, for the total in the trainer's state: those counted on one clip, for each of its clips.

        The Trainer would multiply the elements of the model's input by its parameters, but clips of several sources are a
        list until they are cropped, and what the model is given does not depend on the size of their frames.
        """
        return round(self._flops_of_clip * len(inputs["index"]))

    # ------------------------------------------------------------------------------------------- optimization

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)  # type: ignore[arg-type]
            options["lr"] = self.args.peak_learning_rate
            self.optimizer = kind(self.parameter_groups(model if model is not None else self.model), **options)
        return self.optimizer

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        """What the optimizer is given: parameters with their weight decay, and their `lr` where it is not the common one."""
        return parameter_groups(model.named_parameters(), self.args.weight_decay)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
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
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        loss, parts = self.clip_loss(model, inputs)
        self._tally({"loss": loss, **parts}, inputs["index"])
        return loss

    # ------------------------------------------------------------------------------------------- log

    @torch.no_grad()
    def _tally(self, parts: Mapping[str, torch.Tensor], index: torch.Tensor) -> None:
        """Add up on the device; nothing waits for it until the next line of the log."""
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        self._batches += 1
        self._clips += len(index)
        finite = torch.isfinite(parts["loss"].detach())
        lacking = self.args.train_batch_size - len(index)  # of the last batch
        index = torch.nn.functional.pad(index, (0, lacking), value=-1)
        if self._bad is None:
            self._bad = torch.full_like(index, -1)
        self._bad = torch.where(finite | (self._bad >= 0).any(), self._bad, index)

    def check_finite(self) -> None:
        """Wait for the device and stops the run if a loss was not finite.

        Raises:
            NonFiniteLossError: with the clips of the first such batch of this process.
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
        if "loss" in logs and self._batches:
            self.check_finite()
            logs = {**logs, **self._means(), **self._replaced()}
        super().log(logs, start_time)

    def _means(self) -> dict[str, float]:
        """Means since the last line of the log, over all processes."""
        names = sorted(self._sums)
        values = torch.stack([self._sums[name] for name in names]) / self._batches
        values = self.accelerator.gather(values[None]).mean(dim=0)
        elapsed = max(time.perf_counter() - self._since, 1e-9)
        figures = {name: float(value) for name, value in zip(names, values, strict=True)}
        figures["clips_per_second"] = round(self._clips * self.args.world_size / elapsed, 2)
        if self._flops_of_clip:
            figures |= utilization(self._flops_of_clip * self._clips / elapsed, self.args)
        figures["data_wait_share"] = round(min(self._waited / elapsed, 1.0), 4)
        self._sums, self._batches, self._clips = {}, 0, 0
        self._waited, self._since = 0.0, time.perf_counter()
        return figures

    def _replaced(self) -> dict[str, float]:
        """How many clips could not be decoded; which, is written beside the run."""
        found = self.train_dataset.unreadable
        count = int(self.accelerator.gather(torch.tensor([len(found)], device=self.args.device)).sum())
        if found:
            path = Path(str(self.args.output_dir)) / f"unreadable_clips_{self.args.process_index}.txt"
            with atomic_file(path) as temporary:
                temporary.write_text("".join(f"{self.train_dataset.name(index)}\n" for index in found))
        return {"unreadable_clips": count} if count else {}

    # ------------------------------------------------------------------------------------------- checkpoints

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, and go on where an earlier run in the same folder stopped.

        Args:
            resume_from_checkpoint: `True`: the newest complete checkpoint, if there is one; a path; or `None`: start anew.
            args, kwargs: see `Trainer.train`.
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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load through `from_pretrained`, which knows the names that a model is saved under.

        Trainer copies tensors by name and only warns of those that do not fit. VideoMAE is saved under names of its original
        program, so its attention biases would start anew after every resume.
        """
        target: Any = self.model if model is None else model
        if self.shards_model or not isinstance(target, PreTrainedModel):  # an adapter's weights have their own names
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(saved.state_dict(), strict=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        folder = Path(output_dir or str(self.args.output_dir))
        if self.args.with_code and self.args.should_save and (folder / "config.json").is_file():
            add_remote_code(folder)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
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

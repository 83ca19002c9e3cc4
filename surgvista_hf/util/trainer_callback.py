"""The training of transformers' `Trainer` on the console of a command: one bar with loss and speed."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from .console import Activity, is_open, training_bar

logger = logging.getLogger(__name__)


class ConsoleCallback(TrainerCallback):
    """Moves the console's bar with every update, and writes all metrics to the log."""

    def __init__(self) -> None:
        self._bar: AbstractContextManager[Activity] | None = None
        self._activity: Activity | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        self._bar = training_bar(state.max_steps, state.global_step)
        self._activity = None if self._bar is None else self._bar.__enter__()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar by one update."""
        if self._activity is not None:
            self._activity.update()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show loss and speed beside the bar, and write all metrics to the log."""
        logger.info("step %d: %s", state.global_step, logs)
        if self._activity is not None and logs is not None and "loss" in logs:
            self._activity.show(loss=f"{logs['loss']:.3g}")
            if "clips_per_second" in logs:
                self._activity.show(**{"": f"{logs['clips_per_second']:.3g} clips/s"})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._bar = self._activity = None


def show_on_console(trainer: Trainer) -> None:
    """Let a trainer show its work on the console of the command that it runs in; elsewhere it stays as it is."""
    if is_open():
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ConsoleCallback)

"""The console of a command, for people: one line a step, one bar at a time, remarks, results, and the name of a log.

A command line opens a `Console` (`open_console`). Until it ends everything else goes to the log file: what libraries print and
log, their warnings and bars, dictionaries of metrics. Without one, in Python and in notebooks, nothing is configured: steps
are silent, bars are those of tqdm where they were asked for, and remarks go where `logging` sends them.

The parts of the package that work for a while say so here:

    steps = Steps(2)
    with steps("train") as step:
        for batch in track(batches, "training", unit="batch"):
            ...
        step.remember("loss 0.31")
"""

import logging
import os
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

from .log_file import LogFile

if TYPE_CHECKING:  # rich is imported when something is drawn
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

Item = TypeVar("Item")
PACKAGE = __name__.partition(".")[0]
_BAR_WIDTHS = (10, 24)  # least and most
_SECONDS_BETWEEN_LINES = 30.0  # of progress where no bar can be drawn
_NO_BARS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # as accelerate reads them

logger = logging.getLogger(__name__)
_open: "Console | None" = None


class Bar(Protocol):
    """A progress bar of a loop."""

    def update(self, n: float = 1) -> object:
        """Move on by `n` units."""


class Activity:
    """A piece of work that is going on: a step, or a loop with a known end.

    Args:
        console: console that shows it, if there is one.
        text: short description of the work.
        total: number of units at the end, if that is known.
        unit: name of the units, in the plural.
        initial: number of units that had been done before.
    """

    def __init__(
        self, console: "Console | None", text: str, total: float | None = None, unit: str = "", initial: float = 0
    ) -> None:
        self.console, self.text, self.total, self.unit = console, text, total, unit
        self.initial = self.done = initial
        self.started = time.perf_counter()
        self.values: dict[str, str] = {}
        self.outcome = ""

    def update(self, n: float = 1) -> None:
        """Move on by `n` units."""
        self.done += n
        if self.console is not None:
            self.console.report_progress()

    def show(self, **values: str) -> None:
        """Show numbers beside the bar, under their names; an empty name shows the number alone."""
        self.values |= values

    def remember(self, outcome: str) -> None:
        """Show a result at the end of the step's line."""
        self.outcome = outcome

    @property
    def elapsed(self) -> float:
        """Return the seconds since the work began."""
        return time.perf_counter() - self.started

    @property
    def count(self) -> str:
        """Return how far the work is, such as `12/96 videos`."""
        if self.total is None:
            return ""
        digits = 0 if float(self.total).is_integer() else 2
        return f"{self.done:.{digits}f}/{self.total:.{digits}f} {self.unit}".rstrip()

    @property
    def status(self) -> str:
        """Return the numbers that are shown, and the time that is left at the speed so far."""
        parts = [f"{name} {value}".strip() for name, value in self.values.items()]
        done = self.done - self.initial
        if self.total is not None and done > 0:
            parts.append(f"{duration(max(self.total - self.done, 0) * self.elapsed / done)} left")
        return ", ".join(parts)


class Console:
    """Shows one running command to a person.

    Args:
        command: name of the command, such as `finetune`.
        verbose: show what otherwise only the log holds.
    """

    def __init__(self, command: str, *, verbose: bool = False) -> None:
        rank = process_rank()
        self.verbose, self.is_main = verbose, rank == 0
        self.log = LogFile(command, f"_{rank}" if rank else "", shown=verbose and self.is_main)
        self.began = False
        self._process = os.getpid()
        self._activities: list[Activity] = []
        self._notes: set[str] = set()
        self._last_line = time.perf_counter()
        self._prefix = ""
        self._rich: RichConsole | None = None
        self._live: Live | None = None
        self._spinner: Spinner | None = None

    # ------------------------------------------------------------------------------------------- what is going on

    @contextmanager
    def doing(self, activity: Activity, prefix: str | None = None) -> Iterator[Activity]:
        """Show an activity while the block runs; one with a prefix leaves a line when it is the outermost.

        Args:
            activity: work that is going on.
            prefix: beginning of its line, such as `2/5 `.
        """
        depth = len(self._activities)
        self._activities.append(activity)
        if not depth:
            self.began, self._prefix = True, prefix or ""
            self._last_line = time.perf_counter()
            sys.stdout = sys.stderr  # what libraries print while they work is no result
            self._start_live()
        self._log(f"begins: {self._label()}")
        try:
            yield activity
        except BaseException:
            prefix = None  # the error has a line
            raise
        finally:
            if activity in self._activities:  # a loop that was left may end after what it was part of
                del self._activities[self._activities.index(activity) :]
                if not self._activities:
                    self._rest()
            if prefix is not None:
                end = f" … {duration(activity.elapsed)}" + (f", {activity.outcome}" if activity.outcome else "")
                (self._log if depth else self.say)(f"{prefix}{activity.text}{end}")

    def report_progress(self) -> None:
        """Print now and then how far the work is, where no bar can be drawn."""
        if self._live is not None or time.perf_counter() - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.perf_counter()
        top = self._activities[-1]
        self.say("  " + ", ".join(filter(None, (self._label(), top.count, top.status))))

    def _label(self, width: int | None = None) -> str:
        """Return the activities from the outermost to the innermost; where `width` is too small, the outer ones go first."""
        activities = list(self._activities)
        parts: list[str] = []
        for number, each in enumerate(activities):
            counted = f"{each.text} {each.count}".strip() if number < len(activities) - 1 else each.text
            if not parts or each.text not in parts[-1]:  # a bar often says what its step says
                parts.append(counted)
        while width is not None and len(parts) > 1 and len(self._prefix + " · ".join(parts)) > width:
            del parts[0]
        label = self._prefix + " · ".join(parts)
        return label if width is None or len(label) <= width else label[: max(width - 1, 0)] + "…"

    def _start_live(self) -> None:
        if not (self.is_main and can_draw(self.log.err)) or self.verbose:
            return
        from rich.live import Live
        from rich.spinner import Spinner

        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._drawn,
            console=self._screen(),
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._screen().show_cursor(True)  # so that a killed command leaves it visible

    def _rest(self) -> None:
        """Stop the moving line: nothing is going on, and what is printed now are results."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self.log.show()
        sys.stdout = self.log.out if self.is_main else sys.stderr

    def _drawn(self) -> "RenderableType":
        """Return the line that moves: the label gets the width that bar and numbers leave."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        activities = list(self._activities)
        if not activities:
            return Text()
        top = activities[-1]
        numbers = "  ".join(filter(None, (top.count, top.status or duration(activities[0].elapsed))))
        free = self._screen().width - len(numbers) - 4
        label = self._label(free - (_BAR_WIDTHS[0] + 2 if top.total else 0))
        parts: list[RenderableType] = [self._spinner or "", Text(label)]
        if top.total:
            width = min(max(free - len(label) - 2, _BAR_WIDTHS[0]), _BAR_WIDTHS[1])
            parts.append(ProgressBar(top.total, min(top.done, top.total), width=width))
        row = Table.grid(padding=(0, 1))
        row.add_row(*parts, Text(numbers, no_wrap=True, overflow="ellipsis"))
        return row

    # ------------------------------------------------------------------------------------------- lines

    def say(self, line: str, style: str = "", *, logged: bool = False) -> None:
        """Show a line to the person, and write it to the log unless it is there."""
        if not logged:
            self._log(line)
        if not self.is_main or self.verbose or os.getpid() != self._process:
            return  # who sees the log sees the line there
        with suppress(OSError):  # nobody looks any more; the work goes on
            if not can_draw(self.log.err):
                print(line, file=self.log.err, flush=True)
                return
            from rich.text import Text

            self._screen().print(Text(line, style=style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Show a remark of this package, which the log has, as one line, once."""
        line = f"note: {' '.join(text.split())}"
        if line not in self._notes:
            self._notes.add(line)
            self.say(line, style="yellow", logged=True)

    def move_log(self, path: Path) -> None:
        """Move the log to `path` and print where it is; only the first call counts."""
        self.began = True
        if self.log.move_to(path):
            self.say(f"log: {self.log.path}", style="dim")

    def _log(self, line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    def _screen(self) -> "RichConsole":
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(
                file=self.log.err, force_terminal=True, highlight=False, markup=False, emoji=False
            )
        return self._rich

    # ------------------------------------------------------------------------------------------- life

    @contextmanager
    def working(self, arguments: Sequence[str]) -> Iterator[None]:
        """Hide everything else in the log while the block runs.

        Args:
            arguments: arguments of the command line, for the log.
        """
        with self.log.receiving(), _bars_off(), self._listening():
            self._log(f"began: {PACKAGE} {shlex.join(map(str, arguments))}, {time.strftime('%Y-%m-%d')}")
            self._rest()
            try:
                yield
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                self._activities.clear()
                self._rest()
            if self.began and not self.log.moved:
                self.say(f"log: {self.log.path}", style="dim")

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Send log records and warnings to the log, and remarks of this package to the person."""
        records, remarks = logging.StreamHandler(sys.stderr), _Remarks(self)
        records.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
        own, level, show_warning = logging.getLogger(PACKAGE), logging.getLogger(PACKAGE).level, warnings.showwarning
        logging.getLogger().addHandler(records)
        own.addHandler(remarks)
        own.setLevel(logging.INFO)
        warnings.showwarning = self._show_warning  # type: ignore[assignment]
        try:
            yield
        finally:
            warnings.showwarning = show_warning
            own.setLevel(level)
            own.removeHandler(remarks)
            logging.getLogger().removeHandler(records)

    def _show_warning(
        self, message: Warning, category: type[Warning], filename: str, lineno: int, *rest: object
    ) -> None:
        self._log(warnings.formatwarning(message, category, filename, lineno).rstrip())
        if category.__module__.partition(".")[0] == PACKAGE:
            self.note(str(message))


class _Remarks(logging.Handler):
    """Shows warnings that this package logs."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record as a remark."""
        self.console.note(record.getMessage())


@contextmanager
def open_console(command: str, arguments: Sequence[str] = (), *, verbose: bool = False) -> Iterator[Console]:
    """Open the console of a command until the block ends.

    A log that holds nothing but the failure of a check before any work is removed.

    Args:
        command: name of the command.
        arguments: arguments of the command line, for the log.
        verbose: show what otherwise only the log holds.
    """
    global _open
    console = Console(command, verbose=verbose)
    outer, _open = _open, console
    try:
        with console.working([command, *arguments]):
            yield console
    finally:
        _open = outer
        if not console.began:
            console.log.path.unlink(missing_ok=True)


@contextmanager
def _bars_off() -> Iterator[None]:
    """Keep libraries that are imported from now on, here and in further processes, from drawing bars."""
    added = {name: value for name, value in _NO_BARS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


# ------------------------------------------------------------------------------------------- for the package


class Steps:
    """Numbers the steps of a piece of work.

    Args:
        total: number of steps; a single one gets no number.

    Example:
        >>> steps = Steps(2)
        >>> with steps("render"), steps("train"):
        ...     pass
    """

    def __init__(self, total: int = 1) -> None:
        self.total, self.number = total, 0

    def __call__(self, text: str) -> AbstractContextManager[Activity]:
        """Begin the next step; within another step it has no line of its own."""
        self.number += 1
        prefix = f"{self.number}/{self.total} " if self.total > 1 else ""
        if _open is None:
            return _silent(Activity(None, text))
        return _open.doing(Activity(_open, text), prefix)


@contextmanager
def _silent(activity: Activity) -> Iterator[Activity]:
    yield activity


def progress_bar(
    text: str, *, total: float | None, unit: str = "", initial: float = 0, shown: bool = True
) -> AbstractContextManager[Bar]:
    """Return a bar for a loop.

    Args:
        text: short description of the work.
        total: number of units at the end; `None`: unknown.
        unit: name of the units, in the plural.
        initial: number of units that had been done before.
        shown: draw a bar with tqdm where no command has a console. A console always shows what is going on.

    Returns:
        A context manager that gives the bar.
    """
    if _open is not None:
        return _open.doing(Activity(_open, text, total, unit, initial))
    from tqdm.auto import tqdm

    bar: AbstractContextManager[Bar] = tqdm(
        total=total, initial=initial, desc=text, unit=f" {unit}" if unit else "it", disable=not shown
    )
    return bar


def track(
    items: Iterable[Item], text: str, *, total: float | None = None, unit: str = "", shown: bool = True
) -> Iterator[Item]:
    """Yield items and move a bar with them; `total` is their length where they have one, else see `progress_bar`."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(text, total=total, unit=unit, shown=shown) as bar:
        for item in items:
            yield item
            bar.update()


def is_open() -> bool:
    """Return whether a command shows its work on a console."""
    return _open is not None


def training_bar(total: int, initial: int) -> AbstractContextManager[Activity] | None:
    """Return the console's bar for the updates of a training, or `None` where there is no console."""
    return None if _open is None else _open.doing(Activity(_open, "", total, "updates", initial))


def move_log(path: Path) -> None:
    """Move the log of the command, if there is one, to `path`: into the folder of a run. Only the first call counts."""
    if _open is not None:
        _open.move_log(path)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column to the left, the others to the right."""
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    draws = can_draw(sys.stdout)
    table = Table(box=box.SIMPLE_HEAD if draws else None, pad_edge=draws, header_style="bold" if draws else "")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    width = None if draws else 1000
    RichConsole(file=sys.stdout, force_terminal=draws, no_color=not draws, width=width).print(table)


# ------------------------------------------------------------------------------------------- text and streams


def duration(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> duration(9.4), duration(204), duration(7500)
        ('9 s', '3 min 24 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def can_draw(stream: TextIO) -> bool:
    """Return whether colors and moving lines may be written to a stream: to a terminal that nobody wants plain."""
    try:
        is_terminal = stream.isatty()
    except (AttributeError, ValueError):
        return False
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def process_rank() -> int:
    """Return the number of this process among those that `accelerate launch` started; 0 is the main one."""
    for name in _RANKS:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0

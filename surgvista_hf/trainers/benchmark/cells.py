"""The cells of a suite or a study: one way to plan them, to run each once, and to resume.

A cell has a folder. It is finished when `cell.json` lies there; a folder without it belongs to a cell that was begun. What a
cell was made from is compared before it is resumed, so no result is ever finished under other settings.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from ...evaluation.reports.benchmark_report import CellResult
from ...util.console import Steps, progress_bar
from ...util.errors import SurgVistaError
from ...util.executors import Executor, is_parallel, run_over
from ...util.files import OutputError, check_settings, compare_settings

FILE = "cell.json"
Identity = tuple[Mapping[str, Any], Mapping[str, Any]]
State = Literal["finished", "begun", "to do"]


class CellError(SurgVistaError):
    """Some cells have no result; those of the others are kept."""


class BenchmarkCell(Protocol):
    """Describe one run of a suite or study."""

    @property
    def name(self) -> str:
        """Return the name for messages."""

    @property
    def folder(self) -> Path:
        """Return the folder of everything that the cell writes."""

    @property
    def group(self) -> Hashable:
        """Return what cells have in common that need one check only, such as seeds of the same run."""

    def check(self) -> str:
        """Check everything that can be checked without training and say what a run would do.

        Raises:
            SurgVistaError: whatever would stop it.
        """

    @property
    def is_ready(self) -> bool:
        """Return whether everything that the cell is made from exists; the model of an earlier cell may not."""

    @property
    def needs(self) -> Path | None:
        """Return the folder of the cell that must be finished first, if there is one."""

    def identity(self) -> Identity:
        """Return what the cell is made from and the names of it, see `check_settings`."""

    def run(self) -> CellResult:
        """Run the cell and return its result."""


@dataclass(frozen=True)
class CellState:
    """Describe where a cell stands.

    Args:
        name: name of the cell.
        state: `"finished"`, `"begun"` or `"to do"`.
        plan: description of the run, or the reason why it cannot be run.
        broken: whether it cannot be run.
    """

    name: str
    state: State
    plan: str
    broken: bool = False


def plan_cells(cells: Sequence[BenchmarkCell]) -> list[CellState]:
    """Return the state of every cell, after its group was checked and its folder compared; nothing is trained."""
    checked: dict[Hashable, tuple[str, bool]] = {}
    states = []
    for cell in cells:
        state = cell_state(cell.folder)
        if cell.group not in checked:
            checked[cell.group] = _checked(cell)
        plan, is_broken = checked[cell.group]
        if not is_broken and state != "to do":
            plan, is_broken = _compared(cell, plan)
        states.append(CellState(cell.name, state, plan, is_broken))
    return states


def run_cells(
    cells: Sequence[BenchmarkCell], steps: Steps, *, num_proc: int = 1, executor: Executor = "local"
) -> list[CellResult]:
    """Run the cells that are not finished: one after the other, or as tasks of an executor.

    Args:
        cells: the cells; one that needs the result of another comes after it.
        steps: each cell is a step; on an executor all of them together are one.
        num_proc, executor: arguments of `run_over`. Cells for other processes must be picklable.

    Returns:
        The results of all cells, those of earlier runs included.

    Raises:
        OutputError: a folder was begun with other settings, on other data or from other weights, or by another version.
        CellError: some cells failed on an executor. The others are finished.
    """
    if is_parallel(executor, num_proc):
        with steps(f"run {len(cells)} cells"):
            _run_elsewhere(cells, num_proc, executor)
            return [_finish(cell) for cell in cells]
    results = []
    for cell in cells:
        with steps(cell.name) as step:
            result = _finish(cell)
            metric = result.metrics.get(result.main_metric)
            step.remember("" if metric is None else f"{result.main_metric.replace('_', ' ')} {metric:.3f}")
        results.append(result)
    return results


def _run_elsewhere(cells: Sequence[BenchmarkCell], num_proc: int, executor: Executor) -> None:
    """Run the cells that are not finished on an executor; a cell that fails does not stop those that do not need it."""
    left = [cell for cell in cells if cell_state(cell.folder) != "finished"]
    failed: dict[str, str] = {}
    done = len(cells) - len(left)
    with progress_bar("cells", total=len(cells), initial=done, unit="cells") as bar:
        while left:
            open_folders = {cell.folder for cell in left}
            ready = [cell for cell in left if cell.needs not in open_folders]
            for outcome in run_over(
                _finish_elsewhere, ready, _crashed, num_proc=num_proc, executor=executor, name=lambda cell: cell.name
            ):
                if outcome.problem:
                    failed[outcome.name] = outcome.problem
                bar.update()
            lost = {cell.folder for cell in ready if cell.name in failed}
            left = [cell for cell in left if cell.needs in open_folders and cell.needs not in lost]
    if failed:
        name, problem = next(iter(failed.items()))
        raise CellError(
            f"{len(failed)} of {len(cells)} cells failed, the first: {name}: {problem.rstrip('.')}. What needs none of them "
            "is finished; the same command goes on"
        )


@dataclass(frozen=True)
class _Outcome:
    """The name of a cell that another process has run, and the reason where there is no result."""

    name: str
    problem: str = ""


def _finish_elsewhere(cell: BenchmarkCell) -> _Outcome:
    try:
        _finish(cell)
    except SurgVistaError as error:
        return _Outcome(cell.name, _in_one_line(str(error)))
    return _Outcome(cell.name)


def _crashed(cell: BenchmarkCell, reason: str) -> _Outcome:
    return _Outcome(cell.name, reason)


def cell_state(folder: Path) -> State:
    """Return whether the cell of a folder is finished, begun, or to do."""
    return "finished" if (folder / FILE).is_file() else "begun" if folder.exists() else "to do"


def _finish(cell: BenchmarkCell) -> CellResult:
    made_from, names = cell.identity()
    check_settings(cell.folder, made_from, names=names)
    file = cell.folder / FILE
    if file.is_file():
        try:
            return CellResult.load(file)
        except (TypeError, ValueError) as error:
            raise OutputError(
                f"{file} cannot be read; another version may have written it. Remove it to run the cell again"
            ) from error
    began = time.time()
    result = replace(cell.run(), seconds=round(time.time() - began, 1))
    result.save(file)
    return result


def _checked(cell: BenchmarkCell) -> tuple[str, bool]:
    try:
        return _in_one_line(cell.check()), False
    except SurgVistaError as error:
        return _in_one_line(str(error)), True


def _compared(cell: BenchmarkCell, plan: str) -> tuple[str, bool]:
    """Return the plan of a cell that was begun, or what has changed since."""
    try:
        if cell.is_ready:
            made_from, names = cell.identity()
            compare_settings(cell.folder, made_from, names=names)
        return plan, False
    except SurgVistaError as error:
        return _in_one_line(str(error)), True


def _in_one_line(text: str) -> str:
    return " ".join(text.split())

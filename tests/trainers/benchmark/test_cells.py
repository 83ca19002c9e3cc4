"""Cells of suites and studies: each runs once, is never finished under other settings, and is planned without being run."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from surgvista_hf.evaluation.reports.benchmark_report import CellResult
from surgvista_hf.trainers.benchmark.cells import CellError, CellState, cell_state, plan_cells, run_cells
from surgvista_hf.util.console import Steps
from surgvista_hf.util.errors import InputError
from surgvista_hf.util.files import OutputError


def result(name: str) -> CellResult:
    return CellResult(
        model=name,
        data="operations",
        protocol="full",
        task="workflow",
        classes=["cut", "sew"],
        main_metric="video_accuracy",
        metrics={"video_accuracy": 0.5},
        results={},
        by_video={"operations/1": 0.5},
        parameters={"trained": 1, "all": 2, "bytes": 8},
    )


@dataclass
class Cell:
    """A cell whose run can be stopped, and whose settings can change."""

    name: str
    folder: Path
    settings: dict = field(default_factory=lambda: {"learning_rate": 1})
    group: str = "all"
    is_ready: bool = True
    needs: Path | None = None
    wrong: str = ""
    stopped: bool = False
    checks: int = 0
    runs: int = 0

    def check(self) -> str:
        self.checks += 1
        if self.wrong:
            raise InputError(self.wrong)
        return "a\nplan of two lines"

    def identity(self):
        return self.settings, {}

    def run(self) -> CellResult:
        self.runs += 1
        if self.stopped:
            raise KeyboardInterrupt
        return result(self.name)


def test_a_cell_runs_once_and_one_that_was_stopped_runs_again(tmp_path):
    first, second = Cell("first", tmp_path / "1"), Cell("second", tmp_path / "2", stopped=True)
    with pytest.raises(KeyboardInterrupt):
        run_cells([first, second], Steps(2))
    assert (cell_state(first.folder), cell_state(second.folder)) == ("finished", "begun")
    second.stopped = False
    results = run_cells([first, second], Steps(2))
    assert (first.runs, second.runs) == (1, 2)
    assert [each.model for each in results] == ["first", "second"]
    assert run_cells([first, second], Steps(2)) == results
    stored = json.loads((first.folder / "cell.json").read_text())
    assert stored["environment"]["versions"]["torch"]
    assert stored["seconds"] >= 0


@pytest.mark.parametrize("stopped", [True, False])
def test_no_cell_is_gone_on_with_or_taken_under_other_settings(tmp_path, stopped):
    cell = Cell("first", tmp_path / "1", stopped=stopped)
    try:
        run_cells([cell], Steps())
    except KeyboardInterrupt:
        assert stopped
    cell.settings = {"learning_rate": 2}
    with pytest.raises(OutputError, match="begun with other settings"):
        run_cells([cell], Steps())
    assert cell.runs == 1
    (state,) = plan_cells([cell])
    assert state.broken
    assert "begun with other settings" in state.plan


def test_a_result_of_another_version_is_named(tmp_path):
    cell = Cell("first", tmp_path / "1")
    run_cells([cell], Steps())
    (cell.folder / "cell.json").write_text('{"variant": "A", "accuracy": {}}')
    with pytest.raises(
        OutputError, match=r"cell\.json cannot be read; another version may have written it\. Remove it"
    ):
        run_cells([cell], Steps())


def test_a_plan_checks_each_group_once_and_runs_nothing(tmp_path):
    cells = [Cell(str(number), tmp_path / str(number), group=str(number % 2)) for number in range(4)]
    cells[1].wrong = "no such\nlabel"
    run_cells([cells[0]], Steps())
    (tmp_path / "2").mkdir()
    assert plan_cells(cells) == [
        CellState("0", "finished", "a plan of two lines"),
        CellState("1", "to do", "no such label", broken=True),
        CellState("2", "begun", "a plan of two lines"),
        CellState("3", "to do", "no such label", broken=True),
    ]
    assert [cell.checks for cell in cells] == [1, 1, 0, 0]
    assert [cell.runs for cell in cells] == [1, 0, 0, 0]


def test_a_plan_does_not_compare_what_depends_on_a_cell_that_was_not_run(tmp_path):
    cell = Cell("first", tmp_path / "1")
    run_cells([cell], Steps())
    cell.settings, cell.is_ready = {"learning_rate": 2}, False
    assert not plan_cells([cell])[0].broken


class Needing(Cell):
    """A cell whose run needs the result of another one."""

    def run(self) -> CellResult:
        assert self.needs is not None
        assert (self.needs / "cell.json").is_file()
        return super().run()


class Broken(Cell):
    """A cell that cannot be run."""

    def run(self) -> CellResult:
        raise InputError("no such model")


@pytest.mark.slow
def test_cells_in_other_processes_wait_for_what_they_need_and_one_that_fails_costs_only_what_needs_it(tmp_path):
    cells = [
        Cell("first", tmp_path / "1"),
        Broken("broken", tmp_path / "2"),
        Needing("second", tmp_path / "3", needs=tmp_path / "1"),
        Needing("lost", tmp_path / "4", needs=tmp_path / "2"),
    ]
    with pytest.raises(CellError, match=r"1 of 4 cells failed, the first: broken: no such model\. What needs none"):
        run_cells(cells, Steps(), num_proc=2)
    assert [cell.folder.name for cell in cells if (cell.folder / "cell.json").is_file()] == ["1", "3"]
    del cells[1::2]
    assert [found.model for found in run_cells(cells, Steps(), num_proc=2)] == ["first", "second"]

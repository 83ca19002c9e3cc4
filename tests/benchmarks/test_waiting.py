"""What a user waits for is measured in processes of its own, and its table is that of the recorded numbers."""

import sys

import pytest

from benchmarks import waiting


def test_a_command_is_measured_by_what_it_takes_and_not_by_this_process():
    program = "import time; block = b'x' * 60_000_000; time.sleep(0.3)"
    found = waiting.measure([sys.executable, "-c", program], rounds=2, warmup=0)
    assert all(seconds >= 0.3 for seconds in found["seconds"])
    assert all(0 < busy < seconds for busy, seconds in zip(found["processor_seconds"], found["seconds"], strict=True))
    assert all(peak > 60_000_000 for peak in found["peak_bytes"])


def test_rounds_that_warm_up_are_not_counted(tmp_path):
    program = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    found = waiting.measure([sys.executable, "-c", program], rounds=2, warmup=1)
    assert (tmp_path / "runs").read_text() == "xxx"
    assert [len(values) for values in found.values()] == [2, 2, 2]


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="no such thing"):
        waiting.measure([sys.executable, "-c", "raise SystemExit('no such thing')"], rounds=1)


def test_the_table_has_a_row_for_everything_that_was_measured_and_nothing_else():
    waits = waiting.read_results(waiting.FILE)["waits"]
    rows = waiting.table().splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(waits)
    commands = set(waiting.commands(waiting.Path("work")))
    assert commands <= set(waits) <= {*commands, waiting.TESTS}


@pytest.mark.slow
def test_a_training_step_of_the_smallest_size_runs(capfd):
    found = waiting.measure([*waiting._MODULE, "--step", "tiny"], rounds=1, warmup=0)
    assert found["peak_bytes"][0] > 100_000_000

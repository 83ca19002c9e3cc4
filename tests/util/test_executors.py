"""One function over many tasks, in this process and in others: what dies, is full or is logged. Ray: `tests/cli`."""

import logging
import os
import pickle
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from surgvista_hf.cli.main import main
from surgvista_hf.util import executors
from surgvista_hf.util.errors import InputError
from surgvista_hf.util.executors import Lazy, Ray, check_executor, run_over
from surgvista_hf.util.files import OutputError, atomic_file


def square(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)  # as a decoder that crashes
    return number * number


def crashed(number: int, reason: str) -> int:
    assert "was killed" in reason
    return -number


@pytest.mark.slow
def test_a_process_that_dies_costs_one_task_only():
    results = list(run_over(square, [1, 2, 13, 3, 4, 5], crashed, num_proc=2))
    assert sorted(results) == [-13, 1, 4, 9, 16, 25]


def remark(number: int) -> int:
    logging.getLogger("surgvista_hf.somewhere").warning("video %d is interlaced", number)
    return number


def test_remarks_of_other_processes_are_logged_here(caplog):
    assert sorted(run_over(remark, [1, 2], crashed, num_proc=2)) == [1, 2]
    assert sorted(record.getMessage() for record in caplog.records) == [
        "video 1 is interlaced",
        "video 2 is interlaced",
    ]
    assert {record.name for record in caplog.records} == {"surgvista_hf.somewhere"}


class Counting:
    """Tell in which process a task runs, and in which one its model was loaded."""

    def __init__(self) -> None:
        self.model = Lazy(os.getpid)

    def __call__(self, number: int) -> tuple[int, int]:
        return os.getpid(), self.model.value


def test_what_is_lazy_is_made_once_in_each_process_and_never_sent():
    work = Counting()
    assert work.model.value == os.getpid()
    assert pickle.loads(pickle.dumps(work)).model._made == []
    found = list(run_over(work, [1, 2, 3, 4], crashed, num_proc=2))
    assert all(process == loaded_in != os.getpid() for process, loaded_in in found)
    assert list(run_over(work, [1], crashed)) == [(os.getpid(), os.getpid())]


def test_impossible_executors_are_refused():
    for options in ({"num_proc": 0}, {"executor": "slurm"}, {"executor": "ray", "num_proc": -1}):
        with pytest.raises(InputError, match="at a time"):
            list(run_over(square, [1], crashed, **options))
    for resources in ({"num_gpus": 1.5}, {"num_cpus": 0}, {"num_gpus": -1}, {"max_retries": -1}):
        with pytest.raises(InputError):
            Ray(**resources)


def test_two_ways_of_dividing_the_work_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_executor("local", 1)
    with pytest.raises(InputError, match="take one of them"):
        check_executor("local", 2)


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Let no file of this process become larger than so many bytes, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(path: Path) -> str:
    with small_files(1000), atomic_file(path) as temporary:
        temporary.write_bytes(bytes(int(path.stem)))
    return path.name


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_full_disk_is_one_sentence_and_what_was_finished_stays(tmp_path, num_proc):
    tasks = [tmp_path / "10.bin", tmp_path / "20.bin", tmp_path / "5000.bin"]
    done = []
    with pytest.raises(OutputError, match=r"5000\.bin cannot be written: .*the same command goes on") as caught:
        done.extend(run_over(write, tasks, crashed, num_proc=num_proc, name=lambda path: path.name))
    assert "\n" not in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["10.bin", "20.bin"]


def missing(path: Path) -> str:
    return path.read_text()


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(run_over(missing, [tmp_path / "gone"], crashed))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["predict", "videos", "--model", "m", "--output", "o", "--gpus-per-task", "1"], "options of --executor ray"),
        (["benchmark", "synthetic", "--num-proc", "0"], "cannot run 0 at a time"),
        (["curate", "hash", "corpus", "--executor", "ray", "--cpus-per-task", "2.5"], "2.5 CPUs"),
        (["zero-shot", "m", "--data", "a=b", "--label", "x", "--output", "o", "--executor", "ray"], "[ray]'"),
        (["extract-features", "m", "--data", "a=b", "--output", "o", "--executor", "ray"], "[ray]'"),
        (["deidentify", "v", "--no-detector", "--mapping", "n", "--output", "o", "--executor", "ray"], "[ray]'"),
    ],
)
def test_verbs_refuse_executors_that_cannot_be_used(words, reason, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if reason == "[ray]'":
        monkeypatch.setitem(__import__("sys").modules, "ray", None)  # not installed
    assert main(words) == 1
    assert reason in capsys.readouterr().err
    assert executors.EXECUTORS == ("local", "ray")

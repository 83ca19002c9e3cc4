"""Running one function over many videos: in this process, in several processes, or on a Ray cluster."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

from ...util.errors import InputError
from ...util.requirements import require

Task = TypeVar("Task")
Result = TypeVar("Result")
Executor = Literal["local", "ray"]
EXECUTORS = ("local", "ray")
_PACKAGE = __name__.partition(".")[0]
_CRASH = "the process that worked on it was killed (a decoder that crashes, or too little memory)"


def run_over(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    crashed: Callable[[Task, str], Result],
    *,
    num_proc: int = 1,
    executor: Executor = "local",
) -> Iterator[Result]:
    """Apply a function to each task.

    Args:
        function: function that can be imported by name; its argument and result must be picklable.
        tasks: arguments of the function, in the order in which they are started.
        crashed: function that makes the result of a task whose process died, from the task and the reason.
        num_proc: number of tasks at a time; 1 runs them in this process. With Ray, 0 means as many as the cluster takes.
        executor: `"local"` or `"ray"`.

    Yields:
        Results, in the order in which they are ready.

    Raises:
        InputError: the executor is unknown, Ray is not installed, or the number of processes is out of range.
    """
    if executor not in EXECUTORS or num_proc < (executor == "local"):
        raise InputError(f"cannot run {num_proc} at a time on {executor!r}; executors are {EXECUTORS}")
    if executor == "ray":
        yield from _on_ray(function, tasks, crashed, num_proc)
    elif num_proc == 1:
        yield from map(function, tasks)
    else:
        yield from _in_processes(function, tasks, crashed, num_proc)


def _in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], crashed: Callable[[Task, str], Result], num_proc: int
) -> Iterator[Result]:
    """Run tasks in several processes; after a crash, run the tasks that may have caused it again, each alone.

    No more tasks are in the pool than run, so that only a few are suspects.
    """
    waiting = list(reversed(tasks))
    while waiting:
        running: dict[Future[tuple[Result, list[logging.LogRecord]]], Task] = {}
        suspects: list[Task] = []
        with _pool(num_proc) as pool:  # a crash breaks the whole pool, so each round has its own
            while (waiting or running) and not suspects:
                while waiting and len(running) < num_proc:
                    task = waiting.pop()
                    running[pool.submit(_with_remarks, function, task)] = task
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(task)
                    else:
                        yield _without_remarks(future.result())
            suspects += running.values()
        for task in suspects:
            yield _alone(function, task, crashed)


def _alone(function: Callable[[Task], Result], task: Task, crashed: Callable[[Task, str], Result]) -> Result:
    """Run one task in a process of its own, so that a crash is certainly its own."""
    with _pool(1) as pool:
        try:
            return _without_remarks(pool.submit(_with_remarks, function, task).result())
        except BrokenProcessPool:
            return crashed(task, _CRASH)


def _with_remarks(function: Callable[[Task], Result], task: Task) -> tuple[Result, list[logging.LogRecord]]:
    """Return the result of a task with the records that this package logged, which nobody would see in another process."""
    remarks: SimpleQueue[logging.LogRecord] = SimpleQueue()
    own, handler = logging.getLogger(_PACKAGE), QueueHandler(remarks)
    own.addHandler(handler)
    try:
        result = function(task)
    finally:
        own.removeHandler(handler)
    return result, [remarks.get() for _ in range(remarks.qsize())]


def _without_remarks(done: tuple[Result, list[logging.LogRecord]]) -> Result:
    """Handle the records that were logged in another process, and return the result."""
    result, remarks = done
    for record in remarks:
        logging.getLogger(record.name).handle(record)
    return result


def _pool(num_proc: int) -> ProcessPoolExecutor:
    # Decoders and torch keep threads, which a forked process would not have.
    return ProcessPoolExecutor(num_proc, mp_context=multiprocessing.get_context("spawn"))


def _on_ray(
    function: Callable[[Task], Result], tasks: Sequence[Task], crashed: Callable[[Task, str], Result], num_proc: int
) -> Iterator[Result]:
    """Run tasks on the cluster that this process belongs to or that RAY_ADDRESS names, or else on one on this machine."""
    require("ray")
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    remote: Any = ray.remote(max_retries=1)(_with_remarks)
    limit = num_proc or max(int(ray.cluster_resources().get("CPU", 1)), 1)
    waiting = list(reversed(tasks))
    running: dict[Any, Task] = {}
    while waiting or running:
        while waiting and len(running) < limit:
            task = waiting.pop()
            running[remote.remote(function, task)] = task
        for reference in ray.wait(list(running))[0]:
            task = running.pop(reference)
            try:
                yield _without_remarks(ray.get(reference))
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
                yield crashed(task, _CRASH)

"""Running one function over many tasks: in this process, in several processes, or on a Ray cluster.

A task is an argument that can be pickled, such as the name of a video. The function is pickled once for all and unpickled
once in each process, so that what it has loaded there, a model in a `Lazy`, serves every task of that process.
"""

import errno
import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from .errors import InputError, SurgVistaError
from .files import OutputError
from .requirements import require

if TYPE_CHECKING:  # Ray takes a second to import, and few installations have it
    from ray import ObjectRef

logger = logging.getLogger(__name__)
Task = TypeVar("Task")
Result = TypeVar("Result")
Value = TypeVar("Value")
EXECUTORS = ("local", "ray")
_PACKAGE = __name__.partition(".")[0]
_CRASH = "the process that worked on it was killed (a decoder that crashes, or too little memory)"
_DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
_SECONDS_TO_STOP = 20.0  # for a task that is cancelled to remove its temporary files, before its process is killed


@dataclass(frozen=True)
class Ray:
    """The executor that makes every task one of Ray's; Ray decides where and when it runs.

    Args:
        num_cpus: number of cores that a task takes up.
        num_gpus: number of GPUs that a task takes up; a fraction lets several tasks share one.
        max_retries: number of times that Ray runs a task again whose process or node was lost.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> Ray(num_gpus=0.5).num_cpus
        1
    """

    num_cpus: float = 1
    num_gpus: float = 0
    max_retries: int = 3

    def __post_init__(self) -> None:
        for name, number in (("CPUs", self.num_cpus), ("GPUs", self.num_gpus)):
            if number < 0 or (number > 1 and number != int(number)):
                raise InputError(
                    f"{number:g} {name} for a task make no sense; give a fraction of one, or a whole number"
                )
        if not self.num_cpus or self.max_retries < 0:
            raise InputError(f"a task needs a part of a CPU, and it cannot be retried {self.max_retries} times")


Executor: TypeAlias = Literal["local", "ray"] | Ray


class Lazy(Generic[Value]):
    """A value that every process makes for itself when it is first needed, such as a model: it is never sent.

    Args:
        make: function without arguments that makes the value; it must be picklable, such as a `functools.partial`.
        made: value of this process, if there is one already.

    Example:
        >>> Lazy(list).value
        []
    """

    def __init__(self, make: Callable[[], Value], *made: Value) -> None:
        self._make = make
        self._made = [*made]

    @classmethod
    def of(cls, value: Value) -> "Lazy[Value]":
        """Return a value that is there already in the form of a lazy one, for work that stays in this process."""
        return cls(partial(_identity, value), value)

    @property
    def value(self) -> Value:
        """Return the value of this process."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __reduce__(self) -> tuple[type["Lazy[Value]"], tuple[Callable[[], Value]]]:
        return Lazy, (self._make,)


def _identity(value: Value) -> Value:
    return value


def run_over(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    crashed: Callable[[Task, str], Result],
    *,
    num_proc: int = 1,
    executor: Executor = "local",
    name: Callable[[Task], str] = str,
) -> Iterator[Result]:
    """Apply a function to each task.

    Args:
        function: function or callable object that can be pickled, as its argument and result can.
        tasks: arguments of the function, in the order in which they are started.
        crashed: function that makes the result of a task whose process died again and again, from the task and the reason.
        num_proc: number of tasks at a time; 1 runs them in this process. With Ray, 0 means as many as the cluster takes.
        executor: `"local"`, `"ray"`, or a `Ray` with the resources of a task.
        name: function that names a task, for messages and for the dashboard of Ray.

    Yields:
        Results, in the order in which they are ready.

    Raises:
        InputError: the executor is unknown, Ray is not installed or has no node for such tasks, or the number of processes is
            out of range.
        OutputError: a disk is full or cannot be written to. Tasks that were running are stopped.
    """
    check_executor(executor, num_proc)
    if isinstance(executor, Ray) or executor == "ray":
        yield from _on_ray(function, tasks, crashed, num_proc, Ray() if executor == "ray" else executor, name)
    elif num_proc == 1:
        for task in tasks:
            yield _apply(function, task, name(task))
    else:
        yield from _in_processes(function, tasks, crashed, num_proc, name)


def check_executor(executor: Executor, num_proc: int) -> None:
    """Check that an executor can be used here, before anything is loaded.

    Raises:
        InputError: it is unknown, Ray is not installed, the number of processes is out of range, or this process is one of
            several that `accelerate launch` started.
    """
    is_ray = isinstance(executor, Ray) or executor == "ray"
    if not (is_ray or executor == "local") or num_proc < (not is_ray):
        raise InputError(f"cannot run {num_proc} at a time on {executor!r}; executors are {EXECUTORS}")
    if is_ray:
        require("ray")
    if is_parallel(executor, num_proc) and os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("`accelerate launch` and another executor would both divide the work: take one of them")


def is_parallel(executor: Executor, num_proc: int) -> bool:
    """Return whether tasks run in other processes than this one.

    Example:
        >>> is_parallel("local", 1), is_parallel("ray", 1)
        (False, True)
    """
    return executor != "local" or num_proc != 1


# ------------------------------------------------------------------------------------------- one task


def _apply(function: Callable[[Task], Result], task: Task, name: str) -> Result:
    """Return the result of a task; a disk that cannot be written to becomes an error of one sentence."""
    try:
        return function(task)
    except OSError as error:
        if isinstance(error, SurgVistaError) or error.errno not in _DISK:
            raise
        raise OutputError(
            f"{name} cannot be written: {error}. What is finished stays; the same command goes on"
        ) from error


def _with_remarks(function: Callable[[Task], Result], task: Task, name: str) -> tuple[Result, list[logging.LogRecord]]:
    """Return the result of a task with the records that this package logged, which nobody would see in another process."""
    remarks: SimpleQueue[logging.LogRecord] = SimpleQueue()
    own, handler = logging.getLogger(_PACKAGE), QueueHandler(remarks)
    own.addHandler(handler)
    try:
        result = _apply(function, task, name)
    finally:
        own.removeHandler(handler)
    return result, [remarks.get() for _ in range(remarks.qsize())]


def _without_remarks(done: tuple[Result, list[logging.LogRecord]]) -> Result:
    """Handle the records that were logged in another process, and return the result."""
    result, remarks = done
    for record in remarks:
        logging.getLogger(record.name).handle(record)
    return result


# ------------------------------------------------------------------------------------------- processes of this machine

_installed: list[Callable[[Any], Any]] = []  # the function of a process of a pool


def _in_processes(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    crashed: Callable[[Task, str], Result],
    num_proc: int,
    name: Callable[[Task], str],
) -> Iterator[Result]:
    """Run tasks in several processes; after a crash, run the tasks that may have caused it again, each alone.

    No more tasks are in the pool than run, so that only a few are suspects.
    """
    waiting = list(reversed(tasks))
    while waiting:
        running: dict[Future[tuple[Result, list[logging.LogRecord]]], Task] = {}
        suspects: list[Task] = []
        with _pool(num_proc, function) as pool:  # a crash breaks the whole pool, so each round has its own
            while (waiting or running) and not suspects:
                while waiting and len(running) < num_proc:
                    task = waiting.pop()
                    running[pool.submit(_run_installed, task, name(task))] = task
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(task)
                    else:
                        yield _without_remarks(future.result())
            suspects += running.values()
        for task in suspects:
            yield _alone(function, task, crashed, name(task))


def _alone(
    function: Callable[[Task], Result], task: Task, crashed: Callable[[Task, str], Result], name: str
) -> Result:
    """Run one task in a process of its own, so that a crash is certainly its own."""
    with _pool(1, function) as pool:
        try:
            return _without_remarks(pool.submit(_run_installed, task, name).result())
        except BrokenProcessPool:
            return crashed(task, _CRASH)


def _pool(num_proc: int, function: Callable[[Task], Result]) -> ProcessPoolExecutor:
    # Decoders and torch keep threads, which a forked process would not have.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_proc, mp_context=context, initializer=_install, initargs=(function,))


def _install(function: Callable[[Any], Any]) -> None:
    _installed.append(function)


def _run_installed(task: Any, name: str) -> tuple[Any, list[logging.LogRecord]]:
    return _with_remarks(_installed[0], task, name)


# ------------------------------------------------------------------------------------------- Ray

_unpacked: dict[str, Callable[[Any], Any]] = {}  # the function of a worker, by the reference to it


def _on_ray(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    crashed: Callable[[Task, str], Result],
    num_proc: int,
    executor: Ray,
    name: Callable[[Task], str],
) -> Iterator[Result]:
    """Run tasks on the cluster that this process belongs to or that RAY_ADDRESS names, or else on one on this machine."""
    if not tasks:
        return
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    if not _capacity(executor):
        _report_too_small(executor, wait=num_proc > 0)
    pool = (_RayActors if executor.num_gpus else _RayTasks)(function, executor)
    waiting, running = deque(tasks), dict[Any, Task]()
    lost = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.RayActorError,
        ray.exceptions.ObjectLostError,
    )
    try:
        while waiting or running:
            limit = num_proc or max(_capacity(executor), 1)  # nodes come and go
            while waiting and len(running) < limit:
                task = waiting.popleft()
                running[pool.submit(task, name(task))] = task
            for reference in ray.wait(list(running))[0]:
                task = running.pop(reference)
                pool.release(reference, is_needed=bool(waiting))
                try:
                    done = ray.get(reference)
                except lost:
                    yield crashed(task, _CRASH)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error  # the error of the function, without the traceback in its message
                else:
                    yield _without_remarks(done)
    finally:
        with suppress(ray.exceptions.RayError):
            pool.stop(list(running))


def _capacity(executor: Ray) -> int:
    """Return the number of tasks that the nodes of the cluster take at a time."""
    import ray

    count = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        needed = {"CPU": executor.num_cpus, "GPU": executor.num_gpus}
        count += min(int(has.get(kind, 0) / number) for kind, number in needed.items() if number)
    return count


def _report_too_small(executor: Ray, *, wait: bool) -> None:
    needed = f"no node of the Ray cluster has {executor.num_cpus:g} CPUs and {executor.num_gpus:g} GPUs for a task"
    if not wait:
        raise InputError(f"{needed}; let a task take less, add nodes, or give --num-proc to wait for nodes")
    logger.warning("%s; Ray waits for one", needed)


class _RayTasks:
    """Runs a function as tasks of Ray; their workers are used again, with what the function has loaded.

    Args:
        function: the function.
        executor: resources of a task.
    """

    def __init__(self, function: Callable[[Task], Result], executor: Ray) -> None:
        import ray

        packed = ray.put(function)
        # In a list, since Ray would unpickle it for each task.
        self.shared = (packed.hex(), [packed], str(Path.cwd()))
        self.executor = executor
        self.remote: Any = ray.remote(
            num_cpus=executor.num_cpus, num_gpus=executor.num_gpus, max_retries=executor.max_retries
        )(_run_on_worker)

    def submit(self, task: object, name: str) -> "ObjectRef[Any]":
        """Start a task and return the reference to its result."""
        return self.remote.options(name=name).remote(*self.shared, task, name)

    def release(self, reference: "ObjectRef[Any]", *, is_needed: bool) -> None:
        """Do nothing: Ray gives the resources of a task back by itself."""

    def stop(self, references: "list[ObjectRef[Any]]") -> None:
        """Stop tasks as Ctrl-C does, so that they remove their temporary files, and kill those that do not end."""
        import ray

        for reference in references:
            ray.cancel(reference)
        if references:
            _, left = ray.wait(references, num_returns=len(references), timeout=_SECONDS_TO_STOP)
            for reference in left:
                ray.cancel(reference, force=True)


class _RayActors(_RayTasks):
    """Runs a function in actors, each of which keeps its GPUs and the model on them for all of its tasks.

    The worker of a task cannot: Ray ends it after each task, since the next one may be given another GPU.
    """

    def __init__(self, function: Callable[[Task], Result], executor: Ray) -> None:
        import ray

        super().__init__(function, executor)
        self.actor: Any = ray.remote(
            num_cpus=executor.num_cpus,
            num_gpus=executor.num_gpus,
            max_restarts=-1,
            max_task_retries=executor.max_retries,
        )(_RayWorker)
        self.idle: list[Any] = []
        self.busy: dict[ObjectRef[Any], Any] = {}

    def submit(self, task: object, name: str) -> "ObjectRef[Any]":
        """Start a task in an actor that has nothing to do, or a new one."""
        actor = self.idle.pop() if self.idle else self.actor.remote()
        reference: ObjectRef[Any] = actor.run.options(name=name).remote(*self.shared, task, name)
        self.busy[reference] = actor
        return reference

    def release(self, reference: "ObjectRef[Any]", *, is_needed: bool) -> None:
        """Keep the actor of a task for the next one.

        Where there is none, end it at once: an actor whose node was lost may wait for its GPU to be run again.
        """
        actor = self.busy.pop(reference)
        if is_needed:
            self.idle.append(actor)
        else:
            self._kill(actor)

    def stop(self, references: "list[ObjectRef[Any]]") -> None:
        """Kill all actors."""
        for actor in (*self.idle, *self.busy.values()):
            self._kill(actor)

    @staticmethod
    def _kill(actor: Any) -> None:
        import ray

        ray.kill(actor)


class _RayWorker:
    """An actor that applies a function."""

    def run(self, *arguments: Any) -> tuple[Any, list[logging.LogRecord]]:
        """Run a task."""
        return _run_on_worker(*arguments)


def _run_on_worker(
    key: str, packed: "list[ObjectRef[Any]]", folder: str, task: Any, name: str
) -> tuple[Any, list[logging.LogRecord]]:
    """Run a task on a worker, in the working folder of the command, so that relative paths mean the same."""
    if key not in _unpacked:
        import ray

        if not Path(folder).is_dir():
            raise InputError(
                f"{folder} does not exist on the node {ray.util.get_node_ip_address()}: run the command in a folder that all "
                "nodes of the Ray cluster share"
            )
        os.chdir(folder)
        _unpacked.clear()  # a model of an earlier function is no longer needed
        _unpacked[key] = ray.get(packed[0])
    return _with_remarks(_unpacked[key], task, name)

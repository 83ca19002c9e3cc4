"""Programs in processes of their own, started quickly.

Most of the time of a small program goes into importing torch and transformers. `Processes` imports these once, in a process
that does nothing else, and forks that one for each program. What runs is a process like any other: it has its own environment,
folder and output, can be killed, and imports `surgvista_hf` itself.

Programs that ask what importing transformers or the package does, or that have a Hub cache of their own, start from the
`LIBRARIES` beneath them only: they import transformers, huggingface_hub and the package themselves, in their own order.
"""

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
IMPORTED = (
    "torch",
    "transformers",
    "transformers.trainer",
    "accelerate",
    "datasets",
    "torchvision",
    "av",
    "matplotlib",
)
LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "av",
    "PIL.Image",
    "safetensors.torch",
    "tokenizers",
    "sklearn.metrics",
    "scipy.signal",
    "pandas",
    "httpx",
    "jinja2",
    "pydantic",
    "pydicom",
    "requests",
)


@dataclass
class Process:
    """A running program; once it has ended, `returncode`, `stdout` and `stderr` are those of `subprocess`."""

    pid: int
    folder: Path
    ended: "Future[int]" = field(default_factory=Future)

    def wait(self, timeout: float = 300) -> "Process":
        self.ended.result(timeout)
        return self

    def kill(self) -> None:
        """Kill it where it stands, with its group, and wait for the end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    @property
    def running(self) -> bool:
        return not self.ended.done()

    @property
    def returncode(self) -> int:
        return self.ended.result(0)

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")


class Processes:
    """Starts programs: see the module. Close it at the end.

    Args:
        imported: The modules that programs find imported.
    """

    def __init__(self, imported: Sequence[str] = IMPORTED) -> None:
        self._folder = tempfile.TemporaryDirectory()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
        self._template = subprocess.Popen(
            [sys.executable, "-m", "tests.processes", *imported],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._count = 0
        self._started: dict[int, Future[int]] = {}
        self._ended: dict[int, Future[int]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(
        self, module: str, *words: object, environment: Mapping[str, str] | None = None, cwd: Path = REPOSITORY
    ) -> Process:
        """Start `python -m module words`."""
        return self._start({"module": module, "words": [str(word) for word in words]}, environment, cwd)

    def run_code(self, code: str, *, environment: Mapping[str, str] | None = None, cwd: Path = REPOSITORY) -> Process:
        """Start `python -c code`, and wait for its end."""
        return self._start({"module": "-c", "words": [], "code": code}, environment, cwd).wait()

    def _start(self, program: dict[str, Any], environment: Mapping[str, str] | None, cwd: Path) -> Process:
        folder = Path(self._folder.name) / str(self._count)
        folder.mkdir()
        number, self._count = self._count, self._count + 1
        started: Future[int] = Future()
        ended: Future[int] = Future()
        with self._lock:
            self._started[number], self._ended[number] = started, ended
        request = {
            **program,
            "number": number,
            "environment": {**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
            "cwd": str(cwd),
            "folder": str(folder),
        }
        assert self._template.stdin is not None
        self._template.stdin.write(json.dumps(request) + "\n")
        self._template.stdin.flush()
        return Process(started.result(120), folder, ended)

    def run(self, module: str, *words: object, **options: Any) -> Process:
        """Start a program and wait for its end."""
        return self.start(module, *words, **options).wait()

    def run_ranks(self, count: int, port: int, module: str, *words: object, **options: Any) -> Sequence[Process]:
        """Run a program in processes that find each other as those of `torch.distributed.run` do."""
        environment = options.pop("environment", {})
        ranks = []
        for rank in range(count):
            own = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            ranks.append(self.start(module, *words, environment={**environment, **own}, **options))
        for rank in ranks:
            rank.wait()
        return ranks

    def close(self) -> None:
        self._template.kill()
        self._template.wait()
        self._folder.cleanup()

    def _listen(self) -> None:
        assert self._template.stdout is not None
        for line in self._template.stdout:
            event = json.loads(line)
            futures = self._started if "pid" in event else self._ended
            with self._lock:
                future = futures.pop(event["number"])
            future.set_result(event.get("pid", event.get("status")))


# ------------------------------------------------------------------------------------------- the process that is forked


def _serve() -> None:
    for name in sys.argv[1:]:
        # Not every installation has all libraries.
        with contextlib.suppress(ImportError) if name in LIBRARIES else contextlib.nullcontext():
            importlib.import_module(name)
    own_output = os.fdopen(os.dup(1), "w")
    running: dict[int, int] = {}

    def tell(**event: int) -> None:
        own_output.write(json.dumps(event) + "\n")
        own_output.flush()

    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.005 if running else 1.0)
        if ready:
            data = os.read(0, 1 << 20)
            if not data:
                return
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = os.fork()
                if not pid:
                    own_output.close()
                    _become(request)
                running[pid] = request["number"]
                tell(number=request["number"], pid=pid)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            tell(number=running.pop(pid), status=os.waitstatus_to_exitcode(status))


def without_bfloat16() -> None:
    """Compute alike on every machine: as on a processor without bfloat16. `test_precision.py` tests one that has it."""
    from surgvista_hf.util.import_hooks import when_imported

    when_imported("surgvista_hf.modeling.precision", lambda module: module._HARDWARE.clear())


def _become(request: dict[str, Any]) -> None:
    """Turn this fork into the program; never returns."""
    os.setpgrp()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, name in ((0, os.devnull), (1, "stdout"), (2, "stderr")):
        path = name if number == 0 else Path(request["folder"]) / name
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [request["module"], *request["words"]]
    sys.path[0] = request["cwd"]
    code: Any = 1
    try:
        if "code" in request:
            exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})
        else:
            if request["module"].startswith("surgvista_hf"):
                without_bfloat16()
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            import atexit

            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()

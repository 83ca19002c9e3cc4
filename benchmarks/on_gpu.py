"""Everything that needs a GPU, in one command of at most eight minutes, on a machine without internet.

| part | contents |
|---|---|
| prepare | renders what the others read, on all cores, while the tests run |
| tests | the tests that are marked `gpu`: flash attention, no waiting for the device, bf16, 4 bits if bitsandbytes is there |
| models | clips/s and MFU of SurgVISTA without and with teacher (bf16, fp8, compiled); VideoMAE and V-JEPA |
| loader | clips/s of the loader by workers, and of the whole trainer from files to new weights |
| prediction | frames/s of whole videos by batch size, against the plain loop |
| pretraining | four minutes on rendered operations at ViT-S size, then a linear probe against the untrained encoder |

Every part is a process of its own with a time limit. One that fails or is cut is recorded with its error and with what it has
measured so far, and the others go on; the results are written after each.

On a machine with internet, once (see `benchmarks/wheels.py` for what is missing and its size), then on the GPU machine:

    python -m benchmarks.wheels
    python3 -m pip install -q --no-index --no-deps --upgrade --target build/packages build/wheels/*.whl && \
        PYTHONPATH=build/packages:. python3 -m benchmarks.on_gpu --output benchmarks/results/on_gpu.json

`--tiny` runs the same on a CPU in tiny sizes, which says nothing about speed: it is how this program is tested.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from surgvista_hf.util.environment import environment
from surgvista_hf.util.files import write_json

from .timing import machine

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 480.0
_SPARE = 3.0  # seconds before its limit by which a part should end by itself
# The parts of a stage run at the same time; each has these seconds, and what earlier ones have left over.
STAGES: Sequence[Mapping[str, float]] = (
    {"prepare": 50.0, "tests": 50.0},
    {"models": 100.0},
    {"loader": 42.0},
    {"prediction": 38.0},
    {"pretraining": 240.0},
)
PARTS = [name for stage in STAGES for name in stage]


@dataclass(frozen=True)
class Goal:
    """A number that one GPU (an H200) should reach.

    Args:
        name: name of the goal.
        at_least: the number.
        metric: key of the results of a variant of the part `models`.
        variants: beginning of the names of the variants, of which the best counts.
    """

    name: str
    at_least: float
    metric: str
    variants: str


GOALS = (
    Goal("clips per second without teacher", 600.0, "clips_per_second", "without teacher"),
    Goal("clips per second with teacher", 200.0, "clips_per_second", "with teacher"),
    Goal("MFU without teacher", 0.4, "mfu_of_bf16_peak", "without teacher"),
    Goal("MFU with teacher", 0.4, "mfu_of_bf16_peak", "with teacher"),
)


def compare_with_goals(models: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return for each goal the best measured number, the variant that reached it, and whether that is enough.

    Args:
        models: results of the part `models`.

    Example:
        >>> found = compare_with_goals({"with teacher, compiled": {"clips_per_second": 250.0}})
        >>> found["clips per second with teacher"]
        {'at_least': 200.0, 'measured': 250.0, 'variant': 'with teacher, compiled', 'reached': True}
        >>> found["MFU with teacher"]
        {'at_least': 0.4, 'measured': None, 'variant': None, 'reached': None}
    """
    compared = {}
    for goal in GOALS:
        measured = {
            name: result[goal.metric]
            for name, result in models.items()
            if name.startswith(goal.variants) and isinstance(result, Mapping) and result.get(goal.metric) is not None
        }
        best = max(measured, key=lambda name: measured[name], default=None)
        value = None if best is None else measured[best]
        compared[goal.name] = {
            "at_least": goal.at_least,
            "measured": value,
            "variant": best,
            "reached": None if value is None else value >= goal.at_least,
        }
    return compared


def part_command(name: str, output: Path, work: Path, deadline: float, *, tiny: bool) -> list[str]:
    """Return the command that runs a part in a process of its own; see `run_part`."""
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--part", name, "--output", str(output)]
    return [*command, "--work", str(work), "--deadline", str(deadline), *(["--tiny"] if tiny else [])]


class RunningPart:
    """A part at work in a process of its own.

    Args:
        name: name of the part.
        work: folder of files that the parts share.
        limit: seconds after which it is cut.
        tiny: run it in the tiny size.
    """

    def __init__(self, name: str, work: Path, limit: float, *, tiny: bool) -> None:
        self.name, self.began, self.limit = name, time.monotonic(), limit
        self.partial, self.log = work / f"{name}.json", work / f"{name}.log"
        self.partial.unlink(missing_ok=True)
        command = part_command(name, self.partial, work, self.began + limit - _SPARE, tiny=tiny)
        with self.log.open("w") as log:
            # In a session of its own, so that its workers end with it.
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def finish(self) -> dict[str, Any]:
        """Wait for the end or the limit, and return the state, the seconds and the results of the part."""
        try:
            returncode = self.process.wait(max(self.began + self.limit - time.monotonic(), 0.0))
            state = "done" if returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            state = "cut"
        seconds = round(time.monotonic() - self.began, 1)
        self.kill()
        record: dict[str, Any] = {"state": state, "seconds": seconds, "limit_seconds": round(self.limit, 1)}
        log = self.log.read_text(errors="replace").strip()
        if state == "failed":
            record["error"] = log[-1500:]
        elif state == "cut":
            record["error"] = f"it took longer than {self.limit:.0f} s; its log ends: {log[-500:]}"
        results = json.loads(self.partial.read_text()) if self.partial.is_file() else {}
        return {**record, "results": results}

    def kill(self) -> None:
        """Kill the process with its workers, also those that a process which has ended has left behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def measure(output: Path, work: Path, requested: Sequence[str], *, seconds: float, tiny: bool) -> dict[str, Any]:
    """Run the parts, and write the results after each stage.

    Args:
        output: JSON file of the results.
        work: folder of files that the parts share.
        requested: names of the parts; `prepare` is always run.
        seconds: seconds for all of them.
        tiny: run in the tiny size.

    Returns:
        The results.
    """
    began = time.monotonic()
    results: dict[str, Any] = {
        "machine": machine(),
        "environment": environment(),
        "tiny": tiny,
        "limit_seconds": seconds,
    }
    if torch.cuda.is_available():
        results["machine"]["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    parts: dict[str, Any] = {}
    stages = [
        {name: limit for name, limit in stage.items() if name in requested or name == "prepare"} for stage in STAGES
    ]
    for number, stage in enumerate(stages):
        later = sum(max(following.values(), default=0.0) for following in stages[number + 1 :])
        left = began + seconds - time.monotonic()
        running = [RunningPart(name, work, max(left - later, 1.0), tiny=tiny) for name in stage]
        try:
            parts |= {part.name: part.finish() for part in running}
        finally:
            for part in running:
                part.kill()
        for part in running:
            print(f"{part.name}: {parts[part.name]['state']} in {parts[part.name]['seconds']} s", file=sys.stderr)
        results |= {
            "seconds": round(time.monotonic() - began, 1),
            "goals": compare_with_goals(parts.get("models", {}).get("results", {})),
            "parts": parts,
        }
        write_json(output, results, indent=2)
    return results


def run_part(name: str, output: Path, work: Path, deadline: float, *, tiny: bool) -> None:
    """Run one part in this process, which should have ended at a time of `time.monotonic`."""
    from . import gpu_parts  # imports everything; the program that starts the parts does not need it

    gpu_parts.PARTS[name](gpu_parts.Report(output, deadline), gpu_parts.TINY if tiny else gpu_parts.FULL, work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program, and return the exit status: 1 if a part has failed or was cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="run these parts only")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for everything (default: 480)")
    parser.add_argument(
        "--work", type=Path, help="folder for what is rendered, to keep it; by default a temporary one"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, also on a CPU")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # how this program starts itself
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.part:
        run_part(arguments.part, arguments.output, arguments.work, arguments.deadline, tiny=arguments.tiny)
        return 0
    if not arguments.tiny and not torch.cuda.is_available():
        print("there is no GPU on this machine; --tiny tries the program on a CPU", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        output = arguments.output.resolve()
        results = measure(output, work, arguments.only, seconds=arguments.limit, tiny=arguments.tiny)
    print(json.dumps({"goals": results["goals"], "seconds": results["seconds"]}, indent=2))
    return int(any(part["state"] != "done" for part in results["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())

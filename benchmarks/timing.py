"""Side-by-side timing for the benchmark programs: every round runs all contestants, so that noise meets them alike."""

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from surgvista_hf.modeling.precision import bfloat16_hardware
from surgvista_hf.util.files import atomic_file


def side_by_side(
    contestants: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Measure the seconds of each contestant in each round; the order turns by one from round to round.

    Args:
        contestants: name -> what to run.
        rounds: measured rounds.
        warmup: rounds before them that are not counted.

    Returns:
        Name -> seconds, one number a round.
    """
    return both_clocks(contestants, rounds=rounds, warmup=warmup)[0]


def both_clocks(
    contestants: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 1
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Measure what each contestant takes on the wall clock and of the processor; the arguments are those of `side_by_side`.

    Where others use the machine too, the processor's seconds are the ones to compare.

    Returns:
        Name -> seconds, one number a round; and the same of `processor_seconds`.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start, busy = time.perf_counter(), processor_seconds()
            contestants[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(processor_seconds() - busy)
    return seconds, processor


def processor_seconds() -> float:
    """Return the seconds of processor time that this process, in all threads, and its finished children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def ratio(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> dict[str, float]:
    """Return our time over theirs, round by round: median and quartiles. Below 1 is faster."""
    ratios = [a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    lower, middle, upper = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {"median": round(middle, 4), "lower_quartile": round(lower, 4), "upper_quartile": round(upper, 4)}


def machine() -> dict[str, Any]:
    """Describe the machine that the numbers were measured on."""
    import transformers

    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor
        )
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "bfloat16": bfloat16_hardware("cpu") or "none",
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def save(results: dict[str, Any], output: Path) -> None:
    """Write the results and the machine that they were measured on, and print them."""
    text = json.dumps({"machine": machine(), **results}, indent=2) + "\n"
    with atomic_file(output) as temporary:
        temporary.write_text(text)
    print(text)

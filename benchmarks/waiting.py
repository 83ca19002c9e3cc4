"""Time and memory of everything that a user waits for, each measured in processes of its own.

A row of the table is a command as people type it, from its start to its end: seconds on the wall clock, seconds of the
processor (in all threads and child processes), and the largest memory of a process. Files are in the page cache: a round that
is not counted comes first. "Python itself" is an interpreter that does nothing; every other row has it in it.

The tests of the project are measured by whoever runs them, e.g. with `/usr/bin/time -v make test`, and handed in; then nothing
else is measured.

    python -m benchmarks.waiting --output benchmarks/results/waiting_cpu.json
    python -m benchmarks.waiting --output … --only "import surgvista_hf" --rounds 9   # anew, the others stay
    python -m benchmarks.waiting --output … --tests-seconds 610 --tests-processor-seconds 1150 --tests-megabytes 2100
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .tables import machine_of, markdown_table, quartiles, read_results, significant

TINY = {"image_size": 64, "num_frames": 4, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES: dict[str, dict[str, int]] = {"tiny": TINY, "base": {}}
SECONDS = 5  # of the video that is predicted
FILE = "waiting_cpu.json"
LIGHT = ("Python itself", "`import surgvista_hf`", "`surgvista --help`", "`surgvista predict --help`")
TESTS = "the tests (`make test`)"
_MODULE = [sys.executable, "-m", "benchmarks.waiting"]
_COMMAND = [sys.executable, "-m", "surgvista_hf.cli.main"]
# What starts the command is small, because the largest memory of a process counts that of the one it was started by.
_LAUNCH = """
import json, os, sys, time
devices = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
began = time.perf_counter()
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=devices)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - began
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]))
"""
_OPEN = """
import sys
from surgvista_hf import ClipDataset, load_frame_set
print(len(ClipDataset(load_frame_set("esd57", sys.argv[1], "all"))))
"""


def commands(work: Path) -> dict[str, list[str]]:
    """Return what is measured: names for people, and command lines."""
    predict = [*_COMMAND, "predict", str(work / "video.mp4"), "--formats", "csv,json", "--model"]
    demo = [*_COMMAND, "demo", "--output", str(work / "demo")]
    return {
        "Python itself": [sys.executable, "-c", "pass"],
        "`import surgvista_hf`": [sys.executable, "-c", "import surgvista_hf"],
        "`surgvista --help`": [*_COMMAND, "--help"],
        "`surgvista predict --help`": [*_COMMAND, "predict", "--help"],
        **{
            f"first prediction, {size} size ({SECONDS} s of video)": [
                *predict,
                str(work / size),
                "--output",
                str(work / f"predicted_{size}"),
            ]
            for size in SIZES
        },
        "a frame set of 3.5 million rows opened": [sys.executable, "-c", _OPEN, str(work / "rows")],
        **{f"a training step, {size} size": [*_MODULE, "--step", size] for size in SIZES},
        "`surgvista demo --operations 6 --epochs 1`": [*demo, "--operations", "6", "--epochs", "1"],
    }


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--work", type=Path, default=Path(".cache/waiting"), help="folder for what is measured (1 GB)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; 1 of the demo (default: 5)")
    parser.add_argument("--only", action="append", metavar="TEXT", help="rows whose name has this text in it")
    parser.add_argument("--before", type=Path, help="an earlier checkout, whose import and help are measured beside")
    parser.add_argument("--tests-seconds", type=float, help="wall clock of the tests")
    parser.add_argument("--tests-processor-seconds", type=float, help="their processor seconds")
    parser.add_argument("--tests-megabytes", type=float, help="their largest process")
    parser.add_argument("--prepare", choices=("models", "rows"), help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=SIZES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        training_step(arguments.step)
    elif arguments.prepare:
        prepare(arguments.work, arguments.prepare)
    elif arguments.output is None:
        parser.error("--output is missing")
    else:
        _measure_all(arguments)


def _measure_all(arguments: argparse.Namespace) -> None:
    arguments.work.mkdir(parents=True, exist_ok=True)
    for part, made in (("models", "video.mp4"), ("rows", "rows")):
        if not (arguments.work / made).exists():
            subprocess.run([*_MODULE, "--work", str(arguments.work), "--prepare", part], check=True)
    results = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.exists() else {}
    waits = results.get("waits", {})
    only = arguments.only or ([] if arguments.tests_seconds else [""])
    for name, command in commands(arguments.work).items():
        if any(text in name for text in only):
            rounds = 1 if "demo" in name else arguments.rounds
            waits[name] = measure(command, rounds, warmup=0 if "demo" in name else 1)
            print(name, waits[name], file=sys.stderr)
    before = results.get("before")
    if arguments.before:
        revision = ["git", "-C", str(arguments.before), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(revision, capture_output=True, text=True, check=True).stdout.strip()
        light = {name: commands(arguments.work)[name] for name in LIGHT}
        folders = {"before": arguments.before.resolve(), "now": Path.cwd()}
        before = {"commit": commit, "processor_seconds": {}, "seconds": {}}
        for name, command in light.items():
            for when, folder in folders.items():
                found = measure(command, arguments.rounds, folder=folder)
                before["seconds"].setdefault(name, {})[when] = found["seconds"]
                before["processor_seconds"].setdefault(name, {})[when] = found["processor_seconds"]
    if arguments.tests_seconds:
        waits[TESTS] = {
            "seconds": [arguments.tests_seconds],
            "processor_seconds": [arguments.tests_processor_seconds],
            "peak_bytes": [int(arguments.tests_megabytes * 1e6)],
        }
    from .timing import save  # loads torch, after everything was measured

    save({"waits": waits, **({"before": before} if before else {})}, arguments.output)


def measure(command: list[str], rounds: int, warmup: int = 1, folder: Path | None = None) -> dict[str, list[Any]]:
    """Run a command in processes of its own.

    Args:
        command: command line.
        rounds: measured rounds.
        warmup: rounds before them that are not counted.
        folder: checkout whose package it imports; by default the one that this process does.

    Returns:
        `seconds`, `processor_seconds` and `peak_bytes`, one number a round.

    Raises:
        RuntimeError: the command failed.
    """
    found: dict[str, list[Any]] = {"seconds": [], "processor_seconds": [], "peak_bytes": []}
    environment = None if folder is None else {**os.environ, "PYTHONPATH": str(folder)}
    for turn in range(-warmup, rounds):
        launched = [sys.executable, "-I", "-S", "-c", _LAUNCH, *command]
        done = subprocess.run(launched, capture_output=True, text=True, env=environment, cwd=folder, check=True)
        status, seconds, busy, peak = json.loads(done.stdout)
        if status:
            raise RuntimeError(f"{command} ended with {status}: {done.stderr[-2000:]}")
        if turn >= 0:
            found["seconds"].append(round(seconds, 3))
            found["processor_seconds"].append(round(busy, 3))
            found["peak_bytes"].append(peak)
    return found


# ------------------------------------------------------------------------------------------- in child processes


def prepare(work: Path, part: str) -> None:
    """Write the untrained models and the video that are predicted, or the frame set that is opened."""
    if part == "rows":
        from .data_speed import ROWS, VIDEOS, make_large

        make_large(work / "rows", ROWS, VIDEOS)
        return
    import av
    import numpy as np

    from .inference_speed import make_predictor

    for size, changes in SIZES.items():
        model = make_predictor(sizes=changes).models["model"]
        model.model.save_pretrained(work / size)
        model.processor.save_pretrained(work / size)
    with av.open(str(work / "video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 854, 480, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (480, 854, 3), np.uint8)
        for number in range(25 * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def training_step(size: str) -> None:
    """Train one step of fine-tuning from a cold process: one clip, forward, backward, AdamW."""
    import torch

    from surgvista_hf import SurgVistaConfig, SurgVistaForVideoClassification

    config = SurgVistaConfig(num_labels=7, **SIZES[size])
    model = SurgVistaForVideoClassification(config).train()
    clip = torch.rand(1, config.num_frames, 3, *config.frame_size)  # (B, frames, channels, height, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model(pixel_values=clip, labels=torch.tensor([1])).loss.backward()
    optimizer.step()


# ------------------------------------------------------------------------------------------- for the documentation


def table() -> str:
    """Return the recorded results as a table: medians, and quartiles in brackets."""
    rows = [
        [
            name,
            quartiles(wait["seconds"], digits=2),
            quartiles(wait["processor_seconds"], digits=2),
            significant(max(wait["peak_bytes"]) / 1e6, 2),
        ]
        for name, wait in read_results(FILE)["waits"].items()
    ]
    return markdown_table(["", "seconds", "of the processor", "largest memory, MB"], rows)


def comparison() -> str:
    """Return what import and help took before and take now, measured in one run, as a table."""
    before = read_results(FILE)["before"]
    header = ["seconds: wall clock, of the processor", f"commit {before['commit']}", "now"]
    rows = []
    for name in before["seconds"]:
        cells = [
            f"{quartiles(before['seconds'][name][when])}, {quartiles(before['processor_seconds'][name][when])}"
            for when in ("before", "now")
        ]
        rows.append([name, *cells])
    return markdown_table(header, rows)


def machine() -> str:
    """Return the machine that the table was measured on."""
    return machine_of(FILE)


if __name__ == "__main__":
    main()

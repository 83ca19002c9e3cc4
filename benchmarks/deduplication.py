"""Does de-duplication find copies among thousands of videos, how long does it take, and how much memory?

Compares videos of an hour, eight hashes a second, among which one in five is a copy of another: cut, compiled with others,
coded again, mirrored, cropped, letterboxed, faster or slower. Each size runs in a process of its own; finished ones are kept.

The hashes are generated, but they are as alike as real ones. Each of the 64 bits is the sign of a Gaussian process, whose
statistics were measured on 24.5 minutes of a cholecystectomy and on clips of eight others from the same hospital:

- The correlation of a bit with itself after 1/8, 1, 10 and 100 seconds is 0.96, 0.71, 0.31 and 0.07 (here four processes with
  time constants from 0.8 to 100 s), so that 5 of 64 bits change from one hash to the next.
- Bits are correlated with each other, as the eigenvalues of their correlations say, and most are 0 more often than 1 or the
  reverse: partly in all videos, partly in those of one hospital (20 videos each), partly in one video.
- Each video has seconds that do not count, and blank images from 64 kinds that all videos share; every third shows a card
  that 50 videos have in common.

Copies change the processes, so that weak bits change first, as in real copies: noise for coding, interpolation for times
between two hashes and for another speed, and mixing with another process for another geometry. How strongly was measured on
the same real video after H.264 coding (`REAL_COPIES`).

    python -m benchmarks.deduplication --work FOLDER --output benchmarks/results/deduplication_cpu.json
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from surgvista_hf.curation.stages.duplicates import find_repeats
from surgvista_hf.curation.stages.repetition import mirrored_hashes
from surgvista_hf.curation.stages.seconds import HASHES_PER_SECOND
from surgvista_hf.util.console import track

FILE = "deduplication_cpu.json"
BITS, SECONDS = 64, 3600
BLOCK = 5  # videos; the last one is a copy of the first one
HOSPITAL, CHANNEL = 20, 50  # videos that are alike in general, and that may begin with the same card
# Fraction of the variance, and time constant in seconds, of the processes of each bit.
FAST, SLOW = (0.25, 0.8), ((0.30, 4.0), (0.27, 12.0), (0.18, 100.0))
# Measured once on 400 s of the real video, coded again with x264 at 96-192 pixels: the mean number of the 64 bits that change
# at equal moments, and the fraction of the copy's seconds that `repeated_seconds` finds. Not measured: cuts and compilations.
REAL_COPIES: dict[str, tuple[float, float]] = {
    "coded again": (1.5, 1.0),
    "coded coarsely": (4.0, 1.0),
    "mirrored": (1.0, 1.0),
    "cropped 5 %": (7.7, 0.72),
    "cropped 10 %": (13.8, 0.02),
    "letterboxed": (12.3, 0.21),
    "faster": (1.9, 1.0),
    "slower": (1.9, 1.0),
}


@dataclass(frozen=True)
class Change:
    """A change of the processes behind the hashes, which makes a copy.

    Args:
        noise: standard deviation of the noise that coding adds to each bit's process, whose own is 1.
        correlation: correlation of each process with itself after a change of geometry.
        rate: seconds of the original for each second of the copy.
        mirrored: whether left and right are exchanged.
        pieces: whether it consists of pieces in another order, with a third from other videos.
    """

    noise: float = 0.073
    correlation: float = 1.0
    rate: float = 1.0
    mirrored: bool = False
    pieces: bool = False


KINDS = {
    "cut": Change(noise=0.0),
    "compilation": Change(pieces=True),
    "coded again": Change(),
    "coded coarsely": Change(noise=0.2),
    "mirrored": Change(mirrored=True),
    "cropped 5 %": Change(correlation=0.92),
    "cropped 10 %": Change(correlation=0.75),
    "letterboxed": Change(correlation=0.80),
    "faster": Change(rate=1.04),
    "slower": Change(rate=1 / 1.04),
}


@cache
def mixing() -> np.ndarray:
    """Make the matrix (64, 64) by which independent processes become correlated bits; eigenvalues as measured."""
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((BITS, BITS)))[0]
    mixed = directions * np.exp(-np.arange(BITS) / 22)
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).T.astype(np.float32)


def process(
    random: np.random.Generator, count: int, step: float, parts: tuple[tuple[float, float], ...]
) -> np.ndarray:
    """Draw a sum of Ornstein-Uhlenbeck processes, (count, 64), `step` seconds apart."""
    total = np.zeros((count, BITS), np.float32)
    for variance, constant in parts:
        keep = np.float32(np.exp(-step / constant))
        noise = random.standard_normal((count, BITS), np.float32)
        noise[1:] *= np.sqrt(1 - keep**2)
        total += np.float32(np.sqrt(variance)) * lfilter([np.float32(1)], [np.float32(1), -keep], noise, axis=0)
    return total


def scene(seed: tuple[int, ...]) -> np.ndarray:
    """Draw the processes of a video of an hour, (28800, 64) float32, each with mean 0 and variance 1."""
    random = np.random.default_rng(seed)
    slow = process(random, SECONDS + 1, 1.0, SLOW)
    weights = (np.arange(HASHES_PER_SECOND, dtype=np.float32) / HASHES_PER_SECOND)[:, None]
    between = slow[:-1, None] + weights * (slow[1:] - slow[:-1])[:, None]  # (seconds, 8, 64)
    fast = process(random, SECONDS * HASHES_PER_SECOND, 1 / HASHES_PER_SECOND, (FAST,))
    return (fast + between.reshape(-1, BITS)) @ mixing()


@cache
def blank_hashes() -> np.ndarray:
    """Return the hashes of the blank images that all videos share, (64,) uint64."""
    return np.random.default_rng(1).integers(1, 2**63, 64, np.uint64)


@dataclass
class Footage:
    """The processes of a video, (n, 64), and the kind of each moment, (n,): 0, a number of a blank image, or -1."""

    processes: np.ndarray
    kinds: np.ndarray

    def at(self, times: np.ndarray) -> "Footage":
        """Return the footage at times (n,), in hashes, which may lie between two of them."""
        before = np.clip(times.astype(int), 0, len(self.processes) - 2)
        weights = (times - before).astype(np.float32)[:, None]
        processes = (1 - weights) * self.processes[before] + weights * self.processes[before + 1]
        return Footage(processes, self.kinds[np.round(times).astype(int).clip(0, len(self.kinds) - 1)])


def original(number: int) -> Footage:
    """Draw the footage of a video that is no copy."""
    everywhere, hospital, video = (
        np.random.default_rng(seed) for seed in ((2,), (3, number // HOSPITAL), (4, number))
    )
    mean = (
        0.35 * everywhere.standard_normal(BITS)
        + 0.35 * hospital.standard_normal(BITS)
        + 0.3 * video.standard_normal(BITS)
    )
    kinds = np.zeros(SECONDS * HASHES_PER_SECOND, np.int64)
    for kind, seconds, times in ((-1, 12, 15), (int(video.integers(1, 64)), 6, 12)):
        for start in video.integers(0, SECONDS - seconds, times):
            kinds[start * HASHES_PER_SECOND : (start + seconds) * HASHES_PER_SECOND] = kind
    return Footage(scene((5, number)) + mean.astype(np.float32), kinds)


def hashes_of(footage: Footage, random: np.random.Generator) -> np.ndarray:
    """Return the hashes of footage, (n,) uint64; in blank images one bit is random."""
    hashes = np.packbits(footage.processes > 0, axis=1).view(">u8")[:, 0].astype(np.uint64)
    noise = np.uint64(1) << random.integers(0, BITS, len(hashes)).astype(np.uint64)
    return np.choose(np.sign(footage.kinds) + 1, [np.uint64(0), hashes, blank_hashes()[footage.kinds] ^ noise])


def video_kind(number: int) -> str:
    """Return the kind of copy that a video is; empty for an original."""
    return list(KINDS)[number // BLOCK % len(KINDS)] if number % BLOCK == BLOCK - 1 else ""


def make_hashes(number: int) -> np.ndarray:
    """Make the hashes of a video, (n,) uint64."""
    random, kind = np.random.default_rng((6, number)), video_kind(number)
    change = KINDS[kind] if kind else Change(noise=0.0)
    if change.pieces:
        footage = compilation(number, random)
    elif kind:
        length = SECONDS * random.uniform(0.6, 0.9)
        start = random.uniform(0, SECONDS - length)
        if not change.noise:
            start, length = round(start), round(length)
        times = start * HASHES_PER_SECOND + np.arange(int(length * HASHES_PER_SECOND / change.rate)) * change.rate
        footage = original(number - BLOCK + 1).at(times)
    else:
        footage = original(number)
    if change.correlation < 1:
        other = scene((7, number))[: len(footage.processes)]
        center = footage.processes.mean(axis=0)
        footage.processes = (
            center
            + change.correlation * (footage.processes - center)
            + np.sqrt(1 - change.correlation**2).astype("f") * other
        )
    if change.noise:
        footage.processes += np.float32(change.noise) * random.standard_normal(footage.processes.shape, np.float32)
    hashes = hashes_of(footage, random)
    if change.mirrored:
        hashes = mirrored_hashes(hashes)
    channel = np.random.default_rng((8, number // CHANNEL))
    if random.random() < 1 / 3:
        hashes[: 5 * HASHES_PER_SECOND] = channel.integers(1, 2**63, dtype=np.uint64)
    return hashes


def compilation(number: int, random: np.random.Generator) -> Footage:
    """Arrange pieces of 30-120 s: two thirds from one video in another order, one third from three others."""
    pieces: list[Footage] = []
    for turn, source in enumerate(range(number - BLOCK + 1, number)):
        footage, wanted = original(source), (0.66 if turn == 0 else 0.11) * SECONDS
        starts = np.arange(0, SECONDS, 120)
        random.shuffle(starts)
        for start in starts:
            length = min(wanted, random.uniform(30, 120))
            times = start * HASHES_PER_SECOND + random.uniform() + np.arange(int(length * HASHES_PER_SECOND))
            pieces.append(footage.at(times))
            wanted -= length
            if wanted < 8:
                break
    order = random.permutation(len(pieces))
    return Footage(*(np.concatenate([getattr(pieces[n], name) for n in order]) for name in ("processes", "kinds")))


def write_hashes(folder: Path, count: int) -> None:
    """Write the hashes of all videos that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(count), "generate", unit="videos", shown=True):
        path = folder / f"{number:05d}.npy"
        if not path.is_file():
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.save(file, make_hashes(number))
            temporary.rename(path)


def measure(folder: Path, count: int) -> dict[str, object]:
    """Measure what it takes to de-duplicate the first `count` videos in this process, and score what is found."""
    began, used = time.perf_counter(), time.process_time()
    names = [f"{number:05d}" for number in range(count)]
    hashes = {name: np.load(folder / f"{name}.npy") for name in names}
    seconds = {name: int((each[::HASHES_PER_SECOND] != 0).sum()) for name, each in hashes.items()}
    read = time.process_time()
    repeats = find_repeats(hashes, seconds, sorted(names, key=lambda name: (-seconds[name], name)))
    took = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - used}
    return {
        "videos": count,
        "hashes": sum(map(len, hashes.values())),
        **{name: round(value, 1) for name, value in took.items()},
        "processor_seconds_of_reading": round(read - used, 1),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        **scores(count, {int(name): int(keeper) for name, (keeper, _) in repeats.items()}),
    }


def scores(count: int, repeats: dict[int, int]) -> dict[str, object]:
    """Score what was dropped: right is a copy with its original as the keeper, or the original with the copy."""
    copies = {number: number - BLOCK + 1 for number in range(count) if video_kind(number)}
    found = {copy for copy, source in copies.items() if repeats.get(copy) == source or repeats.get(source) == copy}
    recall = {}
    for kind in KINDS:
        those = [copy for copy in copies if video_kind(copy) == kind]
        recall[kind] = {"copies": len(those), "found": len(found.intersection(those))}
    return {
        "copies": len(copies),
        "dropped": len(repeats),
        "recall": round(len(found) / len(copies), 4),
        "precision": round(len(found) / len(repeats), 4) if repeats else None,
        "recall_by_kind": recall,
    }


def real_copy(kind: str) -> dict[str, float]:
    """Return what was measured on a copy of a real video; empty if this kind was not measured."""
    return dict(zip(("real_bits_changed", "real_seconds_found"), REAL_COPIES.get(kind, ()), strict=False))


def growth(runs: list[dict[str, float]]) -> float | None:
    """Fit the exponent of the processor time over the number of videos; 1 is linear, 2 is quadratic."""
    if len(runs) < 2:
        return None
    sizes, seconds = (np.log([run[name] for run in runs]) for name in ("videos", "processor_seconds"))
    return round(float(np.polyfit(sizes, seconds, 1)[0]), 3)


def sizes_table() -> str:
    """Return time, memory and what was found by the number of videos, as a table for the documentation."""
    from .tables import markdown_table, read_results

    rows = [
        [
            f"{run['videos']:,}",
            f"{run['hashes'] / 1e6:.0f} million",
            f"{run['processor_seconds']:,.0f}",
            f"{run['peak_gigabytes']:.1f}",
            f"{run['precision']:.2f}",
            f"{run['recall']:.2f}",
        ]
        for run in read_results(FILE)["sizes"]
    ]
    return markdown_table(
        ["videos of an hour", "hashes", "seconds of one core", "largest memory, GB", "precision", "recall"], rows
    )


def kinds_table() -> str:
    """Return what was found of each kind of copy at the largest size, as a table for the documentation."""
    from .tables import markdown_table, read_results

    results = read_results(FILE)
    rows = []
    for kind, found in results["sizes"][-1]["recall_by_kind"].items():
        change = results["kinds"][kind]
        bits, seconds = change.get("real_bits_changed"), change.get("real_seconds_found")
        real = ["", ""] if bits is None else [f"{bits:g}", f"{100 * seconds:.0f} %"]
        rows.append([kind, f"{found['found']} of {found['copies']}", *real])
    return markdown_table(["copy", "found, generated", "bits of 64 that change, real", "seconds found, real"], rows)


def exponent() -> str:
    """Return the exponent of growth, for a sentence of the documentation."""
    from .tables import read_results

    return f"{read_results(FILE)['exponent_of_growth']:.2f}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of generated hashes and finished sizes")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1250, 2500, 5000, 10_000], help="numbers of videos")
    parser.add_argument("--measure", type=int, help="measure this size in this process, and print the result")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.work / "hashes", arguments.measure)))
        return
    runs = []
    for size in arguments.sizes:
        path = arguments.work / f"{size}.json"
        if not path.is_file():
            write_hashes(arguments.work / "hashes", size)
            command = [sys.executable, "-m", "benchmarks.deduplication", "--work", str(arguments.work)]
            done = subprocess.run([*command, "--measure", str(size)], check=True, stdout=subprocess.PIPE, text=True)
            path.write_text(done.stdout)
        runs.append(json.loads(path.read_text()))
    changes = {kind: {**asdict(change), **real_copy(kind)} for kind, change in KINDS.items()}
    results = {"sizes": runs, "exponent_of_growth": growth(runs), "kinds": changes}
    if arguments.output:
        from .timing import save  # imports torch, whose memory would count in the other processes

        save(results, arguments.output)
    else:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

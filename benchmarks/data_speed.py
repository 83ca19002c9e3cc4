"""Speed, size and memory of frame sets, side by side in one run on one core.

One video of ten minutes, 854×480 at 25 frames a second (two minutes of synthetic surgery with sensor noise, five times in a
row, H.264 with a key frame every five seconds). Random clips of 16 frames, 4 seconds apart, uint8, from

  frame set        as `surgvista prepare` makes it, shorter side 256
  frame set full   the same at 854×480
  PNG              folders of PNG files at 854×480, opened one by one, as published programs do
  PNG 256          the same at the size of the frame set: what is left is the difference of the format
  video            the MP4 file, by seeking

and: how fast a video is prepared, bytes on the disk, time and memory to open a frame set of 3.5 million frames.

    python -m benchmarks.data_speed --output benchmarks/results/data_speed_cpu.json
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.clips import online_seconds
from surgvista_hf.datasets_scripts.frame_sets.prepare import (
    MANIFEST,
    ROWS_AT_ONCE,
    prepare_frame_set,
    video_file,
    write_manifest,
)
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.util.files import atomic_file

from .timing import ratio, save

NUM_FRAMES, STRIDE, MINUTES, REPEATS = 16, 4, 2, 5
ROWS, VIDEOS = 3_500_000, 3_650
FRAME_SETS = {"frame set": PreparationOptions(), "frame set full": PreparationOptions(short_side=None)}


def make_video(work: Path) -> Path:
    """Render two minutes and repeat the coded packets."""
    path, part = work / "raw" / "operation.mp4", work / "part.mp4"
    if not path.exists():
        write_video(SyntheticOperation(1, 60.0 * MINUTES, height=480, width=854), part)
        repeat_video(part, path, REPEATS)
    return path


def repeat_video(part: Path, path: Path, repeats: int) -> None:
    """Write a video that shows another one several times in a row: its coded packets are copied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary, av.open(str(temporary), "w") as target, av.open(str(part)) as source:
        stream = target.add_stream_from_template(source.streams.video[0])
        length = source.streams.video[0].duration
        for repeat in range(repeats):
            with av.open(str(part)) as again:
                for packet in again.demux(again.streams.video[0]):
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + repeat * length, packet.dts + repeat * length
                        packet.stream = stream
                        target.mux(packet)


def prepare(work: Path, video: Path) -> dict[str, Any]:
    """Make both frame sets and both PNG folders; return how fast and how large."""
    seconds, sizes = {}, {}
    for name, options in FRAME_SETS.items():
        output = work / name
        shutil.rmtree(output, ignore_errors=True)
        start = time.perf_counter()
        prepare_frame_set("folder", video.parent, output, options=options)
        seconds[name] = time.perf_counter() - start
        sizes[name] = video_file(output, "operation").stat().st_size
    for name, side in (("PNG", None), ("PNG 256", 256)):
        folder = work / name
        folder.mkdir(exist_ok=True)
        if len(list(folder.iterdir())) < 60 * MINUTES * REPEATS:
            with VideoReader(video) as reader:
                for second, pixels in reader.iterate(1.0):
                    image = Image.fromarray(pixels)
                    if side:
                        image = image.resize(
                            (round(image.width * side / image.height), side), Image.Resampling.BICUBIC
                        )
                    image.save(folder / f"{int(second):05d}.png")
        sizes[name] = sum(file.stat().st_size for file in folder.iterdir())
    hours = MINUTES * REPEATS / 60
    return {
        "video_hours_per_core_hour": {name: round(hours * 3600 / value, 1) for name, value in seconds.items()},
        "bytes_per_frame": {name: round(size / (60 * MINUTES * REPEATS)) for name, size in sizes.items()},
        "disk_frame_set_over_png": round(sizes["frame set"] / sizes["PNG"], 4),
        "disk_frame_set_over_png_of_its_size": round(sizes["frame set"] / sizes["PNG 256"], 4),
        "disk_frame_set_full_over_png": round(sizes["frame set full"] / sizes["PNG"], 4),
    }


def readers(work: Path, video: Path) -> dict[str, Callable[[int], np.ndarray]]:
    """Return a function for each contestant that reads the clip ending with a second, (frames, height, width, 3) uint8."""
    sets = {
        name: ClipDataset(load_frame_set("folder", work / name, "all"), num_frames=NUM_FRAMES, frame_stride=STRIDE)
        for name in FRAME_SETS
    }

    def from_png(folder: Path) -> Callable[[int], np.ndarray]:
        """Return a reader of PNG files."""

        def read(last: int) -> np.ndarray:
            """Read a clip."""
            frames = online_seconds(last, NUM_FRAMES, STRIDE)
            return np.stack([np.asarray(Image.open(folder / f"{frame:05d}.png").convert("RGB")) for frame in frames])

        return read

    def from_video(last: int) -> np.ndarray:
        """Read a clip from the video."""
        with VideoReader(video) as reader:
            return reader.frames_at([float(frame) for frame in online_seconds(last, NUM_FRAMES, STRIDE)])

    return {
        **{
            name: (lambda last, clips=clips: clips[last]["pixel_values"].permute(0, 2, 3, 1).numpy())
            for name, clips in sets.items()
        },
        "PNG": from_png(work / "PNG"),
        "PNG 256": from_png(work / "PNG 256"),
        "video": from_video,
    }


def check_same(read: dict[str, Callable[[int], np.ndarray]]) -> dict[str, float]:
    """Check that all contestants return the same images; return the mean absolute difference in gray levels."""
    last = 333
    pairs = (("frame set full", "PNG"), ("frame set", "PNG 256"), ("PNG", "video"))
    differences = {
        f"{a} - {b}": float(np.abs(read[a](last).astype(int) - read[b](last).astype(int)).mean()) for a, b in pairs
    }
    if max(differences.values()) > 4:
        raise SystemExit(f"the contestants do not read the same frames: {differences}")
    return {name: round(value, 3) for name, value in differences.items()}


def race(read: dict[str, Callable[[int], np.ndarray]], rounds: int, clips: int) -> dict[str, Any]:
    """Measure clips per second; each round gives every contestant a turn, slow ones fewer clips."""
    random = np.random.default_rng(0)
    counts = {name: 1 if name == "video" else max(clips // 8, 1) if "PNG" in name else clips for name in read}
    seconds: dict[str, list[float]] = {name: [] for name in read}
    names = list(read)
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            ends = random.integers(60, 60 * MINUTES * REPEATS, counts[name]).tolist()
            start = time.perf_counter()
            for end in ends:
                read[name](end)
            if turn >= 0:
                seconds[name].append((time.perf_counter() - start) / len(ends))
    return {
        "clips_per_second": {name: round(1 / statistics.median(values), 2) for name, values in seconds.items()},
        "time_of_frame_set_over": {name: ratio(seconds, "frame set", name) for name in ("PNG", "PNG 256", "video")},
        "time_of_frame_set_full_over": {name: ratio(seconds, "frame set full", name) for name in ("PNG", "video")},
    }


# ------------------------------------------------------------------------------------------- large index


def make_large(folder: Path, rows: int, videos: int) -> Path:
    """Make a frame set of many rows with empty images, in the format that `prepare` writes."""
    if (folder / MANIFEST).exists():
        return folder
    info = get_builder("esd57").info
    schema = info.features.arrow_schema
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    length = rows // videos
    for number in range(videos):
        name = f"video{number:05d}"
        columns = [
            pa.array(["esd57"] * length),
            pa.array([name] * length),
            pa.array(range(length), pa.int32()),
            pa.array(range(length), pa.float32()),
            pa.array([{"bytes": b"x" * 20, "path": None}] * length, schema.field("image").type),
            pa.array([row % 8 for row in range(length)], pa.int64()),
        ]
        path = video_file(folder, name)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in pa.Table.from_arrays(columns, schema=schema).to_batches(ROWS_AT_ONCE):
                writer.write_batch(batch)
        report = {"video_id": name, "frames": length, "labeled": length, "seconds": float(length)}
        path.with_suffix(".json").write_text(
            json.dumps({**report, "parts": {}, "labels": {}, "remarks": [], "error": None})
        )
    write_manifest(folder, info, PreparationOptions())
    return folder


OPEN = """
import json, re, sys, time
from pathlib import Path
import datasets, torch
from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.registry import builders
builders()
def anonymous():
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Anonymous:\\s+(\\d+)", text)[1]) / 1024
before, start = anonymous(), time.perf_counter()
frames = load_frame_set("esd57", sys.argv[1], "all")
opened = time.perf_counter()
clips = ClipDataset(frames)
indexed = time.perf_counter()
labeled = ClipDataset(frames, label="phase")
done = time.perf_counter()
print(json.dumps({"rows": len(clips), "load_frame_set_seconds": round(opened - start, 3),
    "clip_dataset_seconds": round(indexed - opened, 3), "with_label_seconds": round(done - indexed, 3),
    "megabytes": round(anonymous() - before, 1)}))
"""


def open_large(work: Path) -> dict[str, Any]:
    """Time and memory to open a small and a large frame set, each in a process of its own, files in the page cache."""
    results = {}
    for rows, videos in ((ROWS // 10, VIDEOS // 10), (ROWS, VIDEOS)):
        folder = make_large(work / f"rows_{rows}", rows, videos)
        runs = []
        for _ in range(4):
            command = [sys.executable, "-c", OPEN, str(folder)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs.append(json.loads(output.splitlines()[-1]))
        results[f"{runs[0]['rows']} rows, {videos} videos"] = {
            key: statistics.median(run[key] for run in runs[1:]) for key in runs[0] if key != "rows"
        }
    return results


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/data_speed"), help="folder for what is measured (2 GB)"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clips", type=int, default=64, help="clips of the fastest contestants in a round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    video = make_video(arguments.work)
    preparation = prepare(arguments.work, video)
    read = readers(arguments.work, video)
    save(
        {
            "video": {"seconds": 60 * MINUTES * REPEATS, "bytes": video.stat().st_size, "size": "854x480", "rate": 25},
            "clip": {"frames": NUM_FRAMES, "stride_seconds": STRIDE},
            "cores_used": 1,
            "mean_absolute_difference": check_same(read),
            "reading": race(read, arguments.rounds, arguments.clips),
            "preparing": preparation,
            "opening": open_large(arguments.work),
        },
        arguments.output,
    )


if __name__ == "__main__":
    main()

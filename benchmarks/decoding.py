"""Processor time of decoding only what is wanted, beside `ffmpeg` and beside a full decode, in one run on the same file.

A real recording of a laparoscopic operation (H.264, 1280×720, 25 frames a second, B frames), its coded packets repeated. All
make the same number of images: one a second, shorter side 256, JPEG.

  ffmpeg        `ffmpeg -vf fps=1,scale=-2:256` to JPEG files
  prepare       `prepare_frame_set`: this package, which also checks the file and writes a frame set
  full decode   the same, decoding every frame

and, reading alone: frames for a prediction (1 a second) and for curation (8 a second), against a full decode.

    python -m benchmarks.decoding --video ../shared/data/clips/cholecystectomy_720p_25fps.mp4 \
        --output benchmarks/results/decoding_cpu.json
"""

import argparse
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.modeling import video_skipping_surgvista as skipping
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from .data_speed import repeat_video
from .tables import markdown_table, quartiles, read_results, recorded_quartiles
from .timing import both_clocks, ratio, save

FILE = "decoding_cpu.json"
SIDE = 256


@contextmanager
def everything_decoded() -> Iterator[None]:
    """Have readers decode every frame."""
    known = skipping._coding_of
    skipping._coding_of = lambda context: None
    try:
        yield
    finally:
        skipping._coding_of = known


def preparing(video: Path, work: Path) -> dict[str, Callable[[], Any]]:
    """Return what makes images of a video, by name."""

    def by_ffmpeg() -> None:
        folder = work / "ffmpeg"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = ["ffmpeg", "-v", "error", "-i", str(video), "-vf", f"fps=1,scale=-2:{SIDE}", "-q:v", "2"]
        subprocess.run([*command, str(folder / "%05d.jpg")], check=True)

    def by_prepare() -> None:
        folder = work / "frames"
        shutil.rmtree(folder, ignore_errors=True)
        prepare_frame_set("folder", video.parent, folder)

    def by_full_decode() -> None:
        with everything_decoded():
            by_prepare()

    return {"ffmpeg": by_ffmpeg, "prepare": by_prepare, "full decode": by_full_decode}


def reading(video: Path, per_second: float) -> dict[str, Callable[[], Any]]:
    """Return what reads frames of a video and forgets them, by name."""

    def read() -> str:
        digest = hashlib.sha256()
        with VideoReader(video) as reader:
            for _, frame in reader.iterate(1 / per_second):
                digest.update(frame[::16, ::16].tobytes())
        return digest.hexdigest()

    def read_all() -> str:
        with everything_decoded():
            return read()

    if read() != read_all():
        raise SystemExit("the frames are not those of a full decode")
    return {"wanted": read, "full decode": read_all}


def table() -> str:
    """Return processor times beside those of others, as a table for the documentation."""
    results = read_results(FILE)
    preparing = results["preparing"]
    minutes = results["video"]["frames"] / results["video"]["rate"] / 60
    names = {
        "ffmpeg": "`ffmpeg -vf fps=1` to JPEG files",
        "prepare": "`prepare`",
        "full decode": "`prepare`, all decoded",
    }
    rows = [
        [title, quartiles([each / minutes for each in preparing["processor_seconds"][name]])]
        for name, title in names.items()
    ]
    for rate, found in results["reading"].items():
        for name, title in {"wanted": "only what is wanted", "full decode": "all decoded"}.items():
            seconds = [each / minutes for each in found["processor_seconds"][name]]
            rows.append([f"reading {rate}, {title}", quartiles(seconds)])
    return markdown_table(["", "processor seconds for a minute of video"], rows)


def ratios() -> str:
    """Return the ratios of preparing, for a sentence of the documentation."""
    over = read_results(FILE)["preparing"]["prepare_over"]
    texts = {name: recorded_quartiles(each) for name, each in over.items()}
    return f"{texts['ffmpeg']} of the processor time of `ffmpeg`, and {texts['full decode']} of that of a full decode"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, required=True, help="H.264 video with B frames")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--work", type=Path, default=Path(".cache/decoding"), help="folder for what is measured")
    parser.add_argument("--repeats", type=int, default=12, help="how often the video is repeated")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    video = arguments.work / "raw" / "operation.mp4"
    repeat_video(arguments.video, video, arguments.repeats)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        about = {
            "codec": stream.codec_context.name,
            "size": f"{stream.width}x{stream.height}",
            "rate": float(stream.average_rate or 0),
            "frames": stream.frames,
        }
    _, seconds = both_clocks(preparing(video, arguments.work), rounds=arguments.rounds)
    results: dict[str, Any] = {
        "video": {"name": arguments.video.name, "repeats": arguments.repeats, **about},
        "measured": "processor time of all threads and children; imports are not counted",
        "preparing": {
            "processor_seconds": {name: [round(each, 2) for each in values] for name, values in seconds.items()},
            "prepare_over": {name: ratio(seconds, "prepare", name) for name in ("ffmpeg", "full decode")},
        },
        "reading": {},
    }
    for per_second in (1.0, 8.0):
        _, seconds = both_clocks(reading(video, per_second), rounds=arguments.rounds)
        results["reading"][f"{per_second:g} a second"] = {
            "processor_seconds": {name: [round(each, 2) for each in values] for name, values in seconds.items()},
            "wanted_over_full_decode": ratio(seconds, "wanted", "full decode"),
        }
    save(results, arguments.output)


if __name__ == "__main__":
    main()

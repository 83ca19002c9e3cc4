"""Prediction of whole operations, side by side in one run, at base size: 16 frames of 224², four seconds apart.

The videos are synthetic operations at 854×480 and 25 frames/s, with a key frame every five seconds. Costs are per predicted
second:

  naive          what one would plainly write: for each second open the file, seek the 16 frames, prepare them, and
                 run transformers' VideoMAE with eager attention, one clip at a time; four seconds after the first minute
                 of a video of 80 s, where clips have 16 different frames
  ours           `SurgicalVideoPredictor.predict` on a whole video of 16 s, fp32: frames decoded and prepared once,
                 batches of 8, sdpa attention
  ours, bf16     the same in bfloat16 (autocast)
  ours, onnx     the exported graph in ONNX Runtime; `int8`: its matrix products in 8 bits
  ours, stream   `SurgicalVideoPredictor.stream`: one clip at a time, as the seconds come; its latencies too

The part `default` is for every machine and takes less than five minutes on two idle cores: the plain loop, fp32, what
`surgvista predict` does by itself (bfloat16 where the processor has it), with `--fast` (8 bits) and with `--every 2`, all in
every round, on the wall clock and in processor seconds.

The first two also meet on videos of 1920×1080 pixels, as today's endoscopy towers record them: part `large_frames`.

Peak memory of a video of ten minutes and of one of two hours is that of a process with a tiny model, so that frames would
show.

    python -m benchmarks.inference_speed --output benchmarks/results/inference_speed_cpu.json
    python -m benchmarks.inference_speed --output … --only large_frames   # measures one part anew, and keeps the others
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessor

from surgvista_hf import (
    SurgicalVideoPredictor,
    SurgVistaConfig,
    SurgVistaForVideoClassification,
    SurgVistaVideoProcessor,
)
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.inference.models.onnx_export import export_model
from surgvista_hf.modeling.video_processing_surgvista import online_clip_seconds
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from .tables import machine_of, markdown_table, quartiles, read_results, recorded_quartiles
from .timing import both_clocks, ratio, save, side_by_side

CLASSES, SHORTEST, SHORT, LONG, ASKED = 7, 4, 16, 80, (61, 66, 71, 76)
SIZE, LARGE = (854, 480), (1920, 1080)
TINY = {"image_size": 64, "num_frames": 4, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
PARTS = ("default", "speed", "large_frames", "peak_memory_bytes", "gpu_clips_per_second")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds (default: 3)")
    parser.add_argument(
        "--memory-of", type=Path, help="predict this video with a tiny model and print the peak memory"
    )
    parser.add_argument(
        "--only", choices=PARTS, help="measure this part and keep what the file, if there is one, says of the others"
    )
    arguments = parser.parse_args()
    if arguments.memory_of:
        make_predictor(sizes=TINY).predict(arguments.memory_of)
        status = Path("/proc/self/status").read_text()  # getrusage remembers what the parent process had
        print(1024 * int(re.search(r"VmHWM:\s*(\d+)", status)[1]))  # type: ignore[index]
        return
    if arguments.output is None:
        parser.error("--output is missing")
    kept = arguments.only and arguments.output.exists()
    results = json.loads(arguments.output.read_text()) if kept else {}
    results.pop("machine", None)
    for part in [arguments.only] if arguments.only else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            if part == "default":
                results[part] = _default(Path(folder), arguments.rounds)
            elif part == "speed":
                results[part] = _speed(Path(folder), arguments.rounds)
            elif part == "large_frames":
                results[part] = _large_frames(Path(folder), arguments.rounds)
            elif part == "peak_memory_bytes":
                results[part] = _memory(Path(folder))
            elif torch.cuda.is_available():
                results[part] = _gpu()
    save(results, arguments.output)


def _default(folder: Path, rounds: int) -> dict[str, Any]:
    video = write_operation(folder, LONG, SIZE)
    full, default, seldom = make_predictor("float32"), make_predictor("auto"), make_predictor("auto", every=2)
    for predictor in (full, default, seldom):
        random = torch.Generator().manual_seed(0)
        predictor.models["model"].model.classifier.weight.data.normal_(
            std=0.1, generator=random
        )  # so that precisions differ
    export_model(full.models["model"], folder / "int8", int8=True)
    fast = SurgicalVideoPredictor(folder / "int8", runtime="onnx")
    asked, answers = ASKED[:2], {}
    predictors = {"float32": full, "default": default, "fast": fast, "every 2": seldom}

    def predict(name: str) -> None:
        """Predict the first seconds of the video, and keep the probabilities."""
        with VideoReader(video) as reader:
            frames = itertools.islice(reader.iterate(1.0), SHORTEST)
            answers[name] = predictors[name].predict_frames(frames)["model"].probabilities

    contestants = {"plain loop": PlainLoop(video, seconds=asked)} | {
        name: partial(predict, name) for name in predictors
    }
    work = dict.fromkeys(contestants, SHORTEST) | {"plain loop": len(asked)}
    clocks = {}
    for clock, seconds in zip(("wall", "processor"), both_clocks(contestants, rounds=rounds, warmup=0), strict=True):
        costs = {name: [round(value / work[name], 4) for value in values] for name, values in seconds.items()}
        clocks[clock] = {
            "seconds_per_predicted_second": costs,
            "plain_loop_over": {name: ratio(costs, "plain loop", name) for name in predictors},
        }
    differences = {
        name: round(float(np.abs(answers[name] - answers["float32"]).max()), 5) for name in ("default", "fast")
    }
    return {"computes_in": default.computing_text, **clocks, "largest_difference_of_a_probability": differences}


def _speed(folder: Path, rounds: int) -> dict[str, Any]:
    short, long = (write_operation(folder, seconds, SIZE) for seconds in (SHORT, LONG))
    predictors = {dtype: make_predictor(dtype) for dtype in ("float32", "bfloat16")}
    sizes = {}
    for name in ("onnx", "onnx int8"):
        report = export_model(predictors["float32"].models["model"], folder / name, int8="int8" in name)
        predictors[name] = SurgicalVideoPredictor(folder / name, runtime="onnx")
        sizes[name] = report.bytes
    latencies: list[float] = []

    def stream() -> None:
        """Predict as a stream does."""
        with VideoReader(short) as reader:
            latencies.extend(step.latency_seconds for step in predictors["float32"].stream(reader.iterate(1.0)))

    naive = PlainLoop(long)
    named = {"ours": "float32", "ours, bf16": "bfloat16", "ours, onnx": "onnx", "ours, onnx int8": "onnx int8"}
    contestants = {
        "naive": naive,
        **{name: partial(predictors[key].predict, short) for name, key in named.items()},
        "ours, stream": stream,
    }
    work = dict.fromkeys(contestants, SHORT) | {"naive": len(ASKED)}
    seconds = side_by_side(contestants, rounds=rounds, warmup=0)
    costs = {name: [round(value / work[name], 4) for value in values] for name, values in seconds.items()}
    ranks = np.quantile(latencies[1:], [0.5, 0.95])
    return {
        "seconds_per_predicted_second": costs,
        "naive_over_ours": ratio(costs, "naive", "ours"),
        "over_ours": {name: ratio(costs, name, "ours") for name in list(work)[2:]},
        "exported_bytes": sizes,
        "naive_decoding_share": round(float(np.mean(naive.decoding)), 3),
        "stream_latency_seconds": {"p50": round(float(ranks[0]), 4), "p95": round(float(ranks[1]), 4)},
    }


def _large_frames(folder: Path, rounds: int) -> dict[str, Any]:
    short, long = (write_operation(folder, seconds, LARGE) for seconds in (SHORT, LONG))
    naive, predictor = PlainLoop(long), make_predictor()
    contestants = {"naive": naive, "ours": partial(predictor.predict, short)}
    work = {"naive": len(ASKED), "ours": SHORT}
    seconds = side_by_side(contestants, rounds=rounds, warmup=0)
    costs = {name: [round(value / work[name], 4) for value in values] for name, values in seconds.items()}
    return {
        "seconds_per_predicted_second": costs,
        "naive_over_ours": ratio(costs, "naive", "ours"),
        "naive_decoding_share": round(float(np.mean(naive.decoding)), 3),
    }


def write_operation(folder: Path, seconds: int, size: tuple[int, int]) -> Path:
    """Write a video of an operation; larger ones are enlarged from the usual size."""
    width, height = SIZE
    operation = SyntheticOperation(1, duration_seconds=seconds, height=height, width=width, frames_per_second=25.0)
    path = write_video(operation, folder / f"{seconds}.mp4")
    if size == SIZE:
        return path
    large = folder / f"{seconds}_large.mp4"
    with VideoReader(path) as reader, av.open(str(large), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, "yuv420p", 125
        for _, pixels in reader.iterate(None):
            enlarged = np.asarray(Image.fromarray(pixels).resize(size))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(enlarged, format="rgb24")))
        container.mux(stream.encode())
    return large


class PlainLoop:
    """Predict each clip by itself, as one would plainly write it, with transformers' VideoMAE and eager attention.

    Args:
        video: video of more than `ASKED` seconds.
        device: device that runs the model.
        sizes: changes to the configuration, by default none: base size.
        seconds: seconds that are predicted.
    """

    def __init__(
        self,
        video: Path,
        device: str = "cpu",
        sizes: Mapping[str, int] | None = None,
        seconds: Sequence[int] = ASKED,
    ) -> None:
        self.video, self.device, self.asked = video, device, seconds
        config = VideoMAEConfig(num_labels=CLASSES, attn_implementation="eager", **(sizes or {}))
        self.model = VideoMAEForVideoClassification(config).eval().to(device)
        side = {"height": config.image_size, "width": config.image_size}
        self.processor = VideoMAEImageProcessor(size={"shortest_edge": config.image_size}, crop_size=side)
        self.decoding: list[float] = []

    @torch.inference_mode()
    def __call__(self) -> None:
        """Predict the seconds."""
        frames_of_clip = self.model.config.num_frames
        for second in self.asked:
            began = time.perf_counter()
            with VideoReader(self.video) as reader:
                seconds = online_clip_seconds(second, frames_of_clip, 4)
                frames = reader.frames_at([float(moment) for moment in seconds])
            decoded = time.perf_counter()
            self.model(**self.processor(list(frames), return_tensors="pt").to(self.device)).logits.cpu()
            self.decoding.append((decoded - began) / (time.perf_counter() - began))


def make_predictor(
    dtype: str = "float32", *, batch_size: int = 8, sizes: Mapping[str, int] | None = None, every: int = 1
) -> SurgicalVideoPredictor:
    """Return a predictor with an untrained classifier of base size, or of other sizes."""
    torch.manual_seed(0)
    config = SurgVistaConfig(num_labels=CLASSES, **(sizes or {}))
    processor = SurgVistaVideoProcessor(
        size={"height": config.frame_size[0], "width": config.frame_size[1]},
        num_frames=config.num_frames,
        frame_stride=4,
    )
    model = SurgVistaForVideoClassification(config)
    return SurgicalVideoPredictor(model, processor, dtype=dtype, batch_size=batch_size, every=every)


def default_table() -> str:
    """Return the part `default` of the machine with AMX as a table."""
    part = read_results("inference_speed_amx_cpu.json")["default"]
    names = {
        "float32": "`predict --dtype float32`",
        "default": f"`predict`, which computes in {part['computes_in']}",
        "fast": "`predict --fast`",
        "every 2": "`predict --every 2`",
    }
    plain = part["processor"]["seconds_per_predicted_second"]["plain loop"]
    rows = [["plain loop", quartiles(plain), "1", "1"]]
    for name, title in names.items():
        ratios = [part[clock]["plain_loop_over"][name] for clock in ("processor", "wall")]
        cells = [recorded_quartiles(each) for each in ratios]
        rows.append([title, quartiles(part["processor"]["seconds_per_predicted_second"][name]), *cells])
    header = ["", "processor seconds", "plain loop over it, processor seconds", "the same, wall clock"]
    return markdown_table(header, rows)


def default_machine() -> str:
    """Return the machine that `default_table` was measured on."""
    return machine_of("inference_speed_amx_cpu.json")


def default_differences() -> str:
    """Return how far precisions move a probability at base size."""
    moved = read_results("inference_speed_amx_cpu.json")["default"]["largest_difference_of_a_probability"]
    return f"{moved['default']:.3f} in bfloat16 and {moved['fast']:.3f} in 8 bits"


def _memory(folder: Path) -> dict[str, int]:
    peaks = {}
    for name, minutes in (("10 minutes", 10), ("2 hours", 120)):
        video = folder / f"{minutes}.mp4"
        with av.open(str(video), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(1), options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for number in range(60 * minutes):
                frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), number % 256, np.uint8), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        command = [sys.executable, "-m", "benchmarks.inference_speed", "--memory-of", str(video)]
        peaks[name] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    return peaks


def _gpu() -> dict[str, dict[str, float]]:
    """Measure clips per second on the GPU alone, with prepared clips in its memory, by batch size."""
    rates: dict[str, dict[str, float]] = {}
    for dtype in ("float32", "bfloat16"):
        model = next(iter(make_predictor(dtype).models.values()))
        for batch in (1, 2, 4, 8, 16, 32, 64):
            clips = torch.rand(batch, 16, 3, 224, 224, device=model.device)
            seconds = side_by_side({"run": partial(model.run, clips)}, rounds=10, warmup=3)["run"]
            rates.setdefault(dtype, {})[str(batch)] = round(batch / float(np.median(seconds)), 1)
    return rates


if __name__ == "__main__":
    main()

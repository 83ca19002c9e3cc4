"""Throughput of curation, stage by stage: hours of video per hour of one core.

Synthetic web videos of 1280×720 at 25 frames a second (most of LEMON has this size), with cards, talks, an operation of some
minutes under overlays. Models have the published architectures and sizes with random weights, which costs the same: ResNet-18
at 384×384, one for storyboards and two for frames, and a small SegFormer in the place of the YOLO detectors. No web: `collect`
copies from a folder.

    python -m benchmarks.curation_speed --output benchmarks/results/curation_speed_cpu.json
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import av
import torch
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    ViTImageProcessor,
)
from transformers.utils import logging

from surgvista_hf.curation.collection.collect import collect, from_folder
from surgvista_hf.curation.collection.manifest import Collection
from surgvista_hf.curation.collection.overrides import Override, Overrides, to_json
from surgvista_hf.curation.collection.results import STAGES, summarize
from surgvista_hf.curation.stages.export import export_frame_set
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_stage
from surgvista_hf.datasets_scripts.synthetic.web_videos import SyntheticWebVideo, write_web_video

from .timing import save

HEIGHT, WIDTH, RATE = 720, 1280, 25.0


def save_classifier(folder: Path, names: tuple[str, str]) -> str:
    """Save ResNet-18 with random weights; the first class always wins, so that every stage has its work."""
    labels = dict(enumerate(names))
    torch.manual_seed(0)
    config = ResNetConfig(
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        layer_type="basic",
        id2label=labels,
        label2id={name: number for number, name in labels.items()},
    )
    model = ResNetForImageClassification(config)
    with torch.no_grad():
        model.classifier[1].bias[0] = 1e3
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 384, "width": 384}).save_pretrained(folder)
    return str(folder)


def save_detector(folder: Path, side: int) -> str:
    """Save SegFormer-B0 with random weights."""
    torch.manual_seed(0)
    names = {0: "surgical", 1: "region"}
    config = SegformerConfig(id2label=names, label2id={name: number for number, name in names.items()})
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return str(folder)


def make_videos(folder: Path, count: int, seconds: float, repeats: int) -> None:
    """Render a video once and join it with itself, since rendering takes far longer than the pipeline."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"upload-{number}.mp4"
        if path.exists():
            continue
        part = folder / f".part-{number}.mp4"
        video = SyntheticWebVideo(number, surgical_seconds=seconds, height=HEIGHT, width=WIDTH, frames_per_second=RATE)
        if not part.exists():
            write_web_video(video, part)
        with av.open(str(path), "w") as target:
            stream = None
            for repeat in range(repeats):
                with av.open(str(part)) as source:
                    template = source.streams.video[0]
                    stream = stream or target.add_stream_from_template(template)
                    for packet in source.demux(template):
                        if packet.dts is not None:
                            packet.pts += repeat * template.duration
                            packet.dts += repeat * template.duration
                            packet.stream = stream
                            target.mux(packet)


def clean(folder: Path, stage: str) -> None:
    """Remove the results of a stage."""
    shutil.rmtree(folder / "results" / stage, ignore_errors=True)


def measured(work: Callable[[], object], before: Callable[[], None], rounds: int) -> float:
    """Measure the median processor time of this process and its children, in seconds."""
    seconds = []
    for _ in range(rounds):
        before()
        start = processor_seconds()
        work()
        seconds.append(processor_seconds() - start)
    return statistics.median(seconds)


def processor_seconds() -> float:
    """Return the processor time so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--work", type=Path, default=Path(".cache/curation_speed"), help="folder for what is measured")
    parser.add_argument("--videos", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of an operation, before it is repeated")
    parser.add_argument("--repeats", type=int, default=6, help="of each rendered part in its video")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    web, corpus, frames = (arguments.work / name for name in ("web", "corpus", "frames"))
    make_videos(web, arguments.videos, arguments.seconds, arguments.repeats)
    models = arguments.work / "models"
    options = CurationOptions(
        video_models=(save_classifier(models / "videos", ("informative", "uninformative")),),
        frame_models=tuple(save_classifier(models / f"frames-{n}", ("surgical", "non-surgical")) for n in "ab"),
        region_models=(save_detector(models / "regions", 512),),
        device="cpu",
    )
    rates: dict[str, float] = {}
    began = time.perf_counter()

    def measure(name: str, work: Callable[[], object], before: Callable[[], None]) -> None:
        """Measure one stage."""
        seconds = measured(work, before, arguments.rounds)
        rates[name] = round(hours * 3600 / seconds, 1)
        print(f"{name:16} {rates[name]:10.1f} video-hours per core-hour", flush=True)

    shutil.rmtree(corpus, ignore_errors=True)
    collect(corpus, from_folder(web))
    hours = sum(video.seconds for video in Collection(corpus).videos("collected")) / 3600
    measure("collect (copy)", lambda: collect(corpus, from_folder(web)), lambda: shutil.rmtree(corpus))
    # Nothing is dropped, so that each stage sees all hours.
    keep_all = Overrides([Override(video.video_id, "keep") for video in Collection(corpus).videos()])
    Collection(corpus).overrides.write_text(to_json(keep_all))
    for stage in STAGES:
        measure(stage.name, lambda: run_stage(corpus, stage.name, options), lambda: clean(corpus, stage.name))  # noqa: B023
    measure("export", lambda: export_frame_set(corpus, frames), lambda: shutil.rmtree(frames, ignore_errors=True))
    stages = {name: rate for name, rate in rates.items() if name != "collect (copy)"}
    total = 1 / sum(1 / rate for rate in stages.values())
    counts = [report.to_dict() for report in summarize(Collection(corpus))]
    save(
        {
            "videos": {"count": arguments.videos, "hours": round(hours, 4), "size": f"{WIDTH}x{HEIGHT}", "rate": RATE},
            "models": {"videos": "1 ResNet-18", "frames": "2 ResNet-18", "regions": "SegFormer-B0 at 512"},
            "cores_used": "time of the processor, one core's worth; children included",
            "video_hours_per_core_hour": rates,
            "all_stages_together": round(total, 2),
            "kept": {count["stage"]: count["kept"] for count in counts},
            "seconds_of_the_benchmark": round(time.perf_counter() - began),
        },
        arguments.output,
    )


if __name__ == "__main__":
    main()

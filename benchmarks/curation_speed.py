"""Throughput of curation: hours of video per hour of one core, one stage after the other and in one pass.

One stage after the other decodes each video anew and runs the models in float32, as it was before there was another way; one
pass is what `surgvista curate run` does. Both are measured in every round, on the same video with the same models, to the
export. Time is that of the processor, so other work on the machine disturbs little, but not nothing.

Synthetic web videos of 1280×720 at 25 frames a second (most of LEMON has this size), with cards, talks, an operation of some
minutes under overlays. Models have the published architectures and sizes with random weights, which costs the same: ResNet-18
at 384×384, one for storyboards and two for frames, and a small SegFormer in the place of the YOLO detectors. No web: `collect`
copies from a folder.

    python -m benchmarks.curation_speed --output benchmarks/results/curation_speed_cpu.json
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from surgvista_hf.curation.collection.results import STAGES, read_result, summarize
from surgvista_hf.curation.models.classifiers import resolve_precision
from surgvista_hf.curation.stages.export import export_frame_set
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline, run_stage
from surgvista_hf.datasets_scripts.synthetic.web_videos import SyntheticWebVideo, write_web_video

from .tables import markdown_table, read_results, recorded_quartiles
from .timing import processor_seconds, ratio, save

FILE = "curation_speed_cpu.json"
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


def timed(work: Callable[[], object]) -> float:
    """Return the processor time of a function in seconds."""
    start = processor_seconds()
    work()
    return processor_seconds() - start


def clean(corpus: Path, frames: Path) -> None:
    """Remove all results and the frame set."""
    shutil.rmtree(corpus / "results", ignore_errors=True)
    shutil.rmtree(frames, ignore_errors=True)


def stage_by_stage(corpus: Path, frames: Path, options: CurationOptions) -> dict[str, float]:
    """Run one stage after the other, and return the seconds of each."""
    clean(corpus, frames)
    seconds = {stage.name: timed(lambda: run_stage(corpus, stage.name, options)) for stage in STAGES}  # noqa: B023
    return {**seconds, "export": timed(lambda: export_frame_set(corpus, frames))}


def in_one_pass(corpus: Path, frames: Path, options: CurationOptions) -> dict[str, float]:
    """Run the pipeline, and return the seconds of all stages and of the export."""
    clean(corpus, frames)
    seconds = timed(lambda: run_pipeline(corpus, options))
    return {"all stages": seconds, "export": timed(lambda: export_frame_set(corpus, frames))}


def decisions(corpus: Path, video_ids: list[str]) -> list[Any]:
    """Return what the stages decided: surgical seconds, the operation, kept videos."""
    found = []
    for name in video_ids:
        trimmed, repeats = (read_result(Collection(corpus), stage, name) for stage in ("trim", "deduplicate"))
        found.append((trimmed and trimmed.content, repeats and (repeats.kept, repeats.detail)))
    return found


def table() -> str:
    """Return the throughput of each stage and of one pass, as a table for the documentation."""
    results = read_results(FILE)
    rates, totals = results["video_hours_per_core_hour"], results["all_stages_together"]
    models = results["models"]
    used = {"classify-videos": models["videos"], "classify-frames": models["frames"], "mask": models["regions"]}
    rows = [
        [stage, f"{rates['stage_by_stage'][stage]:g}", used.get(stage, "")]
        for stage in ("classify-videos", "classify-frames", "hash", "mask", "export")
    ]
    ways = {
        "stage_by_stage": "**all, one stage after the other**, each with its own decode",
        "one_pass": "**all in one pass**",
    }
    rows += [
        [title, f"**{totals[name]:.1f}**", f"classifiers in {results['number_format'][name]}"]
        for name, title in ways.items()
    ]
    return markdown_table(["Stage", "video-hours per core-hour", "with"], rows)


def comparison() -> str:
    """Return how one pass compares with one stage after the other, for a sentence of the documentation."""
    results = read_results(FILE)
    over = recorded_quartiles(results["time_of_one_pass_over_stage_by_stage"])
    decisions = "the same decisions" if results["same_decisions"] else "**other decisions**"
    return f"{over} of the time of one stage after the other, in {results['rounds']} rounds, with {decisions}"


def earlier(output: Path, key: str) -> dict[str, Any]:
    """Return the results that were measured before there was one pass, from the file that is about to be replaced."""
    if not output.exists():
        return {}
    content: dict[str, Any] = json.loads(output.read_text())
    if key in content:
        return {key: content[key]}
    names = ("machine", "video_hours_per_core_hour", "all_stages_together", "videos", "models")
    return {key: {name: content[name] for name in names}} if "all_stages_together" in content else {}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--work", type=Path, default=Path(".cache/curation_speed"), help="folder for what is measured")
    parser.add_argument("--videos", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of an operation, before it is repeated")
    parser.add_argument("--repeats", type=int, default=2, help="of each rendered part in its video")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    corpus, frames, models = (arguments.work / name for name in ("corpus", "frames", "models"))
    web = arguments.work / f"web-{arguments.repeats}"
    make_videos(web, arguments.videos, arguments.seconds, arguments.repeats)
    options = CurationOptions(
        video_models=(save_classifier(models / "videos", ("informative", "uninformative")),),
        frame_models=tuple(save_classifier(models / f"frames-{n}", ("surgical", "non-surgical")) for n in "ab"),
        region_models=(save_detector(models / "regions", 512),),
        device="cpu",
    )
    began = time.perf_counter()
    shutil.rmtree(corpus, ignore_errors=True)
    collecting = timed(lambda: collect(corpus, from_folder(web)))
    videos = Collection(corpus).videos("collected")
    names = [video.video_id for video in videos]
    hours = sum(video.seconds for video in videos) / 3600
    # Nothing is dropped, so that each stage sees all hours.
    Collection(corpus).overrides.write_text(to_json(Overrides([Override(name, "keep") for name in names])))
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "stage_by_stage": lambda: stage_by_stage(corpus, frames, replace(options, dtype="float32")),
        "one_pass": lambda: in_one_pass(corpus, frames, options),
    }
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    decided: dict[str, list[Any]] = {}
    for turn in range(arguments.rounds):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            seconds[name].append(ways[name]())
            decided[name] = decisions(corpus, names)
            rate = hours * 3600 / sum(seconds[name][-1].values())
            print(f"{name:16} {rate:8.2f} video-hours per core-hour", flush=True)
    totals = {name: [sum(each.values()) for each in rounds] for name, rounds in seconds.items()}

    def rates(rounds: list[dict[str, float]]) -> dict[str, float]:
        """Return the hours of video per core-hour of each part, by its median."""
        return {
            part: round(hours * 3600 / max(statistics.median(each[part] for each in rounds), 1e-3), 1)
            for part in rounds[0]
        }

    counts = [report.to_dict() for report in summarize(Collection(corpus))]
    key = "before_one_pass"
    save(
        {
            "videos": {"count": arguments.videos, "hours": round(hours, 4), "size": f"{WIDTH}x{HEIGHT}", "rate": RATE},
            "models": {"videos": "1 ResNet-18", "frames": "2 ResNet-18", "regions": "SegFormer-B0 at 512"},
            "cores_used": "time of the processor, one core's worth; children included",
            "rounds": arguments.rounds,
            "number_format": {"stage_by_stage": "float32", "one_pass": resolve_precision("auto", "cpu")},
            "video_hours_per_core_hour": {
                "collect (copy)": round(hours * 3600 / collecting, 1),
                **{name: rates(rounds) for name, rounds in seconds.items()},
            },
            "all_stages_together": {
                name: round(hours * 3600 / statistics.median(each), 2) for name, each in totals.items()
            },
            "time_of_one_pass_over_stage_by_stage": ratio(totals, "one_pass", "stage_by_stage"),
            "same_decisions": decided["one_pass"] == decided["stage_by_stage"],
            "kept": {count["stage"]: count["kept"] for count in counts},
            "seconds_of_the_benchmark": round(time.perf_counter() - began),
            **earlier(arguments.output, key),
        },
        arguments.output,
    )


if __name__ == "__main__":
    main()

"""Does curation find what it should? Synthetic web videos with known truth, stage by stage.

Three small models are trained from nothing on labeled pictures of some videos; then the pipeline runs over others: operations
with cards, talks, slides and interruptions around them and with logos, captions, bars and pictures in the picture over them;
talks without operations; uploads of operations that are there already, cut elsewhere, smaller, coarser, with other packaging.
Models have not seen these; the hashes and limits of de-duplication were chosen with an eye on five of them. The pictures
are rendered: how well models trained on real ones do is another question.

    python -m benchmarks.curation_quality --output benchmarks/results/curation_quality_cpu.json
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from surgvista_hf.curation.collection.collect import collect, from_folder
from surgvista_hf.curation.collection.manifest import Collection
from surgvista_hf.curation.collection.results import read_result
from surgvista_hf.curation.models.training import (
    Schedule,
    class_scores,
    region_scores,
    train_classifier,
    train_region_detector,
)
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline
from surgvista_hf.curation.stages.seconds import trim
from surgvista_hf.curation.synthetic_labels import (
    INFORMATIVE,
    SURGICAL,
    write_frames,
    write_regions,
    write_storyboards,
)
from surgvista_hf.datasets_scripts.synthetic.web_videos import SyntheticWebVideo, write_web_video

from .timing import save

SIDE = 128  # pixels that the models see
UNSEEN = 10_000  # seeds from here on are not trained on
SHIFT = 3.7  # seconds by which copies begin later


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Run a function and print how long it took."""
    began = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - began, 1)


def train_models(folder: Path, videos: int) -> tuple[CurationOptions, dict[str, Any]]:
    """Train the three models, and return how they were trained."""
    operations = [SyntheticWebVideo(seed) for seed in range(videos)]
    mixed = [replace(video, informative=video.seed % 4 != 3) for video in operations]
    boards = [SyntheticWebVideo(seed, informative=seed % 2 == 0) for seed in range(2 * videos)]
    reports = {
        "storyboards": train_classifier(
            write_storyboards(boards, folder / "storyboards"),
            folder / "storyboard-model",
            classes=INFORMATIVE,
            side=SIDE,
            schedule=Schedule(epochs=16, batch_size=16),
        ),
        "frames": train_classifier(
            write_frames(mixed, folder / "frames", per_video=20),
            folder / "frame-model",
            classes=SURGICAL,
            side=SIDE,
            schedule=Schedule(epochs=8),
        ),
        "regions": train_region_detector(
            write_regions(operations, folder / "regions"),
            folder / "region-model",
            side=SIDE,
            schedule=Schedule(epochs=12, batch_size=16, learning_rate=3e-3),
        ),
    }
    models = {
        f"{name}_models": (str(folder / f"{model}-model"),)
        for name, model in (("video", "storyboard"), ("frame", "frame"), ("region", "region"))
    }
    return CurationOptions(**models), reports


def unseen_videos(operations: int, talks: int, copies: int) -> dict[str, SyntheticWebVideo]:
    """Make the videos for the pipeline, by id. A copy has other packaging, begins `SHIFT` seconds later, and is smaller."""
    videos = {
        f"operation-{number}": SyntheticWebVideo(
            UNSEEN + number, operation_start=10.0 * (number % 12), surgical_seconds=40, frames_per_second=8
        )
        for number in range(operations)
    }
    for number in range(talks):
        videos[f"talk-{number}"] = SyntheticWebVideo(UNSEEN + 1000 + number, informative=False, frames_per_second=8)
    for number in range(copies):
        original = videos[f"operation-{number}"]
        videos[f"copy-{number}"] = replace(
            original,
            seed=UNSEEN + 2000 + number,
            operation_seed=original.seed,
            operation_start=(original.operation_start or 0) + SHIFT,
            surgical_seconds=32,
            height=144,
            width=256,
        )
    return videos


def measure(folder: Path, videos: Mapping[str, SyntheticWebVideo]) -> dict[str, Any]:
    """Score each stage over the videos that reached it."""
    collection = Collection(folder)

    def results(stage: str) -> dict[str, Any]:
        """Return the results of a stage by video."""
        found = {name: read_result(collection, stage, name) for name in videos}
        return {name: result for name, result in found.items() if result}

    truth = {name: videos[name].truth() for name in videos}
    return {
        "storyboards": storyboard_scores(results("classify-videos"), truth),
        "frames": frame_scores(results("classify-frames"), truth),
        "trim": trim_scores(results("trim"), truth),
        "mask": mask_scores(results("mask"), videos, truth),
        "deduplicate": repeat_scores(results("deduplicate"), truth),
    }


def storyboard_scores(results: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """Score the classification of videos."""
    right = np.array([not truth[name]["informative"] for name in results], int)
    return class_scores(right, np.array([not result.kept for result in results.values()], int), INFORMATIVE)


def frame_scores(results: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """Score the classification of frames."""
    right, found = [], []
    for name, result in results.items():
        flags = result.content["surgical"]
        right += [kind != "surgical" for kind in truth[name]["kinds"][: len(flags)]]
        found += [flag == "0" for flag in flags]
    return class_scores(np.array(right, int), np.array(found, int), SURGICAL)


def trim_scores(results: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """Measure how far the first and last second of an operation are from those of the true frames."""
    errors = []
    for name, result in results.items():
        part = trim(np.array([kind == "surgical" for kind in truth[name]["kinds"]]))
        if truth[name]["informative"] and part:
            content = result.content if result.kept else {"first": -99, "last": -99}
            errors.append([content["first"] - part[0], content["last"] - part[1]])
    within = (np.abs(errors) <= 1).all(axis=1)
    return {
        "videos": len(errors),
        "within_one_second": round(float(within.mean()), 4),
        "exact": round(float((np.array(errors) == 0).all(axis=1).mean()), 4),
        "worst_error_seconds": int(np.abs(errors).max()),
    }


def mask_scores(
    results: Mapping[str, Any], videos: Mapping[str, SyntheticWebVideo], truth: Mapping[str, Any]
) -> dict[str, Any]:
    """Score masks over truly surgical seconds that were checked."""
    right, found, sizes = [], [], []
    for name, result in results.items():
        for second, boxes in enumerate(truth[name]["boxes"]):
            if truth[name]["kinds"][second] == "surgical":
                right.append(np.array(boxes, np.float32).reshape(-1, 4))
                found.append(np.array(result.content["boxes"].get(str(second), []), np.float32).reshape(-1, 4))
                sizes.append((videos[name].height, videos[name].width))
    scores = region_scores(right, found, sizes)
    bare = [not len(boxes) for boxes in right]
    alarms = [len(boxes) > 0 for boxes, is_bare in zip(found, bare, strict=True) if is_bare]
    return {
        "pictures": len(right),
        **scores,
        "pictures_without_overlay": sum(bare),
        "of_these_masked_somewhere": round(float(np.mean(alarms)), 4) if alarms else None,
    }


def repeat_scores(results: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """Score removals; one is right if the video that stays shows the same operation."""
    dropped = {name: result.detail for name, result in results.items() if not result.kept}
    right = sum(truth[name]["operation"] == truth[other]["operation"] for name, other in dropped.items())
    superfluous = len(results) - len({truth[name]["operation"] for name in results})
    return {
        "videos": len(results),
        "copies": superfluous,
        "removed": len(dropped),
        "precision": round(right / len(dropped), 4) if dropped else None,
        "recall": round(right / superfluous, 4) if superfluous else None,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training-videos", type=int, default=40)
    parser.add_argument("--operations", type=int, default=10)
    parser.add_argument("--talks", type=int, default=6)
    parser.add_argument("--copies", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with timed(seconds, "rendering pictures and training"):
            options, training = train_models(folder, arguments.training_videos)
        videos = unseen_videos(arguments.operations, arguments.talks, arguments.copies)
        with timed(seconds, "rendering videos"):
            for video_id, video in videos.items():
                is_copy = video_id.startswith("copy")
                write_web_video(video, folder / "web" / f"{video_id}.mp4", crf=30 if is_copy else 23)
        with timed(seconds, "pipeline"):
            collect(folder / "corpus", from_folder(folder / "web"))
            run_pipeline(folder / "corpus", options)
        scores = measure(folder / "corpus", videos)
    rules = {name: value for name, value in asdict(options).items() if not name.endswith("models")}
    settings = {**{name: value for name, value in vars(arguments).items() if name != "output"}, "side": SIDE, **rules}
    save({"settings": settings, "scores": scores, "training": training, "seconds": seconds}, arguments.output)


if __name__ == "__main__":
    main()

"""Does curation decide the same in bfloat16 as in float32? Two runs of the pipeline over the same videos, compared.

Models are trained from nothing on rendered web videos, as in `curation_quality`, with fewer of them. The pipeline runs over
rendered videos that the models have not seen, and over real ones if there are any; a human keeps the real ones, whatever the
models say of them, so that every stage sees them.

    python -m benchmarks.curation_precision --real clip.mp4 --output benchmarks/results/curation_precision_cpu.json
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from surgvista_hf.curation.collection.collect import collect, from_folder
from surgvista_hf.curation.collection.manifest import Collection, read_manifest
from surgvista_hf.curation.collection.overrides import Override, Overrides, to_json
from surgvista_hf.curation.collection.results import read_result
from surgvista_hf.curation.models.classifiers import FrameClassifier
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline
from surgvista_hf.curation.stages.seconds import frames_by_second
from surgvista_hf.datasets_scripts.synthetic.web_videos import write_web_video
from surgvista_hf.modeling.precision import bfloat16_hardware

from .curation_quality import train_models, unseen_videos
from .timing import save


def contents(corpus: Path, stage: str, videos: Iterable[str]) -> dict[str, Any]:
    """Return what a stage found, by video."""
    found = {name: read_result(Collection(corpus), stage, name) for name in videos}
    return {name: result.content for name, result in found.items() if result}


def compared(exact: Path, fast: Path, videos: list[str]) -> dict[str, Any]:
    """Compare the decisions about some videos in two collections."""
    manifests = ({row["video_id"]: row for row in read_manifest(folder).to_pylist()} for folder in (exact, fast))
    first, second = manifests
    kept, parts = (
        sum(any(first[name][key] != second[name][key] for key in keys) for name in videos)
        for keys in (("kept", "cause", "detail"), ("start", "end", "surgical_seconds"))
    )
    frames = [contents(folder, "classify-frames", videos) for folder in (exact, fast)]
    boards = [contents(folder, "classify-videos", videos) for folder in (exact, fast)]
    flags = [np.array([digit for each in found.values() for digit in each["surgical"]]) for found in frames]
    values = [np.concatenate([each["probability"] for each in found.values()]) for found in frames]
    return {
        "videos": len(videos),
        "seconds_classified": len(flags[0]),
        "changed": {
            "kept_videos": kept,
            "trimmed_parts": parts,
            "surgical_seconds": int((flags[0] != flags[1]).sum()),
        },
        "largest_change_of_probability": {
            "frames": round(float(np.abs(values[0] - values[1]).max()), 4),
            "storyboards": round(
                max(abs(boards[0][name]["probability"] - boards[1][name]["probability"]) for name in boards[0]), 4
            ),
        },
        "boxes": compared_boxes(*(contents(folder, "mask", videos) for folder in (exact, fast))),
    }


def compared_boxes(exact: Mapping[str, Any], fast: Mapping[str, Any]) -> dict[str, Any]:
    """Compare boxes: how many are equal, and how far the others are from the nearest one in pixels."""
    count = equal = alone = 0
    away = [0]
    for name, found in exact.items():
        for second, boxes in found["boxes"].items():
            others = np.array(fast.get(name, {}).get("boxes", {}).get(second, [])).reshape(-1, 4)
            count += len(boxes)
            for box in boxes:
                distances = np.abs(others - np.array(box)).max(axis=1, initial=0)
                nearest = int(distances.min(initial=10_000))
                equal += nearest == 0
                alone += nearest > 16
                away += [nearest] if nearest <= 16 else []
    pixels = [sum(len(each) for found in one.values() for each in found["boxes"].values()) for one in (exact, fast)]
    borders = sum(found["border"] != fast.get(name, {}).get("border") for name, found in exact.items())
    return {
        "in_float32": count,
        "in_bfloat16": pixels[1],
        "equal": equal,
        "farther_than_16_pixels": alone,
        "largest_distance_of_the_others_in_pixels": max(away),
        "changed_borders": borders,
    }


def largest_raw_change(models: tuple[str, ...], files: Iterable[Path]) -> dict[str, Any]:
    """Compare the probabilities of bfloat16 alone, without the float32 that decides where classes are close."""
    both = FrameClassifier.from_pretrained(models, device="cpu", dtype="bfloat16")
    exact, fast = FrameClassifier(both.members, ""), FrameClassifier(both.fast, "")
    largest, changed = 0.0, 0
    for file in files:
        frames = [frame for _, frame in frames_by_second(file)]
        a, b = exact(frames), fast(frames)
        largest = max(largest, float(np.abs(a - b).max()))
        changed += int((a.argmax(1) != b.argmax(1)).sum())
    return {"largest_change_of_probability": round(largest, 4), "changed_classes": changed}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--work", type=Path, help="folder for models and videos (default: a temporary one)")
    parser.add_argument("--real", type=Path, action="append", default=[], help="real video")
    parser.add_argument("--training", type=int, default=10, help="operations to train on")
    parser.add_argument("--operations", type=int, default=4)
    parser.add_argument("--talks", type=int, default=1)
    parser.add_argument("--copies", type=int, default=1)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        web, corpus = folder / "web", folder / "corpus"
        web.mkdir(parents=True, exist_ok=True)
        if (folder / "region-model").exists():
            kinds = (("video", "storyboard"), ("frame", "frame"), ("region", "region"))
            options = CurationOptions(**{f"{kind}_models": (str(folder / f"{name}-model"),) for kind, name in kinds})  # type: ignore[arg-type]
        else:
            options, _ = train_models(folder, arguments.training)
        options = replace(options, device="cpu")
        rendered = unseen_videos(arguments.operations, arguments.talks, arguments.copies)
        for name, video in rendered.items():
            if not (web / f"{name}.mp4").exists():
                write_web_video(video, web / f"{name}.mp4", crf=30 if name.startswith("copy") else 23)
        real = [f"real-{number}" for number, _ in enumerate(arguments.real)]
        for name, path in zip(real, arguments.real, strict=True):
            shutil.copyfile(path, web / f"{name}.mp4")
        shutil.rmtree(corpus, ignore_errors=True)
        collect(corpus, from_folder(web))
        Collection(corpus).overrides.write_text(to_json(Overrides([Override(name, "keep") for name in real])))
        shutil.copytree(corpus, folder / "fast", dirs_exist_ok=True)
        run_pipeline(corpus, replace(options, dtype="float32"))
        run_pipeline(folder / "fast", replace(options, dtype="bfloat16"))
        groups = {"rendered": list(rendered), **({"real": real} if real else {})}
        result = {name: compared(corpus, folder / "fast", videos) for name, videos in groups.items()}
        files = sorted(web.glob("*.mp4"))
        raw = largest_raw_change(options.frame_models, files)
    settings = {"training": arguments.training, "real": [path.name for path in arguments.real]}
    save(
        {"settings": settings, "bfloat16_in_hardware": bfloat16_hardware("cpu"), **result, "without_float32": raw},
        arguments.output,
    )


if __name__ == "__main__":
    main()

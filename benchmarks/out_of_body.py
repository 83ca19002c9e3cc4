"""Measure how the detector of the recipe `out_of_body` finds the outside: trained and tested on other rendered recordings.

With `--real` it also looks at videos that were filmed inside a patient, where everything it finds is wrong. Nothing here says
how much of a real operating room it would find.

    python -m benchmarks.out_of_body --output benchmarks/results/out_of_body_cpu.json [--real FOLDER]
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.synthetic.operating_room import SyntheticRecording
from surgvista_hf.inference.batch import find_videos
from surgvista_hf.inference.models.out_of_body import OutOfBodyDetector
from surgvista_hf.inference.prediction.redaction import OutOfBodyMask
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.trainers.finetune import finetune
from surgvista_hf.trainers.finetuning.recipe import load_finetuning_recipe

from .timing import save

VIDEOS, SECONDS, UNSEEN = 40, 60, range(9000, 9020)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--real", type=Path, help="folder with videos from inside a patient")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        detector = _trained(Path(folder))
        minutes = (time.perf_counter() - began) / 60
        results: dict[str, Any] = {"minutes_of_preparation_and_training": round(minutes, 1), **_rendered(detector)}
        if arguments.real:
            results["real_inside"] = [_inside(detector, video) for video in find_videos(arguments.real)]
    save(results, arguments.output)


def _trained(folder: Path) -> OutOfBodyDetector:
    settings = {"videos": str(VIDEOS), "seconds": str(SECONDS)}
    prepare_frame_set("synthetic_views", None, folder / "synthetic_views", settings=settings)
    folders = [f"data.root={folder}", f"training.output_dir={folder / 'run'}", "training.disable_tqdm=true"]
    return OutOfBodyDetector.load(finetune(load_finetuning_recipe("out_of_body", folders)).folder)


def _rendered(detector: OutOfBodyDetector) -> dict[str, Any]:
    """Count seconds found, and moments between two sampled seconds that would be shown although they are outside."""
    truth, probabilities, moments, leaked = [], [], 0, 0
    for seed in UNSEEN:
        recording = SyntheticRecording(seed, duration_seconds=90)
        seconds = np.arange(90.0)
        outside = detector.predict_proba(np.stack(list(recording.frames(seconds.tolist()))))
        truth += [recording.outside(second) for second in seconds]
        probabilities += outside.tolist()
        mask = OutOfBodyMask(seconds, outside)
        for second in np.arange(0, 89, 0.1):
            moments += recording.outside(second)
            leaked += recording.outside(second) and not mask.covers(second)
    wanted, found = np.array(truth), np.array(probabilities) >= detector.threshold
    return {
        "recordings": len(UNSEEN),
        "seconds_outside": int(wanted.sum()),
        "recall": round(float((found & wanted).sum() / wanted.sum()), 4),
        "precision": round(float((found & wanted).sum() / max(found.sum(), 1)), 4),
        "tenths_of_a_second_outside": moments,
        "of_them_shown_with_the_usual_margin": int(leaked),
    }


def _inside(detector: OutOfBodyDetector, video: Path) -> dict[str, Any]:
    with VideoReader(video) as reader:
        outside = detector.scan(reader.iterate(1.0)).outside
    wrong = int((outside >= detector.threshold).sum())
    return {"seconds": len(outside), "wrongly_hidden": wrong, "highest_probability": round(float(outside.max()), 3)}


if __name__ == "__main__":
    main()

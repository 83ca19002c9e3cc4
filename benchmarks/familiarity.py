"""Measure how well a model's summary of its training videos tells when a video is unlike them, beside what else could tell it.

Small models learn phases, one of rendered operations, others of real cholecystectomies of one hospital. It is measured
how many seconds of new videos of the same kind are called unfamiliar (false alarms), and how many of others are: real surgery
for the first; for the others rendered pictures, other procedures from the web, another hospital, and talks. Features: what
frames look like (what is shipped), the mean patch embedding, the mean token of the middle layer, what the classifier sees;
scores: Mahalanobis distance, nearest neighbor after whitening (Sun et al., ICML 2022), what principal components leave over
(as in ViM, CVPR 2022). All limits leave 2 % of held-out training seconds beyond them.

    python -m benchmarks.familiarity --data FOLDER --output benchmarks/results/familiarity_cpu.json

FOLDER holds, under `real/` and `clips/`, frames and clips of CholecT50 and Cholec80, of web videos and of another hospital;
numbers alone are kept.
"""

import argparse
import csv
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from surgvista_hf.clips.sampling.windows import ClipWindow
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, synthetic_corpus, write_video
from surgvista_hf.evaluation.metrics.calibration import calibration_error, fit_temperature, scale_probabilities
from surgvista_hf.modeling.familiarity import (
    FALSE_ALARMS,
    Familiarity,
    RunningMean,
    VideoAppearance,
    appearance,
    shrunk_covariance,
)
from surgvista_hf.modeling.features import FeatureExtractor
from surgvista_hf.modeling.loading import load_classifier, make_classifier_processor
from surgvista_hf.modeling.processors import prepare_clips
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from .timing import save

MODEL = {
    "model_type": "surgvista",
    "image_size": 64,
    "num_frames": 4,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}
PHASES = [str(number) for number in range(7)]
OPERATIONS, SECONDS, EPOCHS, SHORT_SIDE = 24, 60, 8, 128
LARGEST = 400  # seconds of one video


@dataclass
class Video:
    """Frames of whole seconds as (frames, height, width, 3) uint8, phases where they are known, and features by their name."""

    frames: np.ndarray
    phases: np.ndarray | None = None
    features: dict[str, np.ndarray] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------- videos


def rendered() -> dict[str, Video]:
    """Render operations as images, as training would have them, and new ones as compressed videos, as people have them."""
    videos = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, operation in enumerate(
            synthetic_corpus(OPERATIONS, 0, duration_seconds=SECONDS, frames_per_second=5.0)
        ):
            phases = np.array([operation.labels(float(second)).phase for second in range(SECONDS)])
            if number < OPERATIONS * 2 // 3:
                frames = [operation.frame(float(second)) for second in range(SECONDS)]
                videos[f"rendered/{number}"] = Video(np.stack([_small(frame) for frame in frames]), phases)
            else:
                videos[f"rendered/{number}"] = Video(_compressed(operation, Path(folder) / "new.mp4"), phases)
    return videos


def _compressed(operation: SyntheticOperation, file: Path) -> np.ndarray:
    write_video(operation, file)
    return _seconds(file)


def _seconds(file: Path) -> np.ndarray:
    with VideoReader(file) as reader:
        return np.stack([_small(frame) for _, frame in reader.iterate(1.0)])


def _small(frame: np.ndarray) -> np.ndarray:
    image = Image.fromarray(frame)
    scale = SHORT_SIDE / min(image.size)
    return np.asarray(
        image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    )


def _images(files: Sequence[Path]) -> np.ndarray:
    return np.stack([_small(np.asarray(Image.open(file).convert("RGB"))) for file in files])


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _grouped(rows: list[dict[str, str]], column: str) -> dict[str, list[dict[str, str]]]:
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return groups


def real(data: Path) -> dict[str, Video]:
    """Load cholecystectomies of one hospital (`own/…`), and everything else under the name of its kind."""
    videos, folder = {}, data / "real"
    for name, rows in _grouped(_rows(folder / "cholect50_val"), "video").items():
        files = [(folder / "cholect50_val" / "videos" / name / row["file"]).with_suffix(".jpg") for row in rows]
        phases = np.array([int(row["phase_id"] or -1) for row in rows])
        videos[f"own/{name}"] = Video(_images(files), phases)
    for name, rows in _grouped(_rows(folder / "cholec80_video01"), "video").items():
        rows = rows[:: max(len(rows) * 5 // LARGEST, 1)]
        parts = [_seconds(folder / "cholec80_video01" / "clips" / row["clip"])[:5] for row in rows]
        labels = [row["phase_per_second"].split() for row in rows]
        phases = [
            int(preview[min(second, len(preview) - 1)])
            for part, preview in zip(parts, labels, strict=True)
            for second in range(len(part))
        ]
        videos[f"own/{name}"] = Video(np.concatenate(parts), np.array(phases))
    for name, rows in _grouped(_rows(folder / "cholect50_groups"), "video").items():
        files = [folder / "cholect50_groups" / row["clip"] for row in rows if not row["duplicate_of"]]
        found = [_seconds(file) for file in files if file.is_file()]
        if found:
            videos[f"own/{name}"] = Video(np.concatenate(found))
    for file in sorted((data / "clips").glob("0*.mp4")):
        videos[f"own/{file.stem}"] = Video(_seconds(file))
    for name, rows in _grouped(_rows(folder / "intermountain_320"), "surgery").items():
        videos[f"other hospital/{name}"] = Video(
            _images([folder / "intermountain_320" / "images" / row["file"] for row in rows])
        )
    for name, rows in _grouped(_rows(folder / "surgseg7"), "video").items():
        rows = sorted(rows, key=lambda row: (int(row["frame"]), int(row["sub"])))
        kind = "other procedures" if any(row["surgical-area"] == "1" for row in rows) else "talks"
        videos[f"{kind}/{name}"] = Video(_images([folder / "surgseg7" / row["file"] for row in rows]))
    return videos


# ------------------------------------------------------------------------------------------- models


def train(videos: Sequence[Video], processor: Any) -> Any:
    """Train a small classifier of phases."""
    torch.manual_seed(0)
    model: Any = load_classifier(MODEL, PHASES, "single_label_classification").train()
    clips, labels = [], []
    for video in videos:
        if video.phases is not None:
            known = torch.from_numpy(video.phases >= 0)
            clips.append(_clips(video, processor)[known])
            labels.append(torch.from_numpy(video.phases)[known])
    every, truth = torch.cat(clips), torch.cat(labels).long()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(every)).split(32):
            loss = functional.cross_entropy(model(every[batch]).logits, truth[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def _prepared(video: Video, processor: Any) -> torch.Tensor:
    frames = torch.from_numpy(video.frames).permute(0, 3, 1, 2)
    return prepare_clips(processor, frames)[0]


def _clips(video: Video, processor: Any) -> torch.Tensor:
    window = ClipWindow(4, 4)
    return torch.stack([window.push(float(second), frame) for second, frame in enumerate(_prepared(video, processor))])


@torch.no_grad()
def describe(video: Video, model: Any, processor: Any) -> None:
    """Compute the features and the model's logits of every second."""
    extractor = FeatureExtractor(model)
    seen: list[torch.Tensor] = []
    layers: list[list[torch.Tensor]] = [[], [], []]
    for batch in _clips(video, processor).split(64):
        features, output = extractor(batch, output_hidden_states=True)
        seen.append(features)
        states = output.hidden_states
        for layer, values in zip(
            layers, (states[0].mean(1), states[len(states) // 2].mean(1), output.logits), strict=True
        ):
            layer.append(values)
    names = ("patch embedding", "middle layer", "logits")
    video.features = {name: torch.cat(parts).numpy().astype(float) for name, parts in zip(names, layers, strict=True)}
    video.features["classifier input"] = torch.cat(seen).numpy().astype(float)
    video.features["appearance"] = appearance(_prepared(video, processor))


# ------------------------------------------------------------------------------------------- scores

Score = Callable[[np.ndarray], np.ndarray]


def mahalanobis(values: np.ndarray) -> Score:
    """Fit the Mahalanobis distance."""
    mean, deviation = values.mean(0), np.maximum(values.std(0), 1e-2)
    precision = np.linalg.inv(shrunk_covariance((values - mean) / deviation))
    return lambda new: np.sqrt(np.einsum("ij,jk,ik->i", (new - mean) / deviation, precision, (new - mean) / deviation))


def neighbor(values: np.ndarray) -> Score:
    """Fit the distance to the nearest neighbor."""
    mean, (variance, axes) = values.mean(0), np.linalg.eigh(shrunk_covariance(values))
    white = axes / np.sqrt(variance)
    known = ((values - mean) @ white)[np.random.default_rng(0).permutation(len(values))[:400]]
    return lambda new: np.sqrt(((((new - mean) @ white)[:, None] - known[None]) ** 2).sum(2).min(1))


def residual(values: np.ndarray) -> Score:
    """Fit the part outside the principal components."""
    mean, (variance, axes) = values.mean(0), np.linalg.eigh(np.cov(values.T))
    left = axes[:, np.cumsum(variance) / variance.sum() < 0.01]
    return lambda new: np.linalg.norm((new - mean) @ left, axis=1)


SCORES: Mapping[str, Callable[[np.ndarray], Score]] = {
    "Mahalanobis": mahalanobis,
    "nearest neighbor": neighbor,
    "principal residual": residual,
}


def _running(score: Score, values: np.ndarray) -> np.ndarray:
    mean = RunningMean()
    return np.array([mean.push(second, value) for second, value in enumerate(np.log(score(values) + 1e-9).tolist())])


def compare(name: str, kind: str, known: Sequence[Video], new: Mapping[str, list[Video]]) -> dict[str, Any]:
    """Return the fractions of seconds of new videos beyond the limit that cross-fitting over the known ones sets."""
    fit = SCORES[kind]
    values = [video.features[name] for video in known]
    held_out = [
        _running(fit(np.concatenate(values[:number] + values[number + 1 :])), own) for number, own in enumerate(values)
    ]
    limit = np.quantile(np.concatenate(held_out), 1 - FALSE_ALARMS, method="higher")
    score = fit(np.concatenate(values))
    beyond = {
        group: [_running(score, video.features[name]) > limit for video in videos] for group, videos in new.items()
    }
    return {group: _fractions(preview) for group, preview in beyond.items()}


def _fractions(videos: list[np.ndarray]) -> dict[str, Any]:
    seconds = np.concatenate(videos)
    return {
        "videos": len(videos),
        "seconds": len(seconds),
        "unfamiliar_seconds": round(float(seconds.mean()), 4),
        "videos_remarked_on": sum(bool(video.mean() >= 0.2) for video in videos),
        "most_of_one_video": round(float(max(video.mean() for video in videos)), 4),
    }


def shipped(known: Sequence[Video], new: Mapping[str, list[Video]]) -> dict[str, Any]:
    """Measure the same with the package's own code."""
    began = time.perf_counter()
    summary = Familiarity.fit(
        [VideoAppearance(np.arange(float(len(each.frames))), each.features["appearance"]) for each in known]
    )
    seconds = time.perf_counter() - began
    found: dict[str, Any] = {}
    for group, videos in new.items():
        scores = []
        for video in videos:
            mean = RunningMean()
            distances = summary.distances(video.features["appearance"]).tolist()
            scores.append(
                np.array([summary.unfamiliarity(mean.push(step, each)) > 1 for step, each in enumerate(distances)])
            )
        found[group] = _fractions(scores)
    counted = {name: getattr(summary, name) for name in ("videos", "frames", "held_out_seconds", "false_alarms")}
    return {"summary": {**counted, "seconds_to_fit": round(seconds, 2)}, **found}


def calibration(fitted: Sequence[Video], tested: Sequence[Video]) -> dict[str, Any]:
    """Fit the temperature on some videos, and measure its effect on others."""

    def both(videos: Sequence[Video]) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and probabilities of labeled seconds."""
        own = [video for video in videos if video.phases is not None]
        labels, logits = (
            np.concatenate([each.phases for each in own]),
            np.concatenate([each.features["logits"] for each in own]),
        )
        return labels[labels >= 0], torch.from_numpy(logits[labels >= 0]).softmax(1).numpy()

    found = fit_temperature(*both(fitted))
    labels, before = both(tested)
    after = scale_probabilities(before, found.temperature)
    numbers = {
        "temperature": found.temperature,
        "fitted_error_before": found.error_before,
        "fitted_error_after": found.error_after,
        "new_error_before": calibration_error(labels, before),
        "new_error_after": calibration_error(labels, after),
        "new_accuracy": float((before.argmax(1) == labels).mean()),
        "new_mean_confidence_before": float(before.max(1).mean()),
        "new_mean_confidence_after": float(after.max(1).mean()),
    }
    return {name: round(value, 4) for name, value in numbers.items()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with real surgery")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    arguments = parser.parse_args()
    videos = {**rendered(), **real(arguments.data)}
    processor = make_classifier_processor(load_classifier(MODEL, PHASES, "single_label_classification"), MODEL, 4)
    groups = {
        kind: [name for name in videos if name.startswith(f"{kind}/")]
        for kind in {name.split("/")[0] for name in videos}
    }
    drawn, own = groups.pop("rendered"), groups.pop("own")
    at = OPERATIONS * 2 // 3
    # Of the real ones every fourth is new; a few of the clips show operations of which the training has other seconds.
    new_own = [name for name in own if name in ("own/VID73", "own/video02", "own/VID26", "own/VID43", "own/VID47")]
    clips = [name for name in own if name.split("/")[1][:2].isdigit()]
    known_own = [name for name in own if name not in (*new_own, *clips)]
    runs = {
        "trained on rendered operations": (
            drawn[:at],
            {
                "new, of the same kind": drawn[at:],
                "real surgery": [*own, *(name for names in groups.values() for name in names)],
            },
        ),
        "trained on real cholecystectomies": (
            known_own,
            {"new, of the same kind": new_own, "clips of the same hospital": clips, "rendered": drawn, **groups},
        ),
        "trained on four real cholecystectomies": (
            [name for name in known_own if "VID" in name and videos[name].phases is not None],
            {"new, of the same kind": [*new_own, "own/video01"], "rendered": drawn, **groups},
        ),
    }
    results: dict[str, Any] = {}
    for title, (known, new) in runs.items():
        labeled = [name for name in known if videos[name].phases is not None]
        held_out = max(len(labeled) // 5, 1)  # not trained on, for the temperature
        model = train([videos[name] for name in labeled[:-held_out]], processor)
        for video in videos.values():
            describe(video, model, processor)
        seen = [videos[name] for name in known]
        requested = {group: [videos[name] for name in names] for group, names in new.items()}
        results[title] = {
            "shipped": shipped(seen, requested),
            "calibration": calibration(
                [videos[name] for name in labeled[-held_out:]], requested["new, of the same kind"]
            ),
            "compared": {
                f"{name}, {kind}": {
                    group: [numbers["unfamiliar_seconds"], numbers["most_of_one_video"]]
                    for group, numbers in compare(name, kind, seen, requested).items()
                }
                for name in ("appearance", "patch embedding", "middle layer", "classifier input")
                for kind in SCORES
            },
        }
        print(title, results[title]["shipped"], flush=True)
    save(results, arguments.output)


if __name__ == "__main__":
    main()

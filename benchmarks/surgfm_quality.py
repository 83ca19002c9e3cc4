"""Does self-distillation teach anything? Nearest neighbors on rendered operations while a tiny ConvNeXt is pre-trained.

The recipe `surgfm_synthetic` on frames of operations without labels, several seeds. Before it, and at equal parts of the run,
the teacher is frozen, and every frame of other operations takes its phase, and its instruments, from the 20 nearest frames of
yet others (cosine; DINO's vote). Beside it a ridge probe for phases, and the same neighbors by 8 × 8 pixels without any
encoder. Settings were chosen on operations with other seeds than those measured here.

    python -m benchmarks.surgfm_quality --output benchmarks/results/surgfm_quality_cpu.json
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import AutoModel, ConvNextModel
from transformers.utils import logging

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.clips import collate_clips
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.evaluation.metrics.ranking import average_precision
from surgvista_hf.evaluation.metrics.statistics import paired_wilcoxon
from surgvista_hf.evaluation.probes import Features, accuracy_by_video, knn_probe, ridge_probe
from surgvista_hf.trainers.features.clip_features import extract_features
from surgvista_hf.trainers.pretrain import build_model, pretrain
from surgvista_hf.trainers.pretraining.dino import DinoPretrainer
from surgvista_hf.trainers.pretraining.recipe import load_recipe

from .timing import save

CORPORA = {"corpus": (16, 11), "probe": (24, 12)}  # operations, seed
SECONDS, HEIGHT, WIDTH, PHASES = 60, 48, 64, 7
PARTS = 3


def overrides(work: Path, seed: int, epochs: int) -> list[str]:
    """Return the overrides of the recipe."""
    updates = CORPORA["corpus"][0] * SECONDS // 32 * epochs
    return [
        f"data.sources=[{{name: synthetic, data_dir: '{work / 'corpus'}', protocol: everything, split: all}}]",
        "model.image_size=32",
        "model.patch_size=4",
        "training.local_size=16",
        f"training.output_dir={work / f'run_{seed}'}",
        f"training.num_train_epochs={epochs}",
        f"training.save_steps={updates // PARTS}",
        "training.save_strategy=steps",
        "training.save_total_limit=null",
        "training.disable_tqdm=true",
        "training.use_cpu=true",
        f"training.seed={seed}",
    ]


def frames(work: Path, split: str, label: str) -> ClipDataset:
    """Return labeled frames of a split."""
    return ClipDataset(load_frame_set("synthetic", work / "probe", split), num_frames=1, frame_stride=1, label=label)


def evaluate_encoder(encoder: ConvNextModel, work: Path) -> dict[str, Any]:
    """Probe the features of an encoder."""
    processor = DinoPretrainer.processor_for(encoder.config, 1)
    train, test = (extract_features(encoder, processor, frames(work, split, "phase")) for split in ("train", "test"))
    tools = [frames(work, split, "instruments") for split in ("train", "test")]
    seen = [
        Features(part.values, np.stack([item["labels"].numpy() for item in own]), part.videos)
        for part, own in zip((train, test), tools, strict=True)
    ]
    voted = knn_probe(*seen, seen[0].labels.shape[1])
    return {
        "knn_phase_by_video": accuracy_by_video(test, knn_probe(train, test, PHASES).argmax(axis=1)),
        "knn_instruments_map": float(np.nanmean(average_precision(seen[1].labels, voted))),
        "ridge_phase_by_video": accuracy_by_video(test, ridge_probe(train, test)),
    }


def evaluate_pixels(work: Path) -> float:
    """Return the accuracy for phases of nearest neighbors by 8 × 8 pixels."""
    parts = []
    for split in ("train", "test"):
        values, labels, videos = [], [], []
        for batch in DataLoader(frames(work, split, "phase"), batch_size=64, collate_fn=collate_clips):
            small = functional.adaptive_avg_pool2d(batch["pixel_values"][:, 0].float(), 8)
            values.append(small.flatten(1).numpy())
            labels.append(batch["labels"].numpy())
            videos += batch["video_id"]
        parts.append(Features(np.concatenate(values), np.concatenate(labels), np.array(videos)))
    predicted = knn_probe(parts[0], parts[1], PHASES).argmax(axis=1)
    return mean(accuracy_by_video(parts[1], predicted))


def mean(by_video: dict[str, float]) -> float:
    """Return the mean over videos."""
    return round(float(np.mean(list(by_video.values()))), 4)


def run(work: Path, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Probe the teacher of one seed before the run and after each part of it."""
    recipe = load_recipe("surgfm_synthetic", overrides(work, seed, epochs))
    torch.manual_seed(seed)
    moments = [{"updates": 0, **evaluate_encoder(build_model(recipe).plain_teacher(), work)}]
    pretrain(recipe)
    folders = sorted((work / f"run_{seed}").glob("checkpoint-*"), key=lambda folder: int(folder.name[11:]))
    return moments + [
        {"updates": int(folder.name[11:]), **evaluate_encoder(AutoModel.from_pretrained(folder), work)}
        for folder in folders
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, (operations, seed) in CORPORA.items():
            size = {"seconds": str(SECONDS), "height": str(HEIGHT), "width": str(WIDTH)}
            settings = {"videos": str(operations), "seed": str(seed), **size}
            prepare_frame_set("synthetic", None, work / name, settings=settings)
        runs = []
        for seed in range(arguments.seeds):
            runs.append(run(work, seed, arguments.epochs))
            print(seed, [mean(moment["knn_phase_by_video"]) for moment in runs[-1]], flush=True)
        pixels = evaluate_pixels(work)
    stages = list(zip(*runs, strict=True))

    def by_video(stage: int) -> dict[str, float]:
        """Return the mean over seeds for each video."""
        own = [moment["knn_phase_by_video"] for moment in stages[stage]]
        return {video: statistics.mean(one[video] for one in own) for video in own[0]}

    save(
        {
            "operations": CORPORA,
            "seconds": SECONDS,
            "epochs": arguments.epochs,
            "each_seed": [
                [
                    {
                        "updates": moment["updates"],
                        "knn_phase": mean(moment["knn_phase_by_video"]),
                        "knn_instruments_map": round(moment["knn_instruments_map"], 4),
                        "ridge_phase": mean(moment["ridge_phase_by_video"]),
                    }
                    for moment in moments
                ]
                for moments in runs
            ],
            "knn_phase_mean_of_seeds": {moments[0]["updates"]: mean(by_video(n)) for n, moments in enumerate(stages)},
            "knn_phase_of_8x8_pixels": pixels,
            "wilcoxon_one_sided_over_test_videos_trained_above_untrained": paired_wilcoxon(
                by_video(-1), by_video(0)
            ).to_dict(),
        },
        arguments.output,
    )


if __name__ == "__main__":
    main()

"""Does pre-training teach anything? A linear probe on rendered operations, three seeds.

Each seed pre-trains the tiny masked autoencoder of the recipe `surgvista_synthetic` on operations without labels. Then the
encoder is frozen, and a ridge classifier on its mean-pooled tokens learns phases from other operations and is tested on yet
others; so does one on an encoder that was never trained. Nothing is tuned on the test.

    python -m benchmarks.pretraining_quality --output benchmarks/results/pretraining_quality_cpu.json
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers.utils import logging

from surgvista_hf import ClipDataset, SurgVistaForPreTraining, load_frame_set
from surgvista_hf.clips import collate_clips
from surgvista_hf.datasets_scripts.prepare import prepare_frame_set
from surgvista_hf.modeling.video_processing_surgvista import SurgVistaVideoProcessor
from surgvista_hf.trainers.pretrain import build_model, pretrain
from surgvista_hf.trainers.recipe import Recipe, load_recipe

from .timing import save

CORPORA = {"corpus": (24, 1), "probe train": (10, 2), "probe test": (10, 3)}  # operations, seed
SECONDS = 90
PENALTIES = (1e-2, 1e-1, 1e0, 1e1, 1e2)


def make_frame_sets(work: Path) -> None:
    for name, (operations, seed) in CORPORA.items():
        settings = {"videos": str(operations), "seconds": str(SECONDS), "seed": str(seed)}
        prepare_frame_set("synthetic", None, work / name, settings=settings, num_proc=2)


def clips(work: Path, name: str, recipe: Recipe) -> ClipDataset:
    frames = load_frame_set("synthetic", work / name, "train", protocol="everything")
    return ClipDataset(
        frames, num_frames=recipe.model["num_frames"], frame_stride=recipe.data.frame_stride, label="phase"
    )


@torch.no_grad()
def features(model: SurgVistaForPreTraining, data: ClipDataset) -> tuple[np.ndarray, np.ndarray]:
    """(clips, width) mean-pooled tokens, and (clips,) phases."""
    encoder = model.surgvista.eval()
    size = dict(zip(("height", "width"), model.config.frame_size, strict=True))
    processor = SurgVistaVideoProcessor(size=size, num_frames=model.config.num_frames)
    pooled, labels = [], []
    for batch in DataLoader(data, batch_size=32, collate_fn=collate_clips):
        pixels = processor(list(batch["pixel_values"]), return_tensors="pt")["pixel_values"]
        pooled.append(encoder(pixels).last_hidden_state.mean(dim=1).numpy())
        labels.append(batch["labels"].numpy())
    return np.concatenate(pooled), np.concatenate(labels)


def probe(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Accuracy of a ridge classifier; its penalty is chosen on every fifth of the training clips."""
    (x, y), (x_test, y_test) = train, test
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, x_test = ((np.c_[(part - mean) / std, np.ones(len(part))]).astype(np.float64) for part in (x, x_test))
    target = np.eye(y.max() + 1)[y]
    held = np.arange(len(x)) // SECONDS % 5 == 0  # whole operations

    def fit(rows: np.ndarray, penalty: float) -> np.ndarray:
        return np.linalg.solve(
            x[rows].T @ x[rows] + penalty * len(x) * 1e-3 * np.eye(x.shape[1]), x[rows].T @ target[rows]
        )

    def accuracy(weights: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> float:
        return float(((inputs @ weights).argmax(axis=1) == labels).mean())

    best = max(PENALTIES, key=lambda penalty: accuracy(fit(~held, penalty), x[held], y[held]))
    return accuracy(fit(np.ones(len(x), bool), best), x_test, y_test)


def one_seed(work: Path, seed: int, epochs: int) -> dict[str, Any]:
    words = [
        f"training.seed={seed}",
        f"training.output_dir={work / f'run_{seed}'}",
        f"training.num_train_epochs={epochs}",
        "training.use_cpu=true",
        "training.disable_tqdm=true",
        f"data.sources=[{{name: synthetic, data_dir: '{work / 'corpus'}', protocol: everything}}]",
    ]
    recipe = load_recipe("surgvista_synthetic", words)
    torch.manual_seed(seed)
    random_model = build_model(recipe)
    start = time.perf_counter()
    trained = SurgVistaForPreTraining.from_pretrained(pretrain(recipe))
    minutes = (time.perf_counter() - start) / 60
    sets = [clips(work, name, recipe) for name in ("probe train", "probe test")]
    return {
        "seed": seed,
        "minutes": round(minutes, 2),
        "probe_pretrained": round(probe(*(features(trained, data) for data in sets)), 4),
        "probe_random": round(probe(*(features(random_model, data) for data in sets)), 4),
        "most_frequent_phase": round(float(np.bincount(features(random_model, sets[1])[1]).max() / len(sets[1])), 4),
        "loss": last_loss(work / f"run_{seed}"),
        "loss_of_predicting_the_mean": 0.998,
    }


def last_loss(folder: Path) -> float:
    import json

    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return round([line["loss"] for line in history if "loss" in line][-1], 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_frame_sets(work)
        runs = [one_seed(work, seed, arguments.epochs) for seed in range(arguments.seeds)]
    gains = [run["probe_pretrained"] - run["probe_random"] for run in runs]
    summary = {
        "mean_gain": round(statistics.mean(gains), 4),
        "smallest_gain": round(min(gains), 4),
        "mean_loss": round(statistics.mean(run["loss"] for run in runs), 4),
    }
    save(
        {"operations": CORPORA, "seconds": SECONDS, "epochs": arguments.epochs, "runs": runs, **summary},
        arguments.output,
    )


if __name__ == "__main__":
    main()

"""A person's recordings for tests: rendered operations as videos, a label file for each, and a tiny encoder."""

from pathlib import Path

import torch
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES, SyntheticOperation, synthetic_corpus, write_video

SECONDS = 56


def operations(count: int, seed: int = 11) -> list[SyntheticOperation]:
    return synthetic_corpus(count, seed, duration_seconds=SECONDS, frames_per_second=2.0, height=64, width=96)


def write_recordings(folder: Path, count: int) -> tuple[Path, Path]:
    """Write videos, label files and the order of the classes, and return both folders."""
    videos, labels = folder / "recordings", folder / "labels"
    videos.mkdir(parents=True)
    labels.mkdir()
    (labels / "classes.txt").write_text("\n".join(PHASES))
    for number, operation in enumerate(operations(count)):
        write_video(operation, videos / f"day{number}.mp4")
        write_labels(labels / f"day{number}.csv", operation)
    return videos, labels


def write_labels(path: Path, operation: SyntheticOperation) -> None:
    rows = [f"{second},{PHASES[operation.labels(second).phase]}" for second in range(SECONDS)]
    path.write_text("second,phase\n" + "\n".join(rows))


def save_encoder(folder: Path) -> Path:
    """Write an untrained image encoder, whose features of colors and shapes are enough for rendered operations."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder

"""Does pre-training teach anything? Linear probes on rendered operations, three seeds.

Variants of the recipe `surgvista_synthetic`, trained without labels on the same operations for the same number of updates: not
at all, as masked autoencoder, with an image teacher (SurgVISTA), and with one seed by JEPA. Then the encoder is
frozen, and a linear classifier learns phases from other operations and is tested on yet others; its penalty is chosen on
held-out training operations. Nothing is tuned on the test.

The image teacher is what a surgical image model is to real surgery: a small ViT that learnt phases and instruments from single
frames of further operations, with labels.

    python -m benchmarks.pretraining_quality --output benchmarks/results/pretraining_quality_cpu.json
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import ViTConfig, ViTModel
from transformers.utils import logging

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.clips import RandomResizedCrop, collate_clips, normalize_clips
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.evaluation.metrics.statistics import paired_wilcoxon
from surgvista_hf.evaluation.probes import Features, accuracy_by_video, ridge_probe
from surgvista_hf.trainers.benchmark.studies import ProbeSet, Study, StudyResult, run_study

from .timing import save

CORPORA = {"corpus": (18, 1), "probe": (30, 2), "teacher": (12, 4)}  # operations, seed
SECONDS = 90
WIDTH = 96
SEEDED = ("untrained", "masked autoencoder", "with teacher")


def train_teacher(frame_set: Path, output: Path, epochs: int = 40) -> None:
    """Train a ViT of 4 blocks on single frames: phase and instruments at once."""
    torch.manual_seed(5)
    frames = load_frame_set("synthetic", frame_set, "train", protocol="everything")
    phases, tools = (
        ClipDataset(frames, num_frames=1, frame_stride=1, label=label) for label in ("phase", "instruments")
    )
    crop = RandomResizedCrop(64, scale=(0.8, 1.0))
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "image_size": 64, "patch_size": 16}
    vit = ViTModel(ViTConfig(num_hidden_layers=4, num_attention_heads=3, **sizes), add_pooling_layer=False)
    head = nn.Linear(WIDTH, 7 + 6)
    optimizer = torch.optim.AdamW([*vit.parameters(), *head.parameters()], lr=1e-3, weight_decay=0.05)
    loaders = [DataLoader(part, batch_size=64, collate_fn=collate_clips) for part in (phases, tools)]
    images, labels = zip(*((b["pixel_values"], b["labels"]) for b in loaders[0]), strict=True)
    pixels, phase = torch.cat(images), torch.cat(labels)
    tool = torch.cat([batch["labels"] for batch in loaders[1]])
    batches = -(-len(pixels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * batches)
    for epoch in range(epochs):
        for chosen in torch.randperm(len(pixels)).split(64):
            clips = normalize_clips(crop(pixels[chosen], epoch, chosen.tolist()))[:, 0]
            output_ = head(vit(clips).last_hidden_state[:, 1:].mean(1))
            loss = functional.cross_entropy(output_[:, :7], phase[chosen])
            loss = loss + functional.binary_cross_entropy_with_logits(output_[:, 7:], tool[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    vit.save_pretrained(output)


def pixel_probe(frame_set: Path) -> float:
    """Return the accuracy of the same probe on 8 × 8 pixels of the second and the last frame of a clip, without encoder."""
    parts = []
    for split in ("train", "test"):
        frames = load_frame_set("synthetic", frame_set, split)
        clips = ClipDataset(frames, num_frames=8, frame_stride=2, label="phase")
        values, labels, videos = [], [], []
        for batch in DataLoader(clips, batch_size=64, collate_fn=collate_clips):
            small = functional.adaptive_avg_pool2d(batch["pixel_values"][:, [1, 7]].flatten(0, 1).float(), 8)
            values.append(small.reshape(len(batch["labels"]), -1).numpy())
            labels.append(batch["labels"].numpy())
            videos += batch["video_id"]
        parts.append(Features(np.concatenate(values), np.concatenate(labels), np.array(videos)))
    return float(np.mean(list(accuracy_by_video(parts[1], ridge_probe(*parts)).values())))


def variants(teacher: Path) -> dict[str, list[str]]:
    """Return the overrides of the recipe for each variant."""
    distil = ["model.image_decoder_num_hidden_layers=1", "model.image_decoder_hidden_size=64"]
    distil += ["model.image_decoder_num_attention_heads=2", f"model.image_target_size={WIDTH}"]
    weights = ["model.mask_ratio=0.5", "model.image_loss_weight=5", "model.video_loss_weight=0.2"]
    jepa = ["objective=jepa", "model.position_embedding_type=sincos_3d_equal", "model.initialization=normal"]
    return {
        "untrained": ["training.max_steps=1"],  # the first step of the warm-up has the learning rate 0
        "masked autoencoder": [],
        "JEPA": [*jepa, "training.base_learning_rate=1e-2", "training.base_min_learning_rate=1e-4"],
        "with teacher": [f"teacher.name={teacher}", *distil, *weights],
    }


def measure(work: Path, epochs: int, seeds: int, chosen: Sequence[str] = ()) -> StudyResult:
    """Run the missing ones of the chosen variants, by default all, in a folder."""
    for name, (operations, seed) in CORPORA.items():
        settings = {"videos": str(operations), "seconds": str(SECONDS), "seed": str(seed)}
        prepare_frame_set("synthetic", None, work / name, settings=settings, num_proc=2)
    if not (work / "vit" / "config.json").exists():
        train_teacher(work / "teacher", work / "vit")
    overrides = [
        f"data.sources=[{{name: synthetic, data_dir: '{work / 'corpus'}', protocol: everything}}]",
        f"training.num_train_epochs={epochs}",
        "training.use_cpu=true",
        "training.disable_tqdm=true",
    ]
    probe = ProbeSet("synthetic", str(work / "probe"))
    requested = {name: own for name, own in variants(work / "vit").items() if not chosen or name in chosen}
    return run_study(Study("surgvista_synthetic", overrides, requested, probe, work / "study", seeds))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--work", type=Path, help="folder to keep runs in; finished ones are not run again")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        study = measure(work, arguments.epochs, arguments.seeds, SEEDED)
        pixels = round(pixel_probe(work / "probe"), 4)
        jepa = measure(work, arguments.epochs, 1, ["untrained", "JEPA"])
    summary = study.summary()
    losses = {cell.model: [] for cell in study.cells}
    for cell in study.cells:
        losses[cell.model].append(cell.metrics.get("loss"))
    claims = [
        ("with teacher", "masked autoencoder"),
        ("with teacher", "untrained"),
        ("masked autoencoder", "untrained"),
    ]
    tests = {
        f"{better} > {worse}": paired_wilcoxon(study.scores(better), study.scores(worse)).to_dict()
        for better, worse in claims
    }
    save(
        {
            "operations": CORPORA,
            "seconds": SECONDS,
            "epochs": arguments.epochs,
            "probe_accuracy": summary,
            "last_loss_of_each_seed": losses,
            "one_seed": {
                cell.model: {"probe": jepa.summary()[cell.model]["mean"], "loss": cell.metrics.get("loss")}
                for cell in jepa.cells
            },
            "probe_on_8x8_pixels_of_two_frames": pixels,
            "trivial_loss": {"masked autoencoder": 0.998, "JEPA": 0.8},
            "wilcoxon_one_sided_over_test_videos": tests,
        },
        arguments.output,
    )


if __name__ == "__main__":
    main()

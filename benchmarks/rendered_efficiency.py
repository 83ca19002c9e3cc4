"""Does pre-training save labels? Hard rendered operations: 208 without labels, 1 to 16 with labels, 32 to test on.

A SurgVISTA encoder is pre-trained by masked reconstruction on the operations without labels. Then the phase is learned from
few labeled operations: by a linear probe of the frozen encoder, before and after pre-training, and by fine-tuning it from
both, with the same number of updates. Small pictures without an encoder are compared as well. Differences and intervals are
those of `surgvista study value`. Every part of a run is kept, and is not made again.

    python -m benchmarks.rendered_efficiency --work efficiency --output benchmarks/results/rendered_efficiency_cpu.json
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import logging

from surgvista_hf import SurgVistaConfig
from surgvista_hf.clips import normalize_clips
from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES
from surgvista_hf.evaluation.label_efficiency import LabelEfficiency, LabelPoint, choose_labeled, score_point
from surgvista_hf.evaluation.probes import Features, linear_probe
from surgvista_hf.evaluation.reports.label_efficiency_plot import draw_label_efficiency
from surgvista_hf.modeling.features import FeatureExtractor
from surgvista_hf.modeling.modeling_surgvista import SurgVistaForPreTraining
from surgvista_hf.trainers.common.arguments import PretrainingArguments
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer
from surgvista_hf.util.files import atomic_folder

from .in_memory import ClipsInMemory, frame_set
from .rendered_baselines import FRAMES, HARD, INTERVAL, Rendered, render, simple_features
from .repeatable import curve_of, encoder_of, kept_run
from .timing import save

UNLABELED, LABELED, TEST = 208, 16, 32  # operations
COUNTS = (1, 2, 4, 8, 16)  # labeled operations of the probes
TUNED_COUNTS = (1, 4, 16)  # and of fine-tuning
SIDE, PATCH = 64, 8  # pixels; frames are squeezed to squares
WIDTH, LAYERS, HEADS = 128, 4, 2
BATCH = 64
PAIRS = (
    ("pre-trained, probe", "untrained, probe"),
    ("pre-trained, fine-tuned", "from scratch"),
    ("pre-trained, probe", "from scratch"),
    ("pre-trained, probe", "pixels"),
)


def operations(work: Path) -> Rendered:
    """Return all operations, which are rendered once and kept in the working folder."""
    folder = work / "operations"
    names = ("frames", "phases", "instruments")
    if not folder.exists():
        found, _ = render(HARD, range(UNLABELED + LABELED + TEST))
        with atomic_folder(folder) as temporary:
            for name in names:
                np.save(temporary / f"{name}.npy", getattr(found, name).numpy())
    return Rendered(*(torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in names))


def build() -> SurgVistaForPreTraining:
    """Return the untrained model."""
    decoder = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    named = {f"video_decoder_{name}": value for name, value in decoder.items()}
    sizes = {"image_size": SIDE, "patch_size": PATCH, "num_frames": FRAMES, "hidden_size": WIDTH, "mask_ratio": 0.8}
    layers = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "image_decoder_num_hidden_layers": 0}
    return SurgVistaForPreTraining(SurgVistaConfig(**sizes, **layers, **named))


def pretrain(model: SurgVistaForPreTraining, frames: torch.Tensor, seed: int, updates: int) -> list[dict[str, float]]:
    """Pre-train on operations without labels; return the losses."""
    count, length = frames.shape[:2]
    names = np.repeat([f"operation{number:03d}" for number in range(count)], length)
    corpus = ClipsInMemory(
        frames.flatten(0, 1).permute(0, 3, 1, 2),
        frame_set(names.tolist(), np.tile(np.arange(length) * INTERVAL, count)),
        num_frames=FRAMES,
        frame_stride=INTERVAL,
    )
    epochs = updates * BATCH / len(corpus)
    with tempfile.TemporaryDirectory() as folder:
        args = PretrainingArguments(
            folder,
            use_cpu=True,
            seed=seed,
            per_device_train_batch_size=BATCH,
            num_train_epochs=epochs,
            max_steps=updates,
            warmup_epochs=epochs / 10,
            learning_rate=2e-3,
            base_min_learning_rate=1e-5,
            logging_steps=max(1, updates // 20),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SurgVistaPretrainer(model, args, corpus)
        trainer.train()
    return curve_of(trainer.state.log_history)


class Clips:
    """The clips of some operations, 0.8 s apart, with the phase of their last frame.

    Args:
        found: rendered operations.
        chosen: numbers of those to take.
    """

    def __init__(self, found: Rendered, chosen: range) -> None:
        ends = torch.arange(FRAMES - 1, found.phases.shape[1], 2)
        window = ends[:, None] + torch.arange(1 - FRAMES, 1)
        self.frames = squeezed(found.frames[chosen.start : chosen.stop])  # (operations, frames, 3, side, side) uint8
        self.window = window
        self.videos = np.repeat([f"operation{number:03d}" for number in chosen], len(ends))
        self.labels = found.phases[chosen.start : chosen.stop][:, ends].flatten().numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, rows: torch.Tensor) -> torch.Tensor:
        """Return clips by their numbers, (clips, frames, 3, side, side) uint8."""
        operation, moment = rows // len(self.window), rows % len(self.window)
        return self.frames[operation[:, None], self.window[moment]]


def squeezed(frames: torch.Tensor) -> torch.Tensor:
    """Return frames (operations, frames, height, width, 3) as squares with channels first."""
    found = []
    for one in frames:
        channels_first = one.permute(0, 3, 1, 2).float()
        small = functional.interpolate(channels_first, (SIDE, SIDE), mode="bilinear", antialias=True)
        found.append(small.round().clamp(0, 255).to(torch.uint8))
    return torch.stack(found)


@torch.no_grad()
def features(encoder: PreTrainedModel, clips: Clips) -> Features:
    """Return the features of all clips: the mean token of each tubelet."""
    extractor = FeatureExtractor(encoder.eval(), pooling="tubelets")
    batches = torch.arange(len(clips)).split(BATCH)
    values = [extractor(normalize_clips(clips.pixels(rows))).features for rows in batches]
    return Features(torch.cat(values).numpy(), clips.labels, clips.videos)


def fine_tune(
    encoder: PreTrainedModel, train: Clips, test: Clips, videos: Sequence[str], seed: int, updates: int
) -> np.ndarray:
    """Fine-tune an encoder on the labeled videos; return the probabilities of all test clips, (clips, phases)."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    head = nn.Linear(WIDTH, len(PHASES))
    extractor = FeatureExtractor(encoder.train())
    rows = torch.from_numpy(np.flatnonzero(np.isin(train.videos, videos)))
    labels = torch.from_numpy(train.labels)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=updates, pct_start=0.1)
    for _ in range(updates):
        batch = rows[torch.randint(len(rows), (BATCH // 2,), generator=generator)]
        pixels = train.pixels(batch)
        for axis in (-1, -2):  # anatomy is turned and mirrored anyway
            if torch.rand((), generator=generator) < 0.5:
                pixels = pixels.flip(axis)
        loss = functional.cross_entropy(head(extractor(normalize_clips(pixels)).features), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    encoder.eval()
    with torch.no_grad():
        parts = torch.arange(len(test)).split(BATCH)
        scores = [head(extractor(normalize_clips(test.pixels(part))).features).softmax(-1) for part in parts]
    return torch.cat(scores).numpy()


def probe_points(variant: str, seed: int, train: Features, test: Features) -> list[LabelPoint]:
    """Return the scores of linear probes with each number of labeled operations."""
    points = []
    for count in COUNTS:
        chosen = np.isin(train.videos, choose_labeled(list(train.videos), count, seed))
        few = Features(train.values[chosen], train.labels[chosen], train.videos[chosen])
        scores = linear_probe(few, test, len(PHASES))
        points.append(score_point(variant, seed, count, test.videos, test.labels, scores))
    return points


class Experiment:
    """One working folder: operations, encoders and points.

    Args:
        work: the folder.
        updates: updates of pre-training, of 64 clips.
        tuning: updates of fine-tuning, of 32 clips.
    """

    def __init__(self, work: Path, updates: int, tuning: int) -> None:
        self.work, self.updates, self.tuning = work, updates, tuning
        self.found = operations(work)
        self.train = Clips(self.found, range(UNLABELED, UNLABELED + LABELED))
        self.test = Clips(self.found, range(UNLABELED + LABELED, UNLABELED + LABELED + TEST))

    def encoders(self, seed: int) -> dict[str, PreTrainedModel]:
        """Return the encoder before and after pre-training; they are kept in the working folder."""
        folder = self.work / f"encoders_{seed}_{self.updates}"
        torch.manual_seed(seed)
        model = build()
        if not folder.exists():
            start = time.process_time()
            untrained = encoder_of(model)
            curve = pretrain(model, self.found.frames[:UNLABELED], seed, self.updates)
            seconds = round(time.process_time() - start)
            with atomic_folder(folder) as temporary:
                untrained.save_pretrained(temporary / "untrained")
                encoder_of(model).save_pretrained(temporary / "pre-trained")
                kept_run(temporary / "curve.json", {}, lambda: {"curve": curve, "processor_seconds": seconds})
        kind: Any = type(encoder_of(model))
        return {name: kind.from_pretrained(folder / name) for name in ("untrained", "pre-trained")}

    def probes(self, seed: int) -> dict[str, Any]:
        """Return the points of all probes of a seed, and how pre-training went."""
        points = []
        for name, encoder in self.encoders(seed).items():
            points += probe_points(f"{name}, probe", seed, features(encoder, self.train), features(encoder, self.test))
        parts = [self.train.videos, self.test.videos]
        whole = simple_features(self.found, range(UNLABELED, UNLABELED + LABELED + TEST), "pixels")[0]
        train, test = (
            Features(whole.values[part], whole.labels[part], videos)
            for part, videos in zip((slice(None, len(self.train)), slice(len(self.train), None)), parts, strict=True)
        )
        points += probe_points("pixels", seed, train, test)
        told = kept_run(self.work / f"encoders_{seed}_{self.updates}" / "curve.json", {}, dict)
        return {
            "points": [asdict(point) for point in points],
            "curve": told["curve"],
            "processor_seconds": told["processor_seconds"],
        }

    def tuned(self, seed: int, name: str, count: int) -> dict[str, Any]:
        """Return the point of an encoder that was fine-tuned with a number of labeled operations."""
        variant = {"untrained": "from scratch", "pre-trained": "pre-trained, fine-tuned"}[name]
        chosen = choose_labeled(list(self.train.videos), count, seed)
        scores = fine_tune(self.encoders(seed)[name], self.train, self.test, chosen, seed, self.tuning)
        return {"point": asdict(score_point(variant, seed, count, self.test.videos, self.test.labels, scores))}


def main() -> None:
    """Run the experiment; finished parts in the working folder are not made again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file; a figure is written beside it")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished parts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--updates", type=int, default=800, help="updates of pre-training, of 64 clips")
    parser.add_argument("--tuning", type=int, default=150, help="updates of fine-tuning, of 32 clips; 0: none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    arguments.work.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(arguments.work, arguments.updates, arguments.tuning)
    points: list[LabelPoint] = []
    runs: dict[str, Any] = {}
    for seed in arguments.seeds:
        settings = {"updates": arguments.updates}
        path = arguments.work / f"probes_{seed}.json"
        found = kept_run(path, settings, partial(experiment.probes, seed))
        points += [LabelPoint(**point) for point in found["points"]]
        runs[str(seed)] = {name: found[name] for name in ("curve", "processor_seconds", "environment")}
        for count in TUNED_COUNTS if arguments.tuning else ():
            for name in ("untrained", "pre-trained"):
                tuned = kept_run(
                    arguments.work / f"tuned_{name}_{count}_{seed}.json",
                    {**settings, "tuning": arguments.tuning},
                    partial(experiment.tuned, seed, name, count),
                )
                points.append(LabelPoint(**tuned["point"]))
        result = LabelEfficiency(points, PAIRS)
        print(
            f"seed {seed}", *result.summary(), *(entry.sentence for entry in result.comparisons), sep="\n", flush=True
        )
        if arguments.output:
            save(report(result, runs, arguments), arguments.output)
            draw_label_efficiency(result, arguments.output.with_suffix(".png"), title="Hard rendered operations")


def report(result: LabelEfficiency, runs: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return settings, curves, comparisons and how the runs went."""
    return {
        "operations": {"unlabeled": UNLABELED, "labeled": LABELED, "test": TEST, "difficulty": HARD},
        "clip": {"frames": FRAMES, "interval_s": INTERVAL, "side": SIDE},
        "encoder": {"patch": PATCH, "width": WIDTH, "blocks": LAYERS, "heads": HEADS},
        "pretraining": {"updates": arguments.updates, "batch": BATCH},
        "fine_tuning": {"updates": arguments.tuning, "batch": BATCH // 2},
        "chance": round(1 / len(PHASES), 4),
        "efficiency": result.to_dict(),
        "runs": runs,
    }


if __name__ == "__main__":
    main()

"""Does pre-training help on real surgery? Encoders pre-trained without labels on nine operations, probed on five others.

Pre-training sees `cholec80_video01` and `cholect50_groups`. The probes learn from four operations of `cholect50_val` and are
tested on the fifth, for each of the five: which of six instruments are in view (mean average precision), and the phase
(balanced accuracy). Compared are the encoder before training, small pictures, and each variant of pre-training.

The videos are for research and not part of this package; `--data` names their folder.

    python -m benchmarks.real_surgery --data ../shared/data/real --work real --output benchmarks/results/real_surgery_cpu.json
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers import PreTrainedModel, TrainerCallback
from transformers.utils import logging

from surgvista_hf import SurgVistaConfig
from surgvista_hf.clips import normalize_clips
from surgvista_hf.datasets_scripts.synthetic.surgery import INSTRUMENTS, PHASES
from surgvista_hf.evaluation.label_efficiency import measure_clips
from surgvista_hf.evaluation.metrics.statistics import paired_wilcoxon
from surgvista_hf.evaluation.probes import Features, linear_probe
from surgvista_hf.modeling.modeling_surgvista import SurgVistaForPreTraining
from surgvista_hf.modeling.objectives.joint_embedding import SurgVistaForJointEmbedding
from surgvista_hf.modeling.objectives.self_distillation import ConvNextDistillationConfig, ConvNextForSelfDistillation
from surgvista_hf.trainers.common.arguments import PretrainingArguments
from surgvista_hf.trainers.pretraining.dino import DinoArguments, DinoPretrainer
from surgvista_hf.trainers.pretraining.jepa import JepaArguments, JepaPretrainer
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer

from .in_memory import ClipsInMemory, FramesInMemory, frame_set
from .repeatable import Runs, curve_of, encoder_of, parse_experiment, run_experiment
from .timing import save

STORED, SIDE, PATCH, FRAMES = 128, 96, 16, 8  # pixels of a stored frame and of a crop, of a patch; frames of a clip
RATE, STRIDE = 5.0, 1.0  # frames a second of the corpus; seconds between the frames of a clip
WIDTH, LAYERS, HEADS = 128, 4, 2
BATCH = 64


def read_frames(path: Path, rate: float) -> np.ndarray:
    """Return frames of a video at a rate, (frames, side, side, 3) uint8; the shape of the picture is not kept."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        step = round(float(stream.average_rate) / rate * 2) / 2  # 12.5 a second: every 2.5th frame is the 2nd or 3rd
        pictures = [
            frame.to_ndarray(format="rgb24", width=STORED, height=STORED) for frame in container.decode(stream)
        ]
    return np.stack([pictures[int(number)] for number in np.arange(0, len(pictures), step)])


def read_corpus(data: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Return the videos for pre-training by source: name and frames of each."""
    rows = list(csv.DictReader((data / "cholec80_video01" / "labels.csv").open()))
    whole: dict[str, list[np.ndarray]] = {}
    end, part = 0.0, 0
    for row in rows:
        name = row["clip"]
        if row["video"] == "video01":  # its clips follow each other, with four gaps
            part += float(row["start_s"]) != end
            end = float(row["end_s"])
            name = f"video01, part {part}"
        whole.setdefault(name, []).append(read_frames(data / "cholec80_video01" / "clips" / row["clip"], RATE))
    groups = [
        (row["clip"], read_frames(data / "cholect50_groups" / row["clip"], RATE))
        for row in csv.DictReader((data / "cholect50_groups" / "labels.csv").open())
        if not row["duplicate_of"]
    ]
    return {
        "cholec80_video01": [(name, np.concatenate(parts)) for name, parts in whole.items()],
        "cholect50_groups": groups,
    }


class Labeled:
    """The five operations with labels: a clip for each labeled second, made of the seconds before it without a gap."""

    def __init__(self, data: Path, side: int = SIDE) -> None:
        folder = data / "cholect50_val"
        rows = list(csv.DictReader((folder / "labels.csv").open()))
        pictures, clips, kept = [], [], []
        for number, row in enumerate(rows):
            path = folder / "videos" / row["video"] / row["file"]
            path = path if path.exists() else path.with_suffix(".jpg")
            picture = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
            pictures.append(np.asarray(picture))
            past = [number]
            while len(past) < FRAMES:
                before = past[-1] - 1
                follows = before >= 0 and rows[before]["video"] == row["video"]
                if follows and int(rows[before]["second"]) == int(rows[past[-1]]["second"]) - 1:
                    past.append(before)
                else:
                    past.append(past[-1])
            if row["labelled"] == "1":
                clips.append(past[::-1])
                kept.append(row)
        self.pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        self.clips = torch.tensor(clips)  # (clips, frames) rows of `pixels`
        self.videos = np.array([row["video"] for row in kept])
        self.instruments = np.array([[int(row[name]) for name in INSTRUMENTS] for row in kept], np.float64)
        self.phases = np.array([int(row["phase_id"]) for row in kept])

    def features(self, model: PreTrainedModel) -> dict[str, np.ndarray]:
        """Return features of each block of an encoder, by the name of the block, (clips, width)."""
        model.eval()
        is_image = model.config.model_type.startswith("convnext")
        found: dict[str, list[torch.Tensor]] = {}
        with torch.no_grad():
            for start in range(0, len(self.clips), BATCH):
                clips = normalize_clips(self.pixels[self.clips[start : start + BATCH]])
                if is_image:
                    states = model(clips[:, -1], output_hidden_states=True).hidden_states[1:]
                    maps = {f"stage {number}": state for number, state in enumerate(states, 1)}
                else:
                    states = model(pixel_values=clips, output_hidden_states=True)
                    side = SIDE // PATCH
                    maps = {
                        name: tokens[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))  # the last slice
                        for name, tokens in {
                            **{f"block {number}": state for number, state in enumerate(states.hidden_states[1:], 1)},
                            "output": states.last_hidden_state,
                        }.items()
                    }
                for name, tokens in maps.items():
                    pooled = functional.adaptive_avg_pool2d(tokens.float(), 2).flatten(1)
                    found.setdefault(name, []).append(pooled)
        return {name: torch.cat(parts).numpy() for name, parts in found.items()}

    def pixels_probe(self, side: int = 8) -> np.ndarray:
        """Return small pictures of the last frame and its difference from the one before."""
        small = functional.adaptive_avg_pool2d(self.pixels.float(), side)
        last, before = small[self.clips[:, -1]], small[self.clips[:, -2]]
        return torch.cat([last, (last - before).abs()], dim=1).flatten(1).numpy()

    def probe(self, values: np.ndarray) -> dict[str, dict[str, float]]:
        """Probe features, one operation left out at a time; return scores in percent by measure and operation."""
        scores: dict[str, dict[str, float]] = {}
        for name, labels, classes in (
            ("instruments", self.instruments, len(INSTRUMENTS)),
            ("phases", self.phases, len(PHASES)),
        ):
            for video in np.unique(self.videos):
                test = self.videos == video
                parts = [Features(values[own], labels[own], self.videos[own]) for own in (~test, test)]
                measures = measure_clips(labels[test], linear_probe(*parts, classes))
                score = next(iter(measures.values()))  # mean average precision, or balanced accuracy
                scores.setdefault(name, {})[str(video)] = round(100 * score, 2)
        return scores


def surgvista(**changes: Any) -> SurgVistaConfig:
    """Return the configuration of the video encoder and its decoder."""
    decoder = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {"image_size": SIDE, "patch_size": PATCH, "num_frames": FRAMES, "hidden_size": WIDTH, "mask_ratio": 0.8}
    layers = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "image_decoder_num_hidden_layers": 0}
    named = {f"video_decoder_{name}": value for name, value in decoder.items()}
    return SurgVistaConfig(**{**sizes, **layers, **named, **changes})


def build(objective: str) -> PreTrainedModel:
    """Return the untrained model of an objective."""
    if objective == "masked autoencoder":
        return SurgVistaForPreTraining(surgvista())
    if objective == "masked autoencoder, plain pixels":
        return SurgVistaForPreTraining(surgvista(norm_pix_loss=False))
    if objective == "V-JEPA":
        return SurgVistaForJointEmbedding(
            surgvista(position_embedding_type="sincos_3d_equal", initialization="normal", initializer_range=0.08)
        )
    sizes = {"image_size": 64, "patch_size": 4, "num_stages": 3, "depths": [1, 2, 2], "hidden_sizes": [32, 64, 128]}
    head = {"head_hidden_size": 256, "head_bottleneck_size": 64, "head_output_size": 256}
    return ConvNextForSelfDistillation(ConvNextDistillationConfig(**sizes, **head, layer_scale_init_value=0.1))


_MAE = (SurgVistaPretrainer, PretrainingArguments, {"learning_rate": 1e-3, "base_min_learning_rate": 1e-5})
TRAINERS: dict[str, tuple[type, type[PretrainingArguments], dict[str, Any]]] = {
    "masked autoencoder": _MAE,
    # Normalized targets say nothing of brightness and color, which tell steel from tissue.
    "masked autoencoder, plain pixels": _MAE,
    "V-JEPA": (
        JepaPretrainer,
        JepaArguments,
        {
            "learning_rate": 1e-3,
            "base_min_learning_rate": 1e-6,
            "ema_momentum": 0.99,
            "mask_blocks": [[8, 0.15], [2, 0.5]],
        },
    ),
    "DINO": (
        DinoPretrainer,
        DinoArguments,
        {
            "learning_rate": 1e-3,
            "base_min_learning_rate": 1e-6,
            "ema_momentum": 0.99,
            "local_size": 32,
            "local_views": 2,
            "local_scale": [0.15, 0.4],
        },
    ),
}


def corpus_of(videos: Sequence[tuple[str, np.ndarray]], objective: str) -> ClipsInMemory | FramesInMemory:
    """Return the samples of pre-training."""
    pixels = torch.from_numpy(np.concatenate([frames for _, frames in videos])).permute(0, 3, 1, 2)
    names = [name for name, frames in videos for _ in frames]
    seconds = np.concatenate([np.arange(len(frames)) / RATE for _, frames in videos])
    frames = frame_set(names, seconds)
    if objective == "DINO":
        return FramesInMemory(pixels, frames, num_frames=1, frame_stride=1)
    return ClipsInMemory(pixels, frames, num_frames=FRAMES, frame_stride=STRIDE)


def run(
    objective: str,
    seed: int,
    updates: int,
    videos: Sequence[tuple[str, np.ndarray]],
    labeled: Labeled,
    changes: dict[str, Any],
    moments: int = 4,
) -> dict[str, Any]:
    """Pre-train with one seed, and probe the encoder before, at equal parts of the run, and after."""
    torch.manual_seed(seed)
    model = build(objective)

    def probe(every_block: bool) -> dict[str, Any]:
        found = labeled.features(encoder_of(model))
        chosen = list(found) if every_block else list(found)[-1:]
        return {name: labeled.probe(found[name]) for name in chosen}

    results = {"0": probe(True)}
    trainer_class, arguments, settings = TRAINERS[objective]
    corpus = corpus_of(videos, objective)
    start = time.perf_counter()
    spent = 0.0
    with tempfile.TemporaryDirectory() as folder:
        epochs = updates * BATCH / len(corpus)
        usual = {"warmup_epochs": epochs / 10, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
        args = arguments(
            folder,
            use_cpu=True,
            seed=seed,
            per_device_train_batch_size=BATCH,
            num_train_epochs=epochs,
            logging_steps=max(1, updates // 20),
            **{**usual, **settings, "max_steps": updates, **changes},
        )
        trainer = trainer_class(model, args, corpus)

        class Probe(TrainerCallback):
            """Probes the encoder at equal parts of the run."""

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                nonlocal spent
                is_last = state.global_step == updates
                if is_last or state.global_step % max(1, updates // moments) == 0:
                    before = time.perf_counter()
                    results[str(state.global_step)] = probe(is_last)
                    print(objective, seed, state.global_step, summary(results[str(state.global_step)]), flush=True)
                    model.train()
                    spent += time.perf_counter() - before

        trainer.add_callback(Probe())
        print(objective, seed, 0, summary(results["0"]), flush=True)
        trainer.train()
    seconds = round(time.perf_counter() - start - spent)
    curve = curve_of(trainer.state.log_history)
    return {"seconds": seconds, "updates": updates, "samples": len(corpus), "probes": results, "curve": curve}


def summary(probes: dict[str, Any]) -> str:
    """Return the mean over operations for each block."""
    return "  ".join(
        f"{name}: " + "/".join(f"{np.mean(list(one[measure].values())):.1f}" for measure in ("instruments", "phases"))
        for name, one in probes.items()
    )


def main() -> None:
    """Run the benchmark; finished runs in the working folder are not run again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=600)
    parser.set_defaults(seeds=[0, 1, 2])
    arguments = parse_experiment(parser, list(TRAINERS))
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    labeled = Labeled(arguments.data)
    pixels = labeled.probe(labeled.pixels_probe())
    print("pixels", summary({"8 x 8": pixels}), flush=True)
    corpus = [video for videos in read_corpus(arguments.data).values() for video in videos]

    def settings(objective: str) -> dict[str, Any]:
        """Return what the results of an objective depend on."""
        return {"updates": arguments.updates, "trainer": {**TRAINERS[objective][2], **arguments.changes}}

    def train(objective: str, seed: int) -> dict[str, Any]:
        """Make a run."""
        return run(objective, seed, arguments.updates, corpus, labeled, arguments.changes)

    for _, _, results in run_experiment(arguments, settings, train):
        if arguments.output:
            save(report(results, pixels), arguments.output)


def report(results: Runs, pixels: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, each operation's scores averaged over seeds, the tests over operations, and all runs."""
    compared: dict[str, Any] = {}
    for objective, runs in results.items():
        for measure in ("instruments", "phases") if runs else ():
            means = {}
            for moment, chosen in (("untrained", min), ("trained", max)):
                found = [run["probes"][chosen(run["probes"], key=int)] for run in runs.values()]
                last = [list(probes.values())[-1][measure] for probes in found]
                means[moment] = {video: round(float(np.mean([one[video] for one in last])), 2) for video in last[0]}
            test = paired_wilcoxon(means["trained"], means["untrained"])
            compared.setdefault(objective, {"seeds": len(runs)})[measure] = {
                **means,
                "wilcoxon_one_sided_over_operations": test.to_dict(),
            }
    return {
        "pretraining": {"stored": STORED, "frames_a_second": RATE, "stride_s": STRIDE, "side": SIDE, "batch": BATCH},
        "encoder": {"patch": PATCH, "width": WIDTH, "blocks": LAYERS, "heads": HEADS, "frames": FRAMES},
        "pixels_8x8": pixels,
        "output_of_the_encoder": compared,
        "runs": results,
    }


if __name__ == "__main__":
    main()

"""Do suggested seconds teach a model more than as many others? Rendered operations, a fixed encoder, probes on growing labels.

A small network learns instruments from rendered operations and is then an encoder that does not change. Of other operations,
one or three are labeled; in each of `ROUNDS` rounds, a linear probe is trained on what is labeled, predicts the others, and
`LABELS` moments more are labeled: chosen by `surgvista suggest-labels` (uncertain and unlike each other), by uncertainty
alone, by diversity alone, at random, or operation by operation. All choices see the same operations and the same start, and
each probe is tested on operations that nobody labels. Moments are 2.4 s apart. Every seed draws other operations for the
choice. Finished runs are kept in the working folder, so that the same command goes on after an interruption.

    python -m benchmarks.label_suggestions --work suggestions --output benchmarks/results/label_suggestions_cpu.json
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from surgvista_hf.datasets_scripts.corpora.synthetic import DIFFICULTIES
from surgvista_hf.datasets_scripts.synthetic.surgery import INSTRUMENTS, PHASES
from surgvista_hf.evaluation.label_efficiency import measure_clips
from surgvista_hf.evaluation.probes import Features, linear_probe
from surgvista_hf.inference.prediction.label_selection import choose_segments, uncertainty
from surgvista_hf.util.environment import environment
from surgvista_hf.util.files import atomic_file, write_json

from .rendered_baselines import FRAMES, INTERVAL, ClipNetwork, Rendered, fit_network, render
from .repeatable import kept_run

ENCODER, POOL, CHOSEN, TEST = 32, 48, 32, 32  # operations: of the encoder, to draw from, of one seed, of the test
STARTS = (1, 3)  # operations that are labeled at first
ROUNDS, LABELS = 4, 24  # rounds, and labels of each
EVERY = 6  # frames between two moments
UPDATES, BATCH, RATE, WIDTH = 400, 24, 3e-3, 8  # of the encoder's training
TASKS = ("phases", "instruments")
PENALTIES = (1e-3, 1e-2, 1e-1)
RANDOM = "random"
SUGGESTED = "suggested"


# ------------------------------------------------------------------------------------------ features


def train_encoder(operations: Rendered, updates: int) -> ClipNetwork:
    """Train the network on the instruments of the first `ENCODER` operations; phases play no part."""

    def loss_of(logits: torch.Tensor, _: torch.Tensor, instruments: torch.Tensor) -> torch.Tensor:
        """Return the loss of the instruments."""
        return functional.binary_cross_entropy_with_logits(logits[:, len(PHASES) :], instruments)

    torch.manual_seed(0)
    seen = operations.part(slice(ENCODER))
    return fit_network(ClipNetwork(WIDTH), seen, loss_of, updates=updates, batch=BATCH, rate=RATE)


@torch.no_grad()
def encode(network: ClipNetwork, operations: Rendered) -> dict[str, np.ndarray]:
    """Return features (operations, moments, width), phases and instruments of the operations that the encoder has not seen."""
    ends = torch.arange(FRAMES - 1, operations.phases.shape[1], EVERY)
    window = ends[:, None] + torch.arange(1 - FRAMES, 1)
    found: list[torch.Tensor] = []
    handle = network.head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    for frames in operations.frames[ENCODER:]:
        network(frames[window])
    handle.remove()
    return {
        "features": torch.stack(found).numpy(),
        "phases": operations.phases[ENCODER:][:, ends].numpy(),
        "instruments": operations.instruments[ENCODER:][:, ends].numpy(),
    }


def kept_features(folder: Path, difficulty: str, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the features of a kind of operations, which are made only if they are not there yet."""
    file = folder / f"features_{difficulty}.npz"

    def make() -> dict[str, Any]:
        """Render, train and encode."""
        begin = time.process_time()
        operations, _ = render(difficulty, range(ENCODER + POOL + TEST))
        arrays = encode(train_encoder(operations, settings["updates"]), operations)
        with atomic_file(file) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
        return {"processor_seconds": round(time.process_time() - begin, 1)}

    kept_run(folder / f"features_{difficulty}.json", {**settings, "difficulty": difficulty}, make)
    with np.load(file) as arrays:
        return dict(arrays)


# ------------------------------------------------------------------------------------------ choices


class Pool:
    """The operations of one seed, and what is labeled of them.

    Args:
        features: (operations, moments, width).
        labels: (operations, moments), or (operations, moments, classes).
        start: number of operations that are labeled at first.
        seed: seed of the choices that are drawn.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, start: int, seed: int) -> None:
        operations, moments = features.shape[:2]
        self.features = features.reshape(-1, features.shape[2])
        self.labels = labels.reshape(-1, *labels.shape[2:])
        self.videos = np.repeat(np.arange(operations), moments)
        self.seconds = np.tile(np.arange(moments) * EVERY * INTERVAL, operations)
        self.labeled = self.videos < start
        self.random = np.random.default_rng([seed, 1])

    @property
    def unlabeled(self) -> np.ndarray:
        """Return the rows of the moments without a label."""
        return np.flatnonzero(~self.labeled)

    def known(self) -> Features:
        """Return the labeled moments."""
        return Features(self.features[self.labeled], self.labels[self.labeled], self.videos[self.labeled].astype(str))


Choice = Callable[[Pool, np.ndarray, int], np.ndarray]  # pool, uncertainties of its unlabeled moments, count -> rows


def by_suggestion(pool: Pool, scores: np.ndarray, count: int) -> np.ndarray:
    """Choose as `surgvista suggest-labels` does."""
    return pool.unlabeled[choose_segments(scores, pool.features[pool.unlabeled], count)]


def by_suggestion_and_labels(pool: Pool, scores: np.ndarray, count: int) -> np.ndarray:
    """Choose as `surgvista suggest-labels` does, but far from what is labeled too."""
    candidates, known = pool.features[pool.unlabeled], pool.features[pool.labeled]
    return pool.unlabeled[choose_segments(scores, candidates, count, known=known)]


def by_uncertainty(pool: Pool, scores: np.ndarray, count: int) -> np.ndarray:
    """Choose the most uncertain moments."""
    return pool.unlabeled[np.argsort(-scores, kind="stable")[:count]]


def by_diversity(pool: Pool, scores: np.ndarray, count: int) -> np.ndarray:
    """Choose the moments that differ most from all that are labeled."""
    return by_suggestion_and_labels(pool, np.ones_like(scores), count)


def by_chance(pool: Pool, scores: np.ndarray, count: int) -> np.ndarray:
    """Draw moments of all operations."""
    return pool.random.permutation(pool.unlabeled)[:count]


def whole_operations(pool: Pool, scores: np.ndarray, count: int) -> np.ndarray:
    """Draw operations, and choose all moments of each; what an earlier round began is finished first."""
    rows = pool.unlabeled
    begun = np.isin(pool.videos[rows], pool.videos[pool.labeled])
    order = dict(
        zip(np.unique(pool.videos[rows]), pool.random.permutation(len(np.unique(pool.videos[rows]))), strict=True)
    )
    turns = np.array([order[video] for video in pool.videos[rows]])
    return rows[np.lexsort((pool.seconds[rows], turns, ~begun))[:count]]


CHOICES: dict[str, Choice] = {
    SUGGESTED: by_suggestion,
    "suggested, far from labels": by_suggestion_and_labels,
    "uncertainty": by_uncertainty,
    "diversity": by_diversity,
    RANDOM: by_chance,
    "whole operations": whole_operations,
}


def run_seed(arrays: Mapping[str, np.ndarray], task: str, start: int, seed: int) -> dict[str, Any]:
    """Return the scores of the probes after each round, 0-100, by choice.

    Args:
        arrays: result of `encode`.
        task: one of `TASKS`.
        start: number of operations that are labeled at first.
        seed: seed of the operations and of what is drawn.
    """
    drawn = np.random.default_rng(seed).permutation(POOL)[:CHOSEN]
    features, labels = arrays["features"], arrays[task]
    test, test_labels = features[POOL:].reshape(-1, features.shape[2]), labels[POOL:].reshape(-1, *labels.shape[2:])
    multi_label = labels.ndim == 3
    classes = len(INSTRUMENTS) if multi_label else len(PHASES)
    measure = "mean_average_precision" if multi_label else "balanced_accuracy"
    curves: dict[str, list[float]] = {}
    for name, choose in CHOICES.items():
        pool = Pool(features[drawn], labels[drawn], start, seed)
        curves[name] = []
        for turn in range(ROUNDS + 1):
            rows = pool.unlabeled
            candidates = np.concatenate([test, pool.features[rows]])  # (test and unlabeled moments, width)
            unknown = Features(candidates, np.zeros(len(candidates)), np.zeros(len(candidates)))
            found = linear_probe(pool.known(), unknown, classes, PENALTIES)
            curves[name].append(round(100 * measure_clips(test_labels, found[: len(test)])[measure], 2))
            if turn < ROUNDS:
                scores = uncertainty(found[len(test) :], multi_label=multi_label)
                pool.labeled[choose(pool, scores, LABELS)] = True
    return {"measure": measure, "curves": curves}


def summarize(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, and how far each choice is above random moments after each round.

    Args:
        runs: results of `run_seed` by seed.
    """
    curves = {
        name: np.array([run["curves"][name] for run in runs.values()]) for name in CHOICES
    }  # (seeds, rounds + 1)
    summary: dict[str, Any] = {}
    for name, values in curves.items():
        above = values - curves[RANDOM]
        mean_above = above[:, 1:].mean(axis=1)  # (seeds,) over the rounds
        summary[name] = {
            "mean": values.mean(axis=0).round(2).tolist(),
            "above_random": above.mean(axis=0).round(2).tolist(),
            "deviation": above.std(axis=0, ddof=1).round(2).tolist(),
            "above_random_over_rounds": round(float(mean_above.mean()), 2),
            "seeds_above_random": int((mean_above > 0).sum()),
        }
    return summary


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--seeds", type=int, default=16, help="number of seeds (default: 16)")
    parser.add_argument("--updates", type=int, default=UPDATES, help=f"updates of the encoder (default: {UPDATES})")
    parser.add_argument("--difficulties", nargs="+", default=list(DIFFICULTIES), choices=DIFFICULTIES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        "encoder": ENCODER,
        "pool": POOL,
        "chosen": CHOSEN,
        "test": TEST,
        "every_seconds": EVERY * INTERVAL,
        "updates": arguments.updates,
        "batch": BATCH,
        "width": WIDTH,
    }
    rounds = {"rounds": ROUNDS, "labels": LABELS, "penalties": PENALTIES}
    results: dict[str, Any] = {}
    for difficulty in arguments.difficulties:
        arrays = kept_features(arguments.work, difficulty, settings)
        moments = arrays["features"].shape[1]
        results[difficulty] = {}
        for task, start in itertools.product(TASKS, STARTS):
            runs = {
                str(seed): kept_run(
                    arguments.work / f"{difficulty}_{task}_{start}_{seed}.json",
                    {**settings, **rounds, "task": task, "start": start, "seed": seed},
                    partial(run_seed, arrays, task, start, seed),
                )
                for seed in range(arguments.seeds)
            }
            results[difficulty][f"{task}, {start} labeled at first"] = {
                "measure": runs["0"]["measure"],
                "labels": [start * moments + turn * LABELS for turn in range(ROUNDS + 1)],
                "summary": summarize(runs),
                "runs": {seed: run["curves"] for seed, run in runs.items()},
            }
            # Written after each task: a stop loses little.
            write_json(
                arguments.output,
                {"settings": {**settings, **rounds}, "environment": environment(), "results": results},
            )


if __name__ == "__main__":
    main()

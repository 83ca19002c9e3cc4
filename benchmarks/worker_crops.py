"""Speed of a small training step on a CPU with crops in the worker, as the trainer has it, and in the process that trains.

The recipe `surgvista_synthetic` on rendered operations, one worker, one thread for the model, files to new weights; both ways
in turn in one run. The pixels that the model is given are the same (`tests/trainers/pretraining/test_trainer.py`).

    OMP_NUM_THREADS=1 python -m benchmarks.worker_crops --output benchmarks/results/worker_crops_cpu.json
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from transformers.utils import logging

from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.trainers.pretrain import build_arguments, build_trainer
from surgvista_hf.trainers.pretraining.recipe import load_recipe

from .timing import ratio, save, side_by_side


def contestant(frame_set: Path, updates: int, *, crop_here: bool) -> Callable[[], None]:
    """Return a function that trains for a number of updates."""
    overrides = [
        f"data.sources=[{{name: synthetic, data_dir: '{frame_set}', protocol: everything}}]",
        f"training.max_steps={updates}",
        "training.dataloader_num_workers=1",
        "training.dataloader_persistent_workers=true",
        "training.save_strategy=no",
        "training.disable_tqdm=true",
        "training.use_cpu=true",
    ]
    recipe = load_recipe("surgvista_synthetic", [*overrides, f"training.output_dir={frame_set.parent / 'run'}"])
    trainer = build_trainer(recipe, build_arguments(recipe))
    if not crop_here:
        trainer.data_collator = replace(trainer.data_collator, size=None)
    return lambda: trainer.train() and None


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        frame_set = Path(folder) / "operations"
        prepare_frame_set("synthetic", None, frame_set, settings={"videos": "12", "seconds": "90"}, num_proc=2)
        seconds = side_by_side(
            {
                "in the worker": contestant(frame_set, arguments.updates, crop_here=True),
                "in the process that trains": contestant(frame_set, arguments.updates, crop_here=False),
            },
            rounds=arguments.rounds,
        )
        batch = load_recipe("surgvista_synthetic").training["per_device_train_batch_size"]
    clips = int(batch) * arguments.updates
    save(
        {
            "updates": arguments.updates,
            "clips_per_second": {
                name: round(clips / sorted(times)[len(times) // 2], 1) for name, times in seconds.items()
            },
            "worker_over_process": ratio(seconds, "in the worker", "in the process that trains"),
            "seconds": {name: [round(one, 3) for one in times] for name, times in seconds.items()},
        },
        arguments.output,
    )


if __name__ == "__main__":
    main()

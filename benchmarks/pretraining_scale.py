"""Does more unlabeled video teach more? Moving digits at four scales, with and without an image teacher, same compute.

The encoder of `pretraining_control` is trained by as many updates at each scale: of fewer clips each is seen more often. The
results are written after every run, and a run that is in the working folder is not made again.

    python -m benchmarks.pretraining_scale --work scale --output benchmarks/results/pretraining_scale_cpu.json
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from transformers.utils import logging

from surgvista_hf.util.files import atomic_file

from .pretraining_control import BATCH, CORPUS, OBJECTIVES, ProbeData, run, train_teacher
from .repeatable import Runs, parse_experiment, run_experiment
from .tables import markdown_table, read_results
from .timing import save

FILE = "pretraining_scale_cpu.json"
SCALES = (64, 384, 1536, 6000)  # clips without labels; 64 are a batch
COMPARED = ("SurgVISTA without teacher", "SurgVISTA with teacher")


def cell(objective: str, clips: int) -> str:
    """Return the name of an objective at a scale."""
    return f"{objective}, {clips} clips"


PANELS = {
    "motion_linear": "motion: accuracy, %",
    "digits_linear": "digits: mean average precision, %",
}  # linear probes
CELLS = {cell(objective, clips): (objective, clips) for clips in SCALES for objective in COMPARED}


def main() -> None:
    """Run the experiment; finished runs in the working folder are not run again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=float, default=12, help="rounds through the largest number of clips")
    parser.set_defaults(seeds=[0, 1, 2])
    arguments = parse_experiment(parser, list(CELLS))
    arguments.work.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    data = ProbeData()
    if not (arguments.work / "vit").exists():
        train_teacher(arguments.work / "vit")

    def settings(name: str) -> dict[str, Any]:
        """Return what the results of a cell depend on."""
        objective, clips = CELLS[name]
        trainer = {**OBJECTIVES[objective].settings, **arguments.changes}
        return {"epochs": arguments.epochs, "clips": clips, "trainer": trainer}

    def train(name: str, seed: int) -> dict[str, Any]:
        """Make a run."""
        objective, clips = CELLS[name]
        return run(objective, seed, arguments.epochs, data, arguments.work, arguments.changes, clips)

    for name, seed, results in run_experiment(arguments, settings, train):
        found = results[name][str(seed)]
        print(name, seed, found["seconds"], found["untrained"], found["trained"], found["curve"][-1], flush=True)
        if arguments.output:
            save(summary(results), arguments.output)
            draw(results, arguments.output.with_suffix(".png"))


def summary(results: Runs) -> dict[str, Any]:
    """Return the settings, what the probes read at each scale, and all runs."""
    table = {}
    for name, runs in results.items():
        if runs:
            both = {when: [found[when] for found in runs.values()] for when in ("untrained", "trained")}
            table[name] = {
                "seeds": len(runs),
                **{
                    when: {key: round(float(np.mean([each[key] for each in found])), 1) for key in found[0]}
                    for when, found in both.items()
                },
            }
    return {
        "batch": BATCH,
        "largest": CORPUS,
        "table": table,
        "runs": {name: runs for name, runs in results.items() if runs},
    }


def table() -> str:
    """Return what the linear probes read at each scale, means and extremes of the seeds, as a table for the documentation."""
    runs = read_results(FILE)["runs"]
    header = [
        "clips without labels",
        *(f"{what}, {how}" for what in ("motion", "digits") for how in ("without", "with teacher")),
    ]
    untrained = [found["untrained"] for of_cell in runs.values() for found in of_cell.values()]
    rows = [["none", *(_spread([each[key] for each in untrained]) for key in PANELS for _ in COMPARED)]]
    for clips in SCALES:
        found = [runs.get(cell(objective, clips), {}).values() for objective in COMPARED]
        cells = [_spread([each["trained"][key] for each in of_cell]) for key in PANELS for of_cell in found]
        rows.append([f"{clips:,}", *cells])
    return markdown_table(header, rows)


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})" if values else ""


def draw(results: Runs, path: Path) -> None:
    """Draw what the linear probes read over the number of clips, a mark for each seed and a line through the means."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for objective, color, marker in zip(COMPARED, ("#0072b2", "#d55e00"), "so", strict=True):
            means = []
            for clips in SCALES:
                values = [found["trained"][key] for found in results.get(cell(objective, clips), {}).values()]
                axes.plot([clips] * len(values), values, marker, color=color, markersize=5, alpha=0.5)
                means.append(np.mean(values) if values else np.nan)
            axes.plot(SCALES, means, color=color, label=objective)
        before = [found["untrained"][key] for runs in results.values() for found in runs.values()]
        axes.axhline(np.mean(before), color="#777777", linestyle=":", label="untrained")
        axes.set_xscale("log")
        axes.set_xticks(SCALES, [f"{clips:,}" for clips in SCALES])
        axes.minorticks_off()
        axes.set(title=title, xlabel="clips without labels")
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


if __name__ == "__main__":
    main()

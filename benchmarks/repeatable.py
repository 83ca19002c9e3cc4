"""The frame of experiments that train every objective with every seed: finished runs are kept with their settings."""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoModel, PreTrainedModel

from surgvista_hf.modeling.objectives.self_distillation import SelfDistillation
from surgvista_hf.util.environment import environment
from surgvista_hf.util.files import write_json

Runs = dict[str, dict[str, Any]]  # results by objective and seed


def parse_experiment(parser: argparse.ArgumentParser, objectives: Sequence[str]) -> argparse.Namespace:
    """Add the arguments of an experiment, and parse the command line.

    Args:
        parser: parser with the experiment's own arguments, and a default of `seeds`.
        objectives: names of all objectives.

    Returns:
        The arguments; `changes` are settings of the trainer by their names.
    """
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--objectives", nargs="+", default=list(objectives), choices=list(objectives))
    parser.add_argument("--set", dest="changes", nargs="*", default=[], help="trainer settings to try, name=JSON")
    arguments = parser.parse_args()
    pairs = (change.partition("=") for change in arguments.changes)
    arguments.changes = {name: json.loads(value) for name, _, value in pairs}
    return arguments


def run_experiment(
    arguments: argparse.Namespace,
    settings: Callable[[str], Mapping[str, Any]],
    run: Callable[[str, int], dict[str, Any]],
) -> Iterator[tuple[str, int, Runs]]:
    """Make the runs that are missing, seed by seed.

    Args:
        arguments: result of `parse_experiment`.
        settings: function of an objective that returns all that its results depend on.
        run: function of an objective and a seed that makes the results of a run.

    Yields:
        Objective and seed of each run, and the results of all runs so far.
    """
    results: Runs = {objective: {} for objective in arguments.objectives}
    for seed in arguments.seeds:
        for objective in arguments.objectives:
            path = arguments.work / f"{objective.replace(' ', '_')}_{seed}.json"
            results[objective][str(seed)] = kept_run(path, settings(objective), partial(run, objective, seed))
            yield objective, seed, results


def curve_of(history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the losses of a trainer's log and what shows a collapse, a line each."""
    keep = ("loss", "loss_video", "loss_image", "feature_std", "teacher_entropy")
    return [{name: round(line[name], 4) for name in keep if name in line} for line in history if "loss" in line]


def kept_run(path: Path, settings: Mapping[str, Any], run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the results of a run, which is made only if its file is not there yet.

    Args:
        path: JSON file of the results.
        settings: all that the results depend on; it is written beside them, with versions and revision.
        run: function that makes the results.

    Raises:
        SystemExit: the file was made with other settings.
    """
    wanted = json.loads(json.dumps(dict(settings)))
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] != wanted:
            raise SystemExit(
                f"{path} was made with the settings {found['settings']}, not {wanted}; use another folder"
            )
        return found
    made = {"settings": wanted, "environment": environment(), **run()}
    write_json(path, made)
    return made


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the encoder that a checkpoint of a pre-trained model loads as with `AutoModel`."""
    if isinstance(model, SelfDistillation):
        return model.plain_teacher()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        encoder: PreTrainedModel = AutoModel.from_pretrained(folder)
        return encoder

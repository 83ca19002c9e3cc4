"""Compare two encoders under the same protocols, with intervals over videos and a paired test.

Needs nothing: operations are rendered and both encoders are tiny ones without training, one of clips and one of single frames.
Give folders or Hub names to compare encoders that know something:

    python examples/compare_encoders.py --encoder ours=runs/ours/model --encoder lemonfm=lemonfm
"""

import argparse
import json
from pathlib import Path

from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.evaluation.reports.benchmark_report import summarize
from surgvista_hf.trainers.benchmark.run import check_suite, run_suite
from surgvista_hf.trainers.benchmark.suite import load_suite

SMALL = {"image_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
FRAMES = {"model_type": "surgical_encoder", "encoder_config": {"model_type": "vit", "intermediate_size": 128, **SMALL}}
TINY = {
    "clips": {"config": {"model_type": "surgvista", "num_frames": 4, **SMALL}},
    "frames": {"config": {**FRAMES, "num_frames": 4}},
}


def main() -> None:
    """Render, run the suite, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--encoder", action="append", metavar="NAME=MODEL", help="repeat it; the first is the baseline"
    )
    parser.add_argument("--operations", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--output", type=Path, default=Path("runs/compare_example"))
    arguments = parser.parse_args()
    settings = {"videos": str(arguments.operations), "seconds": str(arguments.seconds)}
    prepare_frame_set("synthetic", None, arguments.output / "frame_set", settings=settings, progress=True)

    named = (entry.partition("=")[::2] for entry in arguments.encoder or [])
    models = {name: {"from_pretrained": model, "num_frames": 4} for name, model in named} or TINY
    data = {"root": str(arguments.output.resolve()), "data_dir": "frame_set"}
    changes = {
        "prepare": {},
        "models": models,
        "data": {"phases": {"recipe": "synthetic", "data": data}},
        "protocols": {"linear": {"kind": "linear"}, "knn": {"kind": "knn"}},
        "baseline": next(iter(models)),
        "output": str(arguments.output / "suite"),
    }
    suite = load_suite("synthetic", [f"{key}={json.dumps(value)}" for key, value in changes.items()])
    check_suite(suite)  # data, splits, overlaps, labels and models, before anything is computed
    for row in summarize(run_suite(suite), suite.baseline):
        p = "" if row.test is None else f", p = {row.test.p_value:.2f} against {suite.baseline}"
        print(f"{row.model:10} {row.protocol:8} video accuracy {row.interval}{p}")
    print("tables and plots:", suite.output)


if __name__ == "__main__":
    main()

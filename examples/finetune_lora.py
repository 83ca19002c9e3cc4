"""Fine-tune an encoder with LoRA on operations with phases, and test it on operations that it has not seen.

Needs the extra `peft`. Without arguments it renders operations and starts from a tiny untrained encoder, to show the way on
two cores in a minute; LoRA leaves such an encoder nearly untrained, so expect a poor result. With your own data and encoder:

    surgvista prepare phase_folder --data-dir ours --output frame_sets/ours
    python examples/finetune_lora.py --data phase_folder=frame_sets/ours --encoder my-encoder
"""

import argparse
import json
from pathlib import Path

from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.trainers.finetune import finetune
from surgvista_hf.trainers.finetuning.recipe import load_finetuning_recipe


def main() -> None:
    """Render operations if there are none, train, and print the metrics of the test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="NAME=DIR", help="a frame set with phases (default: rendered operations)")
    parser.add_argument("--encoder", help="folder or Hub name (default: a tiny one without training)")
    parser.add_argument("--operations", type=int, default=10, help="how many to render")
    parser.add_argument("--seconds", type=int, default=60, help="length of each")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("runs/lora_example"))
    arguments = parser.parse_args()

    name, _, folder = (arguments.data or f"synthetic={arguments.output / 'frame_set'}").partition("=")
    if arguments.data is None:
        settings = {"videos": str(arguments.operations), "seconds": str(arguments.seconds)}
        prepare_frame_set(name, None, folder, settings=settings, progress=True)

    # A recipe is a table of settings. This one is of the package; the words below change it.
    changes = [f"data.name={name}", f"data.root={json.dumps(str(Path(folder).resolve().parent))}"]
    changes += [
        f"data.data_dir={Path(folder).name}",
        f"training.output_dir={json.dumps(str(arguments.output / 'run'))}",
    ]
    changes += [f"training.num_train_epochs={arguments.epochs}", "training.warmup_epochs=0"]
    changes += ["adapter.method=lora", "adapter.rank=8", "training.base_learning_rate=4.0e-3"]
    if arguments.encoder:
        changes += ["model.config=null", f"model.from_pretrained={json.dumps(arguments.encoder)}"]
    result = finetune(load_finetuning_recipe("synthetic", changes))

    print(f"trained {result.parameters.fraction:.1%} of the parameters; tested on {len(result.by_video)} operations")
    for metric, value in result.metrics.items():
        print(f"  {metric:20} {value:.3f}")
    print("adapter:", result.folder, "(predict with it, or make one model of it: surgvista merge)")


if __name__ == "__main__":
    main()

"""Measure what fine-tuning needs at base size: trained parameters, bytes of weights, gradients and optimizer, peak of a step.

Every method trains a step on one clip of 16 × 224² in a process of its own; AdamW, fp32. On a GPU the peak is that of
PyTorch's allocator, on a CPU that of the process less what it had before the model was built.

    python -m benchmarks.finetuning_memory --output benchmarks/results/finetuning_memory_cpu.json
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from surgvista_hf import SurgVistaConfig, SurgVistaModel
from surgvista_hf.modeling.adapters import AdapterRecipe, add_adapter, count_parameters, quantization
from surgvista_hf.modeling.loading import load_classifier

from .timing import save

CHECKPOINTED = ", activations computed again"
METHODS = {
    "full": AdapterRecipe(),
    "full" + CHECKPOINTED: AdapterRecipe(),
    "linear probe": AdapterRecipe("probe"),
    "linear probe, 4-bit base": AdapterRecipe("probe", bits=4),
    "LoRA": AdapterRecipe("lora"),
    "LoRA" + CHECKPOINTED: AdapterRecipe("lora"),
    "LoRA, 8-bit base": AdapterRecipe("lora", bits=8),
    "LoRA, 4-bit base": AdapterRecipe("lora", bits=4),
    "LoRA, 4-bit base" + CHECKPOINTED: AdapterRecipe("lora", bits=4),
    "DoRA": AdapterRecipe("dora"),
    "IA3": AdapterRecipe("ia3"),
}


def measure(start: Path, method: str) -> dict[str, Any]:
    """Measure one step of training; everything in bytes."""
    recipe = METHODS[method]
    if recipe.bits:
        import bitsandbytes  # noqa: F401  # its code is no memory of the method
    before = _resident()
    model = load_classifier(
        start, [str(phase) for phase in range(7)], "single_label_classification", **quantization(recipe.bits)
    )
    if method.endswith(CHECKPOINTED):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    adapted = add_adapter(model, recipe, start).train()
    if torch.cuda.is_available():
        adapted.cuda()
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    device = parameters[0].device
    clip = torch.rand(1, 16, 3, 224, 224, device=device)
    adapted(pixel_values=clip, labels=torch.tensor([1], device=device)).loss.backward()
    optimizer.step()
    counted = count_parameters(adapted)
    states = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value) and value.dim()
    ]
    return {
        "trained": counted.trained,
        "all": counted.all,
        "trained_share": round(counted.fraction, 5),
        "weights": counted.bytes,
        "gradients": sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None),
        "optimizer": sum(value.nbytes for value in states),
        "peak": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _peak() - before,
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--only", choices=METHODS, help="measure one method, and print it")
    parser.add_argument("--start", type=Path, help="folder of the encoder; made if none is given")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.start, arguments.only)))
        return
    if arguments.output is None:
        parser.error("--output is missing")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        SurgVistaModel(SurgVistaConfig()).save_pretrained(folder)
        rows = {}
        for name in METHODS:
            command = [sys.executable, "-m", "benchmarks.finetuning_memory", "--only", name, "--start", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, rows[name], file=sys.stderr)
    save({"clip": [16, 3, 224, 224], "batch": 1, "methods": rows}, arguments.output)


if __name__ == "__main__":
    main()

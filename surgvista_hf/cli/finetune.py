"""`surgvista finetune`: fine-tuning by recipe."""

import argparse
import json

from .common import add_code_argument, add_recipe_arguments, overrides_of, was_shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista finetune`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista finetune --list\n"
        "  surgvista finetune --show cholec80 > mine.yaml\n"
        "  surgvista finetune cholec80 model.from_pretrained=runs/surgvista_base/model data.root=frame_sets\n"
        "  surgvista finetune cholec80 model.from_pretrained=my-encoder adapter.method=lora adapter.bits=4\n"
        "  accelerate launch -m surgvista_hf.trainers.finetune mine.yaml   # several GPUs\n"
        "The same command resumes a run that was stopped."
    )
    add_recipe_arguments(parser, "recipe")
    add_code_argument(parser)
    parser.add_argument("--check", action="store_true", help="only check the recipe, its data and what it needs")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Fine-tune by a recipe, or list, show or check recipes."""
    from ..trainers.finetuning.recipe import load_finetuning_recipe
    from ..trainers.recipes.loading import FINETUNING

    if was_shown(arguments, FINETUNING):
        return
    recipe = load_finetuning_recipe(arguments.recipe, overrides_of(arguments))
    from ..trainers.finetune import check_run, finetune

    if arguments.check:
        print(check_run(recipe))
        return
    result = finetune(recipe)
    if arguments.json:
        print(json.dumps({"metrics": result.metrics, "model": str(result.folder), "by_video": result.by_video}))
        return
    trained = (
        f"{result.parameters.trained:,} of {result.parameters.all:,} parameters ({result.parameters.fraction:.2%})"
    )
    print(f"trained {trained}; tested on {len(result.by_video)} videos")
    for name, value in result.metrics.items():
        print(f"  {name:24} {value:.4f}")
    if result.selected_on_test:
        print("  the best checkpoint was chosen on test videos: these numbers are too good")
    print(f"model: {result.folder}")

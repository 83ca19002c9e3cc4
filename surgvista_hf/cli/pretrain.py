"""`surgvista pretrain`: pre-training by recipe."""

import argparse

from .common import add_code_argument, add_recipe_arguments, overrides_of, was_shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista pretrain`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista pretrain --list\n"
        "  surgvista pretrain --show surgvista_one_gpu > mine.yaml\n"
        "  surgvista pretrain surgvista_synthetic data.root=frame_sets training.num_train_epochs=3\n"
        "  surgvista pretrain --show ddp_8 > ddp_8.yaml\n"
        "  accelerate launch --config_file ddp_8.yaml -m surgvista_hf.trainers.pretrain surgvista_base   # eight GPUs\n"
        "The same command resumes a run that was stopped."
    )
    add_recipe_arguments(parser, "recipe", show=", or a configuration for accelerate")
    add_code_argument(parser)
    parser.add_argument("--check", action="store_true", help="only check the recipe, its data and what it needs")


def run(arguments: argparse.Namespace) -> None:
    """Pre-train by a recipe, or list, show or check recipes."""
    from ..trainers.pretraining.recipe import load_recipe
    from ..trainers.recipes.loading import LAUNCH, PRETRAINING

    if was_shown(arguments, PRETRAINING, LAUNCH):
        return
    recipe = load_recipe(arguments.recipe, overrides_of(arguments))
    from ..trainers.pretrain import check_run, pretrain

    if arguments.check:
        print(check_run(recipe))
        return

    print(f"trained model: {pretrain(recipe)}")

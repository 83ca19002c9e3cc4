"""`surgvista pretrain`: pre-training by recipe."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        "  surgvista pretrain --list\n"
        "  surgvista pretrain --show surgvista_one_gpu > mine.yaml\n"
        "  surgvista pretrain surgvista_synthetic data.root=frame_sets training.num_train_epochs=3\n"
        "  surgvista pretrain --show ddp_8 > ddp_8.yaml\n"
        "  accelerate launch --config_file ddp_8.yaml -m surgvista_hf.trainers.pretrain surgvista_base   # eight GPUs\n"
        "The same command resumes a run that was stopped."
    )
    parser.add_argument("recipe", nargs="?", help="YAML file, or a recipe of the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of the recipe to change")
    parser.add_argument("--list", action="store_true", help="name the recipes of the package")
    parser.add_argument(
        "--show",
        metavar="NAME",
        help="print a recipe of the package, or a configuration for accelerate, to start from",
    )
    parser.add_argument("--check", action="store_true", help="only read and check the recipe")


def run(arguments: argparse.Namespace) -> None:
    from ..modeling.errors_surgvista import InputError
    from ..trainers.recipe import load_recipe
    from ..trainers.recipe_files import bundled_recipes, bundled_text

    if arguments.list:
        print("\n".join(bundled_recipes()))
        return
    if arguments.show:
        print(bundled_text(arguments.show), end="")
        return
    if not arguments.recipe:
        raise InputError("give a recipe; `surgvista pretrain --list` names those of the package")
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.check:
        print(recipe)
        return
    from ..trainers.pretrain import pretrain

    print(f"trained model: {pretrain(recipe)}")

"""What verbs that run a recipe share: its name, changes to it, and the recipes of the package."""

import argparse


def add_recipe_arguments(parser: argparse.ArgumentParser, what: str, *, show: str = "") -> None:
    """Adds `recipe`, `overrides`, `--list` and `--show`.

    Args:
        parser: of the verb.
        what: a recipe or a suite.
        show: what else `--show` prints.
    """
    parser.add_argument("recipe", nargs="?", metavar=what, help=f"YAML file, or a {what} of the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"values of the {what} to change")
    parser.add_argument("--list", action="store_true", help=f"name those of the package: {what}s")
    parser.add_argument("--show", metavar="NAME", help=f"print a {what} of the package{show}, to start from")


def add_code_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--with-code`."""
    parser.add_argument(
        "--with-code",
        action="store_true",
        help="also write the code files, so that the model loads without this package, with trust_remote_code=True",
    )


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """The changes to a recipe, those of options such as `--with-code` included."""
    return [*arguments.overrides, *(["training.with_code=true"] if arguments.with_code else [])]


def was_shown(arguments: argparse.Namespace, *rooms: str) -> bool:
    """Answers `--list` and `--show` from rooms of `recipe_files`, the first of which is the verb's; whether that was all.

    Raises:
        InputError: nothing was asked for.
        RecipeError: there is none of that name.
    """
    from ..trainers.recipes.loading import bundled_recipes, bundled_text
    from ..util.errors import InputError

    if arguments.list:
        print("\n".join(bundled_recipes(rooms[0])))
        return True
    if arguments.show:
        print(bundled_text(arguments.show, rooms), end="")
        return True
    if not arguments.recipe:
        raise InputError(f"give a YAML file or a name; `surgvista {arguments.verb} --list` says which the package has")
    return False

"""Recipes as YAML files: reading them, overriding values on the command line, and checking every key.

A misspelled key is an error with a suggestion, never a silent default. Every value can be overridden on the command line:
`training.seed=1 teacher=null data.sources.0.data_dir=/data/cholec80`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ...util import values
from ...util.errors import InputError
from ...util.values import read_fields, read_value, shown

try:  # libyaml's parser, with which PyYAML is built nearly everywhere, is several times faster
    from yaml import CSafeLoader as _Parser
except ImportError:
    from yaml import SafeLoader as _Parser

T = TypeVar("T")
# Kinds of recipes: folders beside this file.
PRETRAINING, FINETUNING, SUITES, LAUNCH = "pretraining", "finetuning", "suites", "launch"


class _Loader(_Parser):
    """Loads YAML 1.2, as people read it: `no` is a word (`save_strategy: no`), and 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|false|False)$"), list("tTfF"))
_NUMBER = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


class RecipeError(InputError):
    """A recipe cannot be read, or has an unknown key or a value that does not fit."""


def bundled_recipes(kind: str = PRETRAINING) -> list[str]:
    """Return the names of the recipes of a kind that come with the package."""
    return sorted(name.removesuffix(".yaml") for name in _files(kind))


def bundled_text(name: str, kinds: Sequence[str] = (PRETRAINING, LAUNCH)) -> str:
    """Return the text of a file of the package: a recipe, or a configuration or script for launching one.

    Args:
        name: name without suffix.
        kinds: kinds of files to search, the first match counts.

    Raises:
        RecipeError: there is no file of that name.
    """
    known = {Path(file).stem: (kind, file) for kind in reversed(kinds) for file in _files(kind)}
    if name not in known:
        raise RecipeError(f"there is no {name} in the package; there are {', '.join(sorted(known))}")
    kind, file = known[name]
    return resources.files(__package__).joinpath(kind, file).read_text(encoding="utf-8")


def _files(kind: str) -> list[str]:
    return [file.name for file in resources.files(__package__).joinpath(kind).iterdir()]


def read_recipe(
    source: str | Path, sections: Sequence[str], overrides: Sequence[str] = (), *, kind: str
) -> dict[str, Any]:
    """Read a recipe and override values in it.

    Args:
        source: YAML file, or the name of a recipe of the package.
        sections: keys that the recipe may have.
        overrides: overrides such as `key.of.a.value=value`, the value in YAML.
        kind: kind of the recipe, one of `PRETRAINING`, `FINETUNING` and `SUITES`.

    Returns:
        The content of the recipe, with the overrides.

    Raises:
        RecipeError: there is no such file, it is not YAML, or it has an unknown section.
    """
    path = Path(source)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif str(source) in bundled_recipes(kind):
        text = bundled_text(str(source), (kind,))
    else:
        raise RecipeError(
            f"there is no recipe {source}; give a YAML file or one of {', '.join(bundled_recipes(kind))}"
        )
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{source} does not hold the sections {', '.join(sections)}")
    for override in overrides:
        _apply(content, override)
    check_keys("the recipe", content, sections)
    return content


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"{override!r} is not of the form key.of.a.value=value")
    *parents, last = path.split(".")
    target: object = content
    for name in parents:
        if isinstance(target, dict) and target.get(name) is None:
            target[name] = {}
        target = _entry(target, name, path)
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, UnicodeEncodeError) as error:  # the latter of bytes of the command line that are no text
        raise RecipeError(f"the value of {override!r} is not YAML") from error
    if isinstance(target, list):
        _entry(target, last, path)
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise RecipeError(f"{path} does not lead to a value of the recipe")


def _entry(container: object, name: str, path: str) -> object:
    try:
        if isinstance(container, list):
            return container[int(name)]
        if isinstance(container, dict):
            return container[name]
    except (KeyError, IndexError, ValueError) as error:
        raise RecipeError(f"{path} does not lead to a value of the recipe: there is no {name!r}") from error
    raise RecipeError(f"{path} does not lead to a value of the recipe: there is no {name!r}")


def build(kind: type[T], where: str, content: object) -> T:
    """Make a dataclass from a section of a recipe.

    Args:
        kind: the dataclass; its annotations say what the values may be.
        where: name of the section, for errors.
        content: the section.

    Raises:
        RecipeError: keys are unknown or missing, or values do not fit the annotations of their fields.
    """
    with recipe_errors():
        made: T = read_fields(kind, where, content)
    return made


def check_keys(where: str, content: object, known: Sequence[str]) -> None:
    """Refuse a section that is no mapping or has unknown keys.

    Args:
        where: name of the section, for errors.
        content: the section.
        known: keys that it may have.

    Raises:
        RecipeError: the section is refused; the message names the key that was probably meant.
    """
    with recipe_errors():
        values.check_keys(where, content, known)


def check_values(where: str, content: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Check a section that is not made into a dataclass: its keys, and the values by the annotations of `kinds`.

    Raises:
        RecipeError: a key is unknown, or a value does not fit.
    """
    check_keys(where, content, list(kinds))
    with recipe_errors():
        for name, value in content.items():
            read_value(f"{where}.{name}", value, kinds[name])


def section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of a recipe, empty where it is missing or null.

    Raises:
        RecipeError: the section is no mapping.
    """
    found = content.get(name)
    if found is not None and not (isinstance(found, Mapping) and all(isinstance(key, str) for key in found)):
        raise RecipeError(f"{name} is {shown(found)}; a mapping is expected, with names as keys")
    return dict(found or {})


@contextmanager
def recipe_errors() -> Iterator[None]:
    """Turn errors about single values into errors about the recipe.

    Raises:
        RecipeError: a value is wrong.
    """
    try:
        yield
    except RecipeError:
        raise
    except InputError as error:
        raise RecipeError(str(error)) from error

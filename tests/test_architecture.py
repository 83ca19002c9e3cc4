"""Rules that a machine can check: who imports whom, what travels with a checkpoint, what no file may name."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "surgvista_hf"

# Each package imports only packages that stand before it here. The package's own files (`__init__`, `demo`) stand above all.
LAYERS = (
    "util",
    "modeling",
    "datasets_scripts",
    "clips",
    "evaluation",
    "curation",
    "trainers",
    "inference",
    "guide",
    "space",
    "cli",
)
# The same within a package; its modules that lie in no sub-package may import all of them.
SUB_LAYERS = {
    "datasets_scripts": ("schema", "own_labels", "synthetic", "corpora", "frame_sets"),
    "clips": ("sampling", "transforms"),
    "evaluation": ("metrics", "reports"),
    "curation": ("collection", "models", "stages"),
    "trainers": ("common", "recipes", "pretraining", "finetuning", "features", "benchmark"),
    "inference": ("prediction", "models", "writers"),
}

EXPORTED = sorted(
    {
        file
        for pattern in ("configuration_*.py", "modeling_*.py", "*_surgvista.py")
        for file in (PACKAGE / "modeling").glob(pattern)
    }
)
REQUIRED_BY_EXPORTED = {"PIL", "huggingface_hub", "numpy", "torch", "transformers"} | sys.stdlib_module_names
OPTIONAL_FOR_EXPORTED = {"surgvista_hf", "av", "pydicom", "torchcodec", "torchvision"}

UNWANTED = re.compile(
    rb"pypi[.]org|pythonhosted[.]org|download[.]pytorch[.]org|index[-_]url|find[-_]links"
    rb"|(?<![\w.])/(?:home|root|Users)/\w",
    re.IGNORECASE,
)


def imports(tree: ast.AST) -> Iterator[tuple[ast.AST, int, str]]:
    """Every import: its node, the number of leading dots, and the dotted name with what is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names)


def absolute(file: Path, dots: int, name: str) -> str:
    """The dotted name of an import counted from the repository."""
    if not dots:
        return name
    folder = file.relative_to(REPOSITORY).parts[:-dots]
    return ".".join((*folder, name))


def modules() -> dict[str, Path]:
    """The modules of the package by their dotted names below it; the package itself is the empty name."""
    files = [file for file in PACKAGE.rglob("*.py") if "template" not in file.parts]
    return {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").strip("."): file
        for file in files
    }


@cache
def dependencies() -> dict[str, set[str]]:
    """For every module the modules of the package that it imports, anywhere in it, for types too."""
    known = modules()
    graph = {}
    for module, file in known.items():
        targets = {
            absolute(file, dots, name) for _, dots, name in imports(ast.parse(file.read_text(encoding="utf-8")))
        }
        own = [
            target.removeprefix("surgvista_hf").strip(".")
            for target in targets
            if target.split(".")[0] == "surgvista_hf"
        ]
        # `from a.b import name`: a module of that name, or something in the module a.b
        graph[module] = {target if target in known else target.rpartition(".")[0] for target in own} - {module, ""}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of nodes that reach each other."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    reach = {node: reachable(node) for node in graph}
    return [{other for other in reach[node] if node in reach[other]} for node in graph if node in reach[node]]


def folded(depth: int) -> dict[str, set[str]]:
    """The graph of packages (depth 1) or of sub-packages and modules beside them (depth 2)."""
    graph: dict[str, set[str]] = {}
    for module, targets in dependencies().items():
        if not module:
            continue
        node = ".".join(module.split(".")[:depth])
        found = {".".join(target.split(".")[:depth]) for target in targets}
        graph.setdefault(node, set()).update(found - {node})
    return graph


@pytest.mark.parametrize("link", ["modeling", "datasets_scripts", "trainers"])
def test_the_links_at_the_top_level_lead_to_the_packages(link):
    assert (REPOSITORY / link).is_symlink()
    assert (REPOSITORY / link).resolve() == PACKAGE / link


def test_every_folder_of_the_package_is_a_layer():
    assert {file.parent.name for file in PACKAGE.glob("*/__init__.py")} == set(LAYERS)
    for package, order in SUB_LAYERS.items():
        assert {file.parent.name for file in (PACKAGE / package).glob("*/__init__.py")} == set(order)


def test_util_imports_nothing_of_the_package():
    assert {module: targets for module, targets in dependencies().items() if module.split(".")[0] == "util"} == {
        module: {target for target in targets if target.split(".")[0] == "util"}
        for module, targets in dependencies().items()
        if module.split(".")[0] == "util"
    }


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_packages_below_it(package):
    allowed = {package, *LAYERS[: LAYERS.index(package)]}
    if package == "cli":
        allowed.add("demo")
    wrong = {
        f"{module} imports {target}"
        for module, targets in dependencies().items()
        if module.split(".")[0] == package
        for target in targets
        if target.split(".")[0] not in allowed
    }
    assert wrong == set()


@pytest.mark.parametrize("package", SUB_LAYERS)
def test_a_sub_package_imports_only_sub_packages_below_it(package):
    order = SUB_LAYERS[package]
    wrong = {
        f"{module} imports {target}"
        for module, targets in dependencies().items()
        for target in targets
        if module.startswith(f"{package}.") and target.startswith(f"{package}.")
        if (own := module.split(".")[1]) in order and target.split(".")[1] in order[order.index(own) + 1 :]
    }
    assert wrong == set()


@pytest.mark.parametrize("depth", [1, 2])
def test_packages_do_not_import_each_other_in_circles(depth):
    assert circles(folded(depth)) == []


def test_modules_do_not_import_each_other_in_circles():
    """Neither when they are loaded, nor within functions, nor for types."""
    assert circles(dependencies()) == []


@pytest.mark.parametrize("file", EXPORTED, ids=lambda file: file.name)
def test_files_that_travel_with_a_checkpoint_need_nothing_of_the_package(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guarded = {
        id(node)
        for attempt in ast.walk(tree)
        if isinstance(attempt, ast.Try) and any("ImportError" in ast.unparse(h.type or h) for h in attempt.handlers)
        for part in attempt.body
        for node in ast.walk(part)
    }
    siblings = {sibling.stem for sibling in EXPORTED}
    for node, dots, name in imports(tree):
        top = name.split(".")[0]
        if dots:
            assert dots == 1, f"line {node.lineno}: only siblings travel along"
            assert top in siblings, f"line {node.lineno}: {top} does not travel along"
            assert len(name.split(".")) == 2, (
                f"line {node.lineno}: transformers copies `from .sibling import name` only"
            )
        else:
            optional = OPTIONAL_FOR_EXPORTED if id(node) in guarded else set()
            assert top in REQUIRED_BY_EXPORTED | optional, f"line {node.lineno}: {name} may be missing where it runs"


def test_no_tracked_file_names_a_registry_or_somebodys_home():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("this copy of the repository is not a git checkout")
    files = [REPOSITORY / name for name in listing.stdout.split("\0") if name]
    found = {
        str(file.relative_to(REPOSITORY)): match[0]
        for file in files
        if file.is_file() and not file.is_symlink() and (match := UNWANTED.search(file.read_bytes()))
    }
    assert found == {}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_constraints_are_plain_versions_within_the_declared_ranges(name):
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[0-9][0-9a-z.]*", line)] == []
    versions = {canonicalize_name(package): version for package, version in (line.split("==") for line in lines)}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    if name == "constraints-lowest.txt":
        del groups["dev"], groups["docs"]  # runs the tests only
    for requirement in map(Requirement, (text for group in groups.values() for text in group)):
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("program", sorted(file.stem for file in (REPOSITORY / "benchmarks").glob("[a-z]*.py")))
def test_every_benchmark_can_be_started(program):
    """Nothing else runs them, so a name that was moved would be noticed by whoever wants to measure."""
    assert importlib.import_module(f"benchmarks.{program}")

"""The house rules that a machine can check: who imports whom, what travels with a checkpoint, what no file may name."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "surgvista_hf"

# What a room may import, beside itself, `modeling` and `util`. The package's own files and `cli` may import everything.
ROOMS = {
    "space": {"inference", "clips", "datasets_scripts"},
    "inference": {"clips", "datasets_scripts", "evaluation", "trainers"},
    "trainers": {"clips", "datasets_scripts", "evaluation"},
    "evaluation": {"datasets_scripts"},
    "clips": set(),
    "datasets_scripts": set(),
    "curation": {"clips", "datasets_scripts"},
    "modeling": set(),
    "util": set(),
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


@pytest.mark.parametrize("link", ["modeling", "datasets_scripts", "trainers"])
def test_the_rooms_at_the_top_level_are_those_of_the_package(link):
    assert (REPOSITORY / link).is_symlink()
    assert (REPOSITORY / link).resolve() == PACKAGE / link


def test_every_folder_of_the_package_is_a_known_room():
    folders = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert folders <= {*ROOMS, "cli"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room):
    allowed = {f"surgvista_hf.{name}" for name in ROOMS[room] | {room, "modeling", "util", "__version__"}}
    wrong = [
        f"{file.relative_to(REPOSITORY)}:{node.lineno} imports {target}"
        for file in (PACKAGE / room).rglob("*.py")
        for node, dots, name in imports(ast.parse(file.read_text(encoding="utf-8")))
        if (target := absolute(file, dots, name)).split(".")[0] == "surgvista_hf"
        and ".".join(target.split(".")[:2]) not in allowed
    ]
    assert wrong == []


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

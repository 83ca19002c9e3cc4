"""The names and paths that documents and docstrings write in backticks, and what there is to compare them with."""

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "surgvista_hf"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
# Sections of recipes, suites and files of results: what follows the dot is a key, which `test_recipe.py` and others check.
SECTIONS = frozenset("model data adapter training teacher models results".split())
LIBRARIES = frozenset("accelerate datasets gradio huggingface_hub numpy peft torch transformers".split())
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FILE = re.compile(r"[\w./-]*\w\.(?:py|yaml|yml|sh|toml|cff|ipynb)")
_DOTTED = re.compile(r"(?:\.?[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)+")
_CAMEL = re.compile(r"[A-Z][a-z]+\w*[A-Z]\w*")
_DATA_FILE = re.compile(
    r".*\.(?:json|jsonl|csv|tsv|txt|xlsx|eaf|parquet|arrow|md|tex|html|png|svg|vtt|mp4|pth|pt|bin|onnx|npy|log)"
)


def spans(text: str) -> set[str]:
    """Return what stands in single backticks outside of code blocks, calls without their arguments."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"\(.*\)$", "", span.strip()) for span in _SPAN.findall(text)}


@cache
def tracked() -> frozenset[str]:
    """Return the files of the repository."""
    listing = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listing.returncode == 0:
        return frozenset(listing.stdout.split("\n")) - {""}
    return frozenset(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.rglob("*") if path.is_file())


@cache
def defined(file: Path) -> frozenset[str]:
    """Return the names that a file defines: `name`, and `Class.member` for what a class defines."""
    return frozenset(_defined(ast.parse(file.read_text(encoding="utf-8")).body, ""))


def _defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _defined(node.body, f"{node.name}.")
            elif prefix:  # attributes that a method sets
                targets = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
                yield from (prefix + n.attr for n in targets if isinstance(n.value, ast.Name) and n.value.id == "self")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            yield from (prefix + name for name in names)
        elif isinstance(node, ast.ImportFrom | ast.Import) and not prefix:
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.If | ast.Try):
            yield from _defined(node.body, prefix)


class Package:
    """Everything that the package, its tests and its benchmarks define."""

    def __init__(self) -> None:
        self.by_module: dict[str, set[str]] = defaultdict(set)  # last part of the module's name -> its names
        self.names: set[str] = set()
        self.members: set[str] = set()
        self.bases: dict[str, set[str]] = defaultdict(set)
        self.words: set[str] = set()
        self.paths: set[str] = set()  # every ending of a module's path, from a slash on
        for file in [
            *PACKAGE.rglob("*.py"),
            *(REPOSITORY / "tests").rglob("*.py"),
            *(REPOSITORY / "benchmarks").glob("*.py"),
        ]:
            found = defined(file)
            parts = file.relative_to(REPOSITORY).as_posix().split("/")
            self.paths |= {f"/{'/'.join(parts[start:])}" for start in range(len(parts))}
            self.by_module[file.parent.name if file.stem == "__init__" else file.stem] |= found
            self.names |= found
            self.members |= {name.partition(".")[2] for name in found if "." in name}
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    self.bases[node.name] |= {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PACKAGE in file.parents:
                    self.words.add(node.value)

    def has_member(self, owner: str, member: str) -> bool:
        """Say whether a class has a member, of its own or of a base."""
        if owner not in self.names:
            return library_has(owner, member)
        if f"{owner}.{member}" in self.names:
            return True
        return any(self.has_member(base, member) for base in self.bases[owner])


@cache
def package() -> Package:
    """Return the package, read once."""
    return Package()


def library_has(name: str, member: str | None = None) -> bool:
    """Say whether transformers, torch or another library has a class, and the class a member."""
    for library in (
        "transformers",
        "torch",
        "datasets",
        "peft",
        "accelerate",
        "builtins",
        "typing",
        "torch.utils.data",
        "av",
        "av.container",
    ):
        found = getattr(importlib.import_module(library), name, None)
        if found is not None and (member is None or hasattr(found, member)):
            return True
    return False


def unknown(span: str) -> bool:
    """Say whether what stands in backticks looks like a path or a name of the project and is none."""
    if _FILE.fullmatch(span):
        is_ours = "/" in span or span.endswith(".py")  # a recipe of the reader may be called `mine.yaml`
        return is_ours and not any(f"/{file}".endswith(f"/{span.removeprefix('./')}") for file in tracked())
    if _DATA_FILE.fullmatch(span):
        return span.split("/")[0] in {"docs", "tests"} and span not in tracked()
    if _DOTTED.fullmatch(span) and not span.startswith("."):
        return not known_dotted(span)
    if _CAMEL.fullmatch(span):
        known = package()
        return not (span in known.names or span in known.words or library_has(span))
    return False


def known_dotted(span: str) -> bool:
    """Say whether a dotted name leads somewhere."""
    first, *rest = re.sub(r"^nn\.", "torch.nn.", span).split(".")
    span = ".".join((first, *rest))
    known = package()
    if first in SECTIONS:
        return True
    if first in LIBRARIES | sys.stdlib_module_names | {"surgvista_hf"}:
        return _imports(span)
    if first[0].isupper():
        return all(known.has_member(first, member) or member in known.members for member in rest[:1])
    if f"/{span.replace('.', '/')}.py" in known.paths or _imports(f"surgvista_hf.{span}"):
        return True
    # `module.name`, or `object.attribute` in the words of an example
    return rest[0] in known.by_module.get(first, ()) or rest[-1] in known.members


def _imports(span: str) -> bool:
    """Say whether a dotted name can be imported."""
    parts = span.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a file with the lines that they begin at."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text

"""The words of code and documents: docstrings are sentences that begin with a verb, and names are those of the field.

The list of words is for whoever writes new code; the style is explained in `CONTRIBUTING.md`.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "surgvista_hf"
FILES = sorted(file for file in PACKAGE.rglob("*.py") if "template" not in file.parts)

# A docstring of a function that begins with one of these is a fragment, not a sentence with a verb.
NO_VERBS = frozenset(
    "the a an what of whether who which where how why when as about by from in for at to with and one each every all "
    "names numbers times see its this that these those".split()
)
SINGULAR = frozenset("pass process compress access address discuss cross focus guess express suppress".split())
# A description of an argument that begins with one of these can only be understood with the argument's name before it.
FRAGMENTS = frozenset("of what where which who how about by from in for at see with to and near besides".split())

# Words that only this project used, as identifiers, and what they are called now.
REPLACED = {
    r"^(?:facts|FACTS)$|Facts\b": "info",
    r"^(?:said|SAID|_said)$": "predictions, overrides, message: what it is",
    r"^_?places?$": "path, index, device: which of them it is",
    r"^shares?$": "fraction",
    r"^_?ask(?:ed)?$": "request, evaluate",
    r"heed|overrul": "overrides",
    r"veiled|^HiddenSeconds$": "redacted, out-of-body mask",
    r"^(?:look|watch)$": "predict_proba, scan",
    r"^_Line$|^Watched$|^_Kept$": "clip pipeline, result, thumbnail collector",
    r"^WeightMean$|^mean_in_place$": "EMA, ema_weights",
    r"^drawn_from$|^keyed_dropout$": "seeded_rng, seeded_dropout",
    r"^plain_loss$|^note_videos$|^keep_apart$": "cross_entropy, save_pretraining_videos, check_overlap",
    r"^painted$": "reconstructed",
    r"^several_labels$": "multi_label",
    r"^some$|^claim$": "preview, check_settings",
    r"^rooms?$|^house$": "package, layer, kind",
}
BRITISH = re.compile(
    r"\b\w*(?:colour|centred|centring|behaviour|neighbour|favour|labelled|licence|normalis|initialis|optimis|summaris)\w*",
    re.IGNORECASE,
)
# Names and labels that others have given.
FOREIGN = {"behaviour", "unlabelled"}


def named(file: Path) -> str:
    return str(file.relative_to(REPOSITORY))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def documented() -> Iterator[tuple[str, ast.AST, str]]:
    """Yield the functions and classes of the package: file and line, the definition, and its docstring."""
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
                text := ast.get_docstring(node)
            ):
                yield f"{named(file)}:{node.lineno}", node, text


def test_docstrings_of_functions_begin_with_a_verb_in_the_imperative():
    wrong = []
    for where, node, text in documented():
        first = re.sub(r"\W", "", text.split()[0]).lower()
        if not isinstance(node, ast.ClassDef) and (
            first in NO_VERBS or (first.endswith("s") and first not in SINGULAR) or text.startswith("(")
        ):
            wrong.append(f"{where}: {text.splitlines()[0]}")
    assert wrong == []


def test_descriptions_of_arguments_can_be_read_by_themselves():
    wrong = []
    for where, _, text in documented():
        section = re.search(r"^(?:Args|Attributes):\n((?: .*\n|\n)*)", text + "\n", re.MULTILINE)
        entries = re.findall(r"^ {4}\*{0,2}\w[\w, *]*: (\w+)", section[1], re.MULTILINE) if section else []
        wrong += [f"{where}: {first} …" for first in entries if first in FRAGMENTS]
    assert wrong == []


def test_public_names_are_documented():
    wrong = []

    def visit(file: Path, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                decorators = {ast.unparse(each).rpartition(".")[2] for each in child.decorator_list}
                if child.name.startswith("_"):
                    continue
                if not ast.get_docstring(child) and not decorators & {"overload", "setter"}:
                    wrong.append(f"{named(file)}:{child.lineno}: {child.name}")
                if isinstance(child, ast.ClassDef):
                    visit(file, child)
            else:
                visit(file, child)

    for file in FILES:
        visit(file, tree(file))
    assert wrong == []


def test_names_are_those_of_the_field():
    found = {
        (named(file), name): plain
        for file in FILES
        for node in ast.walk(tree(file))
        for name in {getattr(node, kind, None) for kind in ("id", "arg", "attr", "name")}
        if isinstance(name, str)
        for pattern, plain in REPLACED.items()
        if re.search(pattern, name)
    }
    assert found == {}


def test_there_is_one_spelling():
    files = [*FILES, *sorted((REPOSITORY / "docs").rglob("*.md")), REPOSITORY / "README.md"]
    found = {
        (named(file), word)
        for file in files
        for word in BRITISH.findall(file.read_text(encoding="utf-8"))
        if word.lower() not in FOREIGN
    }
    assert found == set()

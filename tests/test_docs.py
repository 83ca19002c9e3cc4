"""What the documentation says can be typed."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import surgvista_hf
from surgvista_hf.cli.main import build_parser

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
        lines += [entry.replace("\\|", "|") for entry in re.findall(r"`([^`\n]+)`", text)]
        found += [line.strip() for line in lines if re.match(r"\s*surgvista [a-z]", line)]
    return sorted({line for line in found if "…" not in line and "<" not in line})


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_documentation_is_understood(command):
    words = shlex.split(command, comments=True)[1:]
    parser = build_parser()
    if words[1:] in ([], ["--help"]):
        assert words[0] in parser.format_help()
        return
    parsed, rest = parser.parse_known_args(words)
    assert all("=" in word for word in rest)
    assert not rest or "overrides" in parsed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_import_of_the_documentation_works(page):
    for block in blocks(page, "python"):
        for statement in ast.parse(block).body:
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("surgvista_hf"):
                exec(compile(ast.Module([statement], []), page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_documentation_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_public_name_can_be_imported_and_is_known_to_type_checkers():
    names = {name for name in surgvista_hf.__all__ if name != "__version__"}
    for name in names:
        assert getattr(surgvista_hf, name).__name__ == name
    tree = ast.parse((REPOSITORY / "surgvista_hf" / "__init__.py").read_text(encoding="utf-8"))
    checked = {
        alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert checked == names

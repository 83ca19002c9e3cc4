"""What the documentation says can be typed, found and run."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml

import surgvista_hf
from surgvista_hf.cli.main import VERBS, build_parser

from . import documents
from .documents import PACKAGE, PAGES, REPOSITORY

EXTEND = REPOSITORY / "docs" / "guides" / "extend.md"
CHECKED = [*PAGES, REPOSITORY / "CODE_OF_CONDUCT.md", REPOSITORY / "CHANGELOG.md"]


def named(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
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


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_import_of_the_documentation_works(page):
    for block in blocks(page, "python"):
        for statement in ast.parse(block).body:
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("surgvista_hf"):
                exec(compile(ast.Module([statement], []), page.name, "exec"), {})


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site both make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", CHECKED, ids=named)
def test_every_link_within_the_documentation_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_path_and_name_in_the_documentation_exists(page):
    text = page.read_text(encoding="utf-8")
    if page == EXTEND:  # the data set that the page adds is not there yet
        text = text.replace("hernia30", "cholec80")
    assert sorted(span for span in documents.spans(text) if documents.unknown(span)) == []


def test_every_path_and_name_in_a_docstring_exists():
    wrong = [
        f"{named(file)}:{line} {span}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if "formats" not in file.parts  # they name tensors of foreign checkpoints
        for line, text in documents.docstrings(file)
        for span in sorted(documents.spans(text))
        if documents.unknown(span)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("span", "is_wrong"),
    [
        ("trainers/base.py", True),
        ("trainers/common/clip_trainer.py", False),
        ("families.load_classifier", True),
        ("loading.load_classifier", False),
        ("surgvista_hf.evaluation.segments", True),
        ("surgvista_hf.evaluation.metrics.segments", False),
        ("ClipDataset.clip_frames", False),
        ("ClipDataset.frames_of_a_clip", True),
        ("ClipDatabase", True),
        ("VideoMAEForPreTraining", False),
        ("data.select_on_test", False),
        ("mine.yaml", False),
    ],
)
def test_a_stale_path_or_name_is_noticed(span, is_wrong):
    assert documents.unknown(span) is is_wrong


def step_of(cell: str) -> tuple[str, str]:
    path, *name = re.findall(r"`([^`]+)`", cell)
    return path, "".join(name)


def walks() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the questions of a newcomer, each with its steps: a file, and a name in it."""
    section = EXTEND.read_text(encoding="utf-8").split("## Find the line")[1].split("\n## ")[0]
    _, *parts = re.split(r"^\*\*(.+)\*\*$", section, flags=re.MULTILINE)
    answers = [re.findall(r"^\d\. .+$", part, re.MULTILINE) for part in parts[1::2]]
    return [(question, [step_of(line) for line in lines]) for question, lines in zip(parts[::2], answers, strict=True)]


def test_the_questions_of_a_newcomer_are_answered():
    questions = [question for question, _ in walks()]
    for needed in ("Where is the clip's crop drawn?", "How do I add a data set?", "Where is Jaccard computed?"):
        assert needed in questions
    assert len(questions) >= 10


@pytest.mark.parametrize(("question", "steps"), walks(), ids=[question for question, _ in walks()])
def test_a_newcomer_is_led_to_the_line_in_at_most_three_steps(question, steps):
    assert 1 <= len(steps) <= 3
    for path, name in steps:
        assert (REPOSITORY / path).is_file(), path
        assert not name or name in documents.defined(REPOSITORY / path), f"{path} does not define {name}"


def test_the_data_set_of_the_guide_finds_videos_and_reads_their_labels(tmp_path):
    (code,) = blocks(EXTEND, "python")
    names: dict = {}
    exec(compile(code, "extend.md", "exec"), names)
    for number in (1, 21):
        (tmp_path / f"case{number:02d}.mp4").write_bytes(b"a video")
        rows = "\n".join(f"{frame}\t{'Opening' if frame < 50 else 'Repair'}" for frame in range(100))
        (tmp_path / f"case{number:02d}.txt").write_text(f"Frame\tPhase\n{rows}\n")
    (builder,) = names["BUILDERS"]
    videos = builder.configured(tmp_path, {}).videos(tmp_path)
    assert sorted(videos) == ["case01", "case21"]
    (track,) = names["tracks"](videos["case21"])
    assert [track.at(second, 25.0) for second in (0.0, 3.0)] == [{"phase": 0}, {"phase": 1}]
    assert "case21" in builder.info.protocols["published"].listed("test", {})


def test_every_page_is_in_the_navigation_of_the_site():
    site = yaml.safe_load(re.sub(r"!ENV \[.*\]", "''", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")))
    listed = set(re.findall(r"[\w/-]+\.md", str(site["nav"])))
    pages = {page.relative_to(REPOSITORY / "docs").as_posix() for page in (REPOSITORY / "docs").rglob("*.md")}
    assert pages - listed == set()
    assert site["theme"]["font"] is False  # nothing is fetched from elsewhere


def test_the_site_has_the_help_of_every_command_and_every_public_name(tmp_path, monkeypatch):
    stage = runpy.run_path(str(REPOSITORY / "docs" / "stage.py"))
    monkeypatch.setitem(stage["main"].__globals__, "STAGED", tmp_path)
    stage["main"]()
    commands_page = (tmp_path / "reference" / "command_line.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"usage: surgvista {verb} " not in commands_page] == []
    public = (tmp_path / "api" / "index.md").read_text(encoding="utf-8")
    assert [
        name for name in surgvista_hf.__all__ if name[0] != "_" and f"::: surgvista_hf.{name}\n" not in public
    ] == []
    assert (tmp_path / "files" / "benchmarks" / "results" / "model_speed_cpu.json").is_file()
    assert "](../files/benchmarks/model_speed.py)" in (tmp_path / "evidence" / "measured.md").read_text(
        encoding="utf-8"
    )


def test_the_readme_says_what_it_must():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for phrase in (
        'AutoModel.from_pretrained("syangcw/SurgVISTA")',
        "accelerate launch",
        "the web demo",
        "Not a medical device",
    ):
        assert phrase in text


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

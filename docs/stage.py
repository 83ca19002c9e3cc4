"""Put the pages of the site together in `build/docs`: those beside this file, and those that are generated from the code.

    python docs/stage.py && zensical build --strict

Generated are the help of every command and the API reference. Files elsewhere in the repository that pages link to are
copied, so that the links work on the site as they do in the repository.
"""

import argparse
import posixpath
import re
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the code beside these pages, not an installed copy

import surgvista_hf  # noqa: E402
from surgvista_hf.cli.main import build_parser  # noqa: E402

STAGED = REPOSITORY / "build" / "docs"
COMMANDS = "<!-- commands -->"  # stands in a page where the help of all commands belongs
COPIES = "files"  # the folder of the site with copies of files outside `docs`
LINK = re.compile(r"\]\(([^)#\s:]+)")
# In the order in which a reader meets them, from what is called to what everything rests on.
PACKAGES = "inference trainers evaluation curation clips datasets_scripts modeling space util".split()


def main() -> None:
    """Write the folder anew."""
    shutil.rmtree(STAGED, ignore_errors=True)
    pages = {
        f"docs/{path.relative_to(REPOSITORY / 'docs').as_posix()}" for path in (REPOSITORY / "docs").rglob("*.md")
    }
    texts = {
        page: (REPOSITORY / page).read_text(encoding="utf-8").replace(COMMANDS, command_pages()) for page in pages
    }
    linked = {target for page, text in texts.items() for target in targets(page, text)} - pages
    for target in linked:
        if target.endswith(".md"):
            texts[target] = (REPOSITORY / target).read_text(encoding="utf-8")
    linked |= {target for page in texts.keys() - pages for target in targets(page, texts[page])} - pages
    for target in sorted(linked - texts.keys()) + files_of("docs/images"):
        to = STAGED / site_path(target)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / target, to)
    for page, text in texts.items():
        write(site_path(page), led_to_site(page, text))
    for name, text in api_pages().items():
        write(f"api/{name}.md", text)


def files_of(folder: str) -> list[str]:
    """Return the files of a folder of the repository."""
    return [path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / folder).rglob("*") if path.is_file()]


def write(name: str, text: str) -> None:
    """Write a page of the site."""
    path = STAGED / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def site_path(target: str) -> str:
    """Return where a file of the repository lies on the site."""
    return target.removeprefix("docs/") if target.startswith("docs/") else f"{COPIES}/{target}"


def target_of(page: str, link: str) -> str | None:
    """Return the file of the repository that a link of a page leads to, if it is one."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return path if (REPOSITORY / path).is_file() else None


def targets(page: str, text: str) -> set[str]:
    """Return the files of the repository that a page links to."""
    return {target for match in LINK.finditer(text) if (target := target_of(page, match[1]))}


def led_to_site(page: str, text: str) -> str:
    """Return a page whose links lead to where files lie on the site."""
    here = posixpath.dirname(site_path(page)) or "."

    def redirected(match: re.Match[str]) -> str:
        """Return a link, relative to the page on the site."""
        target = target_of(page, match[1])
        return f"]({posixpath.relpath(site_path(target), here)}" if target else match[0]

    return LINK.sub(redirected, text)


def api_pages() -> dict[str, str]:
    """Return the pages of the API reference by name: the public names first, then one page a package."""
    public = sorted((name for name in surgvista_hf.__all__ if not name.startswith("_")), key=str.lower)
    head = "# Public names\n\n`from surgvista_hf import …` gives these names. They are stable.\n\n"
    pages = {"index": head + "\n".join(f"::: surgvista_hf.{name}\n" for name in public)}
    for package in PACKAGES:
        files = sorted((REPOSITORY / "surgvista_hf" / package).rglob("*.py"))
        modules = [
            file.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", ".")
            for file in files
            if not file.name.startswith("_") and "template" not in file.parts
        ]
        pages[package] = f"# {package}\n\n" + "\n".join(module_section(module) for module in modules)
    return pages


def module_section(module: str) -> str:
    """Return the section of a module, under a heading with its path in the package."""
    options = "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
    return f"## {module.removeprefix('surgvista_hf.')}\n\n::: {module}\n{options}"


def command_pages() -> str:
    """Return a section for each verb with its help as a terminal shows it at 100 columns."""
    verbs = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return "\n".join(f"### {verb}\n\n```text\n{help_of(parser)}\n```\n" for verb, parser in verbs.choices.items())


def help_of(parser: argparse.ArgumentParser) -> str:
    """Return the help of a command and of its subcommands."""
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)  # type: ignore[assignment]
    texts = [parser.format_help().rstrip()]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts += [help_of(below) for below in action.choices.values()]
    return "\n\n\n".join(texts)


if __name__ == "__main__":
    main()

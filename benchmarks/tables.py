"""Write the tables of the documentation from recorded results, so that no page can say something else than its numbers.

A page marks the text that a function makes, a table or a number within a sentence:

    <!-- made by waiting.table -->
    | … |
    <!-- end -->

    It takes <!-- made by waiting.import_seconds -->0.08<!-- end --> s.

The function is named with its module in `benchmarks/`. It takes no arguments, reads a file of `benchmarks/results/` and
returns Markdown. A test compares every page with what its functions return.

    python -m benchmarks.tables            # writes the pages anew
    python -m benchmarks.tables --check    # only says which page differs
"""

import argparse
import importlib
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from surgvista_hf.util.files import atomic_file

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_MADE = re.compile(r"(<!-- made by ([\w.]+) -->)(.*?)(<!-- end -->)", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; the exit status is 1 if a checked page differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args(argv)
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        renewed = replace_tables(text)
        if renewed == text:
            continue
        stale.append(page.relative_to(ROOT).as_posix())
        if not arguments.check:
            with atomic_file(page) as temporary:
                temporary.write_text(renewed, encoding="utf-8")
    print("\n".join(stale) if stale else "every page says what its numbers say")
    return int(arguments.check and bool(stale))


def pages() -> list[Path]:
    """Return the pages that hold text made by a function."""
    candidates = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in candidates if _MADE.search(page.read_text(encoding="utf-8"))]


def replace_tables(text: str) -> str:
    """Return a page in which all text between markers is what the named functions return.

    Example:
        >>> replace_tables("of <!-- made by tables.example -->3<!-- end --> rounds")
        'of <!-- made by tables.example -->4.0 (3.0–5.0)<!-- end --> rounds'

    Raises:
        ValueError: a marker has no end, or one begins within another.
    """
    marked = _MADE.findall(text)
    if text.count("<!-- made by ") != len(marked) or text.count("<!-- end -->") != len(marked):
        raise ValueError("every <!-- made by MODULE.FUNCTION --> needs its own <!-- end -->")
    return _MADE.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    begin, name, old, end = match.groups()
    module, _, function = name.rpartition(".")
    made = getattr(importlib.import_module(f"benchmarks.{module}"), function)().strip("\n")
    return f"{begin}\n{made}\n{end}" if old.startswith("\n") else f"{begin}{made}{end}"


def example() -> str:
    """Return the quartiles of three rounds, for the example of `replace_tables`."""
    return quartiles([3.0, 4.0, 5.0])


def read_results(name: str) -> dict[str, Any]:
    """Return the content of a file in `benchmarks/results/`, such as `waiting_cpu.json`."""
    content: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return content


def machine_of(name: str) -> str:
    """Return the machine that a file in `benchmarks/results/` was measured on, in words."""
    known = read_results(name)["machine"]
    parts = [
        f"{known['device']}, {known['cores']} cores",
        f"torch {known['torch']} on {known['torch_threads']} of them",
    ]
    if known.get("bfloat16"):
        parts.append(f"bfloat16: {known['bfloat16']}")
    if known.get("load_average"):
        parts.append(f"load average {known['load_average']:g}")
    return ", ".join(parts)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table in Markdown.

    Example:
        >>> markdown_table(["what", "s"], [["import", "0.08"]])
        '| what | s |\n|---|---|\n| import | 0.08 |'
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "|".join(cells) + "|" if cells[0] == "---" else f"| {' | '.join(cells)} |" for cells in lines
    )


def quartiles(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """Return the median and, in brackets, the quartiles of a measurement in `digits` significant digits.

    Example:
        >>> quartiles([0.123, 0.151, 0.14], " s")
        '0.14 s (0.12–0.15)'
        >>> quartiles([1234.0])
        '1,234'
    """
    if len(values) == 1:
        return f"{significant(values[0], digits)}{unit}"
    lower, middle, upper = statistics.quantiles(values, n=4)
    low, high = significant(lower, digits), significant(upper, digits)
    return f"{significant(middle, digits)}{unit} ({low}–{high})"


def recorded_quartiles(found: Mapping[str, float]) -> str:
    """Return a median with its quartiles as `timing.ratio` recorded them, in the form of `quartiles`.

    Example:
        >>> recorded_quartiles({"median": 0.6961, "lower_quartile": 0.6874, "upper_quartile": 0.7022})
        '0.70 (0.69–0.70)'
    """
    lower, middle, upper = (significant(found[name]) for name in ("lower_quartile", "median", "upper_quartile"))
    return f"{middle} ({lower}–{upper})"


def significant(value: float, digits: int = 2) -> str:
    """Return a number with at least so many significant digits; what stands before the decimal point is kept.

    Example:
        >>> significant(0.01234), significant(9.96), significant(123.4)
        ('0.012', '10', '123')
    """
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 10 ** (digits - 1) or rounded == 0:
        return f"{value:,.0f}"  # whole numbers keep all of their digits
    decimals = digits - 1 - int(f"{rounded:e}".partition("e")[2])
    return f"{rounded:.{decimals}f}"


if __name__ == "__main__":
    sys.exit(main())

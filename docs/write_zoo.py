"""Write the zoo's table in docs/reference/models.md and a page for every family: python docs/write_zoo.py."""

import re
from pathlib import Path

from surgvista_hf.modeling.conversion import FAMILIES
from surgvista_hf.modeling.conversion.pages import family_page, zoo_table

REFERENCE = Path(__file__).parent / "reference"
BEGIN, END = "<!-- zoo: written by docs/write_zoo.py -->", "<!-- end of zoo -->"


def main() -> None:
    """Write all pages."""
    for name in FAMILIES:
        (REFERENCE / "zoo" / f"{name}.md").write_text(family_page(name), encoding="utf-8")
    models = REFERENCE / "models.md"
    text = models.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    models.write_text(pattern.sub(lambda _: f"{BEGIN}\n{zoo_table()}\n{END}", text), encoding="utf-8")


if __name__ == "__main__":
    main()

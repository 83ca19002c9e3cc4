"""Write the table of the zoo in docs/models.md and the page of every family in this folder: python docs/zoo/write_pages.py."""

import re
from pathlib import Path

from surgvista_hf.modeling.conversion import FAMILIES
from surgvista_hf.modeling.conversion.pages import family_page, zoo_table

HERE = Path(__file__).parent
BEGIN, END = "<!-- zoo: written by docs/zoo/write_pages.py -->", "<!-- end of zoo -->"


def main() -> None:
    """Write all pages."""
    for name in FAMILIES:
        (HERE / f"{name}.md").write_text(family_page(name), encoding="utf-8")
    models = HERE.parent / "models.md"
    text = models.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    models.write_text(pattern.sub(lambda _: f"{BEGIN}\n{zoo_table()}\n{END}", text), encoding="utf-8")


if __name__ == "__main__":
    main()

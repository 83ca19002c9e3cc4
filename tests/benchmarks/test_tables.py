"""Pages say what the recorded results say."""

import doctest

import pytest

from benchmarks import tables


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.stem)
def test_every_number_that_a_page_takes_from_a_recorded_result_is_that_of_the_result(page):
    text = page.read_text(encoding="utf-8")
    assert text == tables.replace_tables(text), "python -m benchmarks.tables writes the page anew"


def test_a_page_whose_number_was_changed_by_hand_differs():
    page = "a\n\n<!-- made by tables.example -->\n9\n<!-- end -->\nb <!-- made by tables.example -->9<!-- end -->\n"
    renewed = tables.replace_tables(page)
    assert renewed == page.replace("9", "4.0 (3.0–5.0)")
    assert tables.replace_tables(renewed) == renewed


@pytest.mark.parametrize(
    "page",
    [
        "<!-- made by tables.example -->",
        "1<!-- end -->",
        "<!-- made by tables.example --><!-- made by tables.example -->1<!-- end -->",
    ],
)
def test_a_marker_without_its_other_half_is_refused(page):
    with pytest.raises(ValueError, match="its own"):
        tables.replace_tables(page)


def test_a_page_that_differs_is_named_written_and_then_found_right(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("nothing is made here")
    page = tmp_path / "docs" / "page.md"
    page.write_text("<!-- made by tables.example -->9<!-- end -->")
    assert tables.main(["--check"]) == 1
    assert capsys.readouterr().out == "docs/page.md\n"
    assert tables.main([]) == 0
    assert "4.0 (3.0–5.0)" in page.read_text(encoding="utf-8")
    assert tables.main(["--check"]) == 0


def test_the_examples_are_true():
    assert doctest.testmod(tables).failed == 0

"""Tables of videos: found by id, path or file name; what is missing or double is named."""

import pytest

from surgvista_hf.datasets_scripts.schema.info import AnnotationError
from surgvista_hf.datasets_scripts.schema.video_tables import read_video_table, table_column


def written(folder, text: str):
    """Write a table and return its path."""
    (folder / "patients.csv").write_text(text, encoding="utf-8")
    return folder / "patients.csv"


@pytest.mark.parametrize(
    "text",
    [
        "video,patient\nop1,a\nop2,b\n",
        "\ufeffpatient;File Name\r\na;raw/op1.mp4\r\nb;C:\\\\raw\\\\op2.MOV\r\n\r\n",
        "id\tpatient\top\nop2\tb\t7\nop1\ta\t8\nop9\tz\t9\n",
        "operation no,patient\nop1,a\nop2,b\n",
    ],
)
def test_rows_are_found_by_id_path_or_file_name(tmp_path, text):
    assert read_video_table(written(tmp_path, text), ["op1", "op2"])["patient"] == {"op1": "a", "op2": "b"}


def test_a_spreadsheet_is_read_with_its_numbers(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["video", "patient"], [1, 17], [2, 18]):
        book.active.append(row)
    book.save(tmp_path / "patients.xlsx")
    assert read_video_table(tmp_path / "patients.xlsx", ["1", "2"])["patient"] == {"1": "17", "2": "18"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("video,patient\nop1,a\n", r"no row of 1 of 2 videos: op2; the first cell of its column 'video' is 'op1'"),
        ("video,patient\nop1,a\nop2,b\nop1.mp4,c\n", r":4 is about op1, and so is line 2"),
        ("video,patient\nop1,a,x\n", r":2 has 3 cells, its header 2"),
        ("video,patient\n", "no rows below its header"),
        ("", "no rows below its header"),
    ],
)
def test_what_is_missing_or_double_is_named(tmp_path, text, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        read_video_table(written(tmp_path, text), ["op1", "op2"])


def test_an_unknown_column_and_an_empty_cell_are_named(tmp_path):
    path = written(tmp_path, "video,patient,sex\nop1,a,f\nop2,,m\n")
    table = read_video_table(path, ["op1", "op2"])
    assert table_column(path, table, "sex") == {"op1": "f", "op2": "m"}
    with pytest.raises(AnnotationError, match=r"no column 'patients'; did you mean patient\?"):
        table_column(path, table, "patients")
    with pytest.raises(AnnotationError, match="'patient' is empty for op2"):
        table_column(path, table, "patient")

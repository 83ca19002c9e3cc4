"""Files of labels with one video each: what holds the labels of several is refused, and not mixed up or passed over."""

from pathlib import Path

from ..datasets_scripts.own_labels.spreadsheets import read_tables
from ..datasets_scripts.own_labels.tables import find_layout
from ..datasets_scripts.schema.info import AnnotationError
from ..util.errors import InputError
from ..util.messages import preview

_TABLES = (".csv", ".tsv", ".txt", ".xlsx")


def videos_named_in(path: Path) -> list[str]:
    r"""Return the videos that a column of a table names; empty where there is no such column, or the file is no table.

    Args:
        path: file of labels.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "all.csv"
        >>> _ = file.write_text("video,second,phase\nop1,0,cut\nop2,0,sew\n")
        >>> videos_named_in(file)
        ['op1', 'op2']
    """
    if path.suffix.lower() not in _TABLES or path.name == "classes.txt":
        return []
    try:
        layout = find_layout(read_tables(path)[0])
    except AnnotationError:  # whoever reads its labels says what is wrong
        return []
    column = layout.roles.get("video")
    if column is None or not layout.has_times:
        return []
    cells = (line.cells[column].strip() for line in layout.rows if column < len(line.cells))
    named = list(dict.fromkeys(cell for cell in cells if cell))
    return [] if set(named) <= {"0", "1"} else named  # a column `clip` may say whether the instrument is there


def check_one_video(path: Path, instead: str) -> None:
    """Check that a file holds the labels of one video.

    Args:
        path: file of labels.
        instead: advice on the file, for the message.

    Raises:
        InputError: a column names several videos.
    """
    named = videos_named_in(path)
    if len(named) > 1:
        raise InputError(
            f"{path} holds the labels of {len(named)} videos ({preview(named, 3)}), but one file for each video is expected, "
            f"named like the video: {instead}"
        )

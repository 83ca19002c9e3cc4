"""Names of extracted frames: `op1/000123.jpg`, `video01_000123.png`, `8_14775.jpg`."""

import re

_NAME = re.compile(
    r"(?:(?P<folder>.*)/)?(?P<stem>[^/]*?)[-_ ]?(?:frame[-_ ]?)?(?<!\d)(?P<number>\d{1,12})(?:\.[A-Za-z]\w{0,4})?",
    re.ASCII,
)


def split_frame_name(name: str) -> tuple[str, int] | None:
    """Return the video and the number of a frame by the name of its file; `None` if it holds no number.

    The video is what stands before the number, or the path of the folder where nothing stands there.

    Example:
        >>> split_frame_name("train/8_14775.jpg")
        ('train/8', 14775)
        >>> split_frame_name("op1/frame_000123.png")
        ('op1', 123)
    """
    match = _NAME.fullmatch(name.replace("\\", "/"))
    if match is None:
        return None
    folder, stem = match["folder"] or "", match["stem"]
    return "/".join(part for part in (folder, stem) if part), int(match["number"])

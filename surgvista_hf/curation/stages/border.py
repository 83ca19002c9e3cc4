"""The black border around an endoscopic image, found before anything in the image is made black."""

import numpy as np

_BLACK = 15  # gray levels up to this one are black; coded video is rarely exactly 0
_FRACTION = 0.35  # published: largest fraction of a row or column that may be black


def content_box(frame: np.ndarray) -> tuple[int, int, int, int]:
    """Find the part of a frame inside its black border.

    It reaches from the first to the last row, and column, that are black to at most 35 %, as in the preparation of LEMON; it
    is the whole frame where no row or no column is. There "black" is 0, here up to 15 of 255, because coded black is seldom 0.

    Args:
        frame: (height, width, 3) uint8, RGB.

    Returns:
        left, top, right, bottom in pixels; right and bottom are the first ones outside.

    Example:
        >>> frame = np.zeros((60, 100, 3), np.uint8)
        >>> frame[10:50, 20:90] = 200
        >>> content_box(frame)
        (20, 10, 90, 50)
    """
    # Two colors at a time, because numpy takes seven times as long for the largest along an axis of three.
    dark = np.maximum(np.maximum(frame[..., 0], frame[..., 1]), frame[..., 2]) <= _BLACK  # (height, width)
    # The border itself must not count as black inside a row, or a small image in a large border would have none.
    rows, columns = np.flatnonzero(~dark.all(axis=1)), np.flatnonzero(~dark.all(axis=0))
    if not len(rows) or not len(columns):
        return 0, 0, frame.shape[1], frame.shape[0]
    top, left = int(rows[0]), int(columns[0])
    inside = dark[top : rows[-1] + 1, left : columns[-1] + 1]
    rows = np.flatnonzero(inside.mean(axis=1) <= _FRACTION)
    columns = np.flatnonzero(inside.mean(axis=0) <= _FRACTION)
    if not len(rows) or not len(columns):
        return left, top, left + inside.shape[1], top + inside.shape[0]
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1

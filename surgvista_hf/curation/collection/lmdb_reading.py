"""Readers of the LMDBs of LEMON (Surg-3M): the one for pre-training, which is distributed, and those of its downstream tasks.

The images of the first are JPEG files whose red and blue are swapped for any ordinary reader, because they were written
as if they were in the order that their encoder expects. Here they are swapped back. Checked against LMDBs made in the
published format; the distributed one, which is given on request, was not at hand.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...modeling.video_reading_surgvista import rgb_pixels
from ...util.messages import first_line
from ...util.requirements import require
from .manifest import CurationError

if TYPE_CHECKING:
    import lmdb

_FRAME_KEY = re.compile(rb"(.+)_(\d+)", re.DOTALL)
_IMAGE, _LABEL = b"img_", b"label_"
_MAX_PIXELS = 4096 * 2304


class LmdbError(CurationError):
    """An LMDB cannot be read, or lacks an expected entry."""


@cache
def _environment(path: Path) -> "lmdb.Environment":
    """Open an LMDB, which a process may do only once. Without locks a forked process may read on in that of its parent."""
    require("lmdb")
    import lmdb

    if not path.exists():
        raise LmdbError(f"there is no LMDB at {path}")
    try:
        return lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, create=False)
    except lmdb.Error as error:
        raise LmdbError(f"{path} is no LMDB: {first_line(error)}") from error


class _Lmdb:
    """A database that is only read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()

    def _begin(self) -> "lmdb.Transaction":
        return _environment(self.path).begin()

    def _keys(self) -> Iterator[bytes]:
        with self._begin() as transaction, transaction.cursor() as cursor:
            yield from map(bytes, cursor.iternext(keys=True, values=False))

    def _value(self, key: bytes) -> bytes:
        with self._begin() as transaction:
            value = transaction.get(key)
        if value is None:
            raise LmdbError(f"{self.path} has no entry {key.decode(errors='replace')!r}")
        return bytes(value)


class LemonLmdb(_Lmdb):
    """The LMDB for pre-training: keys `<id>_<n>`, values JPEG.

    Args:
        path: folder or file.
        swap_red_blue: exchange red and blue, which the distributed images need. Turn it off for an LMDB that was written with
            the colors in order.

    Raises:
        LmdbError: if there is no LMDB, or its keys are of another kind.

    Example:
        >>> frames = LemonLmdb("LEMON.lmdb")  # doctest: +SKIP
        >>> frames.numbers("-Ab3dEf6hIj")[:3]  # doctest: +SKIP
        [0, 1, 2]
        >>> frames["-Ab3dEf6hIj", 1].shape  # doctest: +SKIP
        (360, 640, 3)
    """

    def __init__(self, path: str | Path, *, swap_red_blue: bool = True) -> None:
        super().__init__(path)
        self.swap_red_blue = swap_red_blue
        self._index: dict[str, list[int]] = {}
        for key in self._keys():
            match = _FRAME_KEY.fullmatch(key)
            if match is None:
                raise LmdbError(
                    f"{self.path} has the key {key[:60].decode(errors='replace')!r}; <id>_<n> is expected. LMDBs of "
                    "the downstream tasks are read by DownstreamLmdb"
                )
            self._index.setdefault(match[1].decode("utf-8", "replace"), []).append(int(match[2]))
        for numbers in self._index.values():
            numbers.sort()  # keys are in the order of text

    def __len__(self) -> int:
        return sum(map(len, self._index.values()))

    @property
    def video_ids(self) -> list[str]:
        """Return the ids of the videos, sorted."""
        return sorted(self._index)

    def numbers(self, video_id: str) -> Sequence[int]:
        """Return the numbers of the frames of a video, ascending; some may be missing.

        They count seconds or source frames, depending on how the LMDB was made.

        Raises:
            LmdbError: if there is no such video.
        """
        if video_id not in self._index:
            raise LmdbError(f"{self.path} has no video {video_id!r}")
        return self._index[video_id]

    def __getitem__(self, frame: tuple[str, int]) -> np.ndarray:
        """Return a frame, (height, width, 3) uint8, RGB.

        Args:
            frame: id of the video, and number of the frame.

        Raises:
            LmdbError: if there is no such frame, or no image in it.
        """
        video_id, number = frame
        key = f"{video_id}_{number}"
        value = self._value(key.encode())
        try:
            with Image.open(io.BytesIO(value), formats=("JPEG",)) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise LmdbError(f"{self.path}: {key} has {image.width}×{image.height} pixels")
                pixels = rgb_pixels(image)
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, LmdbError):
                raise
            raise LmdbError(f"{self.path}: {key} is no JPEG image: {first_line(error)}") from error
        return np.ascontiguousarray(pixels[..., ::-1]) if self.swap_red_blue else pixels

    def frames(self, video_id: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield number and frame of each frame of a video, in order."""
        for number in self.numbers(video_id):
            yield number, self[video_id, number]


class DownstreamLmdb(_Lmdb, Mapping[str, tuple[np.ndarray, str]]):
    """An LMDB of a downstream task: `img_<name>` with raw pixels, `label_<name>` with a text.

    The published writer stores raw RGB of 224×224 pixels, the published reader decodes a JPEG: they do not fit together. This
    one reads what the writer writes, and also a JPEG.

    Args:
        path: folder or file.
        size: height and width of raw images, in pixels.

    Raises:
        LmdbError: if there is no LMDB.

    Example:
        >>> image, label = DownstreamLmdb("phases.lmdb")["video01_25.jpg"]  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, size: tuple[int, int] = (224, 224)) -> None:
        super().__init__(path)
        self.size = size
        self._names = sorted(key.removeprefix(_IMAGE).decode() for key in self._keys() if key.startswith(_IMAGE))
        if not self._names:
            raise LmdbError(f"{self.path} has no key img_<name>; LMDBs for pre-training are read by LemonLmdb")

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> tuple[np.ndarray, str]:
        """Return an image, (height, width, 3) uint8, RGB, and its label.

        Raises:
            LmdbError: if there is no such image or label, or the size is not the expected one.
        """
        value, label = self._value(_IMAGE + name.encode()), self._value(_LABEL + name.encode())
        height, width = self.size
        if len(value) == height * width * 3:
            return np.frombuffer(value, np.uint8).reshape(height, width, 3).copy(), label.decode()
        try:
            with Image.open(io.BytesIO(value), formats=("JPEG",)) as image:
                return rgb_pixels(image), label.decode()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise LmdbError(
                f"{self.path}: {name} has {len(value)} bytes, neither {height}×{width}×3 nor a JPEG; give its size"
            ) from error

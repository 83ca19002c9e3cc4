"""Videos in DICOM files, read with pydicom where it is installed. This file travels with a checkpoint.

An encapsulated video (MPEG-2, H.264, HEVC) is handed out as the file that it is; frames that are coded one by one (JPEG, RLE,
not at all, …) are decoded here. Of the data set only what is needed to show the frames is read, and never a name, a date or
an identifier: what was not read stands in no result and in no message. Messages of pydicom, which quote values, are kept out.
"""

import importlib
import io
import itertools
import logging
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from .errors_surgvista import VideoReadError
from .video_frames_surgvista import Named, is_damaged_jpeg, resized, shown_size


@cache
def _pydicom() -> ModuleType:
    """Import pydicom, which takes longer than opening a video, so only where a DICOM file was met.

    Raises:
        ImportError: it is not installed (the extra `dicom` of the package).
    """
    # Not by a statement: transformers requires what files beside a checkpoint import outside of `try`.
    for part in ("encaps", "filereader", "pixels"):
        importlib.import_module(f"pydicom.{part}")
    return importlib.import_module("pydicom")


class _DataSet(Protocol):
    """Describes pydicom's `Dataset`: elements are attributes; `get` returns `None` for those that are absent."""

    def get(self, keyword: str) -> Any:
        """Return the value of an element."""

    def __getattr__(self, keyword: str) -> Any:
        """Return the value of an element that must be there."""


HEAD_BYTES = 132
_MAGIC = b"DICM"
_VIDEO = tuple(
    f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109)
)  # MPEG-2, H.264 and HEVC, and their .1 forms
_DEFLATED = "1.2.840.10008.1.2.1.99"
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_BIG_ENDIAN, _IMPLICIT = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_IMAGE_STARTS = (b"\xff\xd8", b"\xff\x4f")  # of JPEG and JPEG 2000
_COLORS = ("Red", "Green", "Blue")
_TAGS = (
    *("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelAspectRatio", "PixelSpacing"),
    *("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept"),
    *(f"{color}PaletteColorLookupTable{part}" for color in _COLORS for part in ("Descriptor", "Data")),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_USUAL_RATE = 25.0  # frames a second where the file does not say


@dataclass(frozen=True)
class FrameTimes:
    """The times at which the frames of a DICOM file are shown.

    Args:
        starts: seconds at which the frames begin, from 0; shorter than the file if this is not known for all.
        step: seconds between the frames after the last of these.
        known: the file says so; otherwise the times are a guess.
    """

    starts: Sequence[float]
    step: float
    known: bool

    def __getitem__(self, number: int) -> float:
        """Return the second at which a frame begins."""
        beyond = number - len(self.starts) + 1
        return self.starts[number] if beyond <= 0 else self.starts[-1] + beyond * self.step


@dataclass(frozen=True)
class EncapsulatedVideo:
    """A video file within a DICOM file.

    Args:
        payload: the video file.
        times: times at which its frames are shown, for a payload without time stamps.
        count: number of frames that the data set promises.
        pixel_aspect: width of a pixel divided by its height; `None`: the data set does not say.
    """

    payload: BinaryIO
    times: FrameTimes
    count: int
    pixel_aspect: float | None


def is_dicom(head: bytes) -> bool:
    """Return whether a file that begins with these bytes (`HEAD_BYTES`) is a DICOM file; its name does not matter."""
    return head[128:132] == _MAGIC


def open_dicom(file: BinaryIO, name: str, max_pixels: int) -> "EncapsulatedVideo | DicomFrames":
    """Open the video in a DICOM file.

    Args:
        file: DICOM file, which stays open.
        name: name of the file for messages.
        max_pixels: largest frame, width times height as shown, that is decoded.

    Returns:
        The encapsulated video file, or a reader of frames that are coded one by one.

    Raises:
        VideoReadError: pydicom is not installed, or the file is damaged, holds no frames, or none that can be decoded.
    """
    try:
        _pydicom()
    except ImportError as error:
        raise VideoReadError(
            f"{name} is a DICOM file; reading it needs pydicom: pip install 'surgvista-hf[dicom]'"
        ) from error
    with _errors_explained(name):
        header, syntax = _read_header(file, name)
        start, length = _pixel_data(file, name, syntax)
        if syntax.startswith(_VIDEO):
            count = int(header.get("NumberOfFrames") or 1)
            _, fragments = _fragments(file, start, name)
            payload = cast(BinaryIO, _Joined(file, fragments))
            return EncapsulatedVideo(payload, _times(header, count), count, _aspect(header))
        return DicomFrames(file, name, header, syntax, (start, length), max_pixels)


class DicomFrames:
    """The frames of a DICOM file that are coded one by one.

    Args:
        file, name, max_pixels: arguments of `open_dicom`.
        header: data set without the pixels.
        syntax: UID of the transfer syntax.
        data: offset at which the pixels begin in the file, and their number of bytes (encapsulated ones do not say it).

    Attributes:
        width, height: size of a frame as shown, in pixels.
        count: number of frames that the file holds; `promised`: number that it says it holds.
        times: times at which they are shown.
        codec: name of the coding.
    """

    def __init__(
        self, file: BinaryIO, name: str, header: _DataSet, syntax: str, data: tuple[int, int], max_pixels: int
    ) -> None:
        self.name, self._file, self._header, self._syntax = name, file, header, syntax
        uid = _pydicom().uid.UID(syntax)
        self.codec = uid.keyword.lower() or "unknown"
        self._decoder = _decoder(uid, name)
        columns, rows = int(header.Columns), int(header.Rows)
        self.pixel_aspect = _aspect(header) or 1.0
        self.width, self.height = shown_size(columns, rows, self.pixel_aspect)
        if columns < 1 or rows < 1 or max(columns * rows, self.width * self.height) > max_pixels:
            raise VideoReadError(
                f"{name} has frames of {self.width}×{self.height} pixels; at most {max_pixels} pixels are decoded"
            )
        if int(header.BitsAllocated) not in (8, 16):
            raise VideoReadError(f"{name} has {header.BitsAllocated} bits a sample; 8 or 16 can be shown")
        self.promised = int(header.get("NumberOfFrames") or 1)
        self._frames = self._find_frames(*data)
        self.count = len(self._frames)
        if not self.count:
            raise VideoReadError(f"{name} holds no frame that can be decoded")
        self.times = _times(header, self.promised)

    def pixels(self, number: int) -> np.ndarray | None:
        """Return a frame as shown, (height, width, 3), uint8, RGB; `None` if it is damaged."""
        content = b"".join(self._read(start, length) for start, length in self._frames[number])
        if self._syntax in _JPEG and is_damaged_jpeg(content):
            return None
        try:
            with _quiet:
                values = self._decoded(content)
                pixels = _color(values, self._header)
        except Exception:  # pydicom and its decoders raise whatever their input makes them raise
            return None
        return np.ascontiguousarray(resized(pixels, self.width, self.height))

    def _read(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)

    def _decoded(self, content: bytes) -> np.ndarray:
        """Return (rows, columns) or (rows, columns, 3) values as stored, colors as RGB."""
        header = self._header
        if _pydicom().uid.UID(self._syntax).is_encapsulated:
            content = _pydicom().encaps.encapsulate([content])
        options = {
            "rows": int(header.Rows),
            "columns": int(header.Columns),
            "number_of_frames": 1,
            "samples_per_pixel": int(header.SamplesPerPixel),
            "photometric_interpretation": str(header.PhotometricInterpretation),
            "bits_allocated": int(header.BitsAllocated),
            "bits_stored": int(header.BitsStored),
            "pixel_representation": int(header.PixelRepresentation),
            "pixel_keyword": "PixelData",
            "pixel_vr": "OW" if int(header.BitsAllocated) > 8 else "OB",
        }
        if options["samples_per_pixel"] != 1:
            options["planar_configuration"] = int(header.get("PlanarConfiguration") or 0)
        values, _ = self._decoder.as_array(content, index=0, **options)
        return np.asarray(values)

    def _find_frames(self, start: int, length: int) -> list[list[tuple[int, int]]]:
        """Return where the pieces of each frame lie: offsets in the file and lengths."""
        header = self._header
        if not _pydicom().uid.UID(self._syntax).is_encapsulated:
            samples = 2 if "422" in str(header.PhotometricInterpretation) else int(header.SamplesPerPixel)
            size = int(header.Rows) * int(header.Columns) * samples * int(header.BitsAllocated) // 8
            available = min(self._file.seek(0, io.SEEK_END) - start, length) // size
            return [[(start + number * size, size)] for number in range(min(self.promised, available))]
        offsets, fragments = _fragments(self._file, start, self.name)
        if len(fragments) == self.promised:
            begins = list(range(len(fragments)))
        else:
            begins = self._first_fragments(offsets, fragments)
        bounds = itertools.pairwise([*begins, len(fragments)])
        return [fragments[first:last] for first, last in bounds][: self.promised]

    def _first_fragments(self, offsets: Sequence[int], fragments: list[tuple[int, int]]) -> list[int]:
        """Return the number of the first fragment of each frame, by the table of offsets or by what fragments begin with."""
        if self.promised == 1 or not fragments:
            return [0] if fragments else []
        if self._header.get("ExtendedOffsetTable"):
            table = bytes(self._header.ExtendedOffsetTable)
            offsets = struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8])
        # The table counts from the item of the first fragment, `fragments` from its content, 8 bytes later.
        base = fragments[0][0]
        known = {offset + base for offset in offsets}
        by_table = [number for number, (start, _) in enumerate(fragments) if start in known]
        if len(by_table) == self.promised:
            return by_table
        starts = (self._read(start, 2) in _IMAGE_STARTS for start, _ in fragments)
        return [number for number, is_start in enumerate(starts) if is_start]


# ------------------------------------------------------------------------------------------- the data set


def _read_header(file: BinaryIO, name: str) -> tuple[Any, str]:
    """Return what `_TAGS` name of the data set, and the transfer syntax; the file then stands at the pixels."""
    file.seek(HEAD_BYTES)
    meta = _pydicom().filereader.read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _, __: tag >> 16 != 2
    )
    syntax = str(meta.get("TransferSyntaxUID") or _IMPLICIT)
    if syntax == _DEFLATED:  # unpacking it has no limit
        raise VideoReadError(f"{name} is a deflated DICOM file, which is not read; store it without deflation")
    file.seek(0)
    header = _pydicom().dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
    for element in list(header):
        _ = element.value  # a value that cannot be read is known now
    return header, syntax


def _pixel_data(file: BinaryIO, name: str, syntax: str) -> tuple[int, int]:
    """Return the offset at which the pixels begin, and their length in bytes."""
    order = ">" if syntax == _BIG_ENDIAN else "<"
    head = file.read(8 if syntax == _IMPLICIT else 12)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != _PIXEL_DATA:
        raise VideoReadError(f"{name} is a DICOM file without images")
    return file.tell(), struct.unpack(f"{order}I", head[-4:])[0]


def _fragments(file: BinaryIO, start: int, name: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """Return the basic table of offsets, and where the fragments of encapsulated pixels lie: offsets and lengths."""
    items, position = [], start
    while len(head := _read_at(file, position, 8)) == 8:
        *tag, length = struct.unpack("<HHI", head)
        if tuple(tag) == _END:
            break
        if tuple(tag) != _ITEM:
            raise VideoReadError(f"{name} is a damaged DICOM file: its pixels are not divided into items")
        items.append((position + 8, length))
        position += 8 + length
    if not items:
        raise VideoReadError(f"{name} is a DICOM file without images")
    table = _read_at(file, *items[0])
    return struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4]), items[1:]


def _read_at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


def _decoder(uid: Named, name: str) -> Any:
    try:
        decoder = _pydicom().pixels.get_decoder(uid)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        more = "" if decoder is None else ": " + "; or ".join(decoder.missing_dependencies)
        raise VideoReadError(f"{name} is a DICOM file whose coding ({uid.name}) cannot be decoded{more}")
    return decoder


def _times(header: _DataSet, count: int) -> FrameTimes:
    """Return the times at which frames are shown, by the first of the four attributes that says so."""
    vector = header.get("FrameTimeVector")
    steps = [float(value) / 1000 for value in ([vector] if isinstance(vector, int | float) else vector or [])]
    if len(steps) > 1 and len(steps) >= count and all(step > 0 for step in steps[1:]):
        starts = list(itertools.accumulate(steps[1:], initial=0.0))
        return FrameTimes(starts, steps[-1], known=True)
    if float(header.get("FrameTime") or 0) > 0:
        return FrameTimes([0.0], float(header.FrameTime) / 1000, known=True)
    rate = float(header.get("CineRate") or header.get("RecommendedDisplayFrameRate") or 0)
    return FrameTimes([0.0], 1 / (rate if rate > 0 else _USUAL_RATE), known=rate > 0)


def _aspect(header: _DataSet) -> float | None:
    """Return the width of a pixel divided by its height; DICOM stores the height first."""
    for keyword in ("PixelAspectRatio", "PixelSpacing"):
        values = header.get(keyword)
        if values is not None and len(values) == 2 and min(map(float, values)) > 0:
            return float(values[1]) / float(values[0])
    return None


# ------------------------------------------------------------------------------------------- values to colors


def _color(values: np.ndarray, header: _DataSet) -> np.ndarray:
    """Return (rows, columns, 3), uint8, RGB, of stored values: through their palette, or their rescaling and window."""
    bits = int(header.BitsStored)
    if values.ndim == 3:
        return values.astype(np.uint8) if bits <= 8 else (values >> (bits - 8)).astype(np.uint8)
    if str(header.PhotometricInterpretation) == "PALETTE COLOR":
        colors = np.asarray(_pydicom().pixels.apply_color_lut(values, header))
        return colors if colors.dtype == np.uint8 else (colors >> 8).astype(np.uint8)
    gray = _gray(values, header, bits)
    if str(header.PhotometricInterpretation) == "MONOCHROME1":
        gray = 255 - gray
    return np.repeat(gray[..., None], 3, axis=2)


def _gray(values: np.ndarray, header: _DataSet, bits: int) -> np.ndarray:
    """Return gray values, (rows, columns), uint8: rescaled, and through the window where there is one."""
    is_signed = int(header.get("PixelRepresentation") or 0) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    width = header.get("WindowWidth")
    windowed = width is not None and header.get("WindowCenter") is not None
    if not windowed and (bits, is_signed, slope, intercept) == (8, False, 1.0, 0.0):
        return values.astype(np.uint8)
    shown = values * slope + intercept
    if windowed:
        shown = _pydicom().pixels.apply_windowing(shown, header)
    low, high = sorted((low * slope + intercept, high * slope + intercept))
    return np.clip((shown - low) / max(high - low, 1e-9) * 255 + 0.5, 0, 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------- keeping quiet


class _Quiet:
    """Silences pydicom's warnings and log, which quote the data set; may be entered by several threads at once."""

    def __init__(self) -> None:
        self._lock, self._depth, self._undo = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                log = logging.getLogger("pydicom")
                self._undo.callback(log.setLevel, log.level)
                log.setLevel(logging.CRITICAL + 1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._undo.close()


_quiet = _Quiet()


@contextmanager
def _errors_explained(name: str) -> Iterator[None]:
    """Turn whatever pydicom raises into our error, without its text, which may quote the data set."""
    with _quiet:
        try:
            yield
        except VideoReadError:
            raise
        except Exception as error:
            raise VideoReadError(f"{name} is a damaged DICOM file ({type(error).__name__})") from None


class _Joined(io.RawIOBase):
    """Joins parts of a file to one that can be read and searched, without a copy."""

    def __init__(self, file: BinaryIO, parts: Sequence[tuple[int, int]]) -> None:
        self._file, self._position = file, 0
        self._parts = [(offset, length) for offset, length in parts if length]
        self._ends = list(itertools.accumulate(length for _, length in self._parts))

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: it can be searched."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, or all that are left."""
        pieces: list[bytes] = []
        left = (self._ends[-1] if self._ends else 0) - self._position
        left = left if size < 0 else min(left, size)
        for (offset, length), end in zip(self._parts, self._ends, strict=True):
            if left <= 0:
                break
            if self._position < end:
                within = self._position - (end - length)
                piece = _read_at(self._file, offset + within, min(left, length - within))
                if not piece:
                    break  # the file is cut off
                pieces.append(piece)
                self._position += len(piece)
                left -= len(piece)
        return b"".join(pieces)

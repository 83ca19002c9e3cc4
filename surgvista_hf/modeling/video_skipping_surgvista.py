"""Which packets of a video need no decoding, because nobody wants their frames. This file travels with a checkpoint.

Two kinds of packets can be left out without changing a bit of any other frame: those of frames that no frame refers to
(`nal_ref_idc` 0 in H.264, sub-layer non-reference pictures in H.265), and all packets before a frame at which the decoder
forgets everything (an IDR frame; any frame where each is coded by itself).

A damaged frame may look like one that nothing refers to. In H.264 the numbers of frames show that (`frame_num`, clause 7.4.3
of ITU-T H.264); then everything is decoded, so that the decoder finds the damage. H.265 decoders notice by themselves that a
frame which others refer to is missing.
"""

import bisect
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, NamedTuple, Protocol

_FRESH_START_CODECS = ("vp8", "vp9")  # a key frame replaces every reference
_PACKETS_AHEAD, _BYTES_AHEAD = 96, 32 << 20  # that are read ahead at most
_FRAMES_BEHIND = 32  # whose times are remembered; no coding reorders further
_LONGEST_STEP = 1.0  # seconds between two frames; at a longer step both are decoded
_PROFILES_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # H.264, clause 7.3.2.1.1
_MARGIN = 3e-3  # seconds by which a moment may be off and still belong to a frame


class Need(Enum):
    """Says what a decoder must do with a packet; the values are those of FFmpeg's `skip_frame`."""

    DECODE = "DEFAULT"
    DECODE_IF_REFERRED_TO = "NONREF"
    NOTHING = "ALL"


class Moments:
    """Ascending seconds at which frames are to be shown; the next ones can be looked at.

    Args:
        times: seconds in ascending order, without end if need be; they are taken from it only as far as they are looked at.

    Example:
        >>> moments = Moments([0.0, 1.0, 2.0])
        >>> moments.take()
        >>> moments.first, moments.is_wanted(0.5, 1.0), moments.is_wanted(0.5, 1.5)
        (1.0, False, True)
    """

    def __init__(self, times: Iterable[float]) -> None:
        self._times = iter(times)
        self._waiting: deque[float] = deque()

    @property
    def first(self) -> float | None:
        """Return the next moment, which stays the next one; `None` after the last one."""
        if not self._waiting:
            self._waiting.extend(time for time in (next(self._times, None),) if time is not None)
        return self._waiting[0] if self._waiting else None

    def take(self) -> None:
        """Go on to the moment after the next one."""
        if self.first is not None:
            self._waiting.popleft()

    def is_wanted(self, start: float, stop: float) -> bool:
        """Return whether a moment from second `start` to before `stop` is still to come."""
        while self.first is not None and self._waiting[-1] < stop:
            time = next(self._times, None)
            if time is None:
                break
            self._waiting.append(time)
        position = bisect.bisect_left(self._waiting, start)
        return position < len(self._waiting) and self._waiting[position] < stop


class _Packet(Protocol):
    """Describes PyAV's `Packet`, as far as it is used here."""

    pts: int | None
    size: int
    is_keyframe: bool
    stream: Any


class _Waiting(NamedTuple):
    """A packet that was read ahead; of video also its time stamp, and whether no frame from it on refers to one before."""

    packet: Any
    is_torn: bool
    is_video: bool = False
    pts: int = 0
    is_fresh_start: bool = False


class _Coding(Protocol):
    """Tells what the packets of one coding say about which frames others refer to."""

    knows_references: bool  # the decoder can leave out frames that nothing refers to

    def is_fresh_start(self, packet: Any) -> bool | None:
        """Return whether no frame from this packet on refers to one before it; `None`: packets do not follow each other."""


class PacketSelection:
    """Tells which packets of a stream need decoding to show frames at given moments.

    It keeps a few packets back to know which frames follow in time. Where the times of a file do not say it (no presentation
    times, recordings that were joined), or packets are torn or do not follow each other, everything is decoded.

    Args:
        stream: PyAV's video stream.
        moments: seconds at which frames are wanted.
        origin: presentation time, in seconds, of second 0.
    """

    def __init__(self, stream: Any, moments: Moments, origin: float) -> None:
        self._index, self._moments, self._origin = stream.index, moments, origin
        self._unit = float(stream.time_base)
        self._coding = _coding_of(stream.codec_context)
        self._is_sound = self._coding is not None
        self._ahead: deque[_Waiting] = deque()
        self._stamps_ahead: deque[int] = deque()  # time stamps of the packets of video in it
        self._behind: deque[int] = deque(maxlen=_FRAMES_BEHIND)  # time stamps of packets that were given out
        self._left_out = 0  # packets of video that follow and are not needed

    def select(self, packets: Iterator[tuple[Any, bool]]) -> Iterator[tuple[Any, bool, Need]]:
        """Yield packets in their order with what is to be done with them.

        Args:
            packets: packets of all streams, `None` where one cannot be read; with each, whether a part of it is lost.

        Raises:
            Exception: whatever reading raises, after the packets before it were given out.
        """
        failure: Exception | None = None
        is_over, size = False, 0
        while True:
            while not is_over and len(self._ahead) < _PACKETS_AHEAD and size < _BYTES_AHEAD:
                try:
                    packet, is_torn = next(packets)
                except StopIteration:
                    is_over = True
                    break
                except Exception as error:
                    failure, is_over = error, True
                    break
                size += 0 if packet is None else packet.size
                looked_at = self._looked_at(packet, is_torn)
                self._ahead.append(looked_at)
                if looked_at.is_video:
                    self._stamps_ahead.append(looked_at.pts)
            if not self._ahead:
                if failure is not None:
                    raise failure
                return
            waiting = self._ahead.popleft()
            if waiting.is_video:
                self._stamps_ahead.popleft()
            size -= 0 if waiting.packet is None else waiting.packet.size
            yield waiting.packet, waiting.is_torn, self._need(waiting)

    def _looked_at(self, packet: _Packet | None, is_torn: bool) -> _Waiting:
        """Note a packet that was read; whatever is unusual ends the leaving out for all that were not given out yet."""
        if packet is None or is_torn:
            self._is_sound = False
        if self._coding is None or not self._is_sound or packet is None:
            return _Waiting(packet, is_torn)
        if packet.stream.index != self._index or not packet.size:
            return _Waiting(packet, is_torn)
        latest = max(self._stamps_ahead or self._behind, default=None)
        is_fresh_start = self._coding.is_fresh_start(packet)
        if (
            packet.pts is None
            or is_fresh_start is None
            or (latest is not None and (latest - packet.pts) * self._unit > _LONGEST_STEP)
        ):
            self._is_sound = False
            return _Waiting(packet, is_torn)
        return _Waiting(packet, is_torn, is_video=True, pts=packet.pts, is_fresh_start=is_fresh_start)

    def _need(self, waiting: _Waiting) -> Need:
        if not self._is_sound or not waiting.is_video:
            return Need.DECODE
        if not self._left_out:
            self._left_out = self._count_before_fresh_start(waiting)
        if self._left_out:
            self._left_out -= 1
            need = Need.NOTHING
        else:
            assert self._coding is not None
            is_wanted = not self._coding.knows_references or self._is_frame_wanted(waiting.pts)
            need = Need.DECODE if is_wanted else Need.DECODE_IF_REFERRED_TO
        self._behind.append(waiting.pts)
        return need

    def _is_frame_wanted(self, pts: int) -> bool:
        """Return whether a moment may lie between a frame and the next one, as far as that is known."""
        following = min([other for other in (*self._behind, *self._stamps_ahead) if other > pts], default=None)
        if following is None or (following - pts) * self._unit > _LONGEST_STEP:
            return True
        return self._is_wanted(pts, following)

    def _count_before_fresh_start(self, waiting: _Waiting) -> int:
        """Count the packets from this one to the last before a fresh start, if none of their frames is wanted; else 0."""
        if not self._behind:  # the first frame tells what the video is
            return 0
        earliest, latest, number = waiting.pts, waiting.pts, 1
        for each in self._ahead:
            if not each.is_video:
                continue
            is_step = (each.pts - latest) * self._unit > _LONGEST_STEP
            if is_step or self._is_wanted(earliest, each.pts if each.is_fresh_start else latest):
                return 0
            if each.is_fresh_start:
                return number
            earliest, latest, number = min(earliest, each.pts), max(latest, each.pts), number + 1
        return 0

    def _is_wanted(self, start: int, stop: int) -> bool:
        """Return whether a moment lies between two time stamps."""
        return self._moments.is_wanted(start * self._unit - self._origin - _MARGIN, stop * self._unit - self._origin)


# --------------------------------------------------------------------------------------------- codings


def _coding_of(context: Any) -> _Coding | None:
    """Return what is known about packets of a decoder's coding; `None`: nothing that helps."""
    name, extradata = str(context.codec.canonical_name), bytes(context.extradata or b"")
    if context.codec.intra_only:
        return _EachAlone()
    if name in _FRESH_START_CODECS:
        return _KeyFramesOnly()
    try:
        if name == "h264":
            return _H264(extradata)
        return _Hevc(extradata) if name == "hevc" else None
    except (IndexError, ValueError):  # no description, or one that is not understood
        return None


class _EachAlone:
    """Codings of frames that never refer to others, such as MJPEG, DV or ProRes."""

    knows_references = False

    def is_fresh_start(self, packet: Any) -> bool | None:
        return True


class _KeyFramesOnly:
    """Codings in which a key frame replaces all that later frames could refer to."""

    knows_references = False

    def is_fresh_start(self, packet: Any) -> bool | None:
        return bool(packet.is_keyframe)


class _H264:
    """H.264 of progressive frames. Names are those of the standard.

    Args:
        extradata: the decoder's description of the stream, as in MP4 (avcC) or with start codes.

    Raises:
        ValueError: the description is missing, or the stream has fields or may leave out numbers of frames.
        IndexError: the description is cut off.
    """

    knows_references = True

    def __init__(self, extradata: bytes) -> None:
        self._length_size = (extradata[4] & 3) + 1 if extradata[0] == 1 else 0
        if self._length_size:
            found = [_unescaped(extradata[8:])] if extradata[5] & 31 == 1 else []
        else:
            found = [_unescaped(unit) for unit in _units(extradata, 0) if unit[0] & 31 == 7]
        if len(found) != 1:
            raise ValueError("the stream has no sequence parameter set, or several")
        self._has_planes, self._number_bits = _read_sequence_parameters(_Bits(found[0]))
        self._last_number: int | None = None  # frame_num of the last frame that others may refer to

    def is_fresh_start(self, packet: Any) -> bool | None:
        for unit in _units(memoryview(packet), self._length_size):
            kind, is_reference = unit[0] & 31, unit[0] >> 5 > 0
            if kind > 5 or not kind:
                continue
            if kind not in (1, 5):  # data partitions
                return None
            try:
                bits = _Bits(_unescaped(unit[:32]))
                bits.read(8)
                for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
                    bits.read_exp_golomb()
                bits.read(2 * self._has_planes)
                number = bits.read(self._number_bits)
            except IndexError:
                return None
            last, self._last_number = self._last_number, number if is_reference else self._last_number
            is_idr = kind == 5
            expected = 0 if is_idr else None if last is None else (last + 1) % (1 << self._number_bits)
            return is_idr if expected is None or number == expected else None
        return None


class _Hevc:
    """H.265 of one layer, described as in MP4 (hvcC).

    Args:
        extradata: the decoder's description of the stream.

    Raises:
        ValueError: it is missing, or there are several layers: what nothing in its own layer refers to may be needed.
        IndexError: the description is cut off.
    """

    knows_references = True

    def __init__(self, extradata: bytes) -> None:
        if extradata[0] != 1 or extradata[21] >> 3 & 7 != 1:
            raise ValueError("the stream does not say that it has one layer")
        self._length_size = (extradata[21] & 3) + 1

    def is_fresh_start(self, packet: Any) -> bool | None:
        for unit in _units(memoryview(packet), self._length_size):
            kind = unit[0] >> 1 & 63
            if kind < 32:
                return kind in (19, 20)  # IDR_W_RADL, IDR_N_LP
        return None


def _units(content: Any, length_size: int) -> Iterator[bytes]:
    """Yield the first bytes of the units of a packet, at most 512 of each.

    Args:
        content: bytes of the packet.
        length_size: bytes of the length that stands before each unit (MP4, Matroska); 0: start codes do (transport streams).
    """
    if length_size:
        position = 0
        while position + length_size < len(content):
            begin = position + length_size
            length = int.from_bytes(content[position:begin])
            if not length or begin + length > len(content):
                return
            yield bytes(content[begin : begin + min(length, 512)])
            position = begin + length
        return
    content = bytes(content)
    position = content.find(b"\0\0\1")
    while 0 <= position < len(content) - 3:
        following = content.find(b"\0\0\1", position + 3)
        end = len(content) if following < 0 else following
        if end > position + 3:
            yield content[position + 3 : min(end, position + 515)]
        position = following


def _unescaped(unit: bytes) -> bytes:
    """Return a unit without the bytes that keep it from looking like a start code."""
    return unit.replace(b"\0\0\3", b"\0\0")


class _Bits:
    """Reads bits from the first one on; past the end it raises `IndexError`."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content), 8 * len(content)

    def read(self, number: int) -> int:
        """Read an unsigned number of so many bits."""
        if number > self._left:
            raise IndexError("no bits are left")
        self._left -= number
        return self._value >> self._left & ((1 << number) - 1)

    def read_exp_golomb(self) -> int:
        """Read an unsigned number in Exp-Golomb code, ue(v)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def read_signed(self) -> int:
        """Read a signed number in Exp-Golomb code, se(v)."""
        code = self.read_exp_golomb()
        return (code + 1) // 2 if code % 2 else -code // 2


def _read_sequence_parameters(bits: _Bits) -> tuple[bool, int]:
    """Read a sequence parameter set of H.264: whether color planes are coded apart, and the number of bits of frame_num.

    Raises:
        ValueError: frames may be coded as fields, or numbers of frames may be left out.
    """
    bits.read(8)
    profile = bits.read(8)
    bits.read(16)
    bits.read_exp_golomb()
    has_planes = False
    if profile in _PROFILES_WITH_CHROMA:
        chroma = bits.read_exp_golomb()
        has_planes = chroma == 3 and bool(bits.read(1))
        for _ in ("bit_depth_luma_minus8", "bit_depth_chroma_minus8"):
            bits.read_exp_golomb()
        bits.read(1)
        if bits.read(1):
            for number in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    number_bits = bits.read_exp_golomb() + 4
    order_type = bits.read_exp_golomb()
    if order_type == 0:
        bits.read_exp_golomb()
    elif order_type == 1:
        bits.read(1)
        for _ in ("offset_for_non_ref_pic", "offset_for_top_to_bottom_field"):
            bits.read_signed()
        for _ in range(bits.read_exp_golomb()):
            bits.read_signed()
    bits.read_exp_golomb()
    may_leave_out_numbers = bits.read(1)
    for _ in ("pic_width_in_mbs_minus1", "pic_height_in_map_units_minus1"):
        bits.read_exp_golomb()
    has_frames_only = bits.read(1)
    if may_leave_out_numbers or not has_frames_only:
        raise ValueError("fields, or numbers of frames that are left out")
    return has_planes, number_bits


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + bits.read_signed()) % 256
        last = following or last

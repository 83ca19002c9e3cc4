"""Small videos for tests, encoded here; every frame carries its number as a pattern that survives compression."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 10


def numbered_frame(number: int, height: int = 64, width: int = 160) -> np.ndarray:
    """(height, width, 3): `BITS` black or white columns spell the number."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    columns = np.repeat(np.array(bits, np.uint8) * 255, width // BITS)
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()


def read_number(frame: np.ndarray) -> int:
    """The number that `numbered_frame` painted."""
    columns = frame.mean(axis=(0, 2)).reshape(BITS, -1).mean(axis=1)
    return sum(1 << bit for bit, value in enumerate(columns) if value > 127)


def write_numbered_video(
    path: Path,
    count: int = 60,
    rate: int = 10,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    start: int = 0,
) -> Path:
    """Frames 0 … count - 1 at `rate` frames a second, the first at `start` frame durations."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = start + number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tagged(video: Path, path: Path) -> Path:
    """A copy of a video, with sound and with metadata that name a person."""
    with av.open(str(video)) as original, av.open(str(path), "w") as copy:
        copy.metadata.update(title="Jane Doe", comment="ward 7", creation_time="2024-03-01T10:00:00")
        stream = copy.add_stream_from_template(original.streams.video[0])
        sound = copy.add_stream("aac", rate=48000)
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        copy.mux(sound.encode(frame))
        copy.mux(sound.encode(None))
    return path


def write_pictures(
    path: Path,
    pictures: Iterable[np.ndarray],
    rate: int = 25,
    codec: str = "libx264",
    *,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A video of pictures (height, width, 3), uint8, of one size, whose pixels may not be square."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for number, pixels in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
                if pixel_aspect is not None:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def two_moments(number: int, height: int = 128, width: int = 160) -> np.ndarray:
    """A bar that moves: even lines show it at one moment, odd lines half a frame later."""
    pixels = np.zeros((height, width, 3), np.uint8)
    left = (number * 8) % (width - 40)
    pixels[0::2, left : left + 20] = 255
    pixels[1::2, left + 12 : left + 32] = 255
    return pixels


INTERLACED = {
    ".mp4": ("libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1", "g": "10"}),
    ".mpg": ("mpeg2video", {"flags": "+ildct+ilme", "top": "1", "g": "10"}),
}


def damage(video: Path, number: int) -> bytes:
    """The content of a video file whose packet of this number is noise but for its beginning."""
    content = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    place, size = places[number]
    kept = size // 2 if video.suffix == ".ts" else 6  # else the container drops it all, and nobody can know
    content[place + kept : place + size] = np.random.default_rng(0).bytes(size - kept)
    return bytes(content)

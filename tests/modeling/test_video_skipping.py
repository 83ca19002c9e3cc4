"""Frames that nobody wants are not decoded, and those that are wanted are the same to the last bit."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import VideoReadError
from surgvista_hf.modeling import video_skipping_surgvista as skipping
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.modeling.video_skipping_surgvista import Moments, Need, PacketSelection

from ..videos import INTERLACED, damage, numbered_frame, two_moments, write_numbered_video, write_pictures

FRAMES, RATE = 96, 10
SHARED = Path(__file__).parents[3] / "shared" / "data"
REAL = SHARED / "clips" / "cholecystectomy_720p_25fps.mp4"

CODINGS = {
    "B pyramid.mp4": ("libx264", {"g": "48", "x264-params": "bframes=5:b-adapt=0:b-pyramid=normal:scenecut=0"}),
    "flat B.mkv": ("libx264", {"g": "20", "x264-params": "bframes=3:b-adapt=0:b-pyramid=none:scenecut=0"}),
    "open groups.mp4": ("libx264", {"g": "15", "x264-params": "open-gop=1:bframes=4:b-adapt=0:scenecut=0"}),
    "transport stream.ts": ("libx264", {"g": "24", "x264-params": "bframes=3:b-adapt=0:scenecut=0"}),
    "program stream.mpg": ("libx264", {"g": "24", "x264-params": "bframes=3:b-adapt=0"}),
    "short groups.mp4": ("libx264", {"g": "8", "bf": "2", "x264-params": "slices=4"}),
    "no B.mp4": ("libx264", {"g": "30", "bf": "0"}),
    "periodic refresh.mp4": ("libx264", {"g": "20", "x264-params": "intra-refresh=1:bframes=2"}),
    "only intra.mp4": ("libx264", {"g": "1"}),
    "wrapping numbers.mp4": ("libx264", {"g": "96", "bf": "0", "x264-params": "ref=1:scenecut=0"}),
    "H.265.mp4": ("libx265", {"x265-params": "log-level=error:keyint=40:bframes=4"}),
    "H.265 open.mkv": ("libx265", {"x265-params": "log-level=error:keyint=16:open-gop=1:bframes=3"}),
    "H.265 layers.mp4": ("libx265", {"x265-params": "log-level=error:keyint=40:temporal-layers=3:bframes=4"}),
    "H.265.ts": ("libx265", {"x265-params": "log-level=error:keyint=40:bframes=4"}),
    "MPEG-2.ts": ("mpeg2video", {"g": "12", "bf": "2"}),
    "MPEG-4.mp4": ("mpeg4", {"g": "12", "bf": "2"}),
    "MJPEG.mkv": ("mjpeg", {}),
    "ProRes.mov": ("prores_ks", {}),
    "VP8.webm": ("libvpx", {"g": "20", "deadline": "realtime"}),
    "VP9.webm": ("libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8"}),
}
FORMATS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}


def write(path: Path, codec: str, options: dict[str, str], start: int = 0) -> Path:
    """Write a video whose frames differ everywhere."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, FORMATS.get(codec, "yuv420p")
        for number in range(FRAMES):
            pixels = np.roll(noise, 2 * number, axis=1) // 2 + np.uint8(number)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = start + number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module", params=CODINGS)
def recording(request, tmp_path_factory):
    """A video, and each of its frames with the second at which it is shown."""
    codec, options = CODINGS[request.param]
    try:
        path = write(tmp_path_factory.mktemp("skipping") / request.param, codec, options)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"this build of FFmpeg has no {codec}: {error}")
    with VideoReader(path) as video:
        return path, list(video.iterate(None))


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_wanted_frames_are_those_of_a_full_decode_to_the_last_bit(recording, data):
    path, frames = recording
    times = [second for second, _ in frames]
    moments = data.draw(
        st.one_of(
            st.lists(st.floats(0, FRAMES / RATE - 0.1), min_size=1, max_size=12).map(sorted),
            st.tuples(st.floats(0, 3), st.sampled_from([0.3, 0.5, 1.0, 1.7, 4.0])).map(
                lambda drawn: [drawn[0] + drawn[1] * step for step in range(40)]
            ),
        )
    )
    with VideoReader(path) as video:
        found = list(video.shown_at(moments))
        assert np.array_equal(video.frames_at(moments[::-1])[::-1][0], frames[shown(times, moments[0])][1])
    expected = [moment for moment in moments if moment < times[-1] + 1 / RATE - 2e-3]
    assert [wanted for wanted, _, _ in found] == expected
    for wanted, since, pixels in found:
        number = shown(times, wanted)
        assert since == times[number]
        assert np.array_equal(pixels, frames[number][1]), (wanted, number)


def shown(times, moment):
    """Return the number of the frame shown at a moment: the last one that begins not after it."""
    return max((number for number, time in enumerate(times) if time <= moment + 1.5e-3), default=0)


def test_the_last_second_is_the_one_of_a_full_decode(recording):
    path, frames = recording
    with VideoReader(path) as video:
        assert video.last_second == frames[-1][0]


def decoded(path, monkeypatch, interval):
    """Count the frames that a decoder gives out when a video is read from its beginning."""
    frames = []
    decode = VideoReader._decode

    def counting(self, *arguments):
        for frame, damaged in decode(self, *arguments):
            frames.append(frame)
            yield frame, damaged

    with VideoReader(path) as video:
        monkeypatch.setattr(VideoReader, "_decode", counting)
        for _ in video.iterate(interval):
            pass
    monkeypatch.setattr(VideoReader, "_decode", decode)
    return len(frames)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("B pyramid.mp4", 60),
        ("flat B.mkv", 40),
        ("short groups.mp4", 50),
        ("only intra.mp4", 16),
        ("MJPEG.mkv", 16),
        ("ProRes.mov", 16),
        ("H.265.mp4", 90),
        ("VP9.webm", 96),
    ],
)
def test_what_nobody_wants_is_not_decoded(name, most, tmp_path, monkeypatch):
    path = write(tmp_path / name, *CODINGS[name])
    assert 10 <= decoded(path, monkeypatch, 1.0) <= most


def test_of_groups_of_frames_of_a_second_only_the_first_frames_are_decoded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", "libx264", {"g": "10", "keyint_min": "10", "sc_threshold": "0"})
    assert decoded(path, monkeypatch, 1.0) < 0.3 * FRAMES


def test_every_frame_is_decoded_where_every_frame_is_wanted(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", *CODINGS["flat B.mkv"])
    assert decoded(path, monkeypatch, 1 / RATE) == FRAMES


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory):
    """The content of a video, its frames by their seconds, and place and size of each packet."""
    path = tmp_path_factory.mktemp("sound") / "a.mp4"
    write(path, "libx264", {"g": "48", "x264-params": "bframes=3:scenecut=0"})
    with VideoReader(path) as video:
        frames = {round(second, 3): pixels for second, pixels in video.iterate(None)}
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    return path.read_bytes(), frames, places


@given(
    number=st.integers(1, FRAMES - 1),
    kind=st.sampled_from(["noise", "not referred to", "both"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_of_a_damaged_file_no_frame_is_given_out_that_a_full_decode_does_not_vouch_for(sound_file, number, kind, seed):
    sound, clean, places = sound_file
    content = damaged(sound, *places[number], kind, seed)
    with VideoReader(content, damaged="any") as video:
        whole = {round(second, 3): pixels for second, pixels in video.iterate(None)}
    with VideoReader(content, damaged="any") as video:
        found = {round(second, 3): pixels for second, pixels in video.iterate(0.7)}
    for second, pixels in found.items():
        if second in whole:
            assert np.array_equal(pixels, whole[second]), second
        else:  # damage of frames that were not needed did no harm
            assert np.array_equal(pixels, clean[second]), second


def damaged(content, place, size, kind, seed):
    """Return the content of a file of which a packet is noise, or is called one that no frame refers to, or both."""
    content = bytearray(content)
    if kind != "not referred to":
        content[place + 5 : place + size] = np.random.default_rng(seed).bytes(size - 5)
    if kind != "noise":
        content[place + 4] &= 0b10011111
    return bytes(content)


def test_damage_is_told_as_before_where_it_concerns_what_is_wanted(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", {"g": "48", "bf": "0"})
    with VideoReader(damage(path, 33)) as video, pytest.raises(VideoReadError, match="damaged at second"):
        list(video.iterate(1.0))


def test_what_cannot_be_read_is_told_after_the_frames_before_it(tmp_path):
    def packets():
        yield packet, False
        raise OSError("the disk is gone")

    with av.open(str(write_numbered_video(tmp_path / "a.mp4"))) as container:
        stream = container.streams.video[0]
        packet = next(container.demux(stream))
        selected = PacketSelection(stream, Moments([0.0]), 0.0).select(packets())
        assert next(selected) == (packet, False, Need.DECODE)
        with pytest.raises(OSError, match="gone"):
            next(selected)


def test_where_times_start_anew_the_frames_are_those_of_a_full_decode(tmp_path):
    """Two recordings behind each other, as a recorder joins them: the times of the second one begin again."""
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(write(tmp_path / f"{name}.ts", *CODINGS["flat B.mkv"]).read_bytes() for name in "ab"))
    with VideoReader(path) as video:
        frames = list(video.iterate(None))
        times = [second for second, _ in frames]
        for wanted, _, pixels in video.shown_at([0.05 + step for step in range(18)]):
            assert np.array_equal(pixels, frames[shown(times, wanted)][1]), wanted


@pytest.mark.parametrize("suffix", INTERLACED)
def test_interlaced_frames_are_taken_apart_with_their_neighbors(suffix, tmp_path):
    codec, options = INTERLACED[suffix]
    path = write_pictures(tmp_path / f"a{suffix}", map(two_moments, range(60)), 25, codec, options=options)
    with VideoReader(path) as video:
        frames = list(video.iterate(None))
        times = [second for second, _ in frames]
        for wanted, _, pixels in video.shown_at([0.1 + 0.5 * step for step in range(4)]):
            assert np.array_equal(pixels, frames[shown(times, wanted)][1]), wanted


def test_a_recording_that_becomes_interlaced_is_read_as_in_a_full_decode(tmp_path):
    plain = write_pictures(tmp_path / "a.ts", map(numbered_frame_of_its_size, range(50)), 25, options={"g": "10"})
    codec, options = INTERLACED[".mp4"]
    combed = write_pictures(tmp_path / "b.ts", map(two_moments, range(50)), 25, codec, options=options)
    path = tmp_path / "joined.ts"
    path.write_bytes(plain.read_bytes() + combed.read_bytes())
    with VideoReader(path) as video:
        frames = list(video.iterate(None))
        times = [second for second, _ in frames]
        found = list(video.shown_at([0.3 * step for step in range(13)]))
        assert len(found) >= 12
        for wanted, _, pixels in found:
            assert np.array_equal(pixels, frames[shown(times, wanted)][1]), wanted


def numbered_frame_of_its_size(number):
    """Return a picture of the size of `two_moments`."""
    return numbered_frame(number, 128, 160)


def test_moments_are_taken_only_as_far_as_they_are_looked_at():
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield float(number)

    moments = Moments(endless())
    assert not taken
    assert moments.first == 0.0
    assert moments.is_wanted(0.5, 3.5)
    assert not moments.is_wanted(3.1, 3.9)
    assert taken == [0, 1, 2, 3, 4]
    moments.take()
    assert moments.first == 1.0
    assert not moments.is_wanted(0.0, 1.0)


@pytest.mark.skipif(not REAL.is_file(), reason="the shared data are not here")
def test_of_a_real_operation_about_half_of_the_frames_are_decoded(monkeypatch):
    assert 100 <= decoded(REAL, monkeypatch, 1.0) <= 140  # of 250; nothing refers to 122 of them
    with VideoReader(REAL) as video:
        fast = list(video.iterate(1.0))
    monkeypatch.setattr(skipping, "_coding_of", lambda context: None)
    with VideoReader(REAL) as video:
        assert all(a == b and np.array_equal(x, y) for (a, x), (b, y) in zip(fast, video.iterate(1.0), strict=True))

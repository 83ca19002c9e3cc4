"""LEMON's LMDBs, made here in the published formats."""

import io
import multiprocessing
import pickle

import lmdb
import numpy as np
import pytest
from PIL import Image

from surgvista_hf.curation.collection.lmdb_reading import DownstreamLmdb, LemonLmdb, LmdbError


def image(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth image, redder than blue."""
    colors = np.random.default_rng(seed).integers([120, 40, 0], [250, 120, 60], (2, 3, 3))
    return np.asarray(Image.fromarray(colors.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR))


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=100)
    return stream.getvalue()


def write(path, entries: dict[str, bytes], subdir: bool = True):
    with lmdb.open(str(path), map_size=1 << 24, subdir=subdir) as environment, environment.begin(write=True) as file:
        for key, value in entries.items():
            file.put(key.encode(), value)
    return path


@pytest.fixture(params=[True, False], ids=["folder", "file"])
def lemon(request, tmp_path):
    """As published: keys <id>_<n>, images with red and blue exchanged; frames that were dropped are missing."""
    frames = {("-Ab_dEf6hIj", number): image(number) for number in (0, 1, 2, 10, 11)}
    frames["x_1zK0aQw2E", 7] = image(70)
    entries = {f"{video}_{number}": jpeg(pixels[..., ::-1]) for (video, number), pixels in frames.items()}
    return write(tmp_path / "lemon.lmdb", entries, request.param), frames


def test_colors_are_those_of_the_operation_and_frames_in_the_order_of_their_numbers(lemon):
    path, frames = lemon
    opened = LemonLmdb(path)
    assert len(opened) == 6
    assert opened.video_ids == ["-Ab_dEf6hIj", "x_1zK0aQw2E"]
    assert list(opened.numbers("-Ab_dEf6hIj")) == [0, 1, 2, 10, 11]
    for number, pixels in opened.frames("-Ab_dEf6hIj"):
        assert np.abs(pixels.astype(int) - frames["-Ab_dEf6hIj", number]).mean() < 2
        assert pixels[..., 0].mean() > pixels[..., 2].mean() + 50
    assert np.array_equal(LemonLmdb(path, swap_red_blue=False)["x_1zK0aQw2E", 7], opened["x_1zK0aQw2E", 7][..., ::-1])


def test_it_travels_to_other_processes(lemon):
    path, _ = lemon
    opened = LemonLmdb(path)
    again = pickle.loads(pickle.dumps(opened))
    assert np.array_equal(again["x_1zK0aQw2E", 7], opened["x_1zK0aQw2E", 7])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(opened.__getitem__, (("x_1zK0aQw2E", 7),)), again["x_1zK0aQw2E", 7])


def test_what_is_missing_or_broken_is_named(lemon, tmp_path):
    opened = LemonLmdb(lemon[0])
    with pytest.raises(LmdbError, match="no entry 'x_1zK0aQw2E_8'"):
        opened["x_1zK0aQw2E", 8]
    with pytest.raises(LmdbError, match="no video 'y'"):
        opened.numbers("y")
    with pytest.raises(LmdbError, match="there is no LMDB"):
        LemonLmdb(tmp_path / "none")
    (tmp_path / "text.mdb").write_text("no database" * 1000)
    with pytest.raises(LmdbError, match="is no LMDB"):
        LemonLmdb(tmp_path / "text.mdb")
    with pytest.raises(LmdbError, match="a_0 is no JPEG"):
        LemonLmdb(write(tmp_path / "broken", {"a_0": b"\xff\xd8\xffnothing"}))["a", 0]


def test_the_two_kinds_are_told_apart(lemon, tmp_path):
    downstream = write(tmp_path / "downstream", {"img_v1_0.jpg": b"", "label_v1_0.jpg": b"3"})
    with pytest.raises(LmdbError, match="read by LemonLmdb"):
        DownstreamLmdb(lemon[0])
    with pytest.raises(LmdbError, match="DownstreamLmdb"):
        LemonLmdb(write(tmp_path / "other", {"frame-1": b""}))
    assert len(DownstreamLmdb(downstream)) == 1


def test_downstream_images_are_raw_rgb_with_a_label(tmp_path):
    raw, coded = image(1, 224, 224), image(2, 100, 120)
    path = write(
        tmp_path / "downstream",
        {
            "img_video01_25.jpg": raw.tobytes(),
            "label_video01_25.jpg": b"3",
            "img_video02_0.jpg": jpeg(coded),
            "label_video02_0.jpg": b"grasp",
            "img_video03_0.jpg": b"short",
            "label_video03_0.jpg": b"1",
            "img_video04_0.jpg": raw.tobytes(),
        },
    )
    opened = DownstreamLmdb(path)
    assert list(opened) == ["video01_25.jpg", "video02_0.jpg", "video03_0.jpg", "video04_0.jpg"]
    pixels, label = opened["video01_25.jpg"]
    assert np.array_equal(pixels, raw)
    assert label == "3"
    assert np.abs(opened["video02_0.jpg"][0].astype(int) - coded).mean() < 2
    with pytest.raises(LmdbError, match="neither 224×224×3 nor a JPEG"):
        opened["video03_0.jpg"]
    with pytest.raises(LmdbError, match=r"no entry 'label_video04_0\.jpg'"):
        opened["video04_0.jpg"]

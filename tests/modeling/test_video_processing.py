"""The processor takes any kind of video and gives the numbers of the published preprocessing."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoVideoProcessor, VideoMAEVideoProcessor, pipeline

from surgvista_hf import InputError, SurgVistaForVideoClassification, SurgVistaVideoProcessor, VideoReadError
from surgvista_hf.modeling.video_processing_surgvista import online_clip_seconds, uniform_clip_seconds

from ..videos import numbered_frame, read_number, write_numbered_video
from . import golden

RAW = {"do_resize": False, "do_normalize": False, "do_rescale": False, "return_tensors": "pt"}


def frames(count=4, height=48, width=64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def numbers(batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch["pixel_values"][0]]


# ------------------------------------------------------------------------------------------------- clip rule


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (3, [3] * 16),
        (4, [0] * 15 + [4]),
        (10, [2] * 14 + [6, 10]),
        (59, [3, 3, *range(7, 60, 4)]),
        (60, list(range(0, 61, 4))),
    ],
)
def test_online_clips_are_those_of_the_published_table(last, expected):
    assert online_clip_seconds(last, 16, 4) == expected


@given(st.integers(0, 10_000), st.integers(1, 64), st.integers(1, 64))
def test_online_clips_equal_the_rule_in_words(last, num_frames, stride):
    second, clip = last, []
    for _ in range(num_frames):
        clip.append(second)
        if second - stride >= 0:
            second -= stride
    assert online_clip_seconds(last, num_frames, stride) == sorted(clip)


def test_uniform_clips_take_the_middles_of_equal_parts():
    assert uniform_clip_seconds(8.0, 4) == [1.0, 3.0, 5.0, 7.0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_frames": 4}, [10, 10, 50, 90]),  # ten seconds: the last whole one is 9
        ({"num_frames": 4, "frame_stride": 2}, [30, 50, 70, 90]),
        ({"num_frames": 4, "end_second": 6, "frame_stride": 1}, [30, 40, 50, 60]),
        ({"num_frames": 4, "end_second": 6.5}, [25, 25, 25, 65]),  # a step to -1.5 is not taken
        ({"num_frames": 4, "frame_sampling": "uniform"}, [12, 37, 62, 87]),
    ],
)
def test_a_file_is_sampled_by_seconds_or_uniformly(options, expected, tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=100, rate=10)
    assert numbers(SurgVistaVideoProcessor()(path, **RAW, **options)) == expected


def test_frames_given_as_arrays_are_taken_as_they_are_unless_sampling_is_asked_for():
    video = np.stack([numbered_frame(number) for number in range(20)])
    processor = SurgVistaVideoProcessor(num_frames=3)
    assert numbers(processor(video, **RAW)) == list(range(20))
    assert numbers(processor(video, do_sample_frames=True, **RAW)) == [11, 15, 19]
    assert numbers(processor(video, do_sample_frames=True, frame_sampling="uniform", **RAW)) == [3, 10, 16]


def test_metadata_tell_which_frames_were_taken(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=100, rate=10)
    processor = SurgVistaVideoProcessor(num_frames=4, return_metadata=True)
    [about] = processor(path, **RAW)["video_metadata"]
    assert (about.total_num_frames, about.fps, about.duration, about.height, about.width) == (100, 10, 10, 64, 160)
    assert about.timestamps == [1, 1, 5, 9]
    [about] = processor(frames(20), do_sample_frames=True, **RAW)["video_metadata"]
    assert about.frames_indices == [7, 11, 15, 19]


def test_every_frame_of_a_file_is_read_when_sampling_is_off(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=30)
    assert numbers(SurgVistaVideoProcessor()(path, do_sample_frames=False, **RAW)) == list(range(30))


# ------------------------------------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize(("height", "width"), [(480, 854), (97, 131), (224, 224), (100, 500), (721, 1281)])
def test_resizing_agrees_with_opencv_within_one_gray_level(height, width):
    video = frames(2, height, width)
    ours = SurgVistaVideoProcessor()(video, do_normalize=False, return_tensors="pt")["pixel_values"][0]
    theirs = np.stack([cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR) for frame in video]) / 255
    assert float((ours.permute(0, 2, 3, 1) - torch.from_numpy(theirs)).abs().max()) <= 1 / 255 + 1e-6


def test_real_clips_agree_with_opencv_within_one_gray_level(shared_data):
    for path in sorted((shared_data / "clips").iterdir()):
        processor = SurgVistaVideoProcessor(num_frames=4, frame_stride=1)
        stored = processor(path, **RAW)["pixel_values"][0].permute(0, 2, 3, 1).numpy()
        ours = processor(path, do_normalize=False, return_tensors="pt")["pixel_values"][0].permute(0, 2, 3, 1)
        theirs = np.stack([cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR) for frame in stored]) / 255
        assert float((ours - torch.from_numpy(theirs)).abs().max()) <= 1 / 255 + 1e-6, path.name


def test_antialiasing_is_an_option_and_equals_pillow_within_one_gray_level():
    video = frames(1, 480, 640)
    ours = SurgVistaVideoProcessor(antialias=True)(video, do_normalize=False, return_tensors="pt")["pixel_values"][
        0, 0
    ]
    theirs = np.asarray(Image.fromarray(video[0]).resize((224, 224), Image.Resampling.BILINEAR)) / 255
    assert float((ours.permute(1, 2, 0) - torch.from_numpy(theirs)).abs().max()) <= 1.01 / 255


def test_normalization_is_that_of_imagenet():
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    values = SurgVistaVideoProcessor()(white, return_tensors="pt")["pixel_values"][0, 0, :, 0, 0]
    assert values.tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rel=1e-5)


def test_the_options_of_every_video_processor_work_as_upstream():
    options = {
        "size": {"shortest_edge": 40},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 48},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.6, 0.7],
        "return_tensors": "np",
    }
    upstream, ours = VideoMAEVideoProcessor(), SurgVistaVideoProcessor(antialias=True)
    video = torch.from_numpy(frames(3, 61, 83)).permute(0, 3, 1, 2)
    for changed in ({}, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}):
        expected = upstream(video, **options, **changed)["pixel_values"]
        values = ours(video, **options, **changed)["pixel_values"]
        assert isinstance(values, np.ndarray)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    assert SurgVistaVideoProcessor(do_resize=False)(video, device="cpu")["pixel_values"][0].shape == (3, 3, 61, 83)


# ------------------------------------------------------------------------------------------------- kinds of input


def test_every_kind_of_input_gives_the_same_clip(tmp_path):
    path = write_numbered_video(tmp_path / "a.avi", count=4, rate=1, codec="ffv1")
    video = np.stack([numbered_frame(number) for number in range(4)])
    tensor = torch.from_numpy(video)
    images = [Image.fromarray(frame) for frame in video]
    processor = SurgVistaVideoProcessor(num_frames=4, frame_stride=1)
    expected = processor(video, return_tensors="pt")["pixel_values"]
    assert expected.shape == (1, 4, 3, 224, 224)
    for given_as in (tensor, tensor.permute(0, 3, 1, 2), images, list(video), list(tensor), [images], video[None]):
        assert torch.equal(processor(given_as, return_tensors="pt")["pixel_values"], expected)
    from_file = processor(path, return_tensors="pt")["pixel_values"]
    for given_as in (str(path), path.read_bytes(), path.open("rb")):
        assert torch.equal(processor(given_as, return_tensors="pt")["pixel_values"], from_file)
    assert numbers(processor(path, **RAW)) == [0, 1, 2, 3]


def test_a_batch_of_different_kinds_and_sizes_becomes_one_tensor(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=60)
    batch = SurgVistaVideoProcessor(num_frames=4)([path, frames(4), frames(4, 30, 90)], return_tensors="pt")
    assert batch["pixel_values"].shape == (3, 4, 3, 224, 224)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_images_of_any_color_mode_become_rgb(mode):
    images = [Image.fromarray(frame).convert(mode) for frame in frames(2)]
    values = SurgVistaVideoProcessor()(images, **RAW)["pixel_values"][0]
    expected = np.stack([np.asarray(image.convert("RGB")) for image in images])
    assert np.array_equal(values.permute(0, 2, 3, 1).numpy(), expected)


def test_arrays_as_they_come_from_other_programs_are_understood():
    processor = SurgVistaVideoProcessor()
    expected = processor(frames(), **RAW)["pixel_values"]
    bgr = np.ascontiguousarray(frames()[..., ::-1])
    locked = frames()
    locked.flags.writeable = False
    for given_as in (bgr[..., ::-1], locked, frames().astype(np.int64), frames().astype(np.uint16)):
        assert torch.equal(processor(given_as, **RAW)["pixel_values"], expected)
    reals = processor(frames().astype(np.float64) / 255, do_rescale=False, return_tensors="pt")["pixel_values"]
    assert reals.dtype == torch.float32
    assert float((reals - processor(frames(), return_tensors="pt")["pixel_values"]).abs().max()) < 0.02


def test_gray_and_rgba_arrays_become_rgb():
    gray, rgba = frames()[..., :1], np.concatenate([frames(), frames()[..., :1]], axis=-1)
    processor = SurgVistaVideoProcessor()
    assert torch.equal(
        processor(gray, **RAW)["pixel_values"], processor(np.repeat(gray, 3, axis=-1), **RAW)["pixel_values"]
    )
    assert torch.equal(processor(rgba, **RAW)["pixel_values"], processor(frames(), **RAW)["pixel_values"])


@pytest.mark.parametrize(
    ("video", "options", "reason"),
    [
        (None, {}, "NoneType is no video"),
        ([], {}, "list is no video"),
        (3.5, {}, "float is no video"),
        (np.zeros((4, 4)), {}, "of shape"),
        (np.zeros((0, 8, 8, 3), np.uint8), {}, "no frames"),
        (np.zeros((2, 8, 8, 7), np.uint8), {}, "no axis of 1, 3 or 4 channels"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))], {}, "differ in size"),
        (frames(), {"num_frames": 0}, "num_frames is 0"),
        (frames(), {"frame_stride": -1}, "frame_stride is -1"),
        (frames(), {"frame_sampling": "randomly"}, "frame_sampling"),
        (frames(), {"video_backend": "decord"}, "video_backend"),
        (frames(), {"do_sample_frames": True, "end_second": -3}, "no clip"),
        (frames(4), {"do_sample_frames": True, "end_second": 4}, "no clip ends at second 4: the video lasts 4 s"),
        (frames(), {"fps": 1.0}, "fps has no meaning"),
        (frames(), {"num_frames": "16"}, "must be an integer"),
        (frames().astype(np.int64) + 1, {}, "integers must be in 0"),
        (frames().astype(object), {}, "object is no video"),
    ],
)
def test_what_is_no_video_or_no_option_is_refused(video, options, reason):
    with pytest.raises((InputError, TypeError), match=reason):
        SurgVistaVideoProcessor()(video, **options)


def test_an_unreadable_file_is_refused(tmp_path):
    with pytest.raises(VideoReadError, match="No such file"):
        SurgVistaVideoProcessor()(tmp_path / "missing.mp4")
    path = write_numbered_video(tmp_path / "a.mp4", rate=10)
    with pytest.raises(InputError, match="no clip ends at second 8: the video lasts 6 s"):
        SurgVistaVideoProcessor()(path, end_second=8)


def test_torchcodec_shows_the_same_frames(tmp_path):
    pytest.importorskip(
        "torchcodec", exc_type=(ImportError, RuntimeError), reason="torchcodec or FFmpeg is not installed"
    )
    path = write_numbered_video(tmp_path / "a.mp4", count=100, options={"bf": "3", "g": "12"})
    for options in ({"num_frames": 4}, {"num_frames": 7, "frame_sampling": "uniform"}):
        expected = numbers(SurgVistaVideoProcessor()(path, **RAW, **options))
        assert numbers(SurgVistaVideoProcessor(video_backend="torchcodec")(path, **RAW, **options)) == expected


# ------------------------------------------------------------------------------------------------- in the ecosystem


def test_options_survive_saving_and_loading(tmp_path):
    options = {"num_frames": 8, "frame_stride": 2, "frame_sampling": "uniform", "antialias": True}
    processor = SurgVistaVideoProcessor(size={"height": 32, "width": 48}, **options)
    processor.save_pretrained(tmp_path)
    SurgVistaForVideoClassification(golden.pretraining_config()).config.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, SurgVistaVideoProcessor)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded(frames(), return_tensors="pt")["pixel_values"].shape == (1, 4, 3, 32, 48)


def test_the_video_classification_pipeline_runs_on_a_file(tmp_path):
    config = golden.pretraining_config(id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    model = SurgVistaForVideoClassification(config)
    classify = pipeline(
        "video-classification", model=model, video_processor=SurgVistaVideoProcessor(size={"height": 32, "width": 32})
    )
    answer = classify(str(write_numbered_video(tmp_path / "a.mp4")))
    assert {item["label"] for item in answer} == {"a", "b", "c"}
    assert sum(item["score"] for item in answer) == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------- numbers in 0 … 1


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "tensor", "bfloat16", "list"])
def test_frames_in_0_to_1_are_not_divided_by_255_again(kind):
    processor = SurgVistaVideoProcessor(size={"height": 32, "width": 32})
    video = frames(3, 48, 64)
    scaled: object
    if kind in ("tensor", "bfloat16"):
        scaled = (torch.from_numpy(video).permute(0, 3, 1, 2) / 255).to(torch.bfloat16 if kind == "bfloat16" else None)
    elif kind == "list":
        scaled = [(frame / 255).astype(np.float32) for frame in video]
    else:
        scaled = (video / 255).astype(kind)
    expected = processor(video, return_tensors="pt")["pixel_values"]
    values = processor(scaled, return_tensors="pt")["pixel_values"]
    assert float((values - expected).abs().max()) < 0.03


def test_frames_of_floating_point_numbers_up_to_255_are_taken_as_such():
    processor = SurgVistaVideoProcessor(size={"height": 32, "width": 32})
    video = frames(3, 48, 64)
    expected = processor(video, return_tensors="pt")["pixel_values"]
    values = processor(video.astype(np.float32), return_tensors="pt")["pixel_values"]
    assert float((values - expected).abs().max()) < 0.02


def test_each_video_of_a_batch_is_looked_at_by_itself():
    processor = SurgVistaVideoProcessor(size={"height": 32, "width": 32})
    video = frames(3, 48, 64)
    expected = processor([video, video], return_tensors="pt")["pixel_values"]
    values = processor([video, (video / 255).astype(np.float32)], return_tensors="pt")["pixel_values"]
    assert float((values - expected).abs().max()) < 0.02


@pytest.mark.parametrize("value", [np.nan, np.inf, -2.1])
def test_numbers_that_are_no_pixels_are_refused(value):
    video = np.zeros((2, 8, 8, 3), np.float32)
    video[0, 0, 0, 0] = value
    with pytest.raises(InputError, match="the pixels of a video range from"):
        SurgVistaVideoProcessor()(video)


def test_numbers_are_taken_as_they_are_where_nothing_is_to_be_scaled():
    video = np.full((2, 8, 8, 3), -2.0, np.float32)
    options = {"do_rescale": False, "do_normalize": False, "do_resize": False, "return_tensors": "pt"}
    assert float(SurgVistaVideoProcessor()(video, **options)["pixel_values"].max()) == -2
    black = np.zeros((2, 8, 8, 3), np.float32)
    assert torch.equal(
        SurgVistaVideoProcessor()(black, return_tensors="pt")["pixel_values"],
        SurgVistaVideoProcessor()(black.astype(np.uint8), return_tensors="pt")["pixel_values"],
    )

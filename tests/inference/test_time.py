"""One rule of time: training and prediction see the same frames of the same second, at any rate, spacing and kind of video."""

import itertools
import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import ClipDataset, InputError, SurgicalVideoPredictor, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.clips import FrameSetError, StreamingClipDataset
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.inference.models.clip_model import ClipModel
from surgvista_hf.inference.models.onnx_export import OnnxClipModel, export_model
from surgvista_hf.modeling.loading import (
    load_classifier,
    make_classifier_processor,
    note_frame_interval,
    note_frame_stride,
    stored_frame_stride,
)
from surgvista_hf.modeling.subprocess_decoding import SubprocessVideo
from surgvista_hf.modeling.video_processing_surgvista import SurgVistaVideoProcessor, online_clip_seconds
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from ..videos import numbered_frame, read_number, write_numbered_video
from .tiny_models import Numbers

FAMILIES: dict[str, dict[str, Any]] = {
    "surgvista": {"model_type": "surgvista", "image_size": 32, "patch_size": 16, "num_frames": 3, "tubelet_size": 1},
    "videomae": {
        "model_type": "videomae",
        "image_size": 32,
        "patch_size": 16,
        "num_frames": 4,
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 1,
        "decoder_intermediate_size": 16,
    },
    "vit": {"model_type": "vit", "image_size": 32, "patch_size": 16},
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def write_video(path: Path, times: list[int], base: Fraction) -> Path:
    """A video whose frame k is shown at `times[k]`, in units of `base` seconds: recorders leave out frames like this."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(1 / base))
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        stream.codec_context.time_base = base
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def trained_on(
    folder: Path, num_frames: int, stride: float, **options: Any
) -> tuple[ClipDataset, dict[float, list[int]]]:
    """The clips of training, as the numbers of their frames, by the second of the labeled frame."""
    clips = ClipDataset(load_frame_set("folder", folder, "all"), num_frames=num_frames, frame_stride=stride, **options)
    numbers = {}
    for index in range(len(clips)):
        item = clips[index]
        frames = item["pixel_values"].permute(0, 2, 3, 1).numpy()
        numbers[round(item["timestamp"], 3)] = [read_number(frame) for frame in frames]
    return clips, numbers


def frame_set(video: Path, folder: Path, rate: float | None) -> Path:
    raw = folder / "raw"
    raw.mkdir(parents=True)
    (raw / video.name).symlink_to(video)
    prepare_frame_set("folder", raw, folder / "set", options=PreparationOptions(frames_per_second=rate))
    return folder / "set"


VIDEOS = {
    "25 a second": lambda path: write_numbered_video(path, count=225, rate=25),
    "29.97 a second": lambda path: write_video(path, [1001 * k for k in range(270)], Fraction(1, 30000)),
    "5 a second": lambda path: write_numbered_video(path, count=45, rate=5),
    "one in two seconds": lambda path: write_video(path, [20 * k for k in range(6)], Fraction(1, 10)),
    "still frames left out": lambda path: write_video(
        path, [*range(23), *range(71, 80), 93, *range(110, 130)], Fraction(1, 10)
    ),
}


@pytest.fixture(scope="module", params=VIDEOS)
def video(request, tmp_path_factory) -> Path:
    return VIDEOS[request.param](tmp_path_factory.mktemp("videos") / "operation.mp4")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1.0, 2.0, 5.0, 25 / 3, None], ids=lambda rate: f"{rate and round(rate, 2)} a second")
def test_training_and_prediction_see_the_same_frames(video, rate, tmp_path):
    folder = frame_set(video, tmp_path, rate)
    with VideoReader(video) as reader:
        seconds = [second for second, _ in reader.iterate(1.0)]
    compared = 0
    for stride, num_frames in itertools.product((0.2, 0.5, 1, 1.5, 4), (4,)):
        try:
            clips, trained = trained_on(folder, num_frames, stride)
        except FrameSetError:  # fewer frames than the clips need
            assert rate is None or 1 / rate > stride
            continue
        interval = clips.timeline.interval
        uneven = interval and abs(stride / interval - round(stride / interval)) > 1e-3
        model = Numbers(num_frames, stride, interval if uneven else None)
        prediction = SurgicalVideoPredictor(model).predict(video)
        assert prediction.seconds.tolist() == seconds
        for second, numbers in zip(seconds, model.clips, strict=True):
            if second in trained:
                assert numbers == trained[second], (stride, second)
                compared += 1
    assert compared or rate is None or rate < 5


def test_every_second_of_a_video_is_prepared_and_predicted(video, tmp_path):
    seconds = SurgicalVideoPredictor(Numbers(1, 1)).predict(video).seconds
    stamps = load_frame_set("folder", frame_set(video, tmp_path / "one", 1.0), "all")["timestamp"][:]
    assert stamps == seconds.tolist()
    every = load_frame_set("folder", frame_set(video, tmp_path / "every", None), "all")["timestamp"][:]
    assert np.diff(every).max() <= 1.0 + 1e-3  # a standing picture comes again each second


@given(
    gaps=st.lists(st.sampled_from([1, 1, 1, 2, 3, 17, 48]), min_size=12, max_size=40),
    stride=st.sampled_from([0.1, 0.2, 0.3, 0.5, 1, 2]),
)
@settings(max_examples=12, deadline=None)
def test_clips_of_videos_with_any_time_stamps_are_the_same_in_training_and_prediction(gaps, stride, tmp_path_factory):
    """Every frame of the video is in the set, so clips of any spacing can be trained."""
    folder = tmp_path_factory.mktemp("any")
    path = write_video(folder / "operation.mp4", [0, *itertools.accumulate(gaps)], Fraction(1, 10))
    prepared = frame_set(path, folder / "made", None)
    try:
        _, trained = trained_on(prepared, 3, stride)
    except FrameSetError:
        return
    model = Numbers(3, stride)
    seconds = SurgicalVideoPredictor(model, batch_size=3).predict(path).seconds.tolist()
    found = dict(zip(seconds, model.clips, strict=True))
    assert {second: trained[second] for second in found if second in trained} == {
        second: found[second] for second in found if second in trained
    }


def test_a_stream_gives_the_clips_of_random_access(video, tmp_path):
    for rate, stride in ((1.0, 2), (5.0, 0.2), (5.0, 0.5), (5.0, -1), (None, 1)):
        folder = frame_set(video, tmp_path / f"{rate} {stride}", rate)
        try:
            clips = ClipDataset(load_frame_set("folder", folder, "all"), num_frames=3, frame_stride=stride)
        except FrameSetError:
            with pytest.raises(FrameSetError):
                next(
                    iter(
                        StreamingClipDataset(
                            load_frame_set("folder", folder, "all", streaming=True), num_frames=3, frame_stride=stride
                        )
                    )
                )
            continue
        streamed = StreamingClipDataset(
            load_frame_set("folder", folder, "all", streaming=True), num_frames=3, frame_stride=stride
        )
        if stride == -1:
            assert len(list(streamed)) == len(clips)
            continue
        for index, item in enumerate(streamed):
            assert torch.equal(item["pixel_values"], clips[index]["pixel_values"]), (rate, stride, index)


# ------------------------------------------------------------------------------------------- recorders


def test_a_standing_picture_is_held_labeled_and_noted(tmp_path):
    """Nothing between 4.9 s and 15 s: training has the same seconds as prediction, and none of their labels is lost."""
    data = tmp_path / "data"
    for part in ("videos", "phases"):
        (data / part).mkdir(parents=True)
    path = write_video(data / "videos" / "op1.mp4", [*range(50), *range(150, 200)], Fraction(1, 10))
    (data / "phases" / "op1.txt").write_text("s p\n" + "".join(f"{second} {second // 10}\n" for second in range(20)))
    report = prepare_frame_set("phase_folder", data, tmp_path / "set")
    frames = load_frame_set("phase_folder", tmp_path / "set", "all")
    assert frames["timestamp"][:] == [float(second) for second in range(20)]
    assert frames["phase"][:] == [0] * 10 + [1] * 10
    (remark,) = report.to_dict()["remarks"]["op1"]
    assert "the video stands still once" in remark
    assert "from second 4.9 to 14.0" in remark
    clip = ClipDataset(frames, num_frames=2, frame_stride=4, label="phase")[16]
    numbers = [read_number(frame) for frame in clip["pixel_values"].permute(0, 2, 3, 1).numpy()]
    assert numbers == [49, 60]  # of second 12, which shows that of 4.9, and of second 16
    model = Numbers(2, 4)
    SurgicalVideoPredictor(model).predict(path)
    assert model.clips[16] == numbers


def test_frames_that_stand_too_seldom_are_refused_with_what_to_do(tmp_path):
    folder = frame_set(write_numbered_video(tmp_path / "a.mp4"), tmp_path / "made", 1.0)
    message = r"frames of folder/a are 1 s apart, those of a clip 0\.4 s .*--frames-per-second 2\.5 or more"
    with pytest.raises(FrameSetError, match=message):
        ClipDataset(load_frame_set("folder", folder, "all"), num_frames=4, frame_stride=0.4)
    ClipDataset(load_frame_set("folder", folder, "all"), num_frames=1, frame_stride=0.4)  # one frame has no spacing


def test_a_video_without_pauses_has_no_remark_and_its_own_time_stamps(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=60, rate=10)
    folder = frame_set(path, tmp_path / "made", None)
    assert "remarks" in (folder / "report.json").read_text()
    assert '"remarks": {}' in (folder / "report.json").read_text()
    stamps = load_frame_set("folder", folder, "all")["timestamp"][:]
    np.testing.assert_allclose(stamps, np.arange(60) / 10, atol=1e-6)


# ------------------------------------------------------------------------------------------- what is stored


def classifier(kind: str) -> Any:
    torch.manual_seed(0)
    model = load_classifier({**FAMILIES[kind], **SMALL}, ["a", "b", "c"], "single_label_classification", num_frames=4)
    with torch.no_grad():
        model.classifier.weight.normal_(std=2.0)
    return model.eval()


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_model_of_any_family_predicts_clips_of_its_own_spacing(kind, tmp_path):
    """Below a second, from a saved folder, compared with transformers on frames that are read one by one."""
    path = write_numbered_video(tmp_path / "a.mp4", count=120, rate=10)
    model = classifier(kind)
    note_frame_stride(model.config, 0.4)
    processor = make_classifier_processor(model, {})
    assert processor.frame_stride == 0.4
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    prediction = SurgicalVideoPredictor(tmp_path / "model", dtype="float32").predict(path)
    assert prediction.seconds.tolist() == list(range(12))
    with torch.no_grad(), VideoReader(path) as reader:
        for second in (0, 1, 7):
            frames = reader.frames_at(online_clip_seconds(second, 4, 0.4))
            pixels = processor(frames, do_sample_frames=False, return_tensors="pt")["pixel_values"]
            expected = model(**{model.main_input_name: pixels}).logits.softmax(-1)[0].numpy()
            np.testing.assert_allclose(prediction.probabilities[second], expected, atol=1e-5)
            if isinstance(processor, SurgVistaVideoProcessor):  # those of transformers spread frames over the file
                same = processor(path, end_second=second, return_tensors="pt")["pixel_values"]
                assert torch.equal(same, pixels)
    with pytest.raises(InputError, match=r"trained on clips with frames 0\.4 s apart; frame_stride 4 is another"):
        SurgicalVideoPredictor(tmp_path / "model", frame_stride=4)


def test_a_model_that_does_not_say_its_spacing_is_asked_for_it(tmp_path, caplog):
    from transformers import VideoMAEImageProcessor

    model = classifier("videomae")
    model.save_pretrained(tmp_path / "model")
    stock = VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with caplog.at_level(logging.WARNING):
        assert ClipModel(model, stock, source="theirs").frame_stride == 4
    assert "theirs does not say how far apart the frames of its clips are: frame_stride 4 s is taken" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert ClipModel(model, stock, frame_stride=0.5).frame_stride == 0.5
    assert not caplog.text
    for wrong in (0, -1, float("nan"), "four", True):
        with pytest.raises(InputError, match="must be a positive number of seconds"):
            ClipModel(model, stock, frame_stride=wrong)


def test_configuration_and_processor_must_agree():
    model = classifier("videomae")
    note_frame_stride(model.config, 2)
    processor = SurgVistaVideoProcessor(frame_stride=4)
    with pytest.raises(
        InputError, match=r"configuration says that the frames of a clip are 2 s apart, its processor 4 s"
    ):
        stored_frame_stride(model.config, processor)
    assert stored_frame_stride(model.config, SurgVistaVideoProcessor(frame_stride=4, frame_sampling="uniform")) == 2


def test_another_spacing_in_training_is_a_remark(caplog):
    model = classifier("videomae")
    note_frame_stride(model.config, 4)
    with caplog.at_level(logging.WARNING):
        note_frame_stride(model.config, 4, "start")
        assert not caplog.text
        note_frame_stride(model.config, -1, "start")
    assert "start was trained on clips whose frames are 4 s apart; now they are 1 s apart" in caplog.text
    assert model.config.frame_stride == 1


def test_a_spacing_that_the_frame_set_cannot_meet_exactly_is_predicted_as_it_was_trained(tmp_path):
    """5 frames a second and half a second: clips hold the frames shown 0, 0.6, 1.0 and 1.6 s before."""
    path = write_numbered_video(tmp_path / "a.mp4", count=200, rate=25)
    clips, trained = trained_on(frame_set(path, tmp_path / "made", 5.0), 4, 0.5)
    model = classifier("surgvista")
    note_frame_stride(model.config, 0.5)
    processor = make_classifier_processor(model, {})
    note_frame_interval(model.config, processor, 0.5, clips.timeline.interval)
    assert processor.frame_interval == pytest.approx(0.2)
    processor.save_pretrained(tmp_path / "p")
    again = SurgVistaVideoProcessor.from_pretrained(tmp_path / "p")
    frames = again(path, end_second=4, do_resize=False, do_rescale=False, do_normalize=False, return_tensors="pt")
    numbers = [read_number(frame.permute(1, 2, 0).numpy()) for frame in frames["pixel_values"][0]]
    assert numbers == trained[4.0] == [60, 75, 85, 100]
    note_frame_interval(model.config, processor, 0.4, clips.timeline.interval)
    assert processor.frame_interval is None


def test_an_exported_graph_remembers_what_the_user_said(tmp_path):
    pytest.importorskip("onnxscript")
    model = classifier("vit")
    said = ClipModel(model, make_classifier_processor(model, {}, 0.5), device="cpu", dtype="float32")
    export_model(said, tmp_path / "graph")
    assert OnnxClipModel(tmp_path / "graph").frame_stride == 0.5
    with pytest.raises(InputError, match="another spacing"):
        OnnxClipModel(tmp_path / "graph", frame_stride=2)


# ------------------------------------------------------------------------------------------- frames from elsewhere


def test_frames_and_streams_come_at_the_needed_moments_or_are_refused(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=60, rate=10)
    whole = Numbers(3, 0.4)
    SurgicalVideoPredictor(whole).predict(path)
    predictor = SurgicalVideoPredictor(model := Numbers(3, 0.4))
    assert list(itertools.islice(predictor.needed_seconds(), 5)) == [0.0, 0.2, 0.6, 1.0, 1.2]
    with SubprocessVideo(path, clips=model.spacing) as guarded:
        prediction = predictor.predict_frames(guarded)["model"]
    assert prediction.seconds.tolist() == [0, 1, 2, 3, 4, 5]
    assert model.clips == whole.clips
    streaming = SurgicalVideoPredictor(streamed := Numbers(3, 0.4))
    with VideoReader(path) as reader:
        steps = list(streaming.stream(reader.iterate(None)))
    assert [step.second for step in steps] == [0, 1, 2, 3, 4, 5]
    assert streamed.clips == whole.clips
    with (
        VideoReader(path) as reader,
        pytest.raises(InputError, match="frames come at whole seconds only"),
    ):
        predictor.predict_frames(reader.iterate(1.0))
    with pytest.raises(InputError, match="images alone count as one a second"):
        list(predictor.stream([np.zeros((64, 160, 3), np.uint8)]))


def test_images_alone_are_too_few_for_clips_below_a_second():
    processor = SurgVistaVideoProcessor(num_frames=2, frame_stride=0.5)
    with pytest.raises(InputError, match="frames given as images count as one a second"):
        processor(np.zeros((4, 32, 32, 3), np.uint8), do_sample_frames=True)


def test_the_verbs_take_the_spacing_and_say_when_they_guess(tmp_path, capsys):
    path = write_numbered_video(tmp_path / "a.mp4", count=60, rate=10)
    model = classifier("videomae")
    model.save_pretrained(tmp_path / "model")
    from transformers import VideoMAEImageProcessor

    stock = VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    stock.save_pretrained(tmp_path / "model")
    words = ["predict", str(path), "--model", str(tmp_path / "model"), "--formats", "csv"]
    assert main([*words, "--output", str(tmp_path / "said"), "--frame-stride", "0.5"]) == 0
    capsys.readouterr()
    note_frame_stride(model.config, 0.5)
    model.save_pretrained(tmp_path / "model")
    assert main([*words, "--output", str(tmp_path / "known")]) == 0
    said, known = (tmp_path / name / "predictions.csv" for name in ("said", "known"))
    assert said.read_text() == known.read_text()
    capsys.readouterr()
    assert main([*words, "--output", str(tmp_path / "wrong"), "--frame-stride", "2"]) == 1
    assert "another spacing" in capsys.readouterr().err
    explain = ["explain", str(path), "--model", str(tmp_path / "model"), "--second", "3"]
    assert main([*explain, "--output", str(tmp_path / "a.png"), "--frame-stride", "0.5"]) == 0

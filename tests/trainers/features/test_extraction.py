"""Features of whole videos: those of the clips themselves, each frame decoded once, kept and never mixed up."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, ViTImageProcessor

from surgvista_hf import ClipDataset, convert_checkpoint, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.loading import load_classifier
from surgvista_hf.trainers.features.clip_features import extract_features
from surgvista_hf.trainers.features.extraction import VideoFeatureExtractor, as_clips, load_video_features
from surgvista_hf.util.files import OutputError

from ...modeling.conversion.families import LABELS, SINGLE, encoder
from ...modeling.conversion.originals import ORIGINALS
from .. import tiny_finetuning


@pytest.fixture
def classifier(tmp_path: Path, frame_set: Path) -> Path:
    trainer = tiny_finetuning.trainer(frame_set, tmp_path / "run")
    torch.nn.init.normal_(trainer.model.fc_norm.weight)
    trainer.save_best(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_the_features_of_a_classifier_are_what_its_last_layer_sees_of_every_clip(classifier, frame_set, tmp_path):
    frames = load_frame_set("synthetic", frame_set, "all")
    extractor = VideoFeatureExtractor(classifier)
    extractor.extract(frames, tmp_path / "features", label="phase", batch_size=7, progress=False)
    videos = load_video_features(tmp_path / "features")
    clips = ClipDataset(frames, num_frames=4, frame_stride=2, label="phase")
    assert [len(video.values) for video in videos] == [20, 20, 20]
    together = as_clips(videos)
    assert together.labels.tolist() == clips.sample_labels().tolist()
    for number in (0, 25, 59):
        pixels = extractor.processor(clips[number]["pixel_values"], do_sample_frames=False, return_tensors="pt")
        with torch.no_grad():
            expected = extractor.model.extract_features(pixels["pixel_values"])[0]
        np.testing.assert_allclose(together.values[number], expected.numpy(), atol=1e-5)


def test_another_precision_is_noted_and_never_mixed_with_the_first(classifier, frame_set, tmp_path):
    frames, folder = load_frame_set("synthetic", frame_set, "all").select(range(20)), tmp_path / "features"
    half = VideoFeatureExtractor(classifier, dtype="bfloat16")
    half.extract(frames, folder, progress=False)
    assert json.loads((folder / "settings.json").read_text())["dtype"] == "bfloat16"
    with pytest.raises(OutputError, match="dtype was bfloat16, is now not given"):
        VideoFeatureExtractor(classifier).extract(frames, folder, progress=False)
    VideoFeatureExtractor(classifier).extract(frames, tmp_path / "full", progress=False)
    assert "dtype" not in json.loads((tmp_path / "full" / "settings.json").read_text())
    ours, full = load_video_features(folder)[0].values, load_video_features(tmp_path / "full")[0].values
    assert 0 < np.abs(ours - full).max() < 0.05 * np.abs(full).max()


def test_features_of_a_set_at_another_rate_are_those_of_clips_of_the_same_spacing(classifier, tmp_path, caplog):
    folder = tmp_path / "fine"
    prepare_frame_set(
        "synthetic",
        None,
        folder,
        options=PreparationOptions(frames_per_second=2.5),
        settings={"videos": "1", "seconds": "14", "height": "48", "width": "64"},
    )
    frames = load_frame_set("synthetic", folder, "all")
    extractor = VideoFeatureExtractor(classifier)
    assert extractor.frame_stride == 2
    extractor.extract(frames, tmp_path / "features", progress=False)
    (video,) = load_video_features(tmp_path / "features")
    assert video.frames_per_second == pytest.approx(2.5)
    clips = ClipDataset(frames, num_frames=4, frame_stride=2)
    for number in (0, 7, 34):
        pixels = extractor.processor(clips[number]["pixel_values"], do_sample_frames=False, return_tensors="pt")
        with torch.no_grad():
            expected = extractor.model.extract_features(pixels["pixel_values"])[0]
        np.testing.assert_allclose(video.values[number], expected.numpy(), atol=1e-5)
    with pytest.raises(InputError, match="frame_stride 4 is another spacing"):
        VideoFeatureExtractor(classifier, frame_stride=4)
    slow = load_frame_set("synthetic", folder, "all").select(range(35))
    with pytest.raises(InputError, match=r"0\.4 s apart, those of a clip 0\.2 s"):
        ClipDataset(slow, num_frames=4, frame_stride=0.2)


@pytest.mark.parametrize("family", ["surgvista", "videomae", "vjepa2", "convnext", "vit"])
def test_every_encoder_gives_features(family, frame_set, tmp_path):
    start = encoder(family, tmp_path / "encoder")
    frames = load_frame_set("synthetic", frame_set, "all").select(range(20))
    extractor = VideoFeatureExtractor(
        start, num_frames=4 if family in ("surgvista", "videomae", "vjepa2") else 1, frame_stride=2
    )
    extractor.extract(frames, tmp_path / "features", progress=False)
    (video,) = load_video_features(tmp_path / "features")
    assert video.values.shape == (20, 64)
    assert np.isfinite(video.values).all()
    assert video.values.std(axis=0).max() > 0
    assert (video.labels == -1).all()


@pytest.mark.parametrize("name", ["lemonfm", "endovit", "surgenet_pvt", "surgrec_mae", "surgrec_jepa", "surgmotion"])
def test_a_converted_family_gives_features(name, frame_set, tmp_path):
    original = ORIGINALS[name]()
    checkpoint = original.save(tmp_path)
    convert_checkpoint(checkpoint, tmp_path / "encoder", family=original.family, config=original.overrides)
    words = ["extract-features", tmp_path / "encoder", "--data", f"synthetic={frame_set}", "--output", tmp_path / "f"]
    assert main(list(map(str, words))) == 0
    videos = load_video_features(tmp_path / "f")
    assert len(videos) == 3
    assert {video.values.shape for video in videos} == {(20, 32 if name in ("lemonfm", "surgenet_pvt") else 48)}
    assert all(np.isfinite(video.values).all() and video.values.std(axis=0).max() > 0 for video in videos)


def test_an_image_encoder_gives_what_it_sees_of_each_frame(frame_set, tmp_path):
    start = encoder("convnext", tmp_path / "encoder")
    frames = load_frame_set("synthetic", frame_set, "all").select(range(20))
    extractor = VideoFeatureExtractor(start)
    assert extractor.num_frames == 1
    extractor.extract(frames, tmp_path / "features", label="phase", batch_size=7, progress=False)
    (video,) = load_video_features(tmp_path / "features")
    plain = AutoModel.from_pretrained(start).eval()
    clips = ClipDataset(frames, num_frames=1, frame_stride=1, label="phase")
    for number in (0, 13, 19):
        pixels = extractor.processor(clips[number]["pixel_values"], do_sample_frames=False, return_tensors="pt")
        with torch.no_grad():
            expected = plain(pixels["pixel_values"][0]).pooler_output[0]
        np.testing.assert_allclose(video.values[number], expected.numpy(), atol=1e-5)
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    again = extract_features(plain, processor, clips, batch_size=9)
    pixels = processor(clips[13]["pixel_values"][0], return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(again.values[13], plain(pixels).pooler_output[0].detach().numpy(), atol=1e-5)
    assert again.labels.tolist() == video.labels.tolist()
    with pytest.raises(InputError, match="single frames; the clips have 4"):
        extract_features(plain, processor, ClipDataset(frames, num_frames=4, label="phase"))


def test_the_features_of_an_encoder_are_the_mean_of_its_normalized_tokens(frame_set, tmp_path):
    start = encoder("surgvista", tmp_path / "encoder")
    extractor = VideoFeatureExtractor(start)
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        expected = extractor.model.encoder.extract_features(clip)
    np.testing.assert_allclose(extractor.features(clip), expected.numpy(), atol=1e-6)


def test_what_is_there_is_not_computed_again_and_what_was_killed_is(classifier, frame_set, tmp_path, monkeypatch):
    frames, folder = load_frame_set("synthetic", frame_set, "all"), tmp_path / "features"
    extractor = VideoFeatureExtractor(classifier)
    extractor.extract(frames, folder, progress=False)
    before = {video.name: video.values for video in load_video_features(folder)}
    lost = sorted(folder.glob("*/*.arrow"))[1]
    lost.unlink()
    done = []
    monkeypatch.setattr(
        VideoFeatureExtractor,
        "_video",
        lambda self, *args, own=VideoFeatureExtractor._video: done.append(args[3]) or own(self, *args),
    )
    extractor.extract(frames, folder, progress=False)
    assert done == [lost.stem]
    assert all(np.array_equal(video.values, before[video.name]) for video in load_video_features(folder))
    with pytest.raises(OutputError, match="begun with other settings"):
        extractor.extract(frames, folder, label="phase", progress=False)


def test_datasets_reads_the_files(classifier, frame_set, tmp_path):
    frames = load_frame_set("synthetic", frame_set, "all")
    VideoFeatureExtractor(classifier).extract(frames, tmp_path / "features", label="triplets", progress=False)
    file = sorted((tmp_path / "features").glob("*/*.arrow"))[0]
    table = datasets.Dataset.from_file(str(file))
    assert table.column_names == ["source", "video_id", "frame_index", "timestamp", "features", "label"]
    assert len(table[3]["features"]) == 32
    assert len(table[3]["label"]) == 100


def test_the_command_extracts_and_says_where(classifier, frame_set, tmp_path, capsys):
    output = tmp_path / "features"
    words = ["extract-features", str(classifier), "--data", f"synthetic={frame_set}", "--label", "phase"]
    assert main([*words, "--output", str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    assert len(load_video_features(output)) == 3
    assert main(["extract-features", "nowhere", "--data", f"synthetic={frame_set}", "--output", str(output)]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert main([*words[:2], "--data", "synthetic", "--output", str(output)]) == 1
    assert "NAME=DIR" in capsys.readouterr().err
    assert main([*words[:4], "--label", "step", "--output", str(tmp_path / "other")]) == 1
    assert "no column 'step'" in capsys.readouterr().err


def test_features_that_are_not_there_or_broken_are_named(classifier, frame_set, tmp_path):
    with pytest.raises(InputError, match="holds no features"):
        load_video_features(tmp_path)
    frames, folder = load_frame_set("synthetic", frame_set, "all"), tmp_path / "features"
    VideoFeatureExtractor(classifier).extract(frames, folder, progress=False)
    with pytest.raises(InputError, match="lacks features of synthetic/operation_000009"):
        load_video_features(folder, {"synthetic": ["operation_000009"]})
    sorted(folder.glob("*/*.arrow"))[0].write_bytes(b"half")
    with pytest.raises(InputError, match="no file of features"):
        load_video_features(folder)


def test_an_adapter_is_a_start_too(frame_set, tmp_path):
    from surgvista_hf.modeling.adapters import AdapterRecipe, add_adapter
    from surgvista_hf.modeling.loading import make_classifier_processor

    start = encoder("surgvista", tmp_path / "base")
    model = load_classifier(start, LABELS, SINGLE)
    make_classifier_processor(model, start, 2).save_pretrained(tmp_path / "adapter")
    adapted = add_adapter(model, AdapterRecipe("lora", rank=2), start)
    adapted.save_pretrained(tmp_path / "adapter")
    model.config.save_pretrained(tmp_path / "adapter")
    assert VideoFeatureExtractor(tmp_path / "adapter").features(torch.zeros(1, 4, 3, 32, 32)).shape == (1, 64)

"""Folders of trained models in transformers' own Auto classes and pipeline, with this package and without it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoVideoProcessor

from surgvista_hf import MsTcnConfig, MsTcnForFrameClassification, SurgVistaVideoProcessor, VideoHeadConfig
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.loading import load_classifier, make_classifier_processor
from surgvista_hf.modeling.modeling_video_head import VideoHeadForClassification
from surgvista_hf.modeling.processors import make_processor, prepare_clips, smooths
from surgvista_hf.modeling.remote_code import add_remote_code

from ..processes import Processes
from ..videos import write_numbered_video
from .conversion.families import FAMILIES, LABELS, SINGLE, fields
from .test_auto import run_python

STOCK = ("videomae", "vjepa2")
ATTENTIVE = {"attentive": "surgvista", "attentive-vjepa2": "vjepa2"}
FOLDERS = (*FAMILIES, *ATTENTIVE)


def frames(count: int = 4, height: int = 60, width: int = 100) -> np.ndarray:
    """Make frames whose details are lost in different ways by different ways to shrink them."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Save classifiers of all families as a run of fine-tuning does, with their logits for one clip."""
    root = tmp_path_factory.mktemp("folders")
    expected: dict[str, Any] = {}
    for name in FOLDERS:
        torch.manual_seed(0)
        family = ATTENTIVE.get(name, name)
        pooling: Any = "attentive" if name in ATTENTIVE else None
        model: Any = load_classifier(fields(family), LABELS, SINGLE, num_frames=4, pooling=pooling).eval()
        torch.nn.init.normal_(model.classifier.weight)
        model.save_pretrained(root / name)
        make_classifier_processor(model, fields(family), 3).save_pretrained(root / name)
        if name == "surgvista":
            add_remote_code(root / name)
        pixels = prepare_clips(make_classifier_processor(model, fields(family), 3), frames())
        with torch.no_grad():
            expected[name] = model(**{model.main_input_name: pixels}).logits[0].tolist()
    torch.manual_seed(0)
    temporal = MsTcnForFrameClassification(MsTcnConfig(input_size=6, num_layers=2, num_labels=3)).eval()
    head = VideoHeadForClassification(VideoHeadConfig(input_size=6, hidden_size=8, num_labels=3)).eval()
    for name, small, shape in (("ms_tcn", temporal, (1, 9, 6)), ("video_head", head, (1, 6))):
        small.save_pretrained(root / name)
        add_remote_code(root / name)
        with torch.no_grad():
            expected[name] = small(torch.ones(shape)).logits[0].flatten().tolist()
    np.save(root / "frames.npy", frames())
    write_numbered_video(root / "clip.mp4", 50)
    (root / "expected.json").write_text(json.dumps(expected))
    return root


PROGRAM = """
import json, sys
import numpy, torch
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, pipeline
clip = numpy.load("frames.npy")
found = {}
for name in NAMES:
    remote = {} if name in PLAIN else {"trust_remote_code": True}
    if name in ("ms_tcn", "video_head"):
        model = AutoModel.from_pretrained(name, **remote)
        with torch.no_grad():
            found[name] = model(torch.ones((1, 9, 6) if name == "ms_tcn" else (1, 6))).logits[0].flatten().tolist()
        continue
    model = AutoModelForVideoClassification.from_pretrained(name, **remote)
    processor = AutoVideoProcessor.from_pretrained(name, **(remote if name == "surgvista" else {}))
    with torch.no_grad():
        found[name] = model(**processor(clip, do_sample_frames=False, return_tensors="pt")).logits[0].tolist()
        assert model(**processor("clip.mp4", return_tensors="pt")).logits.shape == (1, 3)
    answer = pipeline("video-classification", name, **remote)("clip.mp4")
    assert [set(each) for each in answer] == [{"score", "label"}] * 3, answer
    assert abs(sum(each["score"] for each in answer) - 1) < 1e-4, answer
print(json.dumps({"numbers": found, "package": bool(sys.modules.get("surgvista_hf"))}))
"""


def run(
    libraries: Processes,
    folders: Path,
    names: tuple[str, ...],
    plain: tuple[str, ...],
    home: Path,
    *,
    with_package: bool,
) -> Any:
    begin = "import surgvista_hf\n" if with_package else "\n"
    program = begin + PROGRAM.replace("NAMES", repr(names)).replace("PLAIN", repr(plain))
    done = run_python(libraries, program, home, with_package=with_package, cwd=folders)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_folder_works_in_transformers_where_this_package_is_not_installed(libraries, folders, tmp_path):
    """Load VideoMAE and V-JEPA 2 by transformers' own classes, and all others by the code in the folder."""
    answer = run(libraries, folders, (*FOLDERS, "ms_tcn", "video_head"), STOCK, tmp_path, with_package=False)
    assert not answer["package"]
    expected = json.loads((folders / "expected.json").read_text())
    assert answer["numbers"].keys() == expected.keys()
    for name, values in expected.items():
        assert answer["numbers"][name] == pytest.approx(values, abs=1e-4), name


def test_every_folder_works_in_transformers_with_the_package_and_without_trusting_code(libraries, folders, tmp_path):
    answer = run(libraries, folders, FOLDERS, FOLDERS, tmp_path, with_package=True)
    expected = json.loads((folders / "expected.json").read_text())
    for name in FOLDERS:
        assert answer["numbers"][name] == pytest.approx(expected[name], abs=1e-4), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_processor_keeps_its_pixels_and_what_time_it_was_trained_with(family, folders):
    saved = AutoVideoProcessor.from_pretrained(folders / family)
    assert (saved.frame_stride, saved.frame_sampling, saved.num_frames) == (3, "online", 4)
    assert isinstance(saved, SurgVistaVideoProcessor) == (family == "surgvista")
    side = saved.size["height"]
    ours = SurgVistaVideoProcessor(size={"height": side, "width": side}, antialias=family != "surgvista")
    expected = ours(frames(), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(prepare_clips(saved, frames()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", ["surgvista", "videomae", "vjepa2", "surgical_encoder"])
def test_clips_in_any_form_give_the_same_pixels(model_type):
    processor, clip = make_processor(model_type, (32, 48), 4), frames()
    tensor = torch.from_numpy(clip).permute(0, 3, 1, 2)
    expected = prepare_clips(processor, clip)
    assert expected.shape == (1, 4, 3, 32, 48)
    assert torch.equal(prepare_clips(processor, tensor), expected)
    assert torch.equal(prepare_clips(processor, [tensor, tensor]), expected.repeat(2, 1, 1, 1, 1))
    assert torch.equal(prepare_clips(processor, clip[:1]), expected[:, :1])
    others = prepare_clips(processor, [tensor, torch.zeros(4, 3, 20, 30, dtype=torch.uint8)])
    assert torch.equal(others[:1], expected)


@pytest.mark.parametrize("model_type", ["surgvista", "videomae", "vjepa2"])
def test_frames_that_are_no_bytes_are_refused_before_a_processor_scales_them_twice(model_type):
    processor = make_processor(model_type, (32, 32), 4)
    with pytest.raises(InputError, match="float32; pixels of uint8"):
        prepare_clips(processor, frames().astype(np.float32) / 255)


def test_training_shrinks_frames_as_the_saved_processor_does(folders):
    assert {name: smooths(AutoVideoProcessor.from_pretrained(folders / name)) for name in FAMILIES} == {
        name: name != "surgvista" for name in FAMILIES
    }


def test_code_that_came_with_a_checkpoint_is_not_promised_by_a_model_trained_from_it(folders, tmp_path):
    model = load_classifier(folders / "surgvista", LABELS, SINGLE)
    model.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())


def test_processors_of_pretraining_normalize_as_its_trainers_do():
    from transformers import VideoMAEConfig, VJEPA2Config

    from surgvista_hf.trainers.pretraining.jepa import JepaPretrainer
    from surgvista_hf.trainers.pretraining.mae import MaePretrainer

    for processor in (
        MaePretrainer.processor_for(VideoMAEConfig(image_size=32), 4),
        JepaPretrainer.processor_for(VJEPA2Config(crop_size=32), 4),
    ):
        assert tuple(processor.image_mean) == (0.485, 0.456, 0.406)
        assert prepare_clips(processor, frames()).shape == (1, 4, 3, 32, 32)

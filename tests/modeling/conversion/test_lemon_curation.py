"""The converted curation classifiers of LEMON compute what torchvision's networks compute."""

import numpy as np
import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.resnet import Bottleneck, ResNet
from transformers import AutoImageProcessor, AutoModelForImageClassification

from surgvista_hf import convert_checkpoint
from surgvista_hf.modeling.conversion import CheckpointError, restore_checkpoint

FAMILIES = {
    "lemon-storyboards": ("informative", "uninformative"),
    "lemon-frames": ("surgical", "non-surgical"),
}


def network(make=resnet18, classes=2, seed=0):
    """A network with statistics of norms that are no longer those of the beginning."""
    torch.manual_seed(seed)
    original = make(num_classes=classes)
    for buffer_name, buffer in original.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        elif buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return original.eval()


def saved(original, path):
    """As the release stores it: under `net`, after `module.`."""
    torch.save({"net": {f"module.{name}": tensor for name, tensor in original.state_dict().items()}, "epoch": 7}, path)
    return path


def small_resnet_of_bottlenecks(num_classes):
    return ResNet(Bottleneck, [1, 1, 2, 1], num_classes=num_classes)


@pytest.mark.parametrize("make", [resnet18, small_resnet_of_bottlenecks])
def test_logits_are_those_of_torchvision(make, tmp_path):
    original = network(make)
    report = convert_checkpoint(saved(original, tmp_path / "a.pth"), tmp_path / "out", family="lemon-frames")
    assert report.class_name == "ResNetForImageClassification"
    assert (report.initialized, report.ignored) == ((), {})
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = original(pixels), model(pixels).logits
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_and_preparation_are_those_of_the_release(family, tmp_path):
    convert_checkpoint(saved(network(), tmp_path / "a.pth"), tmp_path / "out", family=family)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert tuple(model.config.id2label.values()) == FAMILIES[family]
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    picture = np.full((90, 160, 3), 51, np.uint8)
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 384, 384)
    red = {"lemon-storyboards": (0.2 - 0.44476654) / 0.28885465, "lemon-frames": (0.2 - 0.4299694) / 0.24373249}
    assert pixels[0, 0].mean().item() == pytest.approx(red[family], abs=1e-4)
    assert "AutoModelForImageClassification.from_pretrained" in (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: image-classification" in (tmp_path / "out" / "README.md").read_text()


def test_the_way_back_gives_the_tensors_of_the_original(tmp_path):
    original = network()
    convert_checkpoint(saved(original, tmp_path / "a.pth"), tmp_path / "out", family="lemon-storyboards")
    restored = restore_checkpoint(tmp_path / "out", family="lemon-storyboards")
    expected = original.state_dict()
    assert set(restored) == set(expected)
    assert [name for name in expected if not torch.equal(restored[name], expected[name])] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("module.fc.weight"), "no tensor fc.weight"),
        (lambda tensors: tensors.update({"module.fc.weight": torch.zeros(5, 512)}), "has 5 classes, not 2"),
        (lambda tensors: tensors.pop("module.layer3.1.bn2.weight"), "layer3.1.bn2.weight"),
        (lambda tensors: tensors.update({"module.layer2.0.conv1.weight": torch.zeros(3, 3)}), "layer2.0.conv1.weight"),
    ],
)
def test_what_is_no_such_classifier_is_refused(change, reason, tmp_path):
    content = torch.load(saved(network(), tmp_path / "a.pth"), weights_only=True)
    change(content["net"])
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=reason):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", family="lemon-frames")
    assert not (tmp_path / "out").exists()

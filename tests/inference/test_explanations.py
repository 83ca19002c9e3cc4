"""Heat maps light up where the evidence is."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from surgvista_hf import InputError, SurgVistaConfig, SurgVistaForVideoClassification, SurgVistaVideoProcessor
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES, SyntheticOperation, write_video
from surgvista_hf.inference.explanations import (
    attention_rollout,
    draw_heatmap,
    gradient_heatmap,
    nearest_neighbors,
    overlay,
)
from surgvista_hf.inference.models.clip_model import ClipModel
from surgvista_hf.modeling.loading import load_classifier, make_classifier_processor

from ..modeling.conversion.families import LABELS, SINGLE, encoder
from ..trainers import tiny
from .tiny_models import processor, tiny_classifier


def trained_to_see_a_square(seed: int = 0, layers: int = 2) -> ClipModel:
    """Says class 1 if a bright square is somewhere in the clip; learned here, in a second or two."""
    torch.manual_seed(seed)
    config = SurgVistaConfig(**{**tiny.SIZES, "num_hidden_layers": layers}, classifier_init_scale=1.0, num_labels=2)
    model = SurgVistaForVideoClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(120):
        clips, labels = 0.1 * torch.randn(16, 4, 3, 32, 32), torch.arange(16) % 2
        for number in range(1, 16, 2):
            row, column = torch.randint(0, 4, (2,), generator=torch.Generator().manual_seed(100 * step + number))
            clips[number, :, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 2
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(clips).logits, labels).backward()
        optimizer.step()
    return ClipModel(model, SurgVistaVideoProcessor(size={"height": 32, "width": 32}, num_frames=4), device="cpu")


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return trained_to_see_a_square()


@pytest.fixture(scope="module")
def model_of_one_block() -> ClipModel:
    """A model whose last block sees the patches themselves: two blocks may learn to gather what they saw elsewhere."""
    return trained_to_see_a_square(layers=1)


def square(row: int, column: int) -> torch.Tensor:
    clip = 0.1 * torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    clip[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 2
    return clip


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 3)])
def test_the_gradient_points_at_what_decided(model_of_one_block, place):
    model = model_of_one_block
    probabilities, _ = model.run(square(*place)[None])
    assert probabilities[0, 1] > 0.9
    heat = gradient_heatmap(model, square(*place), target=1)
    assert heat.shape == (2, 4, 4)
    assert heat.min() >= 0
    assert heat.max() == 1
    for part in heat:
        assert np.unravel_index(part.argmax(), part.shape) == place


def test_rollout_is_a_product_of_attentions_and_leaves_the_model_as_it_was(model):
    before = model.run(square(1, 1)[None])[0]
    heat = attention_rollout(model, square(1, 1))
    assert heat.shape == (2, 4, 4)
    model.model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model.model(square(1, 1)[None], output_attentions=True).attentions
    model.model.set_attn_implementation("sdpa")
    first, second = (0.5 * (each[0].mean(0) + torch.eye(32)).double() for each in attentions)
    expected = (second @ first).mean(0).reshape(2, 4, 4).numpy()
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(heat, expected, atol=1e-4)
    assert np.array_equal(model.run(square(1, 1)[None])[0], before)


@pytest.mark.parametrize(
    ("family", "shape"), [("videomae", (2, 4, 4)), ("vjepa2", (2, 4, 4)), ("vit", (4, 4, 4)), ("convnext", (4, 1, 1))]
)
def test_every_family_has_gradient_maps(family, shape, tmp_path):
    start = encoder(family, tmp_path / "encoder")
    classifier = load_classifier(start, LABELS, SINGLE, num_frames=4)
    with torch.no_grad():
        classifier.classifier.weight.normal_(generator=torch.Generator().manual_seed(1))
    model = ClipModel(classifier, make_classifier_processor(classifier, start), device="cpu")
    clip = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    heat = gradient_heatmap(model, clip)
    assert len(heat) == shape[0]
    assert np.isfinite(heat).all()
    if family == "convnext":
        with pytest.raises(InputError, match="shows no attention"):
            attention_rollout(model, clip)


def test_neighbors_are_the_most_alike_one_of_each_video():
    features = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0], [0.5, 0.5]], np.float32)
    query = np.array([10, 0], np.float32)
    assert [each.index for each in nearest_neighbors(query, features, k=3)] == [0, 1, 4]
    videos = np.array(["a", "a", "b", "b", "c"])
    found = nearest_neighbors(query, features, k=5, groups=videos)
    assert [each.index for each in found] == [0, 4, 2]
    assert [round(each.similarity, 3) for each in found] == [1.0, 0.707, 0.0]
    with pytest.raises(InputError, match="of other models"):
        nearest_neighbors(query[:1], features)


def test_the_command_draws_and_names_what_looks_alike(tmp_path, capsys):
    frames = tmp_path / "operations"
    settings = {**tiny.VIDEOS, "videos": "3", "seconds": "16"}
    prepare_frame_set("synthetic", None, frames, settings=settings)
    write_video(SyntheticOperation(seed=5, duration_seconds=14, height=48, width=64), tmp_path / "operation.mp4")
    tiny_classifier().save_pretrained(tmp_path / "model")
    processor().save_pretrained(tmp_path / "model")
    data = ["--data", f"synthetic={frames}", "--label", "phase"]
    model, features = str(tmp_path / "model"), str(tmp_path / "features")
    assert main(["extract-features", model, *data, "--output", features]) == 0
    words = ["explain", str(tmp_path / "operation.mp4"), "--model", model, "--second", "9"]
    assert main([*words, "--features", features, "--output", str(tmp_path / "heat.png"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len({each["video"] for each in said["neighbors"]}) == len(said["neighbors"]) == 3
    assert all(each["label"] in PHASES for each in said["neighbors"])
    with Image.open(tmp_path / "heat.png") as picture:
        assert picture.size[0] > 300
    assert main([*words, "--class", "Nothing", "--output", str(tmp_path / "b.png")]) == 1
    assert "there is no class 'Nothing'" in capsys.readouterr().err
    other = tiny_classifier()
    torch.nn.init.normal_(other.classifier.weight)
    other.save_pretrained(tmp_path / "model")  # in the place of the one that gave the features
    assert main([*words, "--features", features, "--output", str(tmp_path / "c.png")]) == 1
    assert "were computed by model (" in capsys.readouterr().err
    assert not (tmp_path / "c.png").exists()


def test_a_heat_map_is_painted_where_it_is_hot(tmp_path):
    frames = np.full((4, 64, 64, 3), 100, np.uint8)
    heat = np.zeros((2, 4, 4), np.float32)
    heat[1, 3, 0] = 1
    reconstructed = overlay(frames, heat)
    assert np.array_equal(reconstructed[:2], frames[:2])
    changed = np.abs(reconstructed[2].astype(int) - 100).sum(axis=-1)
    assert changed[56, 8] > 60
    assert changed[8, 56] == 0
    draw_heatmap(frames, heat, tmp_path / "heat.png", "Dissection")
    with Image.open(tmp_path / "heat.png") as picture:
        assert picture.size[0] > 400
    with pytest.raises(InputError, match="temporal size 3 does not fit 4 frames"):
        overlay(frames, heat[[0, 0, 0]])

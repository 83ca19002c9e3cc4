"""Heat maps light up where the evidence is."""

import numpy as np
import pytest
import torch
from PIL import Image

from surgvista_hf import InputError, SurgVistaConfig, SurgVistaForVideoClassification, SurgVistaVideoProcessor
from surgvista_hf.inference.clip_model import ClipModel
from surgvista_hf.inference.explanations import attention_rollout, draw_heatmap, gradient_heatmap, overlay
from surgvista_hf.modeling.families import load_classifier, processor_of

from ..modeling.families import LABELS, SINGLE, encoder


def trained_to_see_a_square(seed: int = 0) -> ClipModel:
    """Says class 1 if a bright square is somewhere in the clip; learned here, in a second or two."""
    torch.manual_seed(seed)
    config = SurgVistaConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        classifier_init_scale=1.0,
        num_labels=2,
    )
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


def square(row: int, column: int) -> torch.Tensor:
    clip = 0.1 * torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    clip[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 2
    return clip


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 3)])
def test_the_gradient_points_at_what_decided(model, place):
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
    model = ClipModel(classifier, processor_of(classifier, start), device="cpu")
    clip = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    heat = gradient_heatmap(model, clip)
    assert len(heat) == shape[0]
    assert np.isfinite(heat).all()
    if family == "convnext":
        with pytest.raises(InputError, match="shows no attention"):
            attention_rollout(model, clip)


def test_a_heat_map_is_painted_where_it_is_hot(tmp_path):
    frames = np.full((4, 64, 64, 3), 100, np.uint8)
    heat = np.zeros((2, 4, 4), np.float32)
    heat[1, 3, 0] = 1
    painted = overlay(frames, heat)
    assert np.array_equal(painted[:2], frames[:2])
    changed = np.abs(painted[2].astype(int) - 100).sum(axis=-1)
    assert changed[56, 8] > 60
    assert changed[8, 56] == 0
    draw_heatmap(frames, heat, tmp_path / "heat.png", "Dissection")
    with Image.open(tmp_path / "heat.png") as picture:
        assert picture.size[0] > 400
    with pytest.raises(InputError, match="3 slices do not fit 4 frames"):
        overlay(frames, heat[[0, 0, 0]])

"""Joint-embedding models: masked pixels never reach the context, parts are transformers' own, the target is an average."""

import copy
from typing import Any

import pytest
import torch
from transformers import AutoModel, VJEPA2Config

from surgvista_hf import SurgVistaConfig
from surgvista_hf.clips import BlockMasking
from surgvista_hf.modeling.modeling_surgvista import sincos_3d_equal_table
from surgvista_hf.modeling.objectives.joint_embedding import (
    JointEmbedding,
    SurgVistaForJointEmbedding,
    VJEPA2ForJointEmbedding,
)

GRID = (2, 4, 4)
KINDS = ["vjepa2", "surgvista"]


def build(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    if kind == "vjepa2":
        predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
        # Larger weights than usual, so that what goes in shows in what comes out.
        sizes = {**sizes, "crop_size": 32, "frames_per_clip": 4, "initializer_range": 0.2, **predictor}
        return VJEPA2ForJointEmbedding(VJEPA2Config(**{**sizes, **changes}))
    predictor = {
        "video_decoder_hidden_size": 24,
        "video_decoder_num_attention_heads": 2,
        "video_decoder_num_hidden_layers": 1,
    }
    vjepa1 = {"position_embedding_type": "sincos_3d_equal", "initialization": "normal", "key_bias": True}
    return SurgVistaForJointEmbedding(
        SurgVistaConfig(**{"image_size": 32, "num_frames": 4, **sizes, **predictor, **vjepa1, **changes})
    )


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def masks(count: int = 3) -> dict[str, list[torch.Tensor]]:
    return BlockMasking(GRID)(0, range(count))


def repaint(clips: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Change the pixels at the tokens `ids` of each clip."""
    masked = torch.zeros(len(clips), 32, dtype=torch.bool).scatter(1, ids, True).view(-1, *GRID)
    pixels = masked.repeat_interleave(2, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return torch.where(pixels[:, :, None], torch.full_like(clips, 7.0), clips)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_the_targets_do_not_reach_the_predictions(kind, clips):
    model, drawn = build(kind), masks()
    before = model(clips, **drawn).predictions
    for number, ids in enumerate(drawn["target_ids"]):
        after = model(repaint(clips, ids), **drawn).predictions
        assert torch.equal(after[number], before[number])
    seen = model(repaint(clips, drawn["context_ids"][0][:, :1]), **drawn).predictions
    assert not torch.allclose(seen[0], before[0])


def test_the_stock_forward_leaks_them(clips):
    """Show the reason for a step of our own; when this fails, transformers has mended it."""
    model, drawn = build("vjepa2"), masks()
    context, target = drawn["context_ids"][:1], drawn["target_ids"][:1]

    def prediction(pixels: torch.Tensor) -> torch.Tensor:
        return model.vjepa2(pixels, context_mask=context, target_mask=target).predictor_output.last_hidden_state

    assert not torch.allclose(prediction(clips), prediction(repaint(clips, target[0])), atol=1e-3)


def test_with_the_whole_clip_as_context_encoder_and_predictor_are_those_of_transformers(clips):
    model = build("vjepa2", pred_zero_init_mask_tokens=False)
    model.mask_token = 1  # the one that transformers reads
    everything = torch.arange(32).expand(3, -1)
    target = masks()["target_ids"][0]
    theirs = model.vjepa2(clips, context_mask=[everything], target_mask=[target])
    encoded = model.encode_context(clips, everything)
    torch.testing.assert_close(encoded, theirs.last_hidden_state, atol=1e-5, rtol=1e-5)
    ours = model.predict(encoded, everything, target, clips, 0)
    torch.testing.assert_close(ours, theirs.predictor_output.last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_absolute_error_of_normalized_features_averaged_over_the_sets(kind, clips):
    model, drawn = build(kind), masks()
    output = model(clips, **drawn)
    target = model.target_encoder(clips).last_hidden_state
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    halves = []
    for predicted, ids in zip(output.predictions, drawn["target_ids"], strict=True):
        expected = torch.stack([features[row] for features, row in zip(target, ids, strict=True)])
        halves.append((predicted - expected).abs().mean())
    torch.testing.assert_close(output.loss, sum(halves) / 2)
    assert 0.5 < output.loss.item() < 1.5  # E|x| of a normal number is 0.8: what predicting 0 costs


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_encoder_starts_as_a_copy_has_no_gradient_and_follows_by_average(kind, clips):
    model = build(kind)
    first = copy.deepcopy(list(model.online_encoder.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, model.target_encoder.parameters(), strict=True))
    model.train()(clips, **masks()).loss.backward()
    assert not model.target_encoder.training
    assert all(parameter.grad is None for parameter in model.target_encoder.parameters())
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        for parameter in model.online_encoder.parameters():
            parameter.add_(1.0)
    model.update_target(0.9)
    for was, now in zip(first, model.target_encoder.parameters(), strict=True):
        torch.testing.assert_close(now, was + 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_keeps_the_target_and_loads_as_a_plain_encoder(kind, clips, tmp_path):
    model: JointEmbedding = build(kind)
    with torch.no_grad():
        for parameter in model.target_encoder.parameters():
            parameter.add_(0.1)
    model.save_pretrained(tmp_path / "whole")
    again, info = type(model).from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not info["missing_keys"]
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert not any(parameter.requires_grad for parameter in again.target_encoder.parameters())
    encoder = AutoModel.from_pretrained(tmp_path / "whole").eval()
    expected = model.eval().encode_context(clips, torch.arange(32).expand(3, -1))
    torch.testing.assert_close(encoder(clips).last_hidden_state, expected)
    encoder.save_pretrained(tmp_path / "plain")
    started = type(model).from_pretrained(tmp_path / "plain")
    pairs = zip(started.target_encoder.parameters(), started.online_encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_positions_are_the_published_ones_of_v_jepa():
    """Compare with a third of the columns an axis: 342 for a width of 1024, whose last third is cut to 340."""
    table = sincos_3d_equal_table((8, 14, 14), 1024)
    assert table.shape == (1568, 1024)
    token = (5 * 14 + 3) * 14 + 11
    for axis, position in enumerate((5, 3, 11)):
        columns = table[token, 342 * axis : 342 * (axis + 1)].double()
        angles = position / 10000 ** (torch.arange(171, dtype=torch.float64) / 171)
        expected = torch.cat([angles.sin(), angles.cos()])[: len(columns)]
        torch.testing.assert_close(columns, expected, atol=1e-5, rtol=0)


def test_weights_start_as_in_v_jepa():
    model = build("surgvista", hidden_size=96, num_hidden_layers=1)
    linears = [module for module in model.surgvista.modules() if isinstance(module, torch.nn.Linear)]
    for linear in linears:
        assert abs(float(linear.weight.detach().std()) - 0.02) < 0.002
        assert not linear.bias.any()
    assert not model.predictor.mask_token.any()
    assert model.predictor.mask_token.shape == (2, 1, 24)


def test_each_set_of_masks_has_a_mask_token_of_its_own(clips):
    model, drawn = build("surgvista"), masks()
    torch.nn.init.normal_(model.predictor.mask_token)
    args = model.encode_context(clips, drawn["context_ids"][0]), drawn["context_ids"][0], drawn["target_ids"][0], clips
    assert not torch.allclose(model.predict(*args, 0), model.predict(*args, 1))
    model.predict(*args, 1).sum().backward()
    assert not model.predictor.mask_token.grad[0].any()
    assert model.predictor.mask_token.grad[1].any()

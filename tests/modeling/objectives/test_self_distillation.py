"""Self-distillation: loss, center and average by hand, views that do not mix, and a teacher that loads as a plain encoder."""

import copy
import math
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, ConvNextConfig, ConvNextModel

from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.modeling_surgvista import SurgVistaDropPath
from surgvista_hf.modeling.objectives.self_distillation import (
    ConvNextDistillationConfig,
    ConvNextForSelfDistillation,
    ConvNextV2DistillationConfig,
    ConvNextV2ForSelfDistillation,
    distillation_loss,
)

KINDS: dict[str, tuple[Any, Any]] = {
    "convnext": (ConvNextForSelfDistillation, ConvNextDistillationConfig),
    "convnextv2": (ConvNextV2ForSelfDistillation, ConvNextV2DistillationConfig),
}


def build(kind: str = "convnext", **changes: Any) -> Any:
    torch.manual_seed(0)
    model, config = KINDS[kind]
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "image_size": 64}
    head = {"head_hidden_size": 32, "head_bottleneck_size": 16, "head_output_size": 64}
    # Larger weights than usual, so that what goes in shows in what comes out.
    scale = {"layer_scale_init_value": 0.5} if kind == "convnext" else {}
    return model(config(**{**sizes, **head, **scale, "initializer_range": 0.1, **changes}))


@pytest.fixture
def views() -> list[torch.Tensor]:
    """Make sixteen views of three samples, in the published order of sizes."""
    generator = torch.Generator().manual_seed(1)
    sides = [64, 64, 64, 32, 32, 64, *[32] * 10]
    return [torch.randn(3, 3, side, side, generator=generator) for side in sides]


@pytest.fixture
def keys() -> torch.Tensor:
    return torch.arange(48).view(3, 16)


# ------------------------------------------------------------------------------------------- the loss


def test_the_loss_by_hand():
    """Compute two targets, three views and two classes by hand.

    At temperature 0.5 the views' logits differ by 2 ln 3, 0 and -2 ln 3, so the first class has the probabilities 0.9, 0.5 and
    0.1.
    """
    student = torch.tensor([[[math.log(3), 0.0]], [[0.0, 0.0]], [[-math.log(3), 0.0]]])
    targets = torch.tensor([[[1.0, 0.0]], [[0.25, 0.75]]])
    pairs = [
        -math.log(0.5),  # first target, second view
        -math.log(0.1),  # first target, third view
        -0.25 * math.log(0.9) - 0.75 * math.log(0.1),  # second target, first view
        -0.25 * math.log(0.1) - 0.75 * math.log(0.9),  # second target, third view
    ]
    assert float(distillation_loss(student, targets, 0.5)) == pytest.approx(sum(pairs) / 4, rel=1e-6)


def test_the_loss_is_the_mean_over_the_thirty_pairs_of_different_views(views, keys):
    model = build(drop_path_rate=0.3).train()
    model.center.normal_()
    output = model(views, keys)
    pairs = []
    for u in range(2):
        target = torch.softmax((output.teacher_logits[u] - model.center) / 0.04, dim=-1)
        for v in range(16):
            if v != u:
                scores = torch.log_softmax(output.student_logits[v] / 0.1, dim=-1)
                pairs.append(-(target * scores).sum(dim=-1).mean())
    assert len(pairs) == 30
    torch.testing.assert_close(output.loss, sum(pairs) / 30)


def test_the_output_for_a_view_depends_on_that_view_and_its_key_only(views, keys):
    """Change single views: those of one size go through the encoder together, in any order."""
    model = build(drop_path_rate=0.5).train()
    logits = model(views, keys).student_logits
    order = [0, 1, 9, 4, 5, 2]
    chosen = model([views[number] for number in order], keys[:, order]).student_logits
    torch.testing.assert_close(chosen, logits[order])
    assert not torch.allclose(model(views, keys + 100).student_logits, logits)
    samples = model([view[1:2] for view in views], keys[1:2]).student_logits
    torch.testing.assert_close(samples, logits[:, 1:2])


def test_features_are_those_of_transformers(views):
    model = build().eval()
    plain = model.plain_teacher()
    scores = model.teacher_head(plain(views[0]).pooler_output)
    torch.testing.assert_close(model(views).teacher_logits[0], scores)
    assert scores.abs().max() <= 1.0  # cosines


def test_the_head_is_the_published_one_with_a_gain_of_one():
    """Compare with weight normalization as PyTorch has it: gain · v / |v| for each row."""
    head = build().student_head
    features = torch.randn(5, 16)
    last = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(16, 64, bias=False))
    with torch.no_grad():
        last.parametrizations.weight.original0.fill_(1.0)
        last.parametrizations.weight.original1.copy_(head.last_layer.weight)
    point = head.mlp(features)
    torch.testing.assert_close(head(features), last(point / point.norm(dim=-1, keepdim=True)))
    assert [tuple(p.shape) for p in head.mlp.parameters() if p.ndim == 2] == [(32, 16), (32, 32), (16, 32)]


def test_the_teacher_says_how_sure_it_is_and_how_much_its_features_differ(views):
    model = build()
    output = model(views)
    targets = torch.softmax((output.teacher_logits - model.center) / 0.04, dim=-1)
    entropy = -(targets * targets.clamp(min=1e-30).log()).sum(dim=-1).mean()
    torch.testing.assert_close(output.teacher_entropy, entropy)
    same = [view[:1].expand_as(view) for view in views]
    assert float(model(same).feature_std) < 1e-5 < float(output.feature_std)


# ------------------------------------------------------------------------------------------- the teacher


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_starts_as_a_copy_has_no_gradient_and_follows_by_average(kind, views, keys):
    model = build(kind, drop_path_rate=0.3)
    teacher = [*model.teacher.parameters(), *model.teacher_head.parameters()]
    student = [*model.student.parameters(), *model.student_head.parameters()]
    first = copy.deepcopy(student)
    assert all(torch.equal(a, b) for a, b in zip(first, teacher, strict=True))
    model.train()(views, keys).loss.backward()
    assert model.student.training
    assert not model.teacher.training
    assert all(parameter.grad is None for parameter in teacher)
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in student}
    with torch.no_grad():
        for parameter in student:
            parameter.add_(1.0)
    model.update_teacher(0.9)
    for was, now in zip(first, teacher, strict=True):
        torch.testing.assert_close(now, was + 0.1)


def test_the_center_is_a_moving_mean():
    model = build()
    model.update_center(torch.full((64,), 2.0), 0.9)
    model.update_center(torch.full((64,), 1.0), 0.9)
    torch.testing.assert_close(model.center, torch.full((64,), 0.9 * 0.2 + 0.1))


def test_stochastic_depth_rises_to_its_rate_and_is_drawn_by_keys():
    model = build(depths=[1, 2, 1, 1], drop_path_rate=0.5)
    rates = [module.rate for module in model.student.modules() if isinstance(module, SurgVistaDropPath)]
    assert rates == pytest.approx([0.125, 0.25, 0.375, 0.5])  # the first block never drops
    indices = [module.index for module in model.modules() if isinstance(module, SurgVistaDropPath)]
    assert sorted(indices) == list(range(8))  # student and teacher draw apart
    drop_path = next(module for module in model.student.modules() if isinstance(module, SurgVistaDropPath))
    drop_path.rate, drop_path.keys = 0.5, torch.arange(4000)
    survivors = drop_path.train()(torch.ones(4000, 1, 1, 1)).flatten()
    assert set(survivors.tolist()) == {0.0, 2.0}
    assert 0.46 < float((survivors > 0).float().mean()) < 0.54


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_keeps_everything_and_loads_as_the_teacher(kind, views, tmp_path):
    model = build(kind, drop_path_rate=0.3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.center.normal_()
    model.save_pretrained(tmp_path / "whole")
    again, info = type(model).from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not info["missing_keys"]
    pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(p.requires_grad for p in (*again.teacher.parameters(), *again.teacher_head.parameters()))
    expected = model.eval().teacher(views[0]).pooler_output
    torch.testing.assert_close(AutoModel.from_pretrained(tmp_path / "whole").eval()(views[0]).pooler_output, expected)
    model.plain_teacher().save_pretrained(tmp_path / "plain")
    plain, info = AutoModel.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(plain.eval()(views[0]).pooler_output, expected)
    assert plain.config.drop_path_rate == 0.0


def test_training_starts_from_a_plain_encoder(tmp_path):
    torch.manual_seed(3)
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
    plain = ConvNextModel(ConvNextConfig(**sizes))
    plain.save_pretrained(tmp_path)
    model, info = ConvNextForSelfDistillation.from_pretrained(
        tmp_path, head_output_size=32, drop_path_rate=0.2, output_loading_info=True
    )
    assert not info["missing_keys"]
    for encoder in (model.student, model.teacher):
        assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), plain.parameters(), strict=True))
    heads = zip(model.student_head.parameters(), model.teacher_head.parameters(), strict=True)
    assert all(torch.equal(a, b) and bool(a.any()) == (a.ndim == 2) for a, b in heads)
    assert not model.center.any()


def test_where_samples_are_easy_to_tell_apart_views_of_one_agree_and_samples_do_not():
    """Train on 32 random images in noisy views: the loss falls far below ln 64, where a collapsed teacher would keep it."""
    model = build(
        num_stages=3, depths=[1, 1, 1], hidden_sizes=[16, 32, 64], image_size=16, initializer_range=0.02
    ).train()
    generator = torch.Generator().manual_seed(1)
    images = functional.interpolate(1.5 * torch.randn(32, 3, 4, 4, generator=generator), (16, 16), mode="bilinear")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.04)
    losses = []
    for _ in range(80):
        views = [images + 0.5 * torch.randn(images.shape, generator=generator) for _ in range(3)]
        output = model(views)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.update_teacher(0.98)
        model.update_center(output.teacher_logits.flatten(0, 1).mean(dim=0), 0.9)
        losses.append(float(output.loss.detach()))
    assert losses[-1] < 1.0 < 2.0 < losses[0]
    first, second = torch.softmax((output.teacher_logits - model.center) / 0.04, dim=-1)
    agreement = (first.argmax(dim=-1) == second.argmax(dim=-1)).float().mean()
    assert agreement > 0.9
    assert torch.special.entr(first.mean(dim=0)).sum() > 1.5  # many outputs are used, not one


def test_two_views_leave_nothing_to_learn(views):
    with pytest.raises(InputError, match="the teacher sees 2 views, the student more; got 2"):
        build()(views[:2])

"""What the SurgVISTA models promise beside the golden numbers."""

import math

import pytest
import torch
from transformers import AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification

from surgvista_hf import (
    InputError,
    SurgVistaConfig,
    SurgVistaForPreTraining,
    SurgVistaForVideoClassification,
    SurgVistaModel,
)
from surgvista_hf.modeling.modeling_surgvista import (
    SurgVistaDropPath,
    keyed_uniform,
    sincos_1d_table,
    sincos_3d_table,
    split_tokens,
)

from . import golden

MODELS = [SurgVistaModel, SurgVistaForPreTraining, SurgVistaForVideoClassification]


def tiny(**changes) -> SurgVistaConfig:
    return golden.pretraining_config(num_labels=3, classifier_init_scale=1.0, **changes)


def clips(batch=2, frames=4, height=32, width=32) -> torch.Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(0))


def tube_mask(grid=(2, 4, 4), masked=12, batch=2) -> torch.Tensor:
    order = torch.rand(batch, grid[1] * grid[2], generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    return (order < masked).repeat(1, grid[0])


def inputs_of(model) -> dict[str, torch.Tensor]:
    if isinstance(model, SurgVistaForPreTraining):
        return {
            "pixel_values": clips(),
            "bool_masked_pos": tube_mask(),
            "teacher_features": torch.randn(2, 32, 40, generator=torch.Generator().manual_seed(2)),
        }
    return {"pixel_values": clips()}


# ------------------------------------------------------------------------------------------------- shapes and masks


@pytest.mark.parametrize("kind", ["sincos_3d", "sincos_1d"])
@pytest.mark.parametrize(("frames", "height", "width"), [(2, 32, 32), (8, 32, 32), (6, 48, 24)])
def test_any_frame_count_and_resolution_gets_its_own_position_table(kind, frames, height, width):
    config = tiny(position_embedding_type=kind)
    torch.manual_seed(0)
    model = SurgVistaModel(config).eval()
    torch.manual_seed(0)
    made_for_it = SurgVistaModel(
        tiny(position_embedding_type=kind, num_frames=frames, image_size=[height, width])
    ).eval()
    clip = clips(1, frames, height, width)
    assert torch.equal(model(clip).last_hidden_state, made_for_it(clip).last_hidden_state)


def test_pretraining_works_at_another_size_than_the_configured_one():
    model = SurgVistaForPreTraining(tiny())
    output = model(clips(2, 6, 48, 24), tube_mask((3, 6, 3), masked=13))
    assert output.video_logits.shape == (2, 39, 384)


def test_published_check_values_of_the_3d_table():
    table = sincos_3d_table((8, 14, 14), 768)
    for token, column, value in (
        (1, 192, 0.841471),
        (1, 336, 0.540302),
        (14, 480, 0.841471),
        (196, 0, 0.841471),
        (196, 1, 0.788593),
        (196, 96, 0.540302),
        (1567, 0, 0.656987),
        (1567, 480, 0.420167),
    ):
        assert float(table[token, column]) == pytest.approx(value, abs=1e-6)
    assert float(table.double().sum()) == pytest.approx(564278.786, abs=0.01)


def test_1d_table_interleaves_sine_and_cosine_of_the_flat_index():
    table = sincos_1d_table((2, 2, 2), 6)
    angle = 5 / 10000 ** (2 / 6)
    assert float(table[5, 2]) == pytest.approx(math.sin(angle), abs=1e-7)
    assert float(table[5, 3]) == pytest.approx(math.cos(angle), abs=1e-7)


def test_visible_indices_and_a_mask_are_two_ways_to_say_the_same():
    model = SurgVistaModel(tiny()).eval()
    visible, _ = split_tokens(tube_mask(), 24)
    by_mask = model(clips(), tube_mask()).last_hidden_state
    assert torch.equal(by_mask, model(clips(), visible_indices=visible).last_hidden_state)


def test_a_mask_with_another_count_than_the_config_says_is_counted():
    output = SurgVistaForPreTraining(tiny())(clips(), tube_mask(masked=4))
    assert output.video_logits.shape == (2, 8, 384)


def test_without_masked_tokens_every_token_is_predicted():
    model = SurgVistaForPreTraining(tiny())
    nothing = torch.zeros(2, 32, dtype=torch.bool)
    output = model(clips(), nothing, torch.zeros(2, 32, 40))
    assert output.video_logits.shape == (2, 32, 384)
    assert output.image_logits.shape == (2, 32, 40)
    assert torch.isfinite(output.loss)
    assert torch.equal(model.reconstruct(clips(), nothing), clips())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"pixel_values": clips()[0]}, "pixel_values has shape"),
        ({"pixel_values": clips().transpose(1, 2)}, "3 channels"),
        ({"pixel_values": clips(frames=3)}, "tubelets of 2"),
        ({"pixel_values": clips(height=30)}, "patches of 8"),
        ({"bool_masked_pos": tube_mask()[:1]}, "bool_masked_pos has shape"),
        ({"bool_masked_pos": torch.arange(64).reshape(2, 32) < 40}, "same number"),
        ({"teacher_features": torch.zeros(2, 24, 40)}, "teacher_features has shape"),
    ],
)
def test_wrong_input_is_refused_with_what_was_found_and_expected(arguments, reason):
    model = SurgVistaForPreTraining(tiny())
    with pytest.raises(InputError, match=reason):
        model(**{**inputs_of(model), **arguments})


def test_teacher_features_without_an_image_decoder_are_refused():
    model = SurgVistaForPreTraining(tiny(image_decoder_num_hidden_layers=0))
    with pytest.raises(InputError, match="no image decoder"):
        model(clips(), tube_mask(), torch.zeros(2, 32, 40))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_attention_heads": 5}, "multiple of num_attention_heads"),
        ({"hidden_size": 40, "num_attention_heads": 4}, "multiple of 16"),
        ({"num_frames": 5}, "tubelets"),
        ({"image_size": 36}, "patches"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"image_mean": [0.5]}, "image_mean"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(changes, reason):
    with pytest.raises(InputError, match=reason):
        tiny(**changes)


# ------------------------------------------------------------------------------------------------- losses and outputs


def test_without_teacher_features_it_is_a_plain_masked_autoencoder():
    model = SurgVistaForPreTraining(tiny())
    output = model(clips(), tube_mask())
    assert output.image_logits is None
    assert output.image_loss is None
    assert torch.equal(output.loss, output.video_loss)
    output.loss.backward()
    assert all(parameter.grad is None for parameter in model.image_decoder.parameters())


@pytest.mark.parametrize("kind", ["smooth_l1", "l1", "l2"])
def test_image_losses_are_those_of_pytorch(kind):
    model = SurgVistaForPreTraining(tiny(image_loss_type=kind))
    inputs = inputs_of(model)
    output = model(**inputs)
    target = inputs["teacher_features"][inputs["bool_masked_pos"]].reshape(2, 24, 40)
    functions = {"smooth_l1": torch.nn.SmoothL1Loss(), "l1": torch.nn.L1Loss(), "l2": torch.nn.MSELoss()}
    assert output.image_loss.item() == pytest.approx(functions[kind](output.image_logits, target).item(), rel=1e-6)


def test_a_video_target_of_normalized_pixels_has_zero_mean_and_predicting_zero_costs_511_of_512():
    config = tiny(image_size=64, patch_size=16, num_frames=4)
    model = SurgVistaForPreTraining(config)
    target = model.video_targets(clips(2, 4, 64, 64), torch.arange(32).repeat(2, 1)[:, :8])
    per_channel = target.unflatten(2, (-1, 3))
    assert float(per_channel.mean(dim=2).abs().max()) < 1e-5
    assert float(target.square().mean()) == pytest.approx(511 / 512, abs=1e-4)


def test_a_pixel_target_lies_where_the_published_order_says():
    config = golden.pretraining_config(
        image_size=32, patch_size=16, norm_pix_loss=False, image_mean=[0.0] * 3, image_std=[1.0] * 3
    )
    clip = torch.zeros(1, 4, 3, 32, 32)
    clip[0, 1, 2, 3, 5] = 7.0  # second frame of the first tubelet, channel 2, row 3, column 5
    target = SurgVistaForPreTraining(config).video_targets(clip, torch.tensor([[0]]))
    assert target[0, 0].nonzero().flatten().tolist() == [929]


def test_reconstruction_keeps_visible_tubelets_and_replaces_only_masked_ones():
    model = SurgVistaForPreTraining(tiny()).eval()
    reconstructed = model.reconstruct(clips(), tube_mask())
    changed = (reconstructed != clips()).any(dim=2)  # (batch, frames, height, width)
    masked = tube_mask().reshape(2, 2, 4, 4).repeat_interleave(2, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.equal(changed, masked)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_a_perfect_prediction_reconstructs_the_clip(norm_pix_loss, monkeypatch):
    model = SurgVistaForPreTraining(tiny(norm_pix_loss=norm_pix_loss)).eval()
    _, masked = split_tokens(tube_mask(), 24)
    targets = model.video_targets(clips(), masked)
    decode = model.video_decoder.forward

    def decode_perfectly(*arguments, **options):
        output = decode(*arguments, **options)
        output.logits = targets
        return output

    monkeypatch.setattr(model.video_decoder, "forward", decode_perfectly)
    assert torch.allclose(model.reconstruct(clips(), tube_mask()), clips(), atol=1e-5)


def test_hidden_states_and_attentions_are_recorded_for_the_encoder_and_both_decoders():
    model = SurgVistaForPreTraining(tiny(attn_implementation="eager"))
    output = model(**inputs_of(model), output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(2, 8, 64)] * 4
    assert [tuple(state.shape) for state in output.video_decoder_hidden_states] == [(2, 32, 32)] * 3
    assert [tuple(state.shape) for state in output.image_decoder_hidden_states] == [(2, 32, 48)] * 2
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 4, 8, 8)] * 3
    assert [tuple(weights.shape) for weights in output.video_decoder_attentions] == [(2, 2, 32, 32)] * 2
    assert [tuple(weights.shape) for weights in output.image_decoder_attentions] == [(2, 3, 32, 32)]
    assert torch.allclose(output.attentions[0].sum(dim=-1), torch.ones(2, 4, 8), atol=1e-6)


def test_return_dict_false_gives_the_same_as_a_tuple():
    model = SurgVistaForPreTraining(tiny()).eval()
    named, plain = model(**inputs_of(model)), model(**inputs_of(model), return_dict=False)
    assert isinstance(plain, tuple)
    assert all(torch.equal(a, b) for a, b in zip(named.to_tuple(), plain, strict=True))


# ------------------------------------------------------------------------------------------------- classification


def test_the_published_head_starts_at_zero_so_the_first_loss_is_the_logarithm_of_the_classes():
    model = SurgVistaForVideoClassification(golden.pretraining_config(num_labels=7))
    output = model(clips(), labels=torch.tensor([0, 6]))
    assert not output.logits.any()
    assert output.loss.item() == pytest.approx(math.log(7), abs=1e-6)


def test_multi_label_loss_is_binary_cross_entropy_with_logits():
    config = tiny(problem_type="multi_label_classification")
    model = SurgVistaForVideoClassification(config)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    output = model(clips(), labels=labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, labels)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_features_are_what_the_classifier_sees_and_tubelets_keep_time():
    model = SurgVistaForVideoClassification(tiny()).eval()
    pooled = model.extract_features(clips())
    assert torch.allclose(model.classifier(pooled), model(clips()).logits, atol=1e-6)
    assert model.extract_features(clips(frames=8), per_tubelet=True).shape == (2, 4, 64)
    encoder = model.surgvista
    by_tubelet = encoder.extract_features(clips(), per_tubelet=True)
    assert torch.allclose(by_tubelet.mean(dim=1), encoder.extract_features(clips()), atol=1e-6)


def test_encoder_features_come_before_or_after_the_final_norm():
    encoder = SurgVistaModel(tiny()).eval()
    tokens = encoder(clips(), output_hidden_states=True)
    normed, raw = encoder.extract_features(clips()), encoder.extract_features(clips(), normalize=False)
    assert torch.allclose(normed, tokens.last_hidden_state.mean(dim=1), atol=1e-6)
    assert torch.allclose(raw, tokens.hidden_states[-1].mean(dim=1), atol=1e-6)


def test_image_variant_embeds_every_frame_by_itself():
    model = SurgVistaModel(tiny(tubelet_size=1, key_bias=True, position_embedding_type="sincos_1d")).eval()
    assert model(clips(frames=3)).last_hidden_state.shape == (2, 48, 64)


def test_inference_in_pieces_gives_the_same_as_training_code():
    model = SurgVistaModel(tiny(num_frames=64)).eval()  # 512 tokens a clip, more than one piece together
    clip = clips(3, 64)
    with torch.no_grad():
        pieces = model(clip).last_hidden_state
    assert torch.allclose(pieces, model(clip).last_hidden_state, atol=1e-6)


# ------------------------------------------------------------------------------------------------- initialization


@torch.no_grad()
def test_initial_weights_follow_the_published_scheme():
    torch.manual_seed(0)
    model = SurgVistaForPreTraining(golden.pretraining_config(hidden_size=192, num_attention_heads=3))
    layer = model.surgvista.encoder.layers[0]
    fused_bound = math.sqrt(6 / (4 * 192))
    for projection in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj):
        assert fused_bound * 0.98 < float(projection.weight.abs().max()) <= fused_bound
    assert layer.attention.k_proj.bias is None
    assert not layer.attention.q_proj.bias.any()
    assert float(layer.mlp.fc1.weight.abs().max()) == pytest.approx(math.sqrt(6 / (5 * 192)), rel=0.02)
    patches = model.surgvista.embeddings.patch_embeddings.projection
    for tensor in (patches.weight, patches.bias):
        assert 0.9 / math.sqrt(384) < float(tensor.abs().max()) <= 1 / math.sqrt(384)
    mask_token = model.video_decoder.mask_token
    assert 0 < float(mask_token.abs().max()) <= 0.02


def test_base_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        pretraining = SurgVistaForPreTraining(SurgVistaConfig())
        classifier = SurgVistaForVideoClassification(SurgVistaConfig(num_labels=7))
    assert sum(parameter.numel() for parameter in pretraining.parameters()) == 98_450_176
    assert sum(parameter.numel() for parameter in classifier.parameters()) == 86_232_583


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_not_in_the_checkpoint_is_right_after_loading(tmp_path, dtype):
    model = SurgVistaForPreTraining(tiny())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path, dtype=dtype)
    buffers = dict(loaded.named_buffers())
    assert len(buffers) == 5
    for name, buffer in model.named_buffers():
        assert torch.equal(buffers[name], buffer.to(buffers[name].dtype)), name
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert torch.isfinite(loaded(**inputs_of(model)).loss)


def test_a_pretrained_encoder_loads_into_every_model(tmp_path):
    pretrained = SurgVistaForPreTraining(tiny()).eval()
    pretrained.save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(encoder(clips()).last_hidden_state, pretrained.surgvista(clips()).last_hidden_state)
    classifier, info = AutoModelForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {"fc_norm.weight", "fc_norm.bias", "classifier.weight", "classifier.bias"}
    expected = pretrained.surgvista.encoder.layers[2].mlp.fc2.weight
    assert torch.equal(classifier.surgvista.encoder.layers[2].mlp.fc2.weight, expected)


def test_drop_path_drops_whole_clips_and_keeps_the_expectation():
    drop_path = SurgVistaDropPath(0.25).train()
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(20_000, 3, 2))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(dropped.amin(dim=(1, 2)), dropped.amax(dim=(1, 2)))
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(drop_path.eval()(torch.ones(5, 3, 2)), torch.ones(5, 3, 2))


def test_drop_path_rates_grow_linearly_in_the_encoder_and_in_each_decoder():
    model = SurgVistaForPreTraining(golden.pretraining_config(drop_path_rate=0.1))
    rates = [layer.mlp_drop_path.rate for layer in model.surgvista.encoder.layers]
    assert rates == pytest.approx([0, 0.05, 0.1])
    assert [layer.mlp_drop_path.rate for layer in model.video_decoder.encoder.layers] == pytest.approx([0, 0.1])


# ------------------------------------------------------------------------------------------------- running anywhere


def test_forward_needs_no_value_on_the_host():
    """Run on the meta device, where nothing has a value, so any host synchronization would raise."""
    model = SurgVistaForPreTraining(tiny()).to("meta")
    output = model(**{name: tensor.to("meta") for name, tensor in inputs_of(model).items()})
    assert output.loss.device.type == "meta"
    assert output.video_logits.shape == (2, 24, 384)


@pytest.mark.slow
@pytest.mark.parametrize("model_class", MODELS)
def test_compiles_into_one_graph_with_the_same_result(model_class):
    torch._dynamo.reset()
    model = model_class(tiny()).eval()
    compiled = torch.compile(model, fullgraph=True)
    expected, output = model(**inputs_of(model)), compiled(**inputs_of(model))
    for name, value in expected.items():
        assert torch.allclose(output[name], value, atol=2e-5), name


@pytest.mark.slow
def test_a_compiled_model_refuses_a_mask_with_another_count():
    torch._dynamo.reset()
    compiled = torch.compile(SurgVistaModel(tiny()), fullgraph=True)
    with pytest.raises(RuntimeError, match="mask does not hide 24 tokens"):
        compiled(clips(), tube_mask(masked=4))


@pytest.mark.slow
def test_flex_attention_gives_the_same_result():
    torch._dynamo.reset()
    model = SurgVistaForVideoClassification(tiny()).eval().requires_grad_(False)
    expected = model(clips()).logits
    model.set_attn_implementation("flex_attention")
    assert torch.allclose(model(clips()).logits, expected, atol=1e-5)


def test_device_map_auto_loads_the_model(tmp_path):
    model = SurgVistaForVideoClassification(tiny()).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path, device_map="auto")
    assert torch.allclose(loaded(clips()).logits, model(clips()).logits, atol=1e-6)


def test_lora_trains_only_its_adapters_and_reloads_exactly(tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = SurgVistaForVideoClassification(tiny())
    base.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"], r=4)
    adapted = peft.get_peft_model(base, config)
    for name, parameter in adapted.named_parameters():  # LoRA's B matrices start at zero, which would hide everything
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted(clips(), labels=torch.tensor([0, 1])).loss.backward()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert all("lora_" in name or "classifier" in name for name in trained)
    assert sum("lora_A" in name for name in trained) == 6
    adapted.save_pretrained(tmp_path / "adapter")
    base_again = SurgVistaForVideoClassification.from_pretrained(tmp_path / "base")
    reloaded = peft.PeftModel.from_pretrained(base_again, tmp_path / "adapter")
    assert torch.equal(reloaded.eval()(clips()).logits, adapted.eval()(clips()).logits)


def test_with_keys_drop_path_depends_on_the_clip_and_the_module_only():
    model = SurgVistaForPreTraining(golden.pretraining_config(drop_path_rate=0.5)).train()
    numbers = golden.load("tiny_pretraining")
    clips, mask = numbers["io.videos_bcthw"].transpose(1, 2).repeat(8, 1, 1, 1, 1), numbers["io.mask"].repeat(8, 1)
    keys = torch.arange(len(clips)) * 7919

    def logits(order: torch.Tensor) -> torch.Tensor:
        model.set_drop_path_keys(keys[order])
        return model(clips[order], mask[order]).video_logits.detach()[order.argsort()]

    everything = torch.arange(len(clips))
    first = logits(everything)
    torch.manual_seed(123)
    torch.testing.assert_close(logits(everything.flip(0)), first, rtol=1e-4, atol=1e-5)
    model.set_drop_path_keys(keys + 1)
    assert not torch.allclose(model(clips, mask).video_logits, first, atol=1e-3)
    model.set_drop_path_keys(None)
    assert not torch.equal(model(clips, mask).video_logits, model(clips, mask).video_logits)


def test_keyed_numbers_are_uniform_and_independent_between_indices():
    keys = torch.arange(200_000)
    one, other = keyed_uniform(keys, 0), keyed_uniform(keys, 1)
    assert float(one.min()) >= 0
    assert float(one.max()) < 1
    counts = torch.histc(one, bins=20, min=0, max=1)
    assert float((counts - 10_000).abs().max()) < 500
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.01
    negative = keyed_uniform(torch.tensor([-1, -(2**63), 2**63 - 1]), 5)
    assert bool(((negative >= 0) & (negative < 1)).all())

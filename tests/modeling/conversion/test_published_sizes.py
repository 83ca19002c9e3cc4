"""Every converter plans the published sizes from the tensors alone, and takes no file of another family."""

import pytest

from surgvista_hf.modeling.conversion import FAMILIES, CheckpointError
from surgvista_hf.modeling.conversion.likely import explain_leftovers, used_tensors
from surgvista_hf.util.errors import SurgVistaError

from .published import PUBLISHED


def test_every_family_has_a_published_size():
    assert {family for family, _ in PUBLISHED} == set(FAMILIES)


@pytest.mark.parametrize(("family", "size"), PUBLISHED)
def test_a_published_size_is_planned_without_options_and_every_tensor_has_its_place(family, size):
    make, heads = PUBLISHED[family, size]
    tensors = make()
    blueprint = FAMILIES[family].plan(tensors, {})
    used = used_tensors(blueprint)
    assert used is not None
    assert set(used) | set(explain_leftovers(tensors, used, blueprint)) >= set(tensors)
    if heads is not None:
        found = blueprint.config.num_attention_heads
        assert (list(found) if isinstance(found, tuple) else found) == heads


@pytest.mark.parametrize(("family", "size"), PUBLISHED)
def test_no_other_family_takes_a_published_size_unless_nothing_tells_them_apart(family, size):
    tensors = PUBLISHED[family, size][0]()
    twins = {family, *FAMILIES[family].plan(tensors, {}).twins}
    takers = set()
    for other in FAMILIES.values():
        if other.name == family:  # that it takes the file is tested above
            continue
        try:
            blueprint = other.plan(tensors, {})
            used = used_tensors(blueprint)
            if used is not None:
                explain_leftovers(tensors, used, blueprint)
                takers.add(other.name)
        except SurgVistaError:
            continue
    assert takers <= twins


def test_surgmotion_has_its_frames_and_its_files():
    make, _ = PUBLISHED["surgmotion", "giant"]
    blueprint = FAMILIES["surgmotion"].plan(make(), {})
    config, processor = blueprint.config, blueprint.processor
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (1408, 40, 22)
    assert (config.frames_per_clip, config.crop_size) == (64, 256)
    assert (processor.num_frames, processor.frame_stride, processor.input_name) == (64, 1, "pixel_values_videos")
    assert FAMILIES["surgmotion"].hub == ("CAIR-HKISI/SurgMotion", "SurgMotion-vitl.pt")


def test_learned_activations_in_a_caformer_are_refused_and_can_be_had_on_request():
    import torch

    tensors = PUBLISHED["surgenet", "CAFormer-S18"][0]()
    for stage, depth in enumerate((3, 3, 9, 3)):
        for number in range(depth):
            names = ["mlp.act", *(["token_mixer.act1"] if stage < 2 else [])]
            for name in names:
                for kind in ("scale", "bias"):
                    tensors[f"stages.{stage}.blocks.{number}.{name}.{kind}"] = torch.empty(1, device="meta")
    with pytest.raises(CheckpointError, match="plain ReLU"):
        FAMILIES["surgenet"].plan(tensors, {})
    blueprint = FAMILIES["surgenet"].plan(tensors, {"hidden_act": "star_relu"})
    used = used_tensors(blueprint)
    assert used is not None
    assert explain_leftovers(tensors, used, blueprint) == {}

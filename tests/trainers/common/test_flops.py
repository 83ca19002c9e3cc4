"""The cost of a step in the log is counted, not guessed."""

import pytest
import torch
from transformers import ViTConfig, ViTModel

from surgvista_hf import SurgVistaConfig, SurgVistaForPreTraining
from surgvista_hf.trainers.common.flops import count_flops, peak_flops, utilization
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer
from surgvista_hf.trainers.pretraining.teachers import ImageTeacher

from .. import tiny


@pytest.mark.slow
def test_a_clip_of_the_base_recipe_costs_the_published_1301_gflop(frame_set, tmp_path):
    """Count 985 of them in the teacher, ViT-L on eight frames; the rest forward and backward of the student."""
    clips = tiny.clips(frame_set)
    clips.num_frames = 16
    vit = ViTConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    teacher = ImageTeacher(ViTModel(vit, add_pooling_layer=False))
    student = SurgVistaForPreTraining(SurgVistaConfig())
    alone = SurgVistaPretrainer(student, tiny.arguments(tmp_path), clips)
    whole = SurgVistaPretrainer(student, tiny.arguments(tmp_path), clips, teacher=teacher)
    without, with_teacher = count_flops(alone), count_flops(whole)
    # The published number embeds masked tokens too, which is 1 % more.
    assert with_teacher == pytest.approx(1301e9, rel=0.01)
    image_decoder = with_teacher - without - 985e9  # which does not run without a teacher
    assert 50e9 < image_decoder < 70e9


def test_counting_leaves_weights_gradients_and_the_generator_alone(frame_set, tmp_path):
    trainer = tiny.trainer(frame_set, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    first = count_flops(trainer)
    assert first == count_flops(trainer) > 0
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_the_log_tells_flop_per_second_and_their_share_of_a_stated_peak(frame_set, tmp_path):
    trainer = tiny.trainer(frame_set, tmp_path, peak_tflops=0.5, max_steps=2)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    for line in lines:
        assert line["mfu"] == pytest.approx(line["tflops_per_second"] / 0.5, abs=2e-4)
        assert line["tflops_per_second"] == pytest.approx(
            count_flops(trainer) * line["clips_per_second"] / 1e12, rel=0.02, abs=1e-4
        )


def test_devices_are_found_by_name_and_an_unknown_one_has_no_utilization(tmp_path):
    assert peak_flops("NVIDIA H100 80GB HBM3", half=True) == 989e12
    assert peak_flops("NVIDIA H100 PCIe", half=True) == 756e12
    assert peak_flops("NVIDIA L40S", half=True) != peak_flops("NVIDIA L4", half=True)
    assert peak_flops("NVIDIA A10G", half=False) == 62e12
    assert peak_flops("Some Other Chip", half=True) is None
    assert utilization(2e12, tiny.arguments(tmp_path)) == {"tflops_per_second": 2.0}

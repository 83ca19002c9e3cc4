"""What can only be checked on a CUDA device."""

import pytest
import torch

from surgvista_hf import SurgVistaForPreTraining
from surgvista_hf.modeling.conversion.mapping import map_tensors, surgvista_naming

from . import golden

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine"),
]


def test_a_pretraining_step_never_waits_for_the_device():
    model = SurgVistaForPreTraining(golden.pretraining_config()).cuda().train()
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(2, 4, 3, 32, 32, generator=generator).cuda()
    teacher = torch.randn(2, 32, 40, generator=generator).cuda()
    mask = (torch.rand(2, 16, generator=generator).argsort(dim=1) < 12).repeat(1, 2).cuda()
    model(clip, mask, teacher).loss.backward()  # warm-up: libraries synchronize when they are first used
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(clip, mask, teacher).loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_losses_on_the_device_equal_the_original(attention):
    numbers = golden.load("tiny_pretraining")
    model = SurgVistaForPreTraining(golden.pretraining_config(attn_implementation=attention))
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(map_tensors(shapes, surgvista_naming(), golden.part(numbers, "student.")).tensors)
    output = model.cuda()(
        numbers["io.videos_bcthw"].transpose(1, 2).cuda(),
        numbers["io.mask"].cuda(),
        numbers["io.teacher_features_all"].cuda(),
    )
    assert golden.differences(output.loss[None].cpu(), numbers["io.loss"]) <= 1e-4

"""What can only be checked on a CUDA device."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from surgvista_hf import SurgVistaConfig, SurgVistaForPreTraining
from surgvista_hf.modeling.adapters import AdapterRecipe, add_adapter, count_parameters, load_adapted, quantization
from surgvista_hf.modeling.conversion.mapping import map_tensors, surgvista_naming
from surgvista_hf.modeling.loading import load_classifier

from . import golden
from .conversion.families import LABELS, SINGLE, clips, encoder

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


def pretraining_step(attention: str) -> tuple[SurgVistaForPreTraining, dict[str, torch.Tensor]]:
    """Return a model on the device whose heads are as wide as those of base size, and a batch."""
    torch.manual_seed(0)
    sizes = {"image_size": 64, "num_frames": 8, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    for decoder in ("video", "image"):
        sizes |= {f"{decoder}_decoder_hidden_size": 128, f"{decoder}_decoder_num_attention_heads": 2}
    config = SurgVistaConfig(**sizes, image_target_size=32, mask_ratio=0.75, attn_implementation=attention)
    generator = torch.Generator().manual_seed(0)
    batch = {
        "pixel_values": torch.randn(2, 8, 3, 64, 64, generator=generator),
        "bool_masked_pos": (torch.rand(2, 16, generator=generator).argsort(dim=1) < 12).repeat(1, 4),
        "teacher_features": torch.randn(2, 64, 32, generator=generator),
    }
    return SurgVistaForPreTraining(config).cuda().train(), {name: value.cuda() for name, value in batch.items()}


def test_attention_in_bf16_runs_in_the_flash_kernel_forward_and_backward():
    """Forbid every other kernel: PyTorch raises an error where the flash kernel cannot be used."""
    model, batch = pretraining_step("sdpa")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.autocast("cuda", torch.bfloat16):
        model(**batch).loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_loss_and_gradients_in_bf16_are_near_those_in_fp32_with_attention_written_out():
    exact, batch = pretraining_step("eager")
    half, _ = pretraining_step("sdpa")
    half.load_state_dict(exact.state_dict())
    loss = exact(**batch).loss
    loss.backward()
    with torch.autocast("cuda", torch.bfloat16):
        loss_in_half = half(**batch).loss
    loss_in_half.backward()
    assert float(loss_in_half.detach()) == pytest.approx(float(loss.detach()), rel=0.01)
    gradients = [torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (exact, half)]
    assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.99


@pytest.mark.parametrize("method", ["lora", "probe"])
def test_a_base_in_4_bits_learns_on_the_device_and_its_adapter_is_loaded_exactly(method, tmp_path):
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("peft")
    start = encoder("surgvista", tmp_path / "base")
    torch.manual_seed(1)
    model = load_classifier(start, LABELS, SINGLE, num_frames=4, **quantization(4))
    whole = count_parameters(load_classifier(start, LABELS, SINGLE, num_frames=4))
    adapted = add_adapter(model, AdapterRecipe(method, rank=4, bits=4), start).cuda()
    assert count_parameters(adapted).bytes < 0.65 * whole.bytes
    inputs, labels = {model.main_input_name: clips("surgvista").cuda()}, torch.tensor([0, 2]).cuda()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(adapted(**inputs).logits.float(), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    if method == "lora":
        adapted.eval().save_pretrained(tmp_path / "adapter")
        model.config.save_pretrained(tmp_path / "adapter")
        again = load_adapted(tmp_path / "adapter", **quantization(4)).cuda().eval()
        with torch.no_grad():
            torch.testing.assert_close(
                again(**inputs).logits.float(), adapted(**inputs).logits.float(), rtol=0, atol=1e-3
            )

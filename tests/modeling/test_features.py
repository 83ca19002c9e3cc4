"""One extractor for every family: what the classifier sees, what an encoder's tokens say, safe among threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread, current_thread, main_thread

import pytest
import torch
from transformers import AutoModel, TimesformerConfig, TimesformerModel, ViTConfig, ViTModel

from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.features import FeatureExtractor
from surgvista_hf.modeling.loading import load_classifier

from .conversion.families import FAMILIES, LABELS, SINGLE, clips, encoder

VIDEO = ("surgvista", "videomae", "vjepa2")


def classifier(family: str, folder: Path, **changes) -> torch.nn.Module:
    model = load_classifier(encoder(family, folder), LABELS, SINGLE, num_frames=4, **changes).eval()
    torch.nn.init.normal_(model.classifier.weight, generator=torch.Generator().manual_seed(2))
    return model


@pytest.mark.parametrize("pooling", ["mean", "attentive"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_features_and_logits_of_a_classifier_come_from_one_pass(family, pooling, tmp_path):
    model = classifier(family, tmp_path, pooling=pooling)
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    features, output = FeatureExtractor(model)(clips(family))
    assert len(passes) == 1
    assert features.shape == (2, model.classifier.in_features)
    assert torch.equal(model.classifier(features), output.logits)
    assert torch.equal(model(clips(family)).logits, output.logits)
    if hasattr(model, "extract_features"):
        assert torch.equal(model.extract_features(clips(family)), features)


@pytest.mark.parametrize("family", VIDEO)
@torch.no_grad()
def test_features_of_a_video_encoder_are_means_of_its_tokens(family, tmp_path):
    model = AutoModel.from_pretrained(encoder(family, tmp_path)).eval()
    features, output = FeatureExtractor(model)(clips(family))
    by_tubelet = FeatureExtractor(model, pooling="tubelets")(clips(family)).features
    tokens = output.last_hidden_state
    torch.testing.assert_close(features, tokens.mean(dim=1))
    torch.testing.assert_close(by_tubelet, tokens.view(2, 2, -1, 64).mean(dim=2).flatten(1))
    if family == "surgvista":
        assert torch.equal(features, model.extract_features(clips(family)))
        assert torch.equal(by_tubelet.view(2, 2, 64), model.extract_features(clips(family), per_tubelet=True))


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "tubelets"])
def test_the_feature_of_a_timesformer_is_its_class_token(pooling):
    """transformers calls it an image model, but it sees clips; Endo-FM is one."""
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 16, "intermediate_size": 16}
    model = TimesformerModel(TimesformerConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    features, output = FeatureExtractor(model, pooling=pooling)(clips)
    assert torch.equal(features, output.last_hidden_state[:, 0])


@torch.no_grad()
def test_features_of_an_image_encoder_are_its_pooled_output_averaged_over_frames(tmp_path):
    model = AutoModel.from_pretrained(encoder("convnext", tmp_path)).eval()
    pixels = clips("convnext")
    expected = torch.stack([model(clip).pooler_output.mean(dim=0) for clip in pixels])
    torch.testing.assert_close(FeatureExtractor(model)(pixels).features, expected)
    without = ViTModel(ViTConfig(**FAMILIES["vit"]), add_pooling_layer=False)
    with pytest.raises(InputError, match="ViTModel has no pooled output"):
        FeatureExtractor(without)(clips("vit"))


@torch.no_grad()
def test_the_input_of_any_layer_can_be_asked_for_and_options_reach_the_model(tmp_path):
    model = classifier("surgvista", tmp_path)
    features, output = FeatureExtractor(model, layer="fc_norm")(clips("surgvista"), output_hidden_states=True)
    assert torch.equal(model.classifier(model.fc_norm(features)), output.logits)
    assert len(output.hidden_states) == 3


def test_the_model_is_left_as_it_was_also_after_an_error(tmp_path):
    model = classifier("surgvista", tmp_path)
    extractor = FeatureExtractor(model)
    extractor(clips("surgvista"))
    with pytest.raises(InputError):
        extractor(torch.zeros(1, 4, 2, 32, 32))
    assert not model.classifier._forward_pre_hooks
    assert not extractor._lock.locked()


def test_threads_that_share_an_extractor_get_their_own_features(tmp_path):
    extractor = FeatureExtractor(classifier("surgvista", tmp_path))
    inputs = [torch.full((1 + number, 4, 3, 32, 32), float(number)) for number in range(3)]
    with torch.no_grad():
        expected = [extractor(pixels).features for pixels in inputs]

    @torch.no_grad()
    def all_equal(number: int) -> bool:
        return all(torch.equal(extractor(inputs[number]).features, expected[number]) for _ in range(20))

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(all_equal, range(3))) == [True] * 3


@torch.no_grad()
def test_a_pass_of_another_thread_without_the_extractor_leaves_no_trace(tmp_path):
    """As when a clip is explained while others are predicted."""
    model = classifier("surgvista", tmp_path)
    expected = FeatureExtractor(model)(clips("surgvista")).features

    def run_elsewhere(*_: object) -> None:
        if current_thread() is main_thread():
            other = Thread(target=model, args=(torch.zeros(3, 4, 3, 32, 32),))
            other.start()
            other.join()

    model.classifier.register_forward_hook(run_elsewhere)  # behind the layer whose input is kept
    assert torch.equal(FeatureExtractor(model)(clips("surgvista")).features, expected)

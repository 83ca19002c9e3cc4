"""Registration of our models with the Auto classes of transformers, without importing torch before somebody needs it.

Each of transformers' registries lives in a module of its own. When one is imported, the file of ours that belongs in it is
imported too; when that is done, in whichever order it came about, its classes are registered.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

from .errors_surgvista import explain_missing_weights

_AUTO = "transformers.models.auto"
_LAYERS = "transformers.modeling_layers"
_OURS = __package__


def _register_configuration(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.configuration_auto")
    auto.AutoConfig.register(ours.SurgVistaConfig.model_type, ours.SurgVistaConfig, exist_ok=True)
    wrapt.wrap_function_wrapper(auto, "AutoConfig.from_pretrained", _with_explanation)


def _register_models(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.modeling_auto")
    for registry, model in (
        (auto.AutoModel, ours.SurgVistaModel),
        (auto.AutoModelForPreTraining, ours.SurgVistaForPreTraining),
        (auto.AutoModelForVideoClassification, ours.SurgVistaForVideoClassification),
    ):
        registry.register(ours.SurgVistaConfig, model, exist_ok=True)


def _register_encoder_configuration(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.configuration_auto")
    auto.AutoConfig.register(ours.SurgicalEncoderConfig.model_type, ours.SurgicalEncoderConfig, exist_ok=True)


def _register_encoder_models(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.modeling_auto")
    auto.AutoModelForVideoClassification.register(
        ours.SurgicalEncoderConfig, ours.SurgicalEncoderForVideoClassification, exist_ok=True
    )


def _register_surgenet_configurations(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.configuration_auto")
    for config in (ours.CaformerConfig, ours.SurgeNetPvtConfig):
        auto.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_surgenet_models(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.modeling_auto")
    for model in (ours.CaformerModel, ours.SurgeNetPvtModel):
        auto.AutoModel.register(model.config_class, model, exist_ok=True)


def _register_clip_configurations(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.configuration_auto")
    for config in (ours.FrameTimesformerConfig, ours.SurgicalClipConfig):
        auto.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_clip_models(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.modeling_auto")
    for model in (ours.FrameTimesformerModel, ours.SurgicalClipModel):
        auto.AutoModel.register(model.config_class, model, exist_ok=True)
    auto.AutoModelForZeroShotImageClassification.register(
        ours.SurgicalClipConfig, ours.SurgicalClipModel, exist_ok=True
    )


def _register_clip_processor(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.processing_auto")
    configuration = importlib.import_module(f"{_OURS}.configuration_surgical_clip")
    auto.AutoProcessor.register(configuration.SurgicalClipConfig, ours.SurgicalClipProcessor, exist_ok=True)


def _register_ms_tcn(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.configuration_auto")
    auto.AutoConfig.register(ours.MsTcnConfig.model_type, ours.MsTcnConfig, exist_ok=True)


def _register_video_head(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.configuration_auto")
    auto.AutoConfig.register(ours.VideoHeadConfig.model_type, ours.VideoHeadConfig, exist_ok=True)


def _register_processor(ours: ModuleType) -> None:
    from transformers.utils import is_torchvision_available

    if not is_torchvision_available():  # without it AutoVideoProcessor is a dummy that raises on any use
        return
    auto = importlib.import_module(f"{_AUTO}.video_processing_auto")
    configuration = importlib.import_module(f"{_OURS}.configuration_surgvista")
    auto.AutoVideoProcessor.register(configuration.SurgVistaConfig, ours.SurgVistaVideoProcessor, exist_ok=True)
    wrapt.wrap_function_wrapper(auto, "AutoVideoProcessor.from_pretrained", _with_explanation)


def _register_encoder_video_processor(ours: ModuleType) -> None:
    from transformers.utils import is_torchvision_available

    if not is_torchvision_available():
        return
    auto = importlib.import_module(f"{_AUTO}.video_processing_auto")
    configuration = importlib.import_module(f"{_OURS}.configuration_surgical_encoder")
    auto.AutoVideoProcessor.register(configuration.SurgicalEncoderConfig, ours.SurgicalVideoProcessor, exist_ok=True)


def _register_encoder_image_processor(ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.image_processing_auto")
    configuration = importlib.import_module(f"{_OURS}.configuration_surgical_encoder")
    classes = {"torchvision": ours.SurgicalImageProcessor}
    auto.AutoImageProcessor.register(
        configuration.SurgicalEncoderConfig, image_processor_classes=classes, exist_ok=True
    )


def _with_explanation(
    wrapped: Callable[..., object], instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> object:
    """Call a `from_pretrained`; where weights are known to be unpublished, its error says what to do instead."""
    name = args[0] if args else kwargs.get("pretrained_model_name_or_path")
    with explain_missing_weights(name):
        return wrapped(*args, **kwargs)


_REGISTRIES: tuple[tuple[str, str, Callable[[ModuleType], None]], ...] = (
    ("configuration_auto", "configuration_surgvista", _register_configuration),
    ("configuration_auto", "configuration_surgical_encoder", _register_encoder_configuration),
    ("configuration_auto", "configuration_surgenet", _register_surgenet_configurations),
    ("configuration_auto", "configuration_surgical_clip", _register_clip_configurations),
    ("configuration_auto", "configuration_ms_tcn", _register_ms_tcn),
    ("configuration_auto", "configuration_video_head", _register_video_head),
    ("modeling_auto", "modeling_surgvista", _register_models),
    ("modeling_auto", "modeling_surgical_encoder", _register_encoder_models),
    ("modeling_auto", "modeling_surgenet", _register_surgenet_models),
    ("modeling_auto", "modeling_surgical_clip", _register_clip_models),
    ("processing_auto", "processing_surgical_clip", _register_clip_processor),
    ("video_processing_auto", "video_processing_surgvista", _register_processor),
    ("video_processing_auto", "video_processing_encoder_surgvista", _register_encoder_video_processor),
    ("image_processing_auto", "image_processing_encoder_surgvista", _register_encoder_image_processor),
)


def register() -> None:
    """Register our classes with `AutoConfig`, `AutoModel*` and `AutoVideoProcessor` as soon as those are imported."""
    for theirs, ours, register_classes in _REGISTRIES:
        wrapt.register_post_import_hook(register_classes, f"{_OURS}.{ours}")
        wrapt.register_post_import_hook(functools.partial(_import_ours, ours), f"{_AUTO}.{theirs}")
        if theirs == "modeling_auto":
            wrapt.register_post_import_hook(functools.partial(_import_ours_if_wanted, ours), _LAYERS)


def _import_ours(name: str, theirs: ModuleType) -> None:
    """Import a file of ours; one with models later, if the layers they are made of are what imports the registry."""
    layers = sys.modules.get(_LAYERS)
    being_imported = layers is not None and not hasattr(layers, "GradientCheckpointingLayer")
    if not (being_imported and theirs.__name__ == f"{_AUTO}.modeling_auto"):
        importlib.import_module(f"{_OURS}.{name}")


def _import_ours_if_wanted(name: str, _: ModuleType) -> None:
    """Import a file of ours whose import was put off."""
    if f"{_AUTO}.modeling_auto" in sys.modules:
        importlib.import_module(f"{_OURS}.{name}")

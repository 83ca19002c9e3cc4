"""Registration of our models with the Auto classes of transformers, without importing torch before somebody needs it.

Each of transformers' registries lives in a module of its own. When one is imported, the file of ours that belongs in it is
imported too; when that is done, in whichever order it came about, its classes are registered.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from ..util.import_hooks import when_imported

_AUTO = "transformers.models.auto"
_LAYERS = "transformers.modeling_layers"
_OURS = __package__


# For each module of ours the classes that belong in transformers' registries.
_CONFIGURATIONS = {
    "configuration_surgvista": ("SurgVistaConfig",),
    "configuration_surgical_encoder": ("SurgicalEncoderConfig",),
    "configuration_surgenet": ("CaformerConfig", "SurgeNetPvtConfig"),
    "configuration_surgical_clip": ("FrameTimesformerConfig", "SurgicalClipConfig"),
    "configuration_ms_tcn": ("MsTcnConfig",),
    "configuration_video_head": ("VideoHeadConfig",),
}
_MODELS: dict[str, dict[str, tuple[str, ...]]] = {
    "modeling_surgvista": {
        "AutoModel": ("SurgVistaModel",),
        "AutoModelForPreTraining": ("SurgVistaForPreTraining",),
        "AutoModelForVideoClassification": ("SurgVistaForVideoClassification",),
    },
    "modeling_surgical_encoder": {"AutoModelForVideoClassification": ("SurgicalEncoderForVideoClassification",)},
    "modeling_surgenet": {"AutoModel": ("CaformerModel", "SurgeNetPvtModel")},
    "modeling_surgical_clip": {
        "AutoModel": ("FrameTimesformerModel", "SurgicalClipModel"),
        "AutoModelForZeroShotImageClassification": ("SurgicalClipModel",),
    },
}


class _Processor(NamedTuple):
    """The place of a processor: its class, the Auto class, and the configuration of the models that it prepares for."""

    name: str
    auto_class: str
    registry: str
    configuration: str


_PROCESSORS = {
    "processing_surgical_clip": _Processor(
        "SurgicalClipProcessor", "AutoProcessor", "processing_auto", "configuration_surgical_clip.SurgicalClipConfig"
    ),
    "video_processing_surgvista": _Processor(
        "SurgVistaVideoProcessor",
        "AutoVideoProcessor",
        "video_processing_auto",
        "configuration_surgvista.SurgVistaConfig",
    ),
    "video_processing_encoder_surgvista": _Processor(
        "SurgicalVideoProcessor",
        "AutoVideoProcessor",
        "video_processing_auto",
        "configuration_surgical_encoder.SurgicalEncoderConfig",
    ),
    "image_processing_encoder_surgvista": _Processor(
        "SurgicalImageProcessor",
        "AutoImageProcessor",
        "image_processing_auto",
        "configuration_surgical_encoder.SurgicalEncoderConfig",
    ),
}


def _register_configurations(names: Sequence[str], ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.configuration_auto")
    for config in (getattr(ours, name) for name in names):
        auto.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models(classes: Mapping[str, Sequence[str]], ours: ModuleType) -> None:
    auto = importlib.import_module(f"{_AUTO}.modeling_auto")
    for auto_class, names in classes.items():
        for model in (getattr(ours, name) for name in names):
            getattr(auto, auto_class).register(model.config_class, model, exist_ok=True)


def _register_processor(processor: _Processor, ours: ModuleType) -> None:
    if not _works(processor.auto_class):
        return
    auto = importlib.import_module(f"{_AUTO}.{processor.registry}")
    module, config = processor.configuration.split(".")
    config_class = getattr(importlib.import_module(f"{_OURS}.{module}"), config)
    found = getattr(ours, processor.name)
    if processor.auto_class == "AutoImageProcessor":
        auto.AutoImageProcessor.register(config_class, image_processor_classes={"torchvision": found}, exist_ok=True)
    else:
        getattr(auto, processor.auto_class).register(config_class, found, exist_ok=True)


def _works(auto_class: str) -> bool:
    """Return whether an Auto class can be used: without torchvision `AutoVideoProcessor` is a dummy that raises on any use."""
    from transformers.utils import is_torchvision_available

    return auto_class != "AutoVideoProcessor" or is_torchvision_available()


def _explain(auto_class: str, auto: ModuleType) -> None:
    """Let the errors of an Auto class say what to do where weights are known to be unpublished."""
    from .errors_surgvista import explain_missing_weights

    if not _works(auto_class):
        return
    changed = getattr(auto, auto_class)
    wrapped = changed.__dict__["from_pretrained"].__func__

    @functools.wraps(wrapped)
    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> object:
        name = args[0] if args else kwargs.get("pretrained_model_name_or_path")
        with explain_missing_weights(name):
            return wrapped(cls, *args, **kwargs)

    changed.from_pretrained = classmethod(from_pretrained)


def register() -> None:
    """Register our classes with `AutoConfig`, `AutoModel*` and `Auto*Processor` as soon as those are imported."""
    for ours, names in _CONFIGURATIONS.items():
        _when_both_are_imported(ours, "configuration_auto", functools.partial(_register_configurations, names))
    for ours, classes in _MODELS.items():
        _when_both_are_imported(ours, "modeling_auto", functools.partial(_register_models, classes))
        when_imported(_LAYERS, functools.partial(_import_ours_if_wanted, ours))
    for ours, processor in _PROCESSORS.items():
        _when_both_are_imported(ours, processor.registry, functools.partial(_register_processor, processor))
    for auto_class, registry in (
        ("AutoConfig", "configuration_auto"),
        ("AutoVideoProcessor", "video_processing_auto"),
    ):
        when_imported(f"{_AUTO}.{registry}", functools.partial(_explain, auto_class))


def _when_both_are_imported(ours: str, registry: str, register_classes: Callable[[ModuleType], None]) -> None:
    """Import a module of ours after a registry of transformers, and call a function with ours when it is imported."""
    when_imported(f"{_OURS}.{ours}", register_classes)
    when_imported(f"{_AUTO}.{registry}", functools.partial(_import_ours, ours))


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

"""Surgical video foundation models as first-class citizens of the Hugging Face ecosystem.

Importing the package registers its models with the Auto classes of transformers; it loads neither torch nor transformers
before they are used.
"""

import importlib
from typing import TYPE_CHECKING

from .modeling import auto as _auto

if TYPE_CHECKING:
    from .clips import ClipDataset as ClipDataset
    from .datasets_scripts.frame_sets.load import load_frame_set as load_frame_set
    from .datasets_scripts.frame_sets.registry import list_datasets as list_datasets
    from .evaluation.metrics.classification import classification_metrics as classification_metrics
    from .evaluation.metrics.classification import cvs_metrics as cvs_metrics
    from .evaluation.metrics.classification import presence_metrics as presence_metrics
    from .evaluation.metrics.triplets import triplet_metrics as triplet_metrics
    from .evaluation.metrics.workflow import phase_metrics as phase_metrics
    from .inference import SurgicalVideoPredictor as SurgicalVideoPredictor
    from .modeling.configuration_ms_tcn import MsTcnConfig as MsTcnConfig
    from .modeling.configuration_surgvista import SurgVistaConfig as SurgVistaConfig
    from .modeling.configuration_video_head import VideoHeadConfig as VideoHeadConfig
    from .modeling.conversion import convert_checkpoint as convert_checkpoint
    from .modeling.errors_surgvista import VideoReadError as VideoReadError
    from .modeling.errors_surgvista import WeightsNotPublishedError as WeightsNotPublishedError
    from .modeling.modeling_ms_tcn import MsTcnForFrameClassification as MsTcnForFrameClassification
    from .modeling.modeling_surgvista import SurgVistaForPreTraining as SurgVistaForPreTraining
    from .modeling.modeling_surgvista import SurgVistaForVideoClassification as SurgVistaForVideoClassification
    from .modeling.modeling_surgvista import SurgVistaModel as SurgVistaModel
    from .modeling.modeling_video_head import VideoHeadForClassification as VideoHeadForClassification
    from .modeling.video_processing_surgvista import SurgVistaVideoProcessor as SurgVistaVideoProcessor
    from .trainers.common.arguments import FinetuningArguments as FinetuningArguments
    from .trainers.common.arguments import PretrainingArguments as PretrainingArguments
    from .trainers.finetuning.trainer import SurgicalFinetuner as SurgicalFinetuner
    from .trainers.pretraining.jepa import JepaArguments as JepaArguments
    from .trainers.pretraining.jepa import JepaPretrainer as JepaPretrainer
    from .trainers.pretraining.mae import MaeArguments as MaeArguments
    from .trainers.pretraining.mae import MaePretrainer as MaePretrainer
    from .trainers.pretraining.surgvista import SurgVistaPretrainer as SurgVistaPretrainer
    from .util.errors import InputError as InputError
    from .util.errors import SurgVistaError as SurgVistaError

__version__ = "0.1.0"

_HOMES = {
    "ClipDataset": "clips",
    "FinetuningArguments": "trainers.common.arguments",
    "InputError": "util.errors",
    "JepaArguments": "trainers.pretraining.jepa",
    "JepaPretrainer": "trainers.pretraining.jepa",
    "MaeArguments": "trainers.pretraining.mae",
    "MaePretrainer": "trainers.pretraining.mae",
    "MsTcnConfig": "modeling.configuration_ms_tcn",
    "MsTcnForFrameClassification": "modeling.modeling_ms_tcn",
    "PretrainingArguments": "trainers.common.arguments",
    "SurgVistaConfig": "modeling.configuration_surgvista",
    "SurgVistaError": "util.errors",
    "SurgVistaForPreTraining": "modeling.modeling_surgvista",
    "SurgVistaForVideoClassification": "modeling.modeling_surgvista",
    "SurgVistaModel": "modeling.modeling_surgvista",
    "SurgVistaPretrainer": "trainers.pretraining.surgvista",
    "SurgVistaVideoProcessor": "modeling.video_processing_surgvista",
    "SurgicalFinetuner": "trainers.finetuning.trainer",
    "SurgicalVideoPredictor": "inference",
    "VideoHeadConfig": "modeling.configuration_video_head",
    "VideoHeadForClassification": "modeling.modeling_video_head",
    "VideoReadError": "modeling.errors_surgvista",
    "WeightsNotPublishedError": "modeling.errors_surgvista",
    "classification_metrics": "evaluation.metrics.classification",
    "convert_checkpoint": "modeling.conversion",
    "cvs_metrics": "evaluation.metrics.classification",
    "list_datasets": "datasets_scripts.frame_sets.registry",
    "load_frame_set": "datasets_scripts.frame_sets.load",
    "phase_metrics": "evaluation.metrics.workflow",
    "presence_metrics": "evaluation.metrics.classification",
    "triplet_metrics": "evaluation.metrics.triplets",
}

__all__ = ["__version__", *_HOMES]

_auto.register()


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names without importing them."""
    return sorted(__all__)

"""Surgical video foundation models as first-class citizens of the Hugging Face ecosystem.

Importing the package registers its models with the Auto classes of transformers; it loads neither torch nor transformers
before they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .modeling import auto as _auto

if TYPE_CHECKING:
    from .clips import ClipDataset as ClipDataset
    from .datasets_scripts.frame_set import load_frame_set as load_frame_set
    from .datasets_scripts.registry import list_datasets as list_datasets
    from .evaluation.classification import classification_metrics as classification_metrics
    from .evaluation.classification import cvs_metrics as cvs_metrics
    from .evaluation.classification import presence_metrics as presence_metrics
    from .evaluation.triplets import triplet_metrics as triplet_metrics
    from .evaluation.workflow import phase_metrics as phase_metrics
    from .inference import SurgicalVideoPredictor as SurgicalVideoPredictor
    from .modeling.configuration_ms_tcn import MsTcnConfig as MsTcnConfig
    from .modeling.configuration_surgvista import SurgVistaConfig as SurgVistaConfig
    from .modeling.configuration_video_head import VideoHeadConfig as VideoHeadConfig
    from .modeling.conversion import convert_checkpoint as convert_checkpoint
    from .modeling.errors_surgvista import InputError as InputError
    from .modeling.errors_surgvista import SurgVistaError as SurgVistaError
    from .modeling.errors_surgvista import VideoReadError as VideoReadError
    from .modeling.errors_surgvista import WeightsNotPublishedError as WeightsNotPublishedError
    from .modeling.modeling_ms_tcn import MsTcnForFrameClassification as MsTcnForFrameClassification
    from .modeling.modeling_surgvista import SurgVistaForPreTraining as SurgVistaForPreTraining
    from .modeling.modeling_surgvista import SurgVistaForVideoClassification as SurgVistaForVideoClassification
    from .modeling.modeling_surgvista import SurgVistaModel as SurgVistaModel
    from .modeling.modeling_video_head import VideoHeadForClassification as VideoHeadForClassification
    from .modeling.video_processing_surgvista import SurgVistaVideoProcessor as SurgVistaVideoProcessor
    from .trainers.arguments import FinetuningArguments as FinetuningArguments
    from .trainers.arguments import PretrainingArguments as PretrainingArguments
    from .trainers.finetuning import SurgicalFinetuner as SurgicalFinetuner
    from .trainers.jepa import JepaArguments as JepaArguments
    from .trainers.jepa import JepaPretrainer as JepaPretrainer
    from .trainers.mae import MaeArguments as MaeArguments
    from .trainers.mae import MaePretrainer as MaePretrainer
    from .trainers.surgvista import SurgVistaPretrainer as SurgVistaPretrainer

__version__ = "0.1.0"

_HOMES = {
    "ClipDataset": "clips",
    "FinetuningArguments": "trainers.arguments",
    "InputError": "modeling.errors_surgvista",
    "JepaArguments": "trainers.jepa",
    "JepaPretrainer": "trainers.jepa",
    "MaeArguments": "trainers.mae",
    "MaePretrainer": "trainers.mae",
    "MsTcnConfig": "modeling.configuration_ms_tcn",
    "MsTcnForFrameClassification": "modeling.modeling_ms_tcn",
    "PretrainingArguments": "trainers.arguments",
    "SurgVistaConfig": "modeling.configuration_surgvista",
    "SurgVistaError": "modeling.errors_surgvista",
    "SurgVistaForPreTraining": "modeling.modeling_surgvista",
    "SurgVistaForVideoClassification": "modeling.modeling_surgvista",
    "SurgVistaModel": "modeling.modeling_surgvista",
    "SurgVistaPretrainer": "trainers.surgvista",
    "SurgVistaVideoProcessor": "modeling.video_processing_surgvista",
    "SurgicalFinetuner": "trainers.finetuning",
    "SurgicalVideoPredictor": "inference",
    "VideoHeadConfig": "modeling.configuration_video_head",
    "VideoHeadForClassification": "modeling.modeling_video_head",
    "VideoReadError": "modeling.errors_surgvista",
    "WeightsNotPublishedError": "modeling.errors_surgvista",
    "classification_metrics": "evaluation.classification",
    "convert_checkpoint": "modeling.conversion",
    "cvs_metrics": "evaluation.classification",
    "list_datasets": "datasets_scripts.registry",
    "load_frame_set": "datasets_scripts.frame_set",
    "phase_metrics": "evaluation.workflow",
    "presence_metrics": "evaluation.classification",
    "triplet_metrics": "evaluation.triplets",
}

__all__ = ["__version__", *_HOMES]

_auto.register()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)

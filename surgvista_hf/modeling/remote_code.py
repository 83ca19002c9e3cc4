"""Writing our Python files beside a saved model, so that `trust_remote_code=True` works where the package is not installed."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from ..util.files import write_json

_HERE = Path(__file__).parent
_CLASSES: dict[str, dict[str, str]] = {
    "surgvista": {
        "AutoConfig": "configuration_surgvista.SurgVistaConfig",
        "AutoModel": "modeling_surgvista.SurgVistaModel",
        "AutoModelForPreTraining": "modeling_surgvista.SurgVistaForPreTraining",
        "AutoModelForVideoClassification": "modeling_surgvista.SurgVistaForVideoClassification",
    },
    "surgical_encoder": {
        "AutoConfig": "configuration_surgical_encoder.SurgicalEncoderConfig",
        "AutoModelForVideoClassification": "modeling_surgical_encoder.SurgicalEncoderForVideoClassification",
    },
    "surgical_clip": {
        "AutoConfig": "configuration_surgical_clip.SurgicalClipConfig",
        "AutoModel": "modeling_surgical_clip.SurgicalClipModel",
        "AutoModelForZeroShotImageClassification": "modeling_surgical_clip.SurgicalClipModel",
    },
    "frame_timesformer": {
        "AutoConfig": "configuration_frame_timesformer.FrameTimesformerConfig",
        "AutoModel": "modeling_surgical_clip.FrameTimesformerModel",
    },
    "surgenet_caformer": {
        "AutoConfig": "configuration_surgenet.CaformerConfig",
        "AutoModel": "modeling_surgenet.CaformerModel",
    },
    "surgenet_pvt_v2": {
        "AutoConfig": "configuration_surgenet.SurgeNetPvtConfig",
        "AutoModel": "modeling_surgenet.SurgeNetPvtModel",
    },
    "ms_tcn": {
        "AutoConfig": "configuration_ms_tcn.MsTcnConfig",
        "AutoModel": "modeling_ms_tcn.MsTcnForFrameClassification",
    },
    "video_head": {
        "AutoConfig": "configuration_video_head.VideoHeadConfig",
        "AutoModel": "modeling_video_head.VideoHeadForClassification",
    },
}
_PROCESSORS = {
    "SurgVistaVideoProcessor": {"AutoVideoProcessor": "video_processing_surgvista.SurgVistaVideoProcessor"},
    "SurgicalVideoProcessor": {"AutoVideoProcessor": "video_processing_encoder_surgvista.SurgicalVideoProcessor"},
}


def add_remote_code(folder: str | Path) -> None:
    """Add the code files that a saved model and its processor need, and name their classes in `auto_map`.

    Args:
        folder: folder in which `save_pretrained` wrote the model and, if any, its processor. A model that transformers has a
            class for, such as an image teacher, needs no code and is left as it is.

    Example:
        >>> add_remote_code("runs/phases/model")  # doctest: +SKIP
        >>> AutoModelForVideoClassification.from_pretrained("runs/phases/model", trust_remote_code=True)  # doctest: +SKIP
    """
    folder = Path(folder)
    for name, key, known in (
        ("config.json", "model_type", _CLASSES),
        ("video_preprocessor_config.json", "video_processor_type", _PROCESSORS),
    ):
        file = folder / name
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        entries = known.get(str(content.get(key)))
        if entries is None:
            continue
        for module in {entry.partition(".")[0] for entry in entries.values()}:
            _copy_with_imports(_HERE / f"{module}.py", folder)
        write_json(file, {**content, "auto_map": entries}, indent=2, sort_keys=True)


def _copy_with_imports(module: Path, folder: Path) -> None:
    for file in (module, *map(Path, get_relative_import_files(module))):
        shutil.copyfile(file, folder / file.name)

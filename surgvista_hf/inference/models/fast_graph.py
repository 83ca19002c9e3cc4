"""The 8-bit graph of a classifier, exported at first use and kept in a cache for the next time."""

import logging
import os
from pathlib import Path

import torch
from filelock import FileLock
from huggingface_hub import constants

from ...util.console import Steps
from ...util.files import content_hash
from ...util.fingerprint import weights_fingerprint
from .clip_model import ClipModel
from .onnx_export import OnnxClipModel, export_model

logger = logging.getLogger(__name__)
_VERSION = 1  # of what an export holds; another one is another entry of the cache


def load_fast(name: str | os.PathLike[str], frame_stride: float | None = None) -> OnnxClipModel:
    """Load the 8-bit graph of a saved classifier; the first time it is exported, which takes about a minute.

    The cache is `surgvista_hf/graphs` in the cache of the Hub (`HF_HOME`). An entry belongs to the fingerprint of the weights:
    a model that was trained anew gets another one, and copies of a model share one. It may be deleted at any time.

    Args:
        name: folder or Hub id of a classifier, or of an adapter with its base.
        frame_stride: the argument of `ClipModel`.

    Returns:
        The graph, under the name and fingerprint of the classifier: what differs is its `dtype`.

    Raises:
        InputError: nothing can be loaded, or the packages for an export are not installed.

    Example:
        >>> load_fast("my-phase-model").dtype  # doctest: +SKIP
        'int8'
    """
    name = os.fspath(name)
    # What a name on the Hub means is only known once the model was fetched.
    model = None if Path(name).is_dir() else _load(name, frame_stride)
    key = content_hash([_VERSION, weights_fingerprint(name), frame_stride, torch.__version__])
    folder = Path(constants.HF_HOME) / "surgvista_hf" / "graphs" / f"{key}-int8"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # processes of one run need it at the same time
        if not folder.exists():
            with Steps()(f"export {name} in 8 bits, once"):
                export_model(model or _load(name, frame_stride), folder, int8=True)
            logger.info("the 8-bit graph of %s is kept in %s", name, folder)
    return OnnxClipModel(folder, frame_stride, source=name)


def _load(name: str, frame_stride: float | None) -> ClipModel:
    return ClipModel.load(name, device="cpu", dtype="float32", frame_stride=frame_stride)

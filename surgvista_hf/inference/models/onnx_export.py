"""Export of classifiers to graphs that run without this package: ONNX and torch.export, checked against the model."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from ...modeling.confidence import Confidence
from ...modeling.features import FeatureExtractor
from ...modeling.loading import frame_size
from ...util.errors import InputError, SurgVistaError
from ...util.files import atomic_folder, write_json
from ...util.messages import first_line
from ...util.requirements import require
from .clip_model import ClipModel

Format = Literal["onnx", "torch-export"]
FILES = {"onnx": "model.onnx", "torch-export": "model.pt2"}
_TOLERANCE = 1e-3  # allowed difference of fp32 logits, relative to the largest logit
_LARGEST_BATCH = 1024


class ExportError(SurgVistaError):
    """A graph does not compute what the model does."""


@dataclass(frozen=True)
class ExportReport:
    """The agreement of a graph with its model on random clips.

    Args:
        format: format of the graph, `"onnx"` or `"torch-export"`.
        int8: whether the weights of matrix products have 8 bits.
        largest_difference: largest absolute difference of a logit.
        largest_logit: largest absolute logit of the model, to compare the difference with.
        agreement: fraction of the clips with the same most probable class.
        bytes: size of the graph.
        fingerprints: fingerprints of the model that the graph was made from, as `ClipModel.fingerprints` gives them.
    """

    format: str
    int8: bool
    largest_difference: float
    largest_logit: float
    agreement: float
    bytes: int
    fingerprints: tuple[str, ...] = ()


def export_model(model: ClipModel, folder: str | Path, format: Format = "onnx", *, int8: bool = False) -> ExportReport:
    """Write a graph with a batch of any size, and what is needed to use it.

    Args:
        model: a model in fp32, on a CPU or GPU.
        folder: output folder for the graph, which maps `pixel_values` (batch, frames, channels, height, width) to `logits`
            (batch, classes) and `features` (batch, width), its configuration and processor, and the report `export.json`.
        format: `"onnx"` or `"torch-export"`.
        int8: dynamic quantization of matrix products, for ONNX: smaller, and faster on many CPUs.

    Returns:
        The agreement of the graph with the model.

    Raises:
        InputError: there is no such format, 8 bits are requested without ONNX, or libraries are not installed.
        ExportError: the fp32 graph computes something else.
        OutputError: the folder is not empty.
    """
    if format not in FILES:
        raise InputError(f"format is {format!r}; it must be one of {', '.join(FILES)}")
    if int8 and format != "onnx":
        raise InputError("8 bits are for format onnx only")
    if format == "onnx":
        require("onnx_export")
    height, width = frame_size(model.model.config)
    channels = int(getattr(model.model.config, "num_channels", 3))
    random = torch.Generator().manual_seed(0)
    clips = torch.randn(5, model.num_frames, channels, height, width, generator=random)
    graph = _Graph(model.model).to("cpu")
    try:
        with torch.no_grad():
            expected = graph(clips)[0].numpy()
            batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
            exported = torch.export.export(graph, (clips[:2],), dynamic_shapes={"pixel_values": {0: batch}})
    finally:
        model.model.to(model.device)
    with atomic_folder(folder) as temporary:
        file = temporary / FILES[format]
        if format == "onnx":
            _write_onnx(exported, file, int8)
            found = np.concatenate([_run_onnx(file, clips[:1]), _run_onnx(file, clips[1:])])
        else:
            torch.export.save(exported, file)
            loaded: Any = torch.export.load(file).module()
            with torch.no_grad():
                found = np.concatenate([loaded(clips[:1])[0].numpy(), loaded(clips[1:])[0].numpy()])
        report = ExportReport(
            format=format,
            int8=int8,
            largest_difference=float(np.abs(found - expected).max()),
            largest_logit=float(np.abs(expected).max()),
            agreement=float((found.argmax(1) == expected.argmax(1)).mean()),
            bytes=sum(path.stat().st_size for path in temporary.iterdir()),
            fingerprints=model.fingerprints,
        )
        if not int8 and report.largest_difference > _TOLERANCE * max(report.largest_logit, 1.0):
            raise ExportError(
                f"the graph's logits differ by {report.largest_difference:.2g} from the model's, whose largest is "
                f"{report.largest_logit:.2g}"
            )
        if model.num_frames > 1:
            # The user may have given it as an argument; the graph must know it without.
            model.model.config.frame_stride = model.frame_stride
        model.model.config.save_pretrained(temporary)
        model.processor.save_pretrained(temporary)
        model.confidence.save(temporary)  # the graph gives logits: temperature and familiarity travel beside it
        write_json(temporary / "export.json", asdict(report))
    return report


class _Graph(torch.nn.Module):
    """Gives logits (B, classes) and features (B, D) of clips as a tuple, which a graph can have for its output."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.extractor = FeatureExtractor(model)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and the features of prepared clips (B, frames, channels, height, width)."""
        features, output = self.extractor(pixel_values)
        return output.logits, features


def _write_onnx(exported: Any, file: Path, int8: bool) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with redirect_stdout(io.StringIO()):
        program: Any = torch.onnx.export(exported, dynamo=True, output_names=["logits", "features"], verbose=False)
    program.save(str(file))
    if int8:
        whole = onnx.load(str(file))
        del whole.graph.value_info[:]  # shapes of the exporter, which the quantizer takes for contradictions
        onnx.save(whole, str(file))
        quantize_dynamic(str(file), str(file), weight_type=QuantType.QInt8)
        file.with_name(file.name + ".data").unlink(missing_ok=True)


def _run_onnx(file: Path, clips: torch.Tensor) -> np.ndarray:
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"pixel_values": clips.numpy()})[0])


class OnnxClipModel(ClipModel):
    """A graph that `export_model` wrote, with the interface of a model.

    Args:
        folder: folder of the graph.
        frame_stride: the argument of `ClipModel`.
        source: folder or Hub id of the classifier, for a graph that goes by its name and fingerprint; the graph has its own by
            default.

    Raises:
        InputError: there is no graph, or onnxruntime is not installed.
    """

    def __init__(self, folder: str | Path, frame_stride: float | None = None, *, source: str | None = None) -> None:
        require("onnx")
        from onnxruntime import InferenceSession, SessionOptions, get_available_providers
        from transformers import AutoConfig, AutoVideoProcessor

        folder = Path(folder)
        if not (folder / FILES["onnx"]).is_file():
            raise InputError(
                f"{folder} holds no {FILES['onnx']}: surgvista export MODEL --format onnx --output {folder}"
            )
        self.config = AutoConfig.from_pretrained(folder)
        processor = AutoVideoProcessor.from_pretrained(folder)
        self._describe(self.config, processor, source or str(folder), frame_stride, Confidence.load(folder))
        self.folder, self._is_saved = folder, True
        self.dtype = "int8" if _export_report(folder).get("int8") else "float32"
        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # one budget for both runtimes
        try:
            self.session = InferenceSession(str(folder / FILES["onnx"]), options, providers=get_available_providers())
        except Exception as error:  # the exception types of onnxruntime are not documented
            raise InputError(f"{folder / FILES['onnx']} cannot be loaded: {first_line(error)}") from error

    def run(self, clips: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Run the graph on clips, as `ClipModel.run` runs a model."""
        logits, features = self.session.run(["logits", "features"], {"pixel_values": clips.numpy()})
        return self.probabilities(torch.from_numpy(logits)), np.asarray(features)

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """Return its own fingerprint, and those of the model it was made from, whose features it gives."""
        return self.fingerprint, *_export_report(self.folder).get("fingerprints", ())

    def describe(self) -> dict[str, str]:
        """Return a description for reports, as `ClipModel.describe` does."""
        return {**self._description(), "runs in": "ONNX Runtime", "precision": self.precision}

    @property
    def precision(self) -> str:
        """Return what it computes in, for people."""
        return "int8 (ONNX Runtime)" if self.dtype == "int8" else "float32 (ONNX Runtime)"


def _export_report(folder: Path) -> dict[str, Any]:
    """Return the report beside a graph; empty where there is none."""
    file = folder / "export.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

"""The web demo: upload or example, progress, timeline, seconds, likely classes, heat maps, and files to download.

Labels that are uploaded with a video stand below its prediction, and segments can be corrected. Videos are decoded in a
limited process (`modeling/subprocess_decoding.py`); this process never opens them. The uploads of a visitor and what was made
of them are deleted when the visitor leaves.
"""

import filecmp
import html
import os
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "0")  # nothing is sent anywhere

import gradio as gr
import numpy as np

from ..datasets_scripts.own_labels.phase_files import read_phase_file
from ..inference import SurgicalVideoPredictor, VideoPrediction
from ..inference.explanations import gradient_heatmap, overlay
from ..inference.models.clip_model import ClipModel
from ..inference.prediction.comparison import LabelComparison, compare_with_labels
from ..inference.writers.annotations import write_elan_tiers
from ..inference.writers.report import timeline_html, warning_html, write_report
from ..modeling.subprocess_decoding import SubprocessVideo, VideoLimits
from ..modeling.video_processing_surgvista import TOLERANCE, online_clip_seconds
from ..util.errors import InputError, SurgVistaError
from ..util.pages import clock
from .example import rendered_operation
from .labels import SEGMENT_HEADERS, corrected_tiers, read_labels, segment_rows
from .sessions import VisitorFiles

_HEATMAPS = 6
_TOP = 5
_FORMATS = ("csv", "json", "vtt", "eaf")
_NOTICE = """<div role="note" class="notice"><strong>Research use only, not a medical device.</strong>
Never use it for decisions about patients. Upload nothing that shows or names a person: use recordings that may be
shared, or the rendered example. Uploads are deleted when you close the page.</div>"""
_FONT, _MONOSPACE = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")  # the visitor's own: no font is fetched
_CSS = """
.notice { background: #fff4ce; color: #1b1b1f; border-left: .4rem solid #b58900; padding: .6rem 1rem; border-radius: .3rem }
.warning { background: #fde3d3; color: #1b1b1f; border-left: .4rem solid #d55e00; padding: .6rem 1rem; border-radius: .3rem }
#timeline, #corrections { overflow-x: auto } #timeline { min-height: 9rem }
#timeline svg, #corrections svg { width: 100%; min-width: 34rem; height: auto }
#timeline .swatch, #corrections .swatch { display: inline-block; width: .9em; height: .9em }
#timeline .swatch, #corrections .swatch { border-radius: .15em; margin-right: .4em }
#timeline text, #corrections text { fill: currentColor }
"""

_Function = TypeVar("_Function", bound=Callable[..., object])


class Progress(Protocol):
    """A progress bar as gradio has one: called with the finished fraction, 0-1, and a description."""

    def __call__(self, fraction: float, /, desc: str) -> object: ...


def _on_gpu(function: _Function) -> _Function:
    """Have ZeroGPU lend a GPU for each call of a function, where the demo runs as a Space that has it."""
    spaces = import_module("spaces") if find_spec("spaces") else None
    gpu = getattr(spaces, "GPU", None)  # a folder of that name may be importable too
    return gpu(duration=120)(function) if gpu else function


@dataclass(frozen=True)
class SpaceSettings:
    """Settings of the demo.

    Args:
        models: folder or Hub id of trained classifiers by the name that visitors choose.
        limits: limits of size, length and cost of an upload.
        concurrency: number of predictions at a time.
        queue: number of visitors that may wait.
        device: device that runs the models; a GPU if there is one.
        out_of_body: folder or Hub id of a detector; frames that it finds outside the patient are redacted in all that is
            shown.
        frame_stride: seconds between two frames of a clip, for models whose configuration does not hold it.
        dtype: precision, the argument of `SurgicalVideoPredictor`.
    """

    models: Mapping[str, str]
    limits: VideoLimits = field(default_factory=VideoLimits)
    concurrency: int = 1
    queue: int = 20
    device: str | None = None
    out_of_body: str | None = None
    frame_stride: float | None = None
    dtype: str = "auto"


def find_models(folder: Path) -> dict[str, str]:
    """Return the models in a folder, by the names of their own folders."""
    return {path.parent.name: str(path.parent) for path in sorted(folder.glob("*/config.json"))}


class PageUpdate(NamedTuple):
    """The values that a prediction gives the components of the page; `build_app` has a component for each field.

    Args:
        timeline: remarks and timeline, as HTML.
        table: rows of time, class, confidence, and whether the second is like the training videos.
        heatmaps: images (height, width, 3), uint8, with their captions.
        files: paths of the report and the tables.
        second: the slider, from 0 to the last second.
        classes: probabilities of the most probable classes at second 0, by name.
        prediction: the prediction, which the page remembers for the slider and for corrections.
        segments: rows of start, end and class, which the visitor may correct.
        corrected: no file yet; it appears when the visitor saves corrections.
        message: nothing yet; what was saved.
    """

    timeline: str
    table: list[list[str | float]]
    heatmaps: list[tuple[np.ndarray, str]]
    files: list[str]
    second: gr.Slider
    classes: dict[str, float] | None
    prediction: VideoPrediction
    segments: list[list[str]]
    corrected: None = None
    message: str = ""


class Demo:
    """The functions behind the components of the page.

    Args:
        settings: models and limits.

    Raises:
        InputError: there is no model.
    """

    def __init__(self, settings: SpaceSettings) -> None:
        if not settings.models:
            raise InputError("the demo needs a model: `make demo` trains one on rendered images in demo/model")
        self.settings = settings
        self.files = VisitorFiles()
        self.example = rendered_operation(Path(tempfile.mkdtemp(prefix="surgvista-example-")))
        self._predictors: dict[str, SurgicalVideoPredictor] = {}
        self._lock = threading.Lock()

    def predictor(self, name: str) -> SurgicalVideoPredictor:
        """Return the predictor of a model by its name, loaded once."""
        with self._lock:
            if name not in self._predictors:
                self._predictors[name] = SurgicalVideoPredictor(
                    self.settings.models[name],
                    device=self.settings.device,
                    out_of_body=self.settings.out_of_body,
                    frame_stride=self.settings.frame_stride,
                    dtype=self.settings.dtype,
                )
            return self._predictors[name]

    def about(self, name: str) -> str:
        """Return Markdown on what a visitor should know about a model before trusting it."""
        model = next(iter(self.predictor(name).models.values()))
        model_info = model.describe()
        tested = model_info.get("tested, as its card says", "no results are on record for it").partition(";")[0]
        learned = f" It learned from {model_info['learned from']}." if "learned from" in model_info else ""
        if model.confidence.trained_on_rendered:
            learned += " These are rendered images: its predictions for real surgery mean nothing."
        limits = (
            " It marks every second that is unlike its training videos: its predictions mean nothing there."
            if model.confidence.familiarity is not None
            else " Whether your video is like those that it learned from is unknown."
        )
        return f"*{model_info['architecture']}, {model_info['input']}. Tested: {tested}.{learned}{limits}*"

    def predict(
        self, video: str | None, name: str, request: gr.Request, progress: Progress, labels: str | None = None
    ) -> PageUpdate:
        """Predict a video for a visitor.

        Args:
            video: path of the upload.
            name: name of the model.
            request: request of the visitor, whose session owns the files.
            progress: called with the finished fraction, 0-1, and a description.
            labels: path of the labels that were uploaded with the video; `None`: there are none.

        Returns:
            The values for the components of the page. Labels that cannot be read or compared cost a sentence, not the
            prediction.

        Raises:
            gr.Error: there is no video, or it cannot be predicted.
        """
        if not video:
            raise gr.Error("Upload a video first, or take the example below.", title="No video")
        visitor = str(request.session_hash)
        uploaded = not filecmp.cmp(video, self.example, shallow=False)  # the example belongs to no visitor
        if uploaded:
            self.files.keep(visitor, Path(video))
        if labels:
            self.files.keep(visitor, Path(labels))
        try:
            result = _predict(self.predictor(name), Path(video), self.settings.limits, progress)
        except SurgVistaError as error:
            if uploaded:
                self.files.release(visitor, Path(video))
            raise gr.Error(str(error), title="This video cannot be predicted") from error
        folder = Path(tempfile.mkdtemp(prefix="surgvista-space-"))
        self.files.keep(visitor, folder)
        comparison, problem = _compare(result, labels)
        return self._update(result, folder, comparison, problem)

    def _update(
        self, result: "DemoResult", folder: Path, comparison: LabelComparison | None, problem: str
    ) -> PageUpdate:
        """Write the files of a result, and return the values for the components of the page."""
        prediction = result.prediction
        written = prediction.save(folder, _FORMATS)
        write_report(
            {"prediction": prediction},
            folder / "report.html",
            frame_at=result.frame_at,
            model_info={"prediction": result.model_info},
            comparison=comparison,
        )
        unfamiliar = prediction.unfamiliar
        rows: list[list[str | float]] = [
            [
                clock(second),
                prediction.class_names[int(row.argmax())],
                round(float(row.max()), 3),
                "unknown" if unfamiliar is None else "no" if unfamiliar[step] else "yes",
            ]
            for step, (second, row) in enumerate(zip(prediction.seconds, prediction.probabilities, strict=True))
        ]
        last = float(prediction.seconds[-1])
        remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in prediction.remarks)
        return PageUpdate(
            timeline=warning_html(prediction) + problem + remarks + timeline_html(prediction, comparison),
            table=rows,
            heatmaps=result.heatmaps,
            files=[str(file) for file in (folder / "report.html", *written)],
            second=gr.Slider(minimum=0, maximum=max(last, 1), value=0, interactive=True),
            classes=likely(prediction, 0),
            prediction=prediction,
            segments=segment_rows(prediction),
        )

    def correct(
        self, rows: Sequence[Sequence[object]], prediction: VideoPrediction | None, request: gr.Request
    ) -> tuple[str, str]:
        """Write segments that a visitor corrected as an annotation document of ELAN.

        Args:
            rows: start, end and class of each segment, as the visitor left them.
            prediction: the prediction that they correct; `None`: nothing was predicted.
            request: request of the visitor, whose session owns the file.

        Returns:
            Path of the document, and HTML that says how the corrections differ from the prediction.

        Raises:
            gr.Error: there is no prediction, or the rows are no segments.
        """
        if prediction is None:
            raise gr.Error("Predict a video first: its segments appear here.", title="No segments")
        try:
            tiers = corrected_tiers(rows, prediction)
        except InputError as error:
            raise gr.Error(str(error), title="These segments cannot be saved") from error
        folder = Path(tempfile.mkdtemp(prefix="surgvista-space-"))
        self.files.keep(str(request.session_hash), folder)
        file = folder / f"{Path(prediction.video).stem}.eaf"
        write_elan_tiers(tiers, file, prediction.video)
        count = sum(map(len, tiers.values()))
        saved = f"<p>Saved {count} segment{'' if count == 1 else 's'} for ELAN. Put the file beside the video.</p>"
        if prediction.multi_label:
            return str(file), saved
        comparison = compare_with_labels(prediction, read_phase_file(file))
        return str(file), saved + timeline_html(prediction, comparison)

    def leave(self, request: gr.Request) -> None:
        """Delete the files of a visitor."""
        self.files.forget(str(request.session_hash))


def _compare(result: "DemoResult", labels: str | None) -> tuple[LabelComparison | None, str]:
    """Compare a result with uploaded labels; where that cannot be done, return HTML with a sentence that says why."""
    if not labels:
        return None, ""
    try:
        return compare_with_labels(
            result.prediction, read_labels(Path(labels)), frames_per_second=result.frames_per_second
        ), ""
    except SurgVistaError as error:
        reason = str(error).replace(str(labels), Path(labels).name)
        return None, f'<p class="warning" role="alert">The labels are not compared: {html.escape(reason)}.</p>'


def likely(prediction: VideoPrediction | None, second: float) -> dict[str, float] | None:
    """Return the probabilities of the most probable classes at a second; `None` where there is no prediction."""
    if prediction is None:
        return None
    if any(start <= second < end for start, end in prediction.missing):
        return None
    row = prediction.probabilities[int(np.abs(prediction.seconds - second).argmin())]
    order = np.argsort(-row)[:_TOP]
    return {prediction.class_names[number]: float(row[number]) for number in order}


@dataclass
class DemoResult:
    """A prediction with the images that are shown beside it.

    Args:
        prediction: prediction of the video.
        thumbnails: small frames (height, width, 3), uint8, by their second.
        heatmaps: heat maps (height, width, 3), uint8, with their captions.
        model_info: description of the model, as `ClipModel.describe` gives it.
        frames_per_second: frame rate that the file promises; `None`: it does not say.
    """

    prediction: VideoPrediction
    thumbnails: dict[float, np.ndarray]
    heatmaps: list[tuple[np.ndarray, str]]
    model_info: dict[str, str]
    frames_per_second: float | None = None

    def frame_at(self, second: float) -> np.ndarray:
        """Return the thumbnail (height, width, 3), uint8, nearest to a second."""
        return self.thumbnails[min(self.thumbnails, key=lambda known: abs(known - second))]


@_on_gpu
def _predict(predictor: SurgicalVideoPredictor, path: Path, limits: VideoLimits, progress: Progress) -> DemoResult:
    model = next(iter(predictor.models.values()))
    progress(0, desc="opening the video")
    with SubprocessVideo(path, limits, clips=model.spacing, **predictor.reading) as video:
        expected = min(video.info["duration_seconds"], 60 * limits.minutes)
        collector = _ThumbnailCollector(model, expected)
        frames = collector.collect(video, lambda fraction: progress(0.9 * fraction, desc="predicting"))
        prediction = predictor.predict_frames(frames, path.name, origin=0.0)["model"]
        prediction = replace(prediction, remarks=tuple(video.remarks), deinterlace=predictor.reading["deinterlace"])
    progress(0.92, desc="drawing heat maps")
    rate = video.info["frames_per_second"] or None
    return DemoResult(prediction, collector.thumbnails, collector.heatmaps(prediction), model.describe(), rate)


class _ThumbnailCollector:
    """Collect a thumbnail of every frame that a predictor reads, and draw heat maps of a few of them.

    Args:
        model: the model that predicts.
        seconds: expected length of the video.
    """

    def __init__(self, model: ClipModel, seconds: float) -> None:
        self.model, self.seconds = model, max(seconds, 1.0)
        self.thumbnails: dict[float, np.ndarray] = {}  # by second

    def collect(
        self, frames: Iterable[tuple[float, np.ndarray]], report: Callable[[float], object]
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the same frames, and report the finished fraction of the video, 0-1."""
        for second, image in frames:
            step = max(image.shape[1] // 200, 1)
            self.thumbnails[second] = image[::step, ::step].copy()
            report(min(second / self.seconds, 1.0))
            yield second, image

    def heatmaps(self, prediction: VideoPrediction) -> list[tuple[np.ndarray, str]]:
        """Return heat maps (height, width, 3), uint8, of seconds that may be shown, with their captions."""
        shown, model = [], self.model
        wanted = {int(fraction * (self.seconds - 1)) for fraction in np.linspace(0.05, 0.95, _HEATMAPS)}
        times = sorted(self.thumbnails)
        rows = {int(second): number for number, second in enumerate(prediction.seconds)}
        for second in sorted(wanted & rows.keys()):
            moments = online_clip_seconds(second, *model.spacing)
            if prediction.out_of_body_mask and prediction.out_of_body_mask.covers(second):
                continue
            seconds = (times[max(bisect_right(times, moment + TOLERANCE) - 1, 0)] for moment in moments)
            frames = np.stack([self.thumbnails[each] for each in seconds])
            row = prediction.probabilities[rows[second]]
            heat = gradient_heatmap(model, model.prepare(frames), int(row.argmax()))
            caption = f"{clock(second)} {prediction.class_names[int(row.argmax())]} {row.max():.0%}"
            shown.append((overlay(frames, heat)[-1], caption))
        return shown


def build_app(settings: SpaceSettings) -> gr.Blocks:
    """Build the page.

    Args:
        settings: models and limits.

    Returns:
        The app, with its queue, which `launch` serves.

    Raises:
        InputError: there is no model, or the first one cannot be loaded.
    """
    demo, limits = Demo(settings), settings.limits
    names = list(settings.models)
    demo.predictor(names[0])  # raises before anybody visits, if the model cannot be loaded
    with gr.Blocks(title="Surgical video", delete_cache=(600, 3600)) as app:
        gr.Markdown("# What is happening in this operation?\nEvery second, predicted from the frames before it.")
        gr.HTML(_NOTICE)
        state = gr.State(None, time_to_live=3600)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                video = gr.Video(
                    label=f"Video, at most {limits.minutes:g} minutes and {limits.megabytes:g} MB",
                    sources=["upload"],
                    include_audio=True,  # otherwise gradio itself would open the file
                    elem_id="video",
                )
                other = gr.File(
                    label="or a recording that browsers do not play: DICOM, MTS, MXF, …",
                    type="filepath",
                    height=110,
                    elem_id="other",
                )
                labels = gr.File(
                    label="Labels, if you have them: CSV, text or ELAN",
                    type="filepath",
                    height=110,
                    elem_id="labels",
                )
                model = gr.Dropdown(names, value=names[0], label="Model", elem_id="model")
                about = gr.Markdown(demo.about(names[0]), elem_id="about")
                button = gr.Button("Predict", variant="primary", elem_id="predict")
                gr.Examples([[str(demo.example)]], [video], label="A rendered operation: no patient is in it")
            with gr.Column(scale=3, min_width=320):
                timeline = gr.HTML("The timeline appears here.", elem_id="timeline", label="Timeline")
                second = gr.Slider(0, 1, 0, step=1, label="Second", interactive=False, elem_id="second")
                classes = gr.Label(label="Most probable at this second", num_top_classes=_TOP, elem_id="classes")
        with gr.Tab("Seconds"):
            table = gr.Dataframe(
                headers=["time", "class", "confidence", "like its training"],
                datatype=["str", "str", "number", "str"],
                interactive=False,
                elem_id="table",
            )
        with gr.Tab("Heat maps"):
            gr.Markdown("What the score depended on (gradient heat maps), not why, and not whether it is right.")
            gallery = gr.Gallery(
                columns=3, object_fit="contain", interactive=False, elem_id="gallery", label="Heat maps"
            )
        with gr.Tab("Correct"):
            gr.Markdown(
                "Change times and classes, add or remove rows, and take the segments along for ELAN. Times are minutes and "
                "seconds, such as 2:03 or 2:03.500; times that no row covers have no label."
            )
            segments = gr.Dataframe(
                headers=SEGMENT_HEADERS,
                datatype="str",
                type="array",
                column_count=len(SEGMENT_HEADERS),
                interactive=True,
                elem_id="segments",
            )
            save = gr.Button("Save for ELAN", elem_id="save")
            message = gr.HTML("", elem_id="corrections")
            corrected = gr.File(interactive=False, label="Corrected segments", elem_id="corrected")
        with gr.Tab("Files"):
            files = gr.File(file_count="multiple", interactive=False, label="Report and tables", elem_id="files")
        components = {
            "timeline": timeline,
            "table": table,
            "heatmaps": gallery,
            "files": files,
            "second": second,
            "classes": classes,
            "prediction": state,
            "segments": segments,
            "corrected": corrected,
            "message": message,
        }

        def predict(
            path: str | None,
            name: str,
            file: str | None,
            label_file: str | None,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> PageUpdate:
            """Predict the upload in the browser's format, or the other file."""
            return demo.predict(file or path, name, request, progress, label_file)

        outputs = [components[field] for field in PageUpdate._fields]
        button.click(
            predict, [video, model, other, labels], outputs, concurrency_limit=settings.concurrency, api_name="predict"
        )
        save.click(demo.correct, [segments, state], [corrected, message], api_visibility="private")
        second.change(likely, [state, second], classes, show_progress="hidden", api_visibility="private")
        model.change(demo.about, model, about, show_progress="hidden", api_visibility="private")
        app.unload(demo.leave)
    app.queue(max_size=settings.queue)
    return app


def launch(
    settings: SpaceSettings, *, host: str = "127.0.0.1", port: int | None = None, **options: Any
) -> tuple[gr.routes.App, str, str]:
    """Serve the page until it is stopped.

    Args:
        settings: models and limits.
        host: address to listen on; `127.0.0.1` is this machine only.
        port: port to listen on; by default the first free one from 7860 on.
        options: further arguments of gradio's `launch`.

    Returns:
        The application, its local address and its public address, as gradio's `launch` returns them.
    """
    app = build_app(settings)
    return app.launch(
        server_name=host,
        server_port=port,
        max_file_size=f"{int(settings.limits.megabytes)}mb",
        theme=gr.themes.Default(primary_hue="teal", font=_FONT, font_mono=_MONOSPACE),
        css=_CSS,
        ssr_mode=False,
        footer_links=["gradio"],
        **options,
    )

"""A web of colored videos, served by this machine, and models that know the colors.

The operation is a moving red pattern, everything else is blue, overlays are green. The models are ordinary ones of
transformers, saved and loaded as such; their few weights are set by hand, so that what the pipeline does with their answers
can be checked to the second and the pixel.
"""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    ViTImageProcessor,
)

WIDTH, HEIGHT, RATE = 128, 96, 8
RED, BLUE, GREEN = (200, 60, 50), (40, 60, 200), (20, 230, 30)
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ColorVideo:
    """One upload.

    Args:
        seed: of the operation.
        before, during, after: seconds of each part.
        offset: second of the operation at which the video begins to show it.
        logo: box that is painted over the operation all the time.
        caption: box, and the seconds of the video in which it is painted.
        interruption: seconds of the video that show something else.
        border: pixels of black on all sides of the operation.
        quality: crf of the coding.
    """

    seed: int
    before: int = 4
    during: int = 12
    after: int = 3
    offset: int = 0
    logo: Box | None = None
    caption: tuple[Box, int, int] | None = None
    interruption: tuple[int, int] | None = None
    border: int = 0
    quality: int = 14

    @property
    def seconds(self) -> int:
        return self.before + self.during + self.after

    def is_surgical(self, second: float) -> bool:
        interrupted = self.interruption and self.interruption[0] <= second < self.interruption[1]
        return self.before <= second < self.before + self.during and not interrupted

    def boxes(self, second: float) -> list[Box]:
        caption = self.caption and self.caption[1] <= second < self.caption[2]
        return [*([self.logo] if self.logo else []), *([self.caption[0]] if self.caption and caption else [])]

    def frame(self, second: float) -> np.ndarray:
        if not self.is_surgical(second):
            return np.full((HEIGHT, WIDTH, 3), BLUE, np.uint8)
        color = np.array(RED, float) * _pattern(self.seed, second - self.before + self.offset)[..., None]
        frame = np.clip(color, 20, 255).astype(np.uint8)
        for x1, y1, x2, y2 in self.boxes(second):
            frame[y1:y2, x1:x2] = GREEN
        if self.border:
            inside = frame[self.border : -self.border, self.border : -self.border].copy()
            frame[:] = 0
            frame[self.border : -self.border, self.border : -self.border] = inside
        return frame

    def write(self, path: Path) -> Path:
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            options = {"crf": str(self.quality), "x264-params": "threads=1"}
            stream = container.add_stream("libx264", rate=RATE, options=options)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(self.seconds * RATE):
                frame = av.VideoFrame.from_ndarray(self.frame(number / RATE), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path


def _pattern(seed: int, second: float) -> np.ndarray:
    """(HEIGHT, WIDTH), about 0.4-1.4: rather smooth, and different after every second."""
    fields = [np.random.default_rng([seed, int(second) + step]).uniform(0.4, 1.4, (12, 16)) for step in (0, 1)]
    fraction = second - int(second)
    mixed = (1 - fraction) * fields[0] + fraction * fields[1]
    return np.asarray(Image.fromarray(mixed.astype(np.float32)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


# --------------------------------------------------------------------------------------------- models


def save_classifier(folder: Path, names: tuple[str, str], *, threshold: float = 0.0, sharpness: float = 40.0) -> Path:
    """The first class where there is more red than blue (by `threshold`, of 1), in the mean of the image."""
    labels = dict(enumerate(names))
    config = ResNetConfig(
        embedding_size=3,
        hidden_sizes=[3],
        depths=[1],
        layer_type="basic",
        id2label=labels,
        label2id={name: number for number, name in labels.items()},
    )
    model = ResNetForImageClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "normalization" not in name:
                parameter.zero_()
        embedder = model.resnet.embedder.embedder.convolution
        embedder.weight[range(3), range(3), 3, 3] = 1
        classifier = model.classifier[1]
        classifier.weight[0, 0], classifier.weight[0, 2] = sharpness, -sharpness
        classifier.bias[0] = -sharpness * threshold
    model.save_pretrained(folder)
    _processor(64, 64).save_pretrained(folder)
    return folder


def save_detector(folder: Path) -> Path:
    """Finds green; of boxes whose edges are multiples of four pixels, every pixel."""
    names = {0: "surgical", 1: "region"}
    config = SegformerConfig(
        num_encoder_blocks=1,
        depths=[1],
        sr_ratios=[1],
        hidden_sizes=[4],
        patch_sizes=[7],
        strides=[4],
        num_attention_heads=[1],
        mlp_ratios=[1],
        decoder_hidden_size=1,
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    model = SegformerForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not ("norm" in name and name.endswith("weight")):
                parameter.zero_()
        tensors = dict(model.named_parameters())
        embedding = next(name for name in tensors if "patch_embeddings" in name and tensors[name].dim() == 4)
        tensors[embedding][range(3), range(3), 3, 3] = 1
        tensors[embedding.replace("weight", "bias")][3] = 0.3  # beside it, black is no color
        head = {name: tensor for name, tensor in tensors.items() if name.startswith("decode_head")}
        linear = next(tensor for name, tensor in head.items() if tensor.dim() == 2)
        linear[0, 1] = 1
        next(tensor for name, tensor in head.items() if "fuse" in name and tensor.dim() == 4)[0, 0, 0, 0] = 1
        head["decode_head.classifier.weight"][1, 0, 0, 0] = 20
        head["decode_head.classifier.bias"][1] = -20
    model.save_pretrained(folder)
    _processor(HEIGHT, WIDTH).save_pretrained(folder)
    return folder


def _processor(height: int, width: int) -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": height, "width": width}, do_normalize=False)


@dataclass(frozen=True)
class Models:
    """Folders of all models."""

    video: Path
    frame: Path
    region: Path


def save_models(folder: Path) -> Models:
    return Models(
        save_classifier(folder / "videos", ("informative", "uninformative"), threshold=-0.4),
        save_classifier(folder / "frames", ("surgical", "non-surgical")),
        save_detector(folder / "regions"),
    )


# --------------------------------------------------------------------------------------------- a web site

LOGO, CAPTION = (8, 8, 32, 24), (40, 72, 96, 88)
UPLOADS = {
    "-first_logo": ColorVideo(1, logo=LOGO, caption=(CAPTION, 7, 11), interruption=(14, 16), during=16),
    "a-copy": ColorVideo(1, before=2, offset=1, during=10, quality=24, logo=LOGO),
    "bordered": ColorVideo(2, before=3, during=8, after=6, border=12),
    "flashes": ColorVideo(3, before=1, during=4, after=1, interruption=(3, 4)),
    "talk": ColorVideo(4, before=10, during=0, after=2),
}


def write_site(folder: Path) -> Path:
    """Uploads, a corrupt and a truncated one, and a list of addresses that also names one that is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, video in UPLOADS.items():
        video.write(folder / f"{name}.mp4")
    (folder / "corrupt.mp4").write_bytes(bytes(range(256)) * 40)
    whole = ColorVideo(5, during=20).write(folder / "truncated.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    return folder


def address_list(folder: Path, server: "Server") -> Path:
    names = [*UPLOADS, "corrupt", "truncated", "gone"]
    path = folder / "addresses.txt"
    path.write_text("# a web of colors\n" + "".join(f"{server.address}/{name}.mp4\n" for name in names))
    return path


# --------------------------------------------------------------------------------------------- the server


@dataclass
class Server:
    """A web site on this machine.

    Args:
        folder: its files.
        statuses: other answers than the file, by path.
        requests: every request: path and headers.
    """

    folder: Path
    address: str = ""
    statuses: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    site = Server(folder)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            site.requests.append((self.path, dict(self.headers)))
            begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            file = folder / path.lstrip("/")
            if path in site.statuses:
                self.send_error(site.statuses[path])
            elif begin and int(begin[1]) and file.is_file():
                content = file.read_bytes()
                self.send_response(206)
                self.send_header("Content-Type", self.guess_type(path))
                self.send_header("Content-Range", f"bytes {begin[1]}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - int(begin[1])))
                self.end_headers()
                self.wfile.write(content[int(begin[1]) :])
            else:
                super().do_GET()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

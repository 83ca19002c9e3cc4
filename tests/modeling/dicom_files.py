"""DICOM files for tests: encapsulated videos, and frames coded one by one, with the name of a patient in them."""

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.sequence import Sequence

from ..videos import numbered_frame

SECRETS = ("Schmidt^Anna", "4711-0815", "19640301", "1.2.826.0.1.3680043.8.498.42", "St. Elsewhere", "ward 7")
FRAMES = [numbered_frame(number) for number in range(30)]


def write_dicom(
    path: Path, syntax: str, pixels: bytes, photometric: str = "RGB", samples: int = 3, **tags: Any
) -> Path:
    """Write a DICOM file of 30 frames of 160×64 pixels, whose tags name a person wherever they can."""
    name, number, date, uid, hospital, comment = SECRETS
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid
    data.PatientName, data.PatientID, data.PatientBirthDate, data.InstitutionName = name, number, date, hospital
    data.StudyDate, data.StudyInstanceUID, data.ImageComments = date, uid + ".1", comment
    item = Dataset()
    item.PatientName = name
    data.ReferencedPatientSequence = Sequence([item])
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 64, 160, samples, photometric
    data.NumberOfFrames, data.PixelRepresentation = 30, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    if samples > 1:
        data.PlanarConfiguration = 0
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    data.PixelData = pixels
    encapsulated = pydicom.uid.UID(syntax).is_encapsulated
    data["PixelData"].VR = "OB" if encapsulated else "OW"
    data["PixelData"].is_undefined_length = encapsulated
    data.save_as(path, enforce_file_format=True)
    return path


def write_stream(path: Path, codec: str, format_name: str | None = None, rate: int = 25) -> bytes:
    """Write the 30 frames as a video file, or as a bare stream."""
    options = {"g": "10", "x265-params": "log-level=none"}
    with av.open(str(path), "w", format=format_name) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        for pixels in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def as_jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def as_jpeg2000(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=True)
    return buffer.getvalue()


def as_rle(pixels: np.ndarray) -> bytes:
    return RLELosslessEncoder.encode(
        pixels,
        rows=64,
        columns=160,
        samples_per_pixel=3,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        photometric_interpretation="RGB",
        number_of_frames=1,
        planar_configuration=0,
    )


def jpeg_dicom(path: Path, **tags: Any) -> Path:
    """Write frames in JPEG baseline, ten a second unless the tags say otherwise."""
    pixels = encapsulate([as_jpeg(frame) for frame in FRAMES])
    return write_dicom(path, pydicom.uid.JPEGBaseline8Bit, pixels, "YBR_FULL_422", **{"FrameTime": 100, **tags})

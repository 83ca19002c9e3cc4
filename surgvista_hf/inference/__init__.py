"""Videos in, predictions out."""

from .prediction import VideoPrediction
from .predictor import SurgicalVideoPredictor

__all__ = ["SurgicalVideoPredictor", "VideoPrediction"]

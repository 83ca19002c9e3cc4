"""Videos in, predictions out."""

from .prediction.prediction import VideoPrediction
from .predictor import SurgicalVideoPredictor

__all__ = ["SurgicalVideoPredictor", "VideoPrediction"]

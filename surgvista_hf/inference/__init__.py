"""Videos in, predictions out. Importing the package tells predictions how they are written (`writers`)."""

from .prediction.prediction import VideoPrediction
from .predictor import SurgicalVideoPredictor
from .writers.save_predictions import save_predictions

__all__ = ["SurgicalVideoPredictor", "VideoPrediction", "save_predictions"]

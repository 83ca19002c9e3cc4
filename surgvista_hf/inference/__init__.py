"""Prediction of surgical videos. Importing the package registers the writers of `VideoPrediction.save`."""

from .prediction.prediction import VideoPrediction
from .predictor import SurgicalVideoPredictor
from .writers.save_predictions import save_predictions

__all__ = ["SurgicalVideoPredictor", "VideoPrediction", "save_predictions"]

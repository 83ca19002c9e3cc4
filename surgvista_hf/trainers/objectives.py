"""The objectives of pre-training, by the names that recipes give them. A further one is a file like these and a line here."""

from .jepa import JepaPretrainer
from .mae import MaePretrainer
from .pretraining import MaskedPretrainer
from .surgvista import SurgVistaPretrainer

OBJECTIVES: dict[str, type[MaskedPretrainer]] = {
    "surgvista": SurgVistaPretrainer,
    "mae": MaePretrainer,
    "jepa": JepaPretrainer,
}

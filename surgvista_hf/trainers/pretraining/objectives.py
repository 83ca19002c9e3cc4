"""The objectives of pre-training by the names that recipes use. To add one, write a file like these and add a line here."""

from .dino import DinoPretrainer
from .jepa import JepaPretrainer
from .mae import MaePretrainer
from .surgvista import SurgVistaPretrainer
from .trainer import Pretrainer

OBJECTIVES: dict[str, type[Pretrainer]] = {
    "surgvista": SurgVistaPretrainer,
    "mae": MaePretrainer,
    "jepa": JepaPretrainer,
    "dino": DinoPretrainer,
}

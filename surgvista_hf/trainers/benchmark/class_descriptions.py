"""Sentences that describe the classes of Cholec80 and CholecT50, for image-text models: phases and action triplets.

Surgical image-text models learned from what surgeons say over their videos, so a sentence about what is seen fits them better
than the bare name of a class. The sentences are the project's own; those of the papers are others, and so are their numbers.
"""

from collections.abc import Iterable

from ...evaluation.zero_shot_answers import spoken
from ...util.errors import InputError
from ...util.messages import preview

_PHASES = {
    ("preparation",): (
        "the trocars are being placed and the abdomen is inspected before the gallbladder is touched",
        "the instruments enter the abdomen and adhesions around the gallbladder are freed",
    ),
    ("calot triangle dissection", "carlot triangle dissection"): (
        "the grasper pulls the gallbladder up while the hook clears fat from the triangle of Calot",
        "the cystic duct and the cystic artery are dissected free of the tissue around them",
    ),
    ("clipping cutting", "clipping and cutting"): (
        "the clip applier closes the cystic duct or the cystic artery with clips",
        "scissors cut the cystic duct or the cystic artery between the clips",
    ),
    ("gallbladder dissection",): (
        "the hook separates the gallbladder from the liver bed",
        "the gallbladder is lifted and peeled off the liver with cautery",
    ),
    ("gallbladder packaging",): (
        "the detached gallbladder is put into a retrieval bag",
        "graspers hold the specimen bag open and push the gallbladder into it",
    ),
    ("cleaning coagulation", "cleaning and coagulation"): (
        "blood and fluid are washed and sucked away from the operating field",
        "bleeding on the liver bed is stopped with coagulation and the irrigator rinses the field",
    ),
    ("gallbladder retraction", "gallbladder extraction"): (
        "the bag with the gallbladder is pulled out through a trocar",
        "the specimen bag is drawn to the abdominal wall and leaves the abdomen",
    ),
}
_INSTRUMENTS = {
    "grasper": "a grasper",
    "bipolar": "a bipolar forceps",
    "hook": "an electrosurgical hook",
    "scissors": "a pair of scissors",
    "clipper": "a clip applier",
    "irrigator": "a suction irrigator",
}
_VERBS = {
    "grasp": "grasping",
    "retract": "holding aside",
    "dissect": "dissecting",
    "coagulate": "coagulating",
    "clip": "placing a clip on",
    "cut": "cutting",
    "aspirate": "sucking away",
    "irrigate": "rinsing",
    "pack": "packing away",
}
_TARGETS = {
    "gallbladder": "the gallbladder",
    "cystic plate": "the cystic plate",
    "cystic duct": "the cystic duct",
    "cystic artery": "the cystic artery",
    "cystic pedicle": "the cystic pedicle",
    "blood vessel": "a blood vessel",
    "fluid": "the fluid",
    "abdominal wall cavity": "the abdominal wall and its cavity",
    "liver": "the liver",
    "adhesion": "an adhesion",
    "omentum": "the omentum",
    "peritoneum": "the peritoneum",
    "gut": "the bowel",
    "specimen bag": "the specimen bag",
}
_BY_NAME = {name: texts for names, texts in _PHASES.items() for name in names}


def descriptions(name: str) -> tuple[str, ...]:
    """Return the sentences that describe a class, none for an unknown one.

    Args:
        name: name of a phase of Cholec80 or CholecT50, or of a triplet as `"instrument,verb,target"`.

    Example:
        >>> descriptions("hook,dissect,cystic_duct")[0]
        'an electrosurgical hook is dissecting the cystic duct'
        >>> descriptions("grasper,null_verb,null_target")[0]
        'a grasper is in view and does nothing'
    """
    if name.count(",") == 2:
        return _triplet(*(spoken(part) for part in name.split(",")))
    return _BY_NAME.get(spoken(name), ())


def _triplet(instrument: str, verb: str, target: str) -> tuple[str, ...]:
    """Describe an action triplet."""
    who = _INSTRUMENTS.get(instrument)
    if who is not None and (verb, target) == ("null verb", "null target"):
        return (f"{who} is in view and does nothing", f"{who} is held still and touches no tissue")
    what, whom = _VERBS.get(verb), _TARGETS.get(target)
    if who is None or what is None or whom is None:
        return ()
    return (f"{who} is {what} {whom}", f"the surgeon is {what} {whom} with {who}")


def check_descriptions(names: Iterable[str]) -> None:
    """Check that every class has sentences.

    Raises:
        InputError: one has none.
    """
    missing = [name for name in names if not descriptions(name)]
    if missing:
        raise InputError(
            f"{len(missing)} classes have no descriptions, such as {preview(missing)}: there are some for the phases and "
            "triplets of Cholec80 and CholecT50. Choose another prompt"
        )

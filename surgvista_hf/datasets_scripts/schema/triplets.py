"""Tables of action triplets ⟨instrument, verb, target⟩: which components each triplet class has."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from .info import Label


@dataclass(frozen=True)
class TripletTable:
    """The triplet classes of a data set, in the order of their numbers.

    Args:
        instruments, verbs, targets: names of the components, in the order of their numbers.
        components: (instrument, verb, target) of each triplet class.
        null: triplet classes that stand for "an instrument that does nothing".
    """

    instruments: tuple[str, ...]
    verbs: tuple[str, ...]
    targets: tuple[str, ...]
    components: tuple[tuple[int, int, int], ...]
    null: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """`"instrument,verb,target"` of each class."""
        return tuple(
            f"{self.instruments[instrument]},{self.verbs[verb]},{self.targets[target]}"
            for instrument, verb, target in self.components
        )

    @property
    def labels(self) -> dict[str, Label]:
        """The four label columns."""
        return {
            "triplets": Label("classes", self.names),
            "instruments": Label("classes", self.instruments),
            "verbs": Label("classes", self.verbs),
            "targets": Label("classes", self.targets),
        }

    def row(self, triplets: set[int]) -> dict[str, Any]:
        """Label columns of a frame, from its triplet classes."""
        parts = [self.components[triplet] for triplet in sorted(triplets)]
        columns = zip(*parts, strict=True) if parts else ((), (), ())
        instruments, verbs, targets = (sorted(set(column)) for column in columns)
        return {"triplets": sorted(triplets), "instruments": instruments, "verbs": verbs, "targets": targets}


@cache
def triplet_table(name: str) -> TripletTable:
    """The table `tables/<name>_triplets.csv` of the package: `"cholect50"`, `"prostate21"` (release 1) or `"prostatd"` (2)."""
    text = resources.files(__package__).joinpath("tables", f"{name}_triplets.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    names = {
        part: tuple(dict(sorted({int(row[f"{part}_id"]): row[part] for row in rows}.items())).values())
        for part in ("instrument", "verb", "target")
    }
    components = tuple((int(row["instrument_id"]), int(row["verb_id"]), int(row["target_id"])) for row in rows)
    null = tuple(number for number, row in enumerate(rows) if row["verb"].startswith("null"))
    return TripletTable(names["instrument"], names["verb"], names["target"], components, null)

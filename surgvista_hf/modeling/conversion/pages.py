"""Write the pages of the documentation about the families from the same table that the converters use."""

from .family import Family
from .formats import FAMILIES
from .training_data import TRAINING_DATA, VARIANTS, FamilyTrainingData

_NOT_OPEN = "look it up"
_PRECISION = (
    "Compared means: a tiny checkpoint that the original program's own classes made, with their names and nesting, is "
    "converted; the pixels of the folder's own processor are the original program's, up to the rounding of the normalization "
    "(a hundredth of a level of 255), and the features that the model makes of them lie within 1e-4 of the largest number. "
    "No published weight file could be downloaded where this was written, so **no real file has been tried**; that the "
    "published sizes are planned without options is tested on shapes."
)


def zoo_table() -> str:
    """Return the table of all families: what they see, their license, their weights, what they become, what was compared."""
    lines = [
        _PRECISION,
        "",
        "| Family | Sees | License of the weights | Where the weights are | Becomes | Compared with |",
    ]
    lines.append("|---" * 6 + "|")
    for family in FAMILIES.values():
        cells = (
            f"[`{family.name}`](zoo/{family.name}.md)",
            family.input,
            _license(family),
            _weights(family),
            family.becomes,
            family.checked,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def family_page(name: str) -> str:
    """Return the page of one family.

    Args:
        name: The name of the family.
    """
    family = FAMILIES[name]
    lines = [
        f"# {family.title}",
        "",
        f"Family `{family.name}`. This page is written by `docs/write_zoo.py` from the table that the converter uses.",
        "",
        "| | |",
        "|---|---|",
        f"| Paper | {family.paper} |",
        f"| Weights | {_weights(family)} |",
        f"| License of the weights | {_license(family)} |",
        f"| Sees | {family.input} |",
        f"| Preparation | {family.preparation} |",
        f"| Becomes | {family.becomes} |",
        f"| Compared with | {family.checked} |",
        f"| Not verified | {family.unknown} |",
        "",
        "## Convert",
        "",
        "```bash",
        f"surgvista convert {family.hub.name if family.hub else 'FILE'} --family {family.name} --output {family.name}",
        "```",
        "",
        *([family.usage] if family.usage else []),
        "## What the weights were trained on",
        "",
        *_training(TRAINING_DATA[name]),
    ]
    for variant, known in VARIANTS.get(name, {}).items():
        lines += ["", f"Files or folders with `{variant}` in their name (upper or lower case):", "", *_training(known)]
    return "\n".join(lines) + "\n"


def _training(known: FamilyTrainingData) -> list[str]:
    lines = []
    if known.data:
        lines += ["| Data set | Videos | Source |", "|---|---|---|"]
        for entry in known.data:
            videos = entry.videos if isinstance(entry.videos, str) else f"{', '.join(entry.videos)}"
            lines.append(
                f"| {entry.dataset} | {videos if videos != 'some' else 'some, not listed'} | {entry.source} |"
            )
        lines.append("")
    remark = f"{known.remark[0].upper()}{known.remark[1:]}. " if known.remark else ""
    complete = "Nothing else is named." if known.is_complete else "Whether there was more is unknown."
    return [*lines, remark + complete]


def _license(family: Family) -> str:
    return _NOT_OPEN if family.license == "other" else family.license


def _weights(family: Family) -> str:
    if family.hub is None:
        return family.source
    return f"Hub `{family.hub.repository}`, `{family.hub.name}`; {family.source}"

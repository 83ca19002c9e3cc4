"""The families of checkpoints that can be converted, one file for one or a few; each file begins with what is known of them.

A new family is a `Family` in a file here and a line in `_MODULES`, or one more `Family` in a file that is here already.
"""

from . import (
    convnext,
    endo_fm,
    gsvit,
    image_vits,
    lemon_curation,
    pl_stitch,
    selfsupsurg,
    surgclip,
    surgenet,
    surgenet_dino,
    surgrec,
    surgvista,
    surgvlp,
    videomae,
    vit,
    vjepa,
)

_MODULES = (
    surgvista,
    surgrec,
    vjepa,
    convnext,
    surgenet,
    surgenet_dino,
    pl_stitch,
    selfsupsurg,
    endo_fm,
    vit,
    gsvit,
    videomae,
    image_vits,
    lemon_curation,
    surgvlp,
    surgclip,
)
FAMILIES = {family.name: family for module in _MODULES for family in module.FAMILIES}

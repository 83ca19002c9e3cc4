"""The families of checkpoints that can be converted, one file for one or a few; each file begins with what is known of them.

A new family is a `Family` in a file here and a line in `_MODULES`, or one more `Family` in a file that is here already.
"""

from . import convnext, gsvit, image_vits, lemon_curation, surgenet, surgrec, surgvista, videomae, vit, vjepa

_MODULES = (surgvista, videomae, image_vits, vit, convnext, surgenet, gsvit, surgrec, vjepa, lemon_curation)
FAMILIES = {family.name: family for module in _MODULES for family in module.FAMILIES}

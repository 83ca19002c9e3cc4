"""The model card of a converted checkpoint."""

from collections.abc import Mapping

from huggingface_hub import ModelCardData

from ..modeling_surgical_clip import SurgicalClipModel
from ..processing_surgical_clip import SurgicalClipProcessor
from .family import Family


def model_card(
    family: Family, class_name: str, sha256: Mapping[str, str], counts: Mapping[str, int], processor_name: str
) -> str:
    """Return the README.md of a converted model: license, source, digests, how to load it, what it is not.

    Args:
        family: The origin of the weights.
        class_name: class of the converted model.
        sha256: file name -> digest of the original files.
        counts: The numbers of tensors that were mapped, ignored and initialized.
        processor_name: class of the processor saved beside it.

    Returns:
        Markdown with the Hub's front matter.
    """
    data = ModelCardData(
        license=family.license,
        library_name="transformers",
        pipeline_tag=_pipeline(class_name, processor_name),
        tags=["surgery", "surgical-video", family.name],
    )
    digests = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in sha256.items())
    loader = _loader(processor_name)
    return f"""---
{data.to_yaml()}
---

# {family.title}

Converted to transformers (`{class_name}`) by surgvista_hf. The numbers of the weights are those of the original files:
{counts["mapped"]} tensors mapped, {counts["ignored"]} left out, {counts["initialized"]} newly initialized.

- Paper: {family.paper}
- Weights from: {family.source}
- License of the weights: {_license(family)}
- Input: {family.input}
- Compared with the original: {family.checked}
- Not verified: {family.unknown}

| original file | SHA-256 |
|---|---|
{digests}

## Use

```python
import surgvista_hf
from transformers import {loader}, {_auto_class(class_name)}

processor = {loader}.from_pretrained("path/of/this/folder")
model = {_auto_class(class_name)}.from_pretrained("path/of/this/folder")
```

{family.usage}
## Limits

For research. Not a medical device; not for decisions about patients.
"""


def _loader(processor_name: str) -> str:
    """Return the Auto class of a processor."""
    if processor_name == SurgicalClipProcessor.__name__:
        return "AutoProcessor"
    return "AutoImageProcessor" if "Image" in processor_name else "AutoVideoProcessor"


def _pipeline(class_name: str, processor_name: str) -> str | None:
    if class_name == SurgicalClipModel.__name__:
        return "zero-shot-image-classification"
    for kind in ("Image", "Video"):
        if class_name.endswith(f"For{kind}Classification"):
            return f"{kind.lower()}-classification"
    return "image-feature-extraction" if "Image" in processor_name else None


def _license(family: Family) -> str:
    if family.license == "other":
        return "see the source; it was not stated in a form that could be checked when this converter was written"
    return f"{family.license}; the conversion does not change it"


def _auto_class(class_name: str) -> str:
    for kind in ("ForImageClassification", "ForVideoClassification"):
        if class_name.endswith(kind):
            return f"AutoModel{kind}"
    return "AutoModelForPreTraining" if class_name.endswith("ForPreTraining") else "AutoModel"

"""The Space: models from the folder `models` beside this file, and from SURGVISTA_MODELS, e.g. `phases=user/phases`.

A folder `out_of_body` holds the detector of what must not be shown.
"""

import os
from pathlib import Path

from surgvista_hf.space import SpaceSettings, find_models, launch

models = find_models(Path(__file__).parent / "models")
models |= dict(entry.split("=", 1) for entry in os.environ.get("SURGVISTA_MODELS", "").split(",") if entry)

detector = Path(__file__).parent / "out_of_body"
settings = SpaceSettings(models, out_of_body=str(detector) if detector.is_dir() else None)

if __name__ == "__main__":
    launch(settings, host="0.0.0.0")

"""The Space: models from the folder `models` beside this file, and from SURGVISTA_MODELS, e.g. `phases=user/phases`."""

import os
from pathlib import Path

from surgvista_hf.space import SpaceSettings, find_models, launch

models = find_models(Path(__file__).parent / "models")
models |= dict(entry.split("=", 1) for entry in os.environ.get("SURGVISTA_MODELS", "").split(",") if entry)

if __name__ == "__main__":
    launch(SpaceSettings(models), host="0.0.0.0")

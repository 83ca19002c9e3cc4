"""The web demo, a Gradio app that shows predictions. It needs `pip install "surgvista-hf[space]"`."""

from .app import SpaceSettings, build_app, find_models, launch

__all__ = ["SpaceSettings", "build_app", "find_models", "launch"]

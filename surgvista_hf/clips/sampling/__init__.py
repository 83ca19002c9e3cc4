"""Sampling of clips: index, moments, timeline, balanced samplers and the keyed generator."""

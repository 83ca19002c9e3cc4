"""Configurations, models, processors and checkpoint conversion.

The files that travel with a checkpoint (`configuration_surgvista`, `modeling_surgvista`, `video_processing_surgvista` and
what they import) are flat siblings that import only torch, numpy, transformers and each other.
"""

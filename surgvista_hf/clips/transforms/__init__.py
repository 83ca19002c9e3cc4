"""Transforms of clips: crops, augmentation, mixing, views and masks."""

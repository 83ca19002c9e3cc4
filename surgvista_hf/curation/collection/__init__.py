"""A collection on disk: collecting videos, their records, overrides, and the results of stages."""

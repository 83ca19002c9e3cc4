"""Models of curation: ensembles of classifiers and detectors, and their training."""

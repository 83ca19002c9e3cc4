"""The stages of curation: their work on one video, the pipeline over all, and the export."""

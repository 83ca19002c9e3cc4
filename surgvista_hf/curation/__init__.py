"""Curation of web videos: from a list of addresses to a clean, de-duplicated frame set."""

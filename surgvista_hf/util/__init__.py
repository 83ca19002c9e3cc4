"""Small helpers that every package may use; they import nothing from the package."""

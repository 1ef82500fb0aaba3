"""See README.md beside the package."""

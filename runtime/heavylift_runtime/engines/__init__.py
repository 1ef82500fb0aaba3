"""Heavylift's engines: the registry of what each can do, the seam, and one file per engine."""

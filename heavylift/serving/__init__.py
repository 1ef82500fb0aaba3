"""From a plan to the files that the container reads: serving.properties and the user's code. Not their upload."""

from heavylift.serving.files import config_files
from heavylift.serving.render import render

__all__ = ["config_files", "render"]

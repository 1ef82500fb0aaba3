"""The bodies of the `heavylift` commands: parsed arguments in, exit code out.

Not the parser: that is heavylift.cli.
"""

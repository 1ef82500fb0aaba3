"""`heavylift`, and `python -m heavylift`: the command, in which an interrupt is no traceback, however early it comes.

Not the command itself: that is cli.py, whose import takes a moment, too.
"""

import sys


def main() -> int:
    """The command's exit code; 130 where an interrupt came before the command could take it."""
    try:
        from heavylift.cli import main as command

        return command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

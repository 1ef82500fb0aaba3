"""How Node runs while app.py synthesizes: its settings are node.cjs, which it reads before it does anything else.

Not the constructs' affair: those run in anybody's app, by whatever Node is there.
"""

from __future__ import annotations

import json
from pathlib import Path

SETTINGS = Path(__file__).resolve().parent / "node.cjs"


def options(given: str | None) -> str:
    """NODE_OPTIONS: the user's own, if there are any, and ours. In them a text in quotes has JSON's escapes for both
    characters that need one (Node.js, "Command-line API", NODE_OPTIONS)."""
    ours = f"--require={json.dumps(str(SETTINGS), ensure_ascii=False)}"
    return f"{given} {ours}" if given else ours

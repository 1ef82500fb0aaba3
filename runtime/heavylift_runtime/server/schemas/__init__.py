"""Schemas: LMI, TGI and OpenAI requests and replies as pure functions. Not routes, not HTTP: those are in app.py.

exchange = read(path, headers, body, defaults)      Misread where the request is wrong
failure(path, code, sentence, defaults)             what went wrong before `read`: too large, the queue is full …
"""

from heavylift_runtime.server.schemas.exchange import Answer, Defaults, Exchange, Finished, Misread
from heavylift_runtime.server.schemas.reading import failure, read

__all__ = ["Answer", "Defaults", "Exchange", "Finished", "Misread", "failure", "read"]

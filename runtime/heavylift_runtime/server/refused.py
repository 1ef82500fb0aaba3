"""Why a request gets no answer, with its HTTP status. Not the runtime's own faults: those are in errors.py.

400  the request is wrong             415  its content type is not JSON
406  it accepts no JSON               424  the model failed
408  its body came too slowly         503  the model is loading, or the queue is full
413  its body is too large
"""

from __future__ import annotations


class Refused(Exception):
    """A sentence for the client, and the status code of the reply."""

    def __init__(self, code: int, sentence: str) -> None:
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)


class BatchRefused(Refused):
    """The model, alive and well, refused a batch; one of its requests may be to blame, so each deserves a try alone."""

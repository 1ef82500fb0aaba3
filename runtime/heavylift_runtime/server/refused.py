"""Why a request gets no answer, with its HTTP status. Not the runtime's own faults: those are in errors.py.

400  the request is wrong             424  the model failed
404  no such model or adapter         429  the queue is full, where throttle_http_code=429
406  it accepts no JSON               499  the client went away; nobody reads it
408  it came or was read too slowly   503  the model is loading, the queue is full, the server stops
413  its body is too large            507  memory ran out
415  its content type is not JSON
"""

from __future__ import annotations


class Refused(Exception):
    """A sentence for the client, and the status code of the reply."""

    def __init__(self, code: int, sentence: str, *, retry_after: int | None = None) -> None:
        """`retry_after`: seconds after which it is worth another try."""
        self.code = code
        self.sentence = sentence
        self.retry_after = retry_after
        super().__init__(sentence)

    def again(self) -> Refused:
        """The same for another request: an exception remembers where it was raised, and so all that it met there."""
        return Refused(self.code, self.sentence, retry_after=self.retry_after)

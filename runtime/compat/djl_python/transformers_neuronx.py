"""LMI's handler of this name, for scripts that import it. Without a script the server asks the engine itself."""

from __future__ import annotations

from djl_python.inputs import Input
from djl_python.outputs import Output
from djl_python.text_service import TextService, handle_with


class TransformersNeuronXService(TextService):
    """One model on this engine's ranks."""

    engine = "neuronx"


_service = TransformersNeuronXService()


def handle(inputs: Input) -> Output | None:
    """Called once without content, to load the model, and then for each request or batch of them."""
    return handle_with(_service, inputs)

"""FLAN-T5 on FasterTransformer, by a script of your own: one copy, split over `tensor_parallel_degree` devices."""

import fastertransformer as ft
from djl_python import Input, Output

MOST_NEW_TOKENS = 1024

model = None


def load(properties: dict) -> object:
    """The checkpoint, in as many parts as serving.properties says."""
    return ft.init_inference(
        properties.get("model_id", properties.get("model_dir")),  # where Heavylift has put the weights
        int(properties.get("tensor_parallel_degree", 1)),
        int(properties.get("pipeline_parallel_degree", 1)),
        properties.get("dtype", "fp32"),
    )


def handle(inputs: Input) -> Output | None:
    """Called once without content, to load the model, and then for each request."""
    global model
    if model is None:
        model = load(inputs.get_properties())
    if inputs.is_empty():
        return None
    request = inputs.get_as_json()
    prompts = request.get("inputs")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not prompts or not all(isinstance(prompt, str) and prompt for prompt in prompts):
        return Output().error("'inputs' must be a text or a list of texts", code=400)
    most = request.get("parameters", {}).get("max_new_tokens", 64)
    if type(most) is not int or not 1 <= most <= MOST_NEW_TOKENS:
        return Output().error(f"'max_new_tokens' must be a whole number from 1 to {MOST_NEW_TOKENS}", code=400)
    return Output().add_as_json({"outputs": model.pipeline_generate(prompts, max_new_tokens=most)})

"""A script of your own: copy this folder, change what you like, and name it in your model file as `code:`.

It loads a T5 with Hugging Face transformers, answers as Heavylift's own engine does, and adds something of its own:
`"tasks"`, the instruction that it found at the start of each prompt.
"""

import torch
from djl_python import Input, Output
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

MOST_NEW_TOKENS = 1024


class Translator:
    """The model and its tokenizer."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def answer(self, prompts: list[str], max_new_tokens: int) -> list[dict]:
        """One row for each prompt: its text and how many tokens went in and came out."""
        batch = self.tokenizer(prompts, padding=True, return_tensors="pt")
        generated = self.model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        return [self.row(tokens[1:], length) for tokens, length in zip(generated.tolist(), lengths, strict=True)]

    def row(self, tokens: list[int], prompt_tokens: int) -> dict:
        """`tokens` ends with the end-of-sequence token, and padding behind it, or at the limit."""
        end = self.tokenizer.eos_token_id
        finished = end in tokens
        tokens = tokens[: tokens.index(end) + 1] if finished else tokens
        return {
            "text": self.tokenizer.decode(tokens, skip_special_tokens=True),
            "finish_reason": "eos_token" if finished else "length",
            "prompt_tokens": prompt_tokens,
            "generated_tokens": len(tokens),
        }


translator: Translator | None = None


def handle(inputs: Input) -> Output | dict | None:
    """Called once without content, to load the model, and then for each request."""
    global translator
    if inputs.is_empty():
        folder = inputs.get_property("model_id")  # where Heavylift has put the weights
        translator = Translator(inputs.get_property("model_dir") if folder is None else folder)
        return None

    request = inputs.get_as_json()
    prompts = request.get("inputs")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not prompts or not all(isinstance(prompt, str) and prompt for prompt in prompts):
        return Output().error("'inputs' must be a text or a list of texts", code=400)
    parameters = request.get("parameters", {})
    most = parameters.get("max_new_tokens", int(inputs.get_property("max_new_tokens") or 64))
    if type(most) is not int or not 1 <= most <= MOST_NEW_TOKENS:
        return Output().error(f"'max_new_tokens' must be a whole number from 1 to {MOST_NEW_TOKENS}", code=400)

    rows = translator.answer(prompts, most)
    read, written = (sum(row[name] for row in rows) for name in ("prompt_tokens", "generated_tokens"))
    reply = {
        "outputs": [row.pop("text") for row in rows],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
        "tasks": [prompt.partition(":")[0] for prompt in prompts],
    }
    return reply | ({"details": rows} if parameters.get("details") else {})

"""Pictures from words: a tiny random Stable Diffusion on the real server."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.served import Served, serving

pytestmark = pytest.mark.slow


def write_pipeline(folder: Path) -> Path:
    """A whole pipeline of diffusers, random, whose pictures have 16 x 16 pixels by default."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    kinds: dict[str, Any] = {"block_out_channels": (32, 32), "norm_num_groups": 8}
    unet = UNet2DConditionModel(
        sample_size=8, layers_per_block=1, cross_attention_dim=32, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **kinds,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=4, **kinds
    )
    letters = {"<|startoftext|>": 0, "<|endoftext|>": 1, "t": 2, "e": 3, "a</w>": 4, "u": 5, "c": 6, "p</w>": 7}
    tokenizer = CLIPTokenizer(vocab=letters, merges=[])
    tokenizer.model_max_length = 16
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=16, hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4,
            max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    (folder / "serving.properties").write_text("engine=Python\noption.entryPoint=djl_python.stable_diffusion\n")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_pipeline(tmp_path_factory.mktemp("diffusion") / "model")) as served:
        yield served


def picture(reply: httpx.Response) -> Image.Image:
    (text,) = reply.json()["images"]
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_prompt_becomes_a_png_of_the_size_that_was_asked_for(pictures: Served) -> None:
    parameters = {"num_inference_steps": 2, "height": 32, "width": 16, "seed": 3}

    found = picture(pictures.ask({"prompt": "tea", "parameters": parameters}))

    assert (found.format, found.size, found.mode) == ("PNG", (16, 32), "RGB")


def test_the_same_seed_gives_the_same_picture(pictures: Served) -> None:
    def ask(seed: int) -> bytes:
        parameters = {"num_inference_steps": 2, "seed": seed, "guidance_scale": 3, "negative_prompt": "cup"}
        return picture(pictures.ask({"inputs": "tea", "parameters": parameters})).tobytes()

    assert ask(1) == ask(1) != ask(2)


def test_a_client_that_accepts_png_gets_the_picture_itself(pictures: Served) -> None:
    body = json.dumps({"prompt": "tea", "parameters": {"num_inference_steps": 1}})

    headers = {"Content-Type": "application/json", "Accept": "image/png"}
    reply = httpx.post(f"{pictures.address}/invocations", content=body, headers=headers, timeout=60)

    assert reply.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(reply.content)).format == "PNG"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"prompt": 3}, "'prompt' must be a text or a list of texts"),
        ({"prompt": "tea", "parameters": {"steps": 3}}, "unknown parameter 'steps'"),
        (
            {"prompt": "tea", "parameters": {"height": 33}},
            "'height' must be a whole number from 8 to 2048, sides in",
        ),
        ({"prompt": "tea", "parameters": {"seed": -1}}, "'seed' must be a whole number from 0: got -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(pictures: Served, body: Any, sentence: str) -> None:
    reply = pictures.ask(body)

    assert reply.status_code == 400
    assert sentence in reply.json()["error"]

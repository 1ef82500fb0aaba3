"""LoRA adapters on vLLM, from their registration over HTTP to the tokens that transformers gives with them merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers
from safetensors.torch import save_file

from heavylift_runtime.engines.interpreter import VARIABLE, own_environment
from heavylift_runtime.engines.registry import ENGINES
from tests.conftest import ROOT
from tests.served import Served, eventually, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        ENGINES["vllm"].missing() is not None and own_environment(ENGINES["vllm"], ROOT) is None,
        reason=str(ENGINES["vllm"].missing()),
    ),
]
RANK, ALPHA = 4, 8
PROMPTS = ("write as a Roman numeral: 41", "write in words: 234", "12 + 12")
LOADS_S = 300.0  # vLLM imports for a minute where the machine is busy
HOME = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", VARIABLE: str(ROOT)}
VLLM = "engine=Python\noption.entryPoint=djl_python.vllm\noption.enforce_eager=true\noption.dtype=fp32\n"
CACHE = "option.kv_cache_memory_bytes=268435456\noption.max_rolling_batch_size=4\n"
LORA = "option.enable_lora=true\noption.max_lora_rank=8\noption.max_loras=2\n"


def write_adapter(folder: Path, seed: int) -> Path:
    """A random LoRA adapter of tiny-llama's queries and values, as peft writes one."""
    config = transformers.AutoConfig.from_pretrained(ROOT / "models" / "tiny-llama")
    dice = torch.Generator().manual_seed(seed)
    heads = {"q_proj": config.num_attention_heads, "v_proj": config.num_key_value_heads}
    width = config.head_dim or config.hidden_size // config.num_attention_heads
    weights = {}
    for layer in range(config.num_hidden_layers):
        for name, count in heads.items():
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{place}.lora_A.weight"] = torch.randn(RANK, config.hidden_size, generator=dice) * 0.2
            weights[f"{place}.lora_B.weight"] = torch.randn(count * width, RANK, generator=dice) * 0.2
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(about | {"target_modules": sorted(heads)}))
    return folder


def merged_answers(folder: Path | None) -> list[str]:
    """What transformers answers with the adapter added to the weights; None: without one."""
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    place = ROOT / "models" / "tiny-llama"
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place)
    lora = {} if folder is None else load_file(folder / "adapter_model.safetensors")
    for name in {key.rpartition(".lora_")[0] for key in lora}:
        linear = model.get_submodule(name.removeprefix("base_model.model."))
        linear.weight.data += lora[f"{name}.lora_B.weight"] @ lora[f"{name}.lora_A.weight"] * (ALPHA / RANK)
    answers = []
    for prompt in PROMPTS:
        given = tokenizer(prompt, return_tensors="pt")
        made = model.generate(**given, max_new_tokens=12, do_sample=False)
        answers.append(tokenizer.decode(made[0][given["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    for number in (1, 2):
        write_adapter(folder / f"adapter-{number}", number)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """tiny-llama with one adapter from the start."""
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(ROOT / "models" / "tiny-llama", folder)
    write_adapter(folder / "adapters" / "from-the-start", 3)
    (folder / "serving.properties").write_text(VLLM + CACHE + LORA)
    with serving(folder, HOME, wait=False) as server:
        eventually(lambda: server.process.poll() is not None or server.ping() == 200, LOADS_S)
        yield server.wait()


def ask(served: Served, adapters: object = None, platform: str | None = None) -> list[str]:
    body = {"inputs": list(PROMPTS), "parameters": {"max_new_tokens": 12}}
    asked = {} if platform is None else {"x-amzn-sagemaker-adapter-identifier": platform}
    reply = served.ask(body if adapters is None else body | {"adapters": adapters}, 60, **asked)
    assert reply.status_code == 200, reply.text
    return [answer.removeprefix(" ") for answer in reply.json()["outputs"]]  # transformers' decode leaves it out


def register(served: Served, name: str, source: Path) -> httpx.Response:
    return httpx.post(f"{served.address}/adapters", json={"name": name, "src": str(source)}, timeout=60)


def test_requests_get_the_tokens_of_their_adapters_beside_each_other(served: Served, adapters: Path) -> None:
    plain, one, two = (merged_answers(each) for each in (None, adapters / "adapter-1", adapters / "adapter-2"))
    for number in (1, 2):
        assert register(served, f"adapter-{number}", adapters / f"adapter-{number}").status_code == 200

    assert len({*map(tuple, (plain, one, two))}) == 3  # else the adapters would prove nothing
    assert ask(served) == plain
    assert ask(served, "adapter-1") == one
    assert ask(served, platform="adapter-2") == two
    assert ask(served, ["adapter-1", "adapter-2", "adapter-1"]) == [one[0], two[1], one[2]]
    assert ask(served) == plain


def test_an_adapter_of_the_models_own_folder_is_there_from_the_start(served: Served) -> None:
    source = Path(httpx.get(f"{served.address}/adapters/from-the-start").json()["src"])

    assert ask(served, "from-the-start") == merged_answers(source)


def test_an_adapter_that_was_replaced_answers_anew_though_its_prompts_were_cached(
    served: Served, adapters: Path
) -> None:
    assert register(served, "changing", adapters / "adapter-1").status_code == 200
    before = ask(served, "changing")
    body = {"src": str(adapters / "adapter-2")}
    assert httpx.put(f"{served.address}/adapters/changing", json=body, timeout=60).status_code == 200

    assert before == merged_answers(adapters / "adapter-1")
    assert ask(served, "changing") == merged_answers(adapters / "adapter-2")


def test_a_deleted_adapter_is_404_and_a_broken_one_424(served: Served, adapters: Path, tmp_path: Path) -> None:
    assert register(served, "short-lived", adapters / "adapter-1").status_code == 200
    assert httpx.delete(f"{served.address}/adapters/short-lived").status_code == 200
    (tmp_path / "adapter_config.json").write_text("{}")
    broken = register(served, "broken", tmp_path)

    assert served.ask({"inputs": "a", "adapters": "short-lived"}).status_code == 404
    assert broken.status_code == 424 and "cannot be loaded" in broken.json()["error"]
    assert ask(served) == merged_answers(None)

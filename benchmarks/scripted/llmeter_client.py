"""LLMeter's SageMaker stream client on a closed load, for benchmarks/generator_peer.py: prints one JSON object.

Not run by itself, and not on Heavylift's interpreter: it needs `pip install llmeter`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from llmeter.endpoints.sagemaker import SageMakerStreamEndpoint
from llmeter.runner import Runner


async def main() -> None:
    clients, each, core = map(int, sys.argv[1:4])
    name, prompts = sys.argv[4], json.loads(sys.argv[5])
    os.sched_setaffinity(0, {core})
    endpoint = SageMakerStreamEndpoint(name, model_id=name, region="us-east-1")
    payload = [{"inputs": text, "parameters": {"max_new_tokens": 64}, "stream": True} for text in prompts]
    # A runner for each client: the clients of one runner shuffle alike, and stay in step with the same prompts.
    runners = [Runner(endpoint, clients=1) for _ in range(clients)]
    turned = [payload[first:] + payload[:first] for first in range(clients)]

    async def all_at_once() -> list[Any]:
        pairs = zip(runners, turned, strict=True)
        runs = (runner.run(payload=own, n_requests=each, clients=1) for runner, own in pairs)
        return [response for result in await asyncio.gather(*runs) for response in result.responses]

    await all_at_once()  # warm
    busy = time.process_time()
    responses = await all_at_once()
    busy = time.process_time() - busy
    said = {
        "ttft_s": [response.time_to_first_token for response in responses],
        "e2e_s": [response.time_to_last_token for response in responses],
        "tpot_s": [response.time_per_output_token for response in responses],
        "cpu_s": busy,
    }
    print(json.dumps(said))


asyncio.run(main())

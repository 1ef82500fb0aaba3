"""LLMeter's SageMaker stream client on a closed load, for benchmarks/generator_peer.py: prints one JSON object.

Not run by itself, and not on Heavylift's interpreter: it needs `pip install llmeter`. On stdin it is told what to send.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llmeter.endpoints.sagemaker import SageMakerStreamEndpoint
from llmeter.runner import Runner


async def main() -> None:
    asked = json.load(sys.stdin)
    clients, each = asked["clients"], asked["each"]
    os.sched_setaffinity(0, {asked["core"]})
    endpoint = SageMakerStreamEndpoint(asked["endpoint"], model_id=asked["endpoint"], region="us-east-1")
    asking = {"parameters": {"max_new_tokens": 64, "details": True}, "stream": True}  # as Heavylift asks
    payload = [{"inputs": text, **asking} for text in asked["prompts"]]
    # A runner for each client: the clients of one runner shuffle alike, and stay in step with the same prompts.
    runners = [Runner(endpoint, clients=1) for _ in range(clients)]
    turned = [payload[first:] + payload[:first] for first in (place % len(payload) for place in range(clients))]
    # Each runner gives the loop an executor for its own client and five tasks more, and the last one's would serve
    # them all: with more than six clients, the others would begin when the first were done.
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(2 * clients + 5))
    setattr(loop, "set_default_executor", lambda executor: None)  # noqa: B010  # an instance's, to a method

    async def all_at_once() -> list[list[Any]]:
        pairs = zip(runners, turned, strict=True)
        runs = (runner.run(payload=own, n_requests=each, clients=1) for runner, own in pairs)
        return [result.responses for result in await asyncio.gather(*runs)]

    await all_at_once()  # warm
    busy = time.process_time()
    responses = await all_at_once()
    busy = time.process_time() - busy
    said = {
        "clients": [
            [
                {
                    "begin_s": response.request_time.timestamp(),
                    "ttft_s": response.time_to_first_token,
                    "e2e_s": response.time_to_last_token,
                    "tpot_s": response.time_per_output_token,
                }
                for response in own
            ]
            for own in responses
        ],
        "cpu_s": busy,
    }
    print(json.dumps(said))


asyncio.run(main())

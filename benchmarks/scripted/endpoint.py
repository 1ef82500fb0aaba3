"""A scripted endpoint for benchmarks/generator.py: streams so many tokens at so many a second, on one core of its own.

Not a model, and not a process to start by hand: it prints its port, answers until it is killed, and keeps the true time
between tokens, from which the generator's own error is told. SageMaker's event stream, plain JSON lines, or OpenAI's
chat chunks as server-sent events.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os

from heavylift.local.plugin import eventstream


def part(index: int, tokens: int) -> bytes:
    event: dict[str, object] = {"token": {"id": index, "text": f" word{index}"}}
    if index == tokens - 1:
        event["details"] = {"finish_reason": "length", "generated_tokens": tokens, "input_length": 8}
    return json.dumps(event).encode() + b"\n"


def chat(index: int, tokens: int) -> bytes:
    """OpenAI's chunk; the usage comes after the last token, in one without choices."""
    end = index == tokens
    choice = {
        "index": 0,
        "delta": {"content": f" word{index}"},
        "finish_reason": "length" if index == tokens - 1 else None,
    }
    event: dict[str, object] = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    event["choices"] = [] if end else [choice]
    if end:
        event["usage"] = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}
    return b"data: " + json.dumps(event).encode() + b"\n\n" + (b"data: [DONE]\n\n" if end else b"")


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--first", type=float, required=True, help="seconds to the first token")
    parser.add_argument("--gap", type=float, required=True, help="seconds between tokens")
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {chosen.core})
    lines = [part(index, chosen.tokens) for index in range(chosen.tokens)]
    bodies = {
        "lines": [*map(chunk, lines)],
        "sagemaker": [chunk(eventstream.part(line)) for line in lines],
        "chat": [chunk(chat(index, chosen.tokens)) for index in range(chosen.tokens + 1)],
    }
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    kinds = {
        "lines": b"application/jsonlines",
        "sagemaker": b"application/vnd.amazon.eventstream",
        "chat": b"text/event-stream",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                if not request.startswith(b"POST"):  # a peer that asks for health, models or metrics
                    known = request.split(b" ", 2)[1] in (b"/health", b"/v1/models")
                    models = b'{"object": "list", "data": [{"id": "scripted", "object": "model"}]}'
                    writer.write(b"HTTP/1.1 %b\r\n" % (b"200 OK" if known else b"404 Not Found"))
                    writer.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(models) + models)
                    continue
                length = next(line for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                due = loop.time() + chosen.first
                path = request.split(b" ", 2)[1]
                kind = "sagemaker" if path.endswith(b"-stream") else "chat" if b"chat" in path else "lines"
                writer.write(head % kinds[kind])
                for place, body in enumerate(bodies[kind]):
                    if place == chosen.tokens:  # the usage, with the last token
                        writer.write(body)
                        break
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    writer.write(body)
                    due += chosen.gap
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""`python -m heavylift_runtime serve FOLDER`: what the container runs; `job`: what it runs in SageMaker's jobs.

Not the `heavylift` command of the core, which starts `serve` and `partition`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from heavylift_runtime.errors import OptionsError, RuntimeFault
from heavylift_runtime.job import COMMANDS, run_job

SAGEMAKER_FOLDER = Path("/opt/ml/model")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m heavylift_runtime", description="Heavylift's model server.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a folder with serving.properties and weights or a model.py")
    serve.add_argument("folder", type=Path)
    serve.add_argument("--port", type=int, help="default: SAGEMAKER_BIND_TO_PORT, else 8080; 0: any free port")
    serve.add_argument("--host", help=f"default: 0.0.0.0 for {SAGEMAKER_FOLDER}, else 127.0.0.1")
    worker = commands.add_parser("worker", help="one rank process; the server starts it")
    worker.add_argument("--channel", type=int, required=True, help="the inherited socket")
    cut = commands.add_parser("partition", help="split a checkpoint ahead of time, a file for each rank")
    cut.add_argument(
        "source", help="a folder with a Hugging Face checkpoint, s3://bucket/prefix/, or owner/name@revision of the hub"
    )
    cut.add_argument("--out", type=Path, help="the folder to write")
    cut.add_argument("--tensor-parallel-degree", type=int, help="the ranks that share each layer")
    cut.add_argument("--pipeline-parallel-degree", type=int, default=1, help="the stages that divide the layers")
    cut.add_argument("--dtype", default="auto", help="auto (as stored), fp32, fp16 or bf16")
    cut.add_argument("--quantize", default="none", choices=("none", "int8", "int4"), help="round the layers' matrices")
    cut.add_argument("--check", action="store_true", help="read a partitioned folder and prove every SHA-256 instead")
    job = commands.add_parser("job", help="make of the model in SageMaker's input folder one that is ready to serve")
    job.add_argument("name", choices=COMMANDS)
    given = parser.parse_args(arguments)
    try:
        if given.command == "partition":
            return _partition(given)
        if given.command == "job":
            return run_job(given.name, os.environ)
        if given.command == "worker":
            from heavylift_runtime.worker import run

            return run(given.channel)
        from heavylift_runtime.serve import serve_folder

        return serve_folder(given.folder, _host(given.folder, given.host), given.port, os.environ)
    except RuntimeFault as fault:
        print(fault, file=sys.stderr, flush=True)
        return fault.exit_code


def _partition(given: argparse.Namespace) -> int:
    from heavylift_runtime.native.partition import partition
    from heavylift_runtime.native.partitioned import prove
    from heavylift_runtime.native.sources import source_of

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    source = source_of(given.source, Path.cwd())
    if given.check:
        prove(source, report)
        return 0
    wanted = {"--out": given.out, "--tensor-parallel-degree": given.tensor_parallel_degree}
    if missing := [f"{name} is missing; `partition` needs it" for name, value in wanted.items() if value is None]:
        raise OptionsError(missing)
    stages = given.pipeline_parallel_degree
    partition(source, given.out, given.tensor_parallel_degree, given.dtype, report, given.quantize, stages)
    return 0


def _host(folder: Path, given: str | None) -> str:
    if given is not None:
        return given
    return "0.0.0.0" if folder == SAGEMAKER_FOLDER else "127.0.0.1"


if __name__ == "__main__":
    raise SystemExit(main())

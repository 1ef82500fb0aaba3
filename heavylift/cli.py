"""The `heavylift` command: its arguments, and which function does the work.

Not the work. Nothing heavy is imported before the command is known, so that `heavylift --help` is instant.
Exit codes: 0 done, 1 failed, 2 the user's input, 3 the SLO was missed, 4 inconclusive, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from heavylift.errors import HeavyliftError, InputError

Argument = tuple[str, dict[str, Any]]

FILE: Argument = ("file", {"type": Path, "help": "the model file, models/<name>.yaml", "metavar": "FILE"})
ENV: Argument = ("--env", {"help": "one of the file's environments, laid over it", "metavar": "NAME"})
LOCAL: Argument = ("--local", {"action": "store_true", "help": "the embedded AWS on this machine, not an account"})
LOCAL_HERE: Argument = ("--local", {"action": "store_true", "help": "measure on this machine, not from recordings"})
JSON: Argument = ("--json", {"action": "store_true", "help": "one JSON document on stdout"})
PORT: Argument = ("--port", {"type": int, "help": "the embedded AWS's port (default 4566)", "metavar": "N"})

RUN: Argument = ("run", {"type": Path, "metavar": "RUN", "help": "a run's folder, or its samples.jsonl.gz"})

COMMANDS: dict[str, tuple[str, str, list[Argument]]] = {
    # name: (function, help, arguments)
    "validate": ("models:validate", "check a model file; tell every fault at once", [FILE, ENV, JSON]),
    "schema": ("models:schema", "print the model file's JSON Schema", []),
    "plan": ("planning:plan", "answer every `auto`, with the arithmetic, and write the lock", [
        FILE, ENV, JSON,
        ("--config", {"type": Path, "metavar": "C", "help": "plan from a config.json alone: the weights are not read"}),
        ("--explain", {"metavar": "FIELD", "help": "one field with its whole arithmetic"}),
        ("--fleet", {"type": Path, "metavar": "F", "help": "the cheapest mix of instance types for a fleet file"}),
        ("--simulate", {"type": Path, "metavar": "T", "help": "every parallel plan, simulated on a trace"}),
        ("--engine", {"metavar": "NAME", "help": "with --fleet or --simulate: another engine of the registry"}),
        ("--measured", {"type": Path, "metavar": "M", "help": "count with what `calibrate` wrote"}),
        ("--recommend-json", {"action": "store_true", "help": "parameters of an AIRecommendationJob"}),
        ("--bucket", {"metavar": "B", "help": "with --recommend-json: of the weights and the results"}),
        ("--role", {"metavar": "ARN", "help": "with --recommend-json: the job's role"}),
        ("--html", {"type": Path, "metavar": "F", "help": "write the plan as a page"}),
        ("--png", {"type": Path, "metavar": "F", "help": "write the plan's pictures"})]),
    "ls": ("models:ls", "list the models of this checkout", [JSON]),
    "synth": ("cloud:synth", "write the CloudFormation templates", [
        ("--output", {"type": Path, "metavar": "DIR", "help": "default: .heavylift/cdk.out"}),
        ("file", {"type": Path, "nargs": "?", "metavar": "FILE", "help": "the model file (default: all of models/)"}),
        ENV]),
    "diff": ("cloud:diff", "show what a deployment would change", [FILE, ENV, LOCAL]),
    "weights": ("cloud:weights_push", "copy the weights to S3 (`weights push FILE`)", [
        ("action", {"choices": ["push"], "help": "what to do with them"}), FILE, ENV, LOCAL]),
    "deploy": ("cloud:deploy", "deploy foundation, weights and endpoint, and measure it at the gate", [
        ("--retry-capacity", {
            "type": int, "default": 0, "metavar": "N", "help": "try again so often while AWS has no machines (0)"}),
        FILE, ENV, LOCAL]),
    "destroy": ("cloud:destroy", "remove a model's stack, and with --purge all that it left", [
        FILE, ENV, LOCAL,
        ("--purge", {"action": "store_true", "help": "remove its weights and reports, and the foundation, too"})]),
    "up": ("cloud:up", "start the embedded AWS and deploy to it", [FILE, ENV, LOCAL, PORT]),
    "down": ("cloud:down", "stop the embedded AWS and all that runs in it", []),
    "status": ("cloud:status", "show what is up", [
        ("--account", {"action": "store_true", "help": "in the account of the environment"}), JSON]),
    "invoke": ("traffic:invoke", "send inputs to an endpoint", [
        FILE, ENV, ("inputs", {"nargs": "*", "help": "texts (default: the lines of stdin)"}), LOCAL, JSON,
        ("--max-new-tokens", {"type": int, "metavar": "N", "help": "generate at most so many tokens"})]),
    "bench": ("traffic:bench", "run the model file's benchmark from this machine", [
        FILE, ENV, LOCAL, JSON,
        ("--url", {"metavar": "URL", "help": "a runtime's /invocations instead of an endpoint"}),
        ("--trace", {"type": Path, "metavar": "JSONL", "help": "replay its lines: arrival_s, and a prompt or lengths"}),
        ("--into", {"type": Path, "metavar": "FOLDER", "help": "where the run's folder goes"}),
        ("--managed", {"metavar": "S3_URI", "help": "let SageMaker's own benchmark job send; it writes there"}),
        ("--role", {"metavar": "ARN", "help": "for --managed: the job's role"}),
        ("--find-capacity", {"action": "store_true", "help": "the highest Poisson rate that meets the targets"}),
        ("--seconds", {"type": float, "default": 600.0, "metavar": "S", "help": "for --find-capacity (600)"}),
        ("--rate", {"type": float, "default": 1.0, "metavar": "R", "help": "--find-capacity begins there (1)"}),
        ]),
    "versus": ("versus:versus", "measure an endpoint and another in turns, and compare them with their noise", [
        FILE, ENV, LOCAL, JSON,
        ("--url", {"metavar": "URL", "help": "A: a runtime's /invocations instead of the file's endpoint"}),
        ("--against", {"required": True, "metavar": "B", "help": "a URL, an endpoint, or endpoint/variant"}),
        ("--turns", {"type": int, "default": 4, "metavar": "N", "help": "how often each is measured (4)"}),
        ("--tolerance", {"type": float, "default": 5.0, "metavar": "PERCENT", "help": "what counts as the same (5)"}),
        ("--into", {"type": Path, "metavar": "FOLDER", "help": "where the runs' folder goes"})]),
    "judge": ("traffic:judge", "judge recorded samples again", [
        ("samples", {"type": Path, "metavar": "SAMPLES", "help": "a run's samples.jsonl.gz"}), LOCAL, JSON,
        ("--cloudwatch", {"action": "store_true", "help": "ask for SageMaker's share of the time, and keep it"}),
        ]),
    "tune": ("tuning:tune", "search the serving options that answer the most good requests a second", [
        FILE, ENV, LOCAL_HERE, JSON,
        ("--candidates", {"type": int, "default": 12, "metavar": "N", "help": "how many are tried (12)"}),
        ("--concurrency", {"type": int, "metavar": "N", "help": "clients (default: the file's own load)"}),
        ("--seconds", {"type": float, "default": 600.0, "metavar": "S", "help": "for the search (600)"})]),
    "report": ("reporting:report", "write a run in another form", [
        RUN, ("--format", {"choices": ["html", "png", "json", "csv", "junit", "markdown"], "default": "markdown",
                      "help": "which form (markdown)"}),
        ("--output", {"type": Path, "metavar": "F", "help": "the file to write (default: stdout)"})]),
    "compare": ("reporting:compare", "tell whether run B is slower, or worse, than run A; knows noise", [
        ("a", {"type": Path, "metavar": "A", "help": "the baseline: a run, or a folder of several"}),
        ("b", {"type": Path, "metavar": "B", "help": "the run in question"}), JSON,
        ("--tolerance", {"type": float, "default": 5.0, "metavar": "PERCENT", "help": "what counts as the same (5)"}),
        ("--force", {"action": "store_true", "help": "compare unlike workloads, too"}),
        ("--html", {"type": Path, "metavar": "F", "help": "write the comparison as a page, too"})]),
    "calibrate": ("calibrate:calibrate", "fit the plan's times to measurements of the native engine", [
        FILE, ENV, LOCAL_HERE, JSON,
        ("--output", {"type": Path, "metavar": "FILE", "help": "default: .heavylift/measured/<name>.json"})]),
    "partition": ("partition:partition", "split a checkpoint ahead of time, a file for each rank", [
        ("source", {"metavar": "FOLDER", "help": "a folder, s3://bucket/prefix/, or owner/name@revision of the hub"}),
        ("--out", {"type": Path, "metavar": "DIR", "help": "the folder to write"}),
        ("--tensor-parallel-degree", {"type": int, "metavar": "N", "help": "the ranks that share each layer"}),
        ("--pipeline-parallel-degree", {"type": int, "metavar": "P", "help": "the stages that divide the layers"}),
        ("--dtype", {"metavar": "D", "help": "auto (as stored), fp32, fp16 or bf16"}),
        ("--quantize", {"choices": ["none", "int8", "int4"], "help": "round the layers' matrices (default: none)"}),
        ("--check", {"action": "store_true", "help": "prove every SHA-256 of a partitioned folder instead"})]),
    "quantize": ("quantize:quantize", "write a checkpoint in AWQ's or GPTQ's 4-bit layout", [
        ("source", {"metavar": "FOLDER", "help": "a folder, s3://bucket/prefix/, or owner/name@revision of the hub"}),
        ("--out", {"type": Path, "metavar": "DIR", "required": True, "help": "the folder to write"}),
        ("--method", {"choices": ["awq", "gptq"], "required": True, "help": "whose layout"}),
        ("--group-size", {"type": int, "metavar": "N", "help": "inputs that share a scale (default: 128)"})]),
    "facts": ("facts:facts", "read the tables of types and prices anew from AWS (`facts refresh`)", [
        ("action", {"choices": ["refresh"], "help": "what to do with them"}), JSON,
        ("--region", {"default": "us-east-1", "metavar": "R", "help": "whose prices (us-east-1)"})]),
    "serve": ("serving:serve", "run the container's server on a folder", [
        ("folder", {"type": Path, "metavar": "FOLDER", "help": "with serving.properties, and weights or a model.py"}),
        ("--port", {"type": int, "metavar": "N", "help": "to listen on (default 8080)"})]),
}  # fmt: skip


EXAMPLES = {
    "validate": "models/tiny-t5.yaml",
    "schema": "> model-file.schema.json",
    "plan": "models/tiny-t5.yaml --explain memory",
    "ls": "--json",
    "synth": "models/tiny-t5.yaml --output templates",
    "diff": "models/tiny-t5.yaml --local",
    "weights": "push models/tiny-t5.yaml --local",
    "deploy": "models/llama-3-1-8b.yaml --env gpu",
    "destroy": "models/tiny-t5.yaml --local --purge",
    "up": "models/tiny-t5.yaml --local",
    "down": "",
    "status": "--json",
    "invoke": "models/tiny-t5.yaml --local 'write as a Roman numeral: 1994'",
    "bench": "models/tiny-t5.yaml --local --find-capacity --rate 8 --seconds 120",
    "versus": "models/tiny-t5.yaml --local --against tiny-t5-script",
    "judge": ".heavylift/reports/tiny-t5/RUN/samples.jsonl.gz",
    "tune": "models/tiny-t5.yaml --local --candidates 6 --seconds 120",
    "report": ".heavylift/reports/tiny-t5/RUN --format html --output run.html",
    "compare": "before/ after/ --tolerance 10 --html difference.html",
    "calibrate": "models/tiny-t5.yaml --local",
    "partition": "models/tiny-t5 --out parts --tensor-parallel-degree 2",
    "quantize": "models/tiny-llama --out smaller --method awq",
    "facts": "refresh --region eu-central-1",
    "serve": "folder --port 8080",
}
"""What follows the command in its help."""


class Arguments(argparse.ArgumentParser):
    """argparse's, with the nearest flag where one is misspelt."""

    def error(self, message: str) -> NoReturn:
        """Exit code 2, the usage and the sentence on standard error."""
        said, _, unknown = message.partition("unrecognized arguments: ")
        if not said and unknown.startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            message += nearest(unknown.split()[0].partition("=")[0], flags)
        super().error(message)


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where none is alike."""
    near = difflib.get_close_matches(word.lower(), list(words), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def commands() -> argparse.ArgumentParser:
    """What `heavylift --help` shows."""
    listed = "\n".join(f"  {name:<10} {text}" for name, (_, text, _) in COMMANDS.items())
    root = argparse.ArgumentParser(
        prog="heavylift",
        description="Deploy large models on Amazon SageMaker as code.",
        epilog=f"commands:\n{listed}\n\n`heavylift COMMAND --help` tells a command's arguments and an example",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="store_true", help="print the version and exit")
    root.add_argument("command", metavar="COMMAND", help="one of those below")
    return root


def arguments_of(name: str) -> argparse.ArgumentParser:
    """One command's own parser: unlike argparse's sub-commands, it lets options stand among the texts of `invoke`."""
    _, text, arguments = COMMANDS[name]
    example = f"example:\n  heavylift {name} {EXAMPLES[name]}".rstrip()
    shape = argparse.RawDescriptionHelpFormatter
    parser = Arguments(prog=f"heavylift {name}", description=text, epilog=example, formatter_class=shape)
    for flag, options in arguments:
        parser.add_argument(flag, **options)
    return parser


def terminated(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, with its clean-up."""
    raise KeyboardInterrupt


def failed(chosen: argparse.Namespace, told: str, code: int) -> int:
    """Tell why, a sentence a line; with --json also as the one document that a program reads from stdout."""
    print(told, file=sys.stderr)
    if getattr(chosen, "json", False):
        print(json.dumps({"failed": told.splitlines(), "exit_code": code}, indent=2, ensure_ascii=False))
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        print(commands().format_help(), end="", file=sys.stderr)
        return InputError.exit_code
    if given[0] == "--version":
        print(f"heavylift {importlib.import_module('importlib.metadata').version('heavylift')}")  # slow to import
        return 0
    command = commands().parse_args(given[:1]).command
    if command not in COMMANDS:
        near = nearest(command, COMMANDS)
        print(f"there is no command '{command}'{near or '; `heavylift --help` lists them'}", file=sys.stderr)
        return InputError.exit_code
    chosen = arguments_of(command).parse_intermixed_args(given[1:])
    chosen.command = command
    module, function = COMMANDS[command][0].split(":")
    if "AWS_REGION" in os.environ:  # the CDK CLI obeys it first, boto3 not at all: they must not go to two regions
        os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without '·' is no reason to fail after the work
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminated)
    try:
        body = getattr(importlib.import_module(f"heavylift.commands.{module}"), function)
        code: int = body(chosen)
    except HeavyliftError as error:
        return failed(chosen, str(error), error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `heavylift ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left has nobody to go to
        return 1
    except OSError as error:  # no space, no right to write, no such folder
        where = "" if error.filename is None else f"'{error.filename}': "
        return failed(chosen, f"{where}{error.strerror or error}", HeavyliftError.exit_code)
    except Exception as error:
        if not type(error).__module__.startswith("botocore."):
            raise
        return failed(chosen, f"AWS: {error}", HeavyliftError.exit_code)  # no credentials, region, right or network
    return code


if __name__ == "__main__":
    sys.exit(main())

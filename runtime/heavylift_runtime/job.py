"""A SageMaker job in the container: `train`, `partition` or `compile` makes a model's folder ready to be served.

Not the work: native/partition.py and the engines' own compilers do it. A Processing job reads processing/input/model
and writes processing/output/model; a Training job (`train`) reads input/data/model and writes model, all under /opt/ml.
What SageMaker shows as the reason of a failure is the file that each of them has for it, at most 1024 characters
(DescribeTrainingJob's FailureReason, DescribeProcessingJob's ExitMessage).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType

from heavylift_runtime.engines.children import Children
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.environment import ROOT, ROOT_VARIABLE, merged
from heavylift_runtime.errors import LoadError, OptionsError, RuntimeFault
from heavylift_runtime.options import PROPERTIES, Options
from heavylift_runtime.properties import read_properties

COMMANDS = ("train", "partition", "compile")
MOST_TOLD = 1024  # characters
_PARTITIONED = ("native", "fastertransformer")  # those whose ranks read what native/partition.py writes
_COMPILERS = {"neuronx": "heavylift_runtime.engines.neuronx"}
_PLACES = ("option.model_id", "option.s3url", "option.model_dir", "option.save_mp_checkpoint_path")
"""Where the weights were, and were to go; now they lie in the folder."""
_BESIDE = ("*.py", "*.json", "*.txt", "*.model", "*.jinja")
_DECIDED = ("engine", "option.entryPoint", "option.dtype", "option.quantize", "option.pipeline_parallel_degree")


@dataclass(frozen=True)
class Place:
    """Where a job finds its model and puts what it makes. `said`: where it says why it failed."""

    source: Path
    target: Path
    said: Path
    hyperparameters: Path | None

    @classmethod
    def of(cls, command: str, root: Path) -> Place:
        """SageMaker's folders for the command, under `root`."""
        if command == "train":
            settings = root / "input" / "config" / "hyperparameters.json"
            return cls(root / "input" / "data" / "model", root / "model", root / "output" / "failure", settings)
        processing = root / "processing"
        return cls(processing / "input" / "model", processing / "output" / "model", root / "output" / "message", None)


def run_job(command: str, environ: Mapping[str, str]) -> int:
    """Run one of COMMANDS to its end; the process's exit code. The main thread's: SIGTERM ends it with a sentence."""
    place = Place.of(command, Path(environ.get(ROOT_VARIABLE, ROOT)))

    def stop(number: int, frame: FrameType | None) -> None:
        # An exception would be lost in an import: torch's own code goes on where numpy's was interrupted.
        sentence = "the job was stopped before it had finished (SIGTERM)"
        os.write(2, f"{sentence}\n".encode())  # print could be what was interrupted
        _tell(place, sentence)
        os._exit(1)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        _work(command, place, environ)
    except RuntimeFault as fault:
        return _fail(place, str(fault), fault.exit_code)
    except Exception as error:  # the last line of defence: SageMaker shows a sentence
        traceback.print_exc()
        return _fail(place, f"{type(error).__name__}: {error}", 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _work(command: str, place: Place, environ: Mapping[str, str]) -> None:
    asked = dict(environ) | _hyperparameters(place.hyperparameters)
    if not place.source.is_dir():
        raise OptionsError(f"no folder {str(place.source)!r}: give the job an input (a channel) with the name 'model'")
    written = _written(place.source)
    if merged(written, asked).get("option.tensor_parallel_degree") == "max":
        raise OptionsError("option.tensor_parallel_degree=max means the devices of this machine: give a job the number")
    options = Options.load(place.source, asked)
    for warning in options.warnings:
        _report(warning)
    _report(f"{command}: {place.source} to {place.target}: {options.describe()}")
    place.target.mkdir(parents=True, exist_ok=True)
    if (compiler := _compiler(command, options)) is not None:
        compiler(options, place.source, place.target)
        return
    (_scripted if options.engine == "script" else _partition)(options, place.source, place.target)
    (place.target / PROPERTIES).write_text(_properties(written, asked, options), "utf-8")


def _compiler(command: str, options: Options) -> Callable[[Options, Path, Path], None] | None:
    """The engine's, where its models are compiled ahead of time; None: they are partitioned. `train` is either.

    Raises OptionsError where the engine needs neither, or needs what the command does not do.
    """
    name = options.engine
    if name in _COMPILERS:
        if command == "partition":
            raise OptionsError(f"engine {name} is compiled, not partitioned: give the job the argument 'compile'")
        if (missing := ENGINES[name].missing()) is not None:
            raise OptionsError(missing)
        compiler: Callable[[Options, Path, Path], None] = import_module(_COMPILERS[name]).compile
        return compiler
    if command == "compile":
        raise OptionsError(f"engine {name} has no compiler: {' and '.join(_COMPILERS)} compile ahead of time")
    if name not in (*_PARTITIONED, "script"):
        raise OptionsError(
            f"engine {name} reads no partitioned weights: use engine={' or '.join(_PARTITIONED)}, or no job: "
            f"it takes the checkpoint as it is"
        )
    return None


def _partition(options: Options, source: Path, target: Path) -> None:
    from heavylift_runtime.native.partition import partition  # torch: only where it is needed
    from heavylift_runtime.native.sources import source_of

    checkpoint = source_of(options.model_id, source)
    partition(checkpoint, target, options.tensor_parallel_degree, options.dtype, _report, options.quantize)


def _scripted(options: Options, source: Path, target: Path) -> None:
    """By the script's own `partition(inputs)`; beside what it writes, all that it needs to be served from there."""
    before = set(target.iterdir())
    Children(options, source, target=target).close()
    if set(target.iterdir()) == before:
        raise LoadError(f"the script's partition(inputs) wrote nothing to save_mp_checkpoint_path: {target}")
    for pattern in _BESIDE:
        for file in source.glob(pattern):
            if not (target / file.name).exists():
                shutil.copy(file, target)


def _written(source: Path) -> dict[str, str]:
    path = source / PROPERTIES
    try:
        return read_properties(path.read_text("utf-8")) if path.is_file() else {}
    except UnicodeDecodeError as error:
        raise OptionsError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _properties(written: Mapping[str, str], asked: Mapping[str, str], options: Options) -> str:
    """serving.properties of what was made: the input's own, and what the environment had decided about the weights."""
    values = merged(written, asked)
    kept = {name: text for name, text in written.items() if name not in _PLACES}
    kept |= {name: values[name] for name in _DECIDED if name in values}
    kept["option.tensor_parallel_degree"] = str(options.tensor_parallel_degree)
    return "".join(f"{name}={text}\n" for name, text in kept.items())


def _hyperparameters(path: Path | None) -> dict[str, str]:
    """A training job's, as the variables OPTION_*: SageMaker writes an object of texts. Its SDK's own are not ours."""
    if path is None or not path.is_file():
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise OptionsError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise OptionsError(f"{path} must be an object of texts, as SageMaker writes it")
    ours = {name.removeprefix("option."): text for name, text in document.items() if not name.startswith("sagemaker_")}
    return {f"OPTION_{name.upper()}": text for name, text in ours.items()}


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(place: Place, sentence: str, code: int) -> int:
    _report(sentence)
    _tell(place, sentence)
    return code


def _tell(place: Place, sentence: str) -> None:
    try:
        place.said.parent.mkdir(parents=True, exist_ok=True)
        place.said.write_text(sentence[:MOST_TOLD], "utf-8", errors="backslashreplace")
    except OSError as error:
        _report(f"{place.said} cannot be written: {error.strerror}")

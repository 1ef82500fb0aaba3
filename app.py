"""The CDK app: the foundation, and a serving stack for each file in models/, or for the one of `--context model=FILE`.

Not the `heavylift` command, which runs it. Synthesis is pure: it reads model files, their locks and the fact tables,
and knows no clock, no network and no account. `--context image=URI` takes a built image in place of the runtime's own,
`--context env=NAME` an environment of the model files, `--context benchmark='rate(1 day)'` (or `by-hand`) a stack
beside each model's that measures its endpoint again.

The CDK looks at the templates by its own rules, as in any app of its: CDK_VALIDATION=false leaves that out. Node loads
those rules while Python imports what it needs, and makes one model's stack while Python reads the next.
"""

from __future__ import annotations

import gc
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from stacks.node import options

if TYPE_CHECKING:
    from aws_cdk import App

ROOT = Path(__file__).resolve().parent


def main() -> None:
    """Synthesize everything; exits with the faults of all model files."""
    gc.disable()  # a process of seconds, that keeps what it makes
    sys.setswitchinterval(1e-4)  # seconds: who waits for Node goes on soon after its answer, though the reader computes
    os.environ["NODE_OPTIONS"] = options(os.environ.get("NODE_OPTIONS"))
    import aws_cdk  # noqa: F401  # in this thread, as all imports: two at a time once failed within Python's own

    with ThreadPoolExecutor(1) as node, ThreadPoolExecutor(1) as reader:
        started = node.submit(_started)
        looking = node.submit(_look, started)
        # While those wait for Node, nothing else may speak to it; these imports and the reading do not.
        from heavylift.deploy.planned_model import model_files, read
        from heavylift.errors import InputError
        from stacks.models import Models

        app, chosen, env, here = started.result()
        files = model_files(ROOT, chosen)
        planned = [reader.submit(read, file, chosen, env, root=ROOT, here=here) for file in files]
        looking.result()
        faults = Models(app).add_all(each.result for each in planned)
    if faults:
        print(InputError(faults), file=sys.stderr)
        sys.exit(InputError.exit_code)
    app.synth()


def _started() -> tuple[App, str | None, str | None, bool]:
    """The app, and what the context asks for: the model, the environment, and whether all is for the embedded AWS."""
    from aws_cdk import App
    from jsii import _type_checking

    # As under `python -O`: mypy has looked at each call, Node looks at each argument, and a look between takes a tenth.
    _type_checking._resolved_check = lambda **_: None
    app = App(builtin_cloud_formation_validation=False)  # that one would load its rules at the end
    model, env, here = (app.node.try_get_context(name) for name in ("model", "env", "here"))
    return app, model, env, bool(here)


def _look(started: Future[tuple[App, str | None, str | None, bool]]) -> None:
    """Have the CDK look at the app's templates, by the rules that any app's are looked at by."""
    if os.environ.get("CDK_VALIDATION") != "false":
        from aws_cdk import CloudFormationValidatePlugin, Validations

        Validations.of(started.result()[0]).add_plugins(CloudFormationValidatePlugin())


if __name__ == "__main__":
    main()

"""The CDK app: the foundation, and a serving stack for each file in models/, or for the one of `--context model=FILE`.

Not the `heavylift` command, which runs it. Synthesis is pure: it reads model files, their locks and the fact tables,
and knows no clock, no network and no account. `--context image=URI` takes a built image in place of the runtime's own,
`--context env=NAME` an environment of the model files, `--context benchmark='rate(1 day)'` (or `by-hand`) a stack
beside each model's that measures its endpoint again.

The CDK looks at the templates by its own rules, as in any app of its: CDK_VALIDATION=false leaves that out. To load
them takes Node a second, in which Python reads the model files.
"""

from __future__ import annotations

import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aws_cdk import App, CloudFormationValidatePlugin, Validations

ROOT = Path(__file__).resolve().parent


def main() -> None:
    """Synthesize everything; exits with the faults of all model files."""
    gc.disable()  # a process of seconds, that keeps what it makes
    app = App(builtin_cloud_formation_validation=False)  # that one would load its rules at the end
    chosen, env, here = (app.node.try_get_context(name) for name in ("model", "env", "here"))
    with ThreadPoolExecutor(1) as beside:
        rules = beside.submit(CloudFormationValidatePlugin) if os.environ.get("CDK_VALIDATION") != "false" else None
        # While that waits for Node, nothing else may speak to it; these imports and the reading do not.
        from heavylift.deploy.planned_model import read_all
        from heavylift.errors import InputError
        from stacks.models import Models

        planned, faults = read_all(ROOT, chosen, env, here=bool(here))
    if rules is not None:
        Validations.of(app).add_plugins(rules.result())
    models = Models(app)
    for model in planned:
        try:
            models.add(model)
        except InputError as error:
            faults += error.faults
    if faults:
        print(InputError(dict.fromkeys(faults)), file=sys.stderr)
        sys.exit(InputError.exit_code)
    if not planned:  # no model yet: what outlives them can be deployed
        models.foundation()
    app.synth()


if __name__ == "__main__":
    main()

"""The stacks of a planned model: the foundation of its account and region, its serving stack, and its benchmark's.

Not the reading of model files (heavylift.deploy.planned_model), nor which of them: that is app.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aws_cdk import Annotations, App, Environment

from heavylift.deploy.planned_model import PlannedModel
from heavylift.deploy.stacks import benchmark, foundation_id, serving
from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.plan import Plan
from heavylift.serving.code import imported
from heavylift_cdk import RuntimeImage
from heavylift_cdk.runtime_image import BROUGHT
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack


class Models:
    """What app.py makes. A foundation is made with the first model of its account and region.

    Context: `image` in place of every image, `benchmark` (a schedule, or by-hand), `here`: all in the account and
    region of the credentials, whatever the files say, as the embedded AWS needs it.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._image: str | None = app.node.try_get_context("image")
        self._benchmark: str | None = app.node.try_get_context("benchmark")
        self._here = bool(app.node.try_get_context("here"))
        self._foundations: dict[str, FoundationStack] = {}
        self._names: set[str] = set()

    def add_all(self, planned: Iterable[Callable[[], PlannedModel | None]]) -> list[str]:
        """The stacks of all, each asked for when its turn comes; what is wrong with the files, then with the stacks.

        Where there is no model yet, the foundation alone: what outlives them can be deployed.
        """
        unread, unbuilt = list[str](), list[str]()
        for read in planned:
            try:
                model = read()
            except InputError as error:
                unread += error.faults
                continue
            try:
                if model is not None:
                    self.add(model)
            except InputError as error:
                unbuilt += error.faults
        faults = list(dict.fromkeys(unread + unbuilt))
        if not faults and not self._names:
            self.foundation()
        return faults

    def add(self, model: PlannedModel) -> ServingStack:
        """Its stacks. Raises InputError."""
        spec, plan = model.spec, model.plan
        if plan.name in self._names:
            raise InputError(
                f"{model.file}: 'name' must be this file's alone, or it replaces another's stack: got {plan.name}"
            )
        self._names.add(plan.name)
        foundation = self.foundation() if self._here else self.foundation(spec.account, spec.region)
        there = Environment(account=foundation.env_account, region=foundation.env_region)
        stack = ServingStack(
            self._app,
            serving(plan.name),
            plan=plan,
            model_file=model.typed,
            foundation=foundation,
            image=self._image_of(model, plan, foundation),
            spec=spec,
            others=model.others,
            images={name: self._image_of(model, other.plan, foundation) for name, other in model.others.items()},
            env=there,
        )
        if plan.benchmark is not None and self._benchmark is not None:
            from stacks.benchmark import BY_HAND, BenchmarkStack  # parts of the CDK that take time, and few ask for

            schedule = None if self._benchmark == BY_HAND else self._benchmark
            id = benchmark(plan.name)
            BenchmarkStack(self._app, id, plan=plan, foundation=foundation, schedule=schedule, spec=spec, env=there)
        if (outdated := model.lock.known.outdated()) is not None:
            Annotations.of(stack).add_warning_v2(
                "heavylift:facts", f"{outdated}; `heavylift plan {model.typed}` writes them anew"
            )
        own = not self._here and self._image is None and (spec.image is None or spec.image.build is not None)
        needed = _needed(model, plan)
        if own and needed in BROUGHT and facts.instances()[plan.instance.type].hardware == "cpu":
            Annotations.of(stack).add_warning_v2(
                "heavylift:engine",
                f"Heavylift's image for processors has no {needed}, so the container will not start: name "
                "an image that has it by 'image', or an instance type with GPUs",
            )
        return stack

    def foundation(self, account: str | None = None, region: str | None = None) -> FoundationStack:
        """What outlives the models in an account and region (None: those of the credentials): one for all of them."""
        id = foundation_id(account, region)
        if id not in self._foundations:
            there = Environment(account=account, region=region)
            self._foundations[id] = FoundationStack(self._app, id, env=there)
        return self._foundations[id]

    def _image_of(self, model: PlannedModel, plan: Plan, foundation: FoundationStack) -> RuntimeImage:
        """The context's, else the file's, else Heavylift's own for the plan's hardware, built by Docker or by
        CodeBuild."""
        uri, spec = self._image, model.spec
        if uri is None and spec.image is not None:
            uri = spec.image.uri
        if uri is not None:
            return RuntimeImage.from_uri(uri)
        if spec.image is not None and spec.image.dlc is not None:
            return RuntimeImage.from_dlc(spec.image.dlc.framework, spec.image.dlc.version)
        hardware = facts.instances()[plan.instance.type].hardware
        assert hardware != "gaudi", "no engine runs there, so no plan is made for it"
        sdk = None if spec.compile is None else spec.compile.neuron_sdk
        if spec.image is not None and spec.image.build == "codebuild":
            return RuntimeImage.from_codebuild(
                hardware,
                repository=foundation.images,
                weights=foundation.store,
                log_group=foundation.log_group,
                engine=_needed(model, plan),
                neuron_sdk=sdk,
            )
        return RuntimeImage.from_runtime(hardware, engine=_needed(model, plan), neuron_sdk=sdk)


def _needed(model: PlannedModel, plan: Plan) -> str:
    """What the image must have: the plan's engine, or diffusers for a script that imports it, or LMI's handler over it,
    and does not let pip bring it."""
    code, options = model.spec.code, model.spec.options
    if plan.engine != "script" or code is None or options.get("install_requirements") in (True, "true"):
        return plan.engine
    names = imported(model.file.parent / code)
    pictures = "djl_python.stable_diffusion" in names or any(name.split(".")[0] == "diffusers" for name in names)
    return "diffusers" if pictures else plan.engine

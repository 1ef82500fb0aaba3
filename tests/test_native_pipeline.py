"""Pipeline parallelism: each stage has its layers and no more, all work at once, what the last one finds is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families import family_of
from heavylift_runtime.families.stages import End, Layer, Stage
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.mesh import ALONE, Mesh
from heavylift_runtime.native.news import News
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sampling import Chosen
from heavylift_runtime.native.sources import Folder
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import answers_of, arrival, core_of, model_on, run
from tests.rank_threads import on_mesh
from tests.t5_checkpoints import write_t5

PROMPTS = [[5, 9, 33, 21, 7, 2], [12], [40, 41, 8, 3, 55, 9, 9, 9, 30, 28], [3, 2], [7] * 30]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("written")
    written = {"t5": write_t5(place / "t5"), "t5-tied": write_t5(place / "t5-tied", tied=True)}
    for kind in ("llama", "qwen2", "opt-350m", "gptj", "bloom"):
        family, config = KINDS[kind]
        written[kind] = write_decoder(place / kind, family, **config)
    return written


def taken(folder: Path, stage: Stage, part: int = 0, parts: int = 1) -> dict[str, Tensor]:
    checkpoint = Checkpoint.open(Folder(folder), part, parts, stage)
    names = [weight.name for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
    with Loader(checkpoint, part, parts, torch.float32) as loader:
        return {name: loader.take(name) for name in names}


@pytest.mark.parametrize(("layers", "stages"), [(24, 1), (24, 4), (5, 2), (7, 3), (3, 3)])
def test_every_layer_is_on_one_stage_and_stages_differ_by_one_at_most(layers: int, stages: int) -> None:
    parts = [Stage(number, stages).layers(layers) for number in range(stages)]

    assert [layer for part in parts for layer in part] == list(range(layers))
    assert {len(part) for part in parts} <= {layers // stages, -(-layers // stages)}
    assert max(map(len, parts)) == len(parts[0]) == Stage(0, stages).most(layers)


def test_what_belongs_to_no_layer_is_at_the_ends_or_everywhere() -> None:
    def places(where: End | Layer) -> list[int]:
        return [number for number in range(3) if Stage(number, 3).holds(where)]

    assert [places(end) for end in (End.FIRST, End.LAST, End.BOTH, End.EVERY)] == [[0], [2], [0, 2], [0, 1, 2]]
    assert places(Layer(3, 6)) == [1]


@pytest.mark.parametrize("kind", ["t5", "t5-tied", "llama", "qwen2", "opt-350m", "gptj", "bloom"])
def test_the_stages_together_hold_the_checkpoint_and_share_only_what_both_use(
    folders: dict[str, Path], kind: str
) -> None:
    whole = taken(folders[kind], Stage())

    first, last = taken(folders[kind], Stage(0, 2)), taken(folders[kind], Stage(1, 2))

    assert first.keys() | last.keys() == whole.keys()
    assert all(torch.equal(part[name], whole[name]) for part in (first, last) for name in part)
    biases = {name for name in whole if "relative_attention_bias" in name}
    embedding = next(iter(whole))
    tied = kind not in ("t5", "llama", "gptj")
    assert first.keys() & last.keys() == biases | ({embedding} if tied else set())


@pytest.mark.parametrize("kind", ["t5", "t5-tied", "qwen2", "opt-350m"])
def test_every_rank_loads_from_its_own_file_what_it_loads_at_run_time(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    partition(Folder(folders[kind]), tmp_path / "out", 2, stages=2)

    assert len(list((tmp_path / "out").glob("rank-*-of-004.safetensors"))) == 4
    for stage in (Stage(0, 2), Stage(1, 2)):
        for part in range(2):
            ahead, now = taken(tmp_path / "out", stage, part, 2), taken(folders[kind], stage, part, 2)
            assert ahead.keys() == now.keys() and all(torch.equal(ahead[name], now[name]) for name in now)


def test_a_partition_for_other_degrees_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    partition(Folder(folders["llama"]), tmp_path / "out", 1, stages=2)

    for tensor, stages in ((2, 1), (1, 1), (2, 2)):
        with pytest.raises(LoadError, match="is partitioned for"):
            Checkpoint.open(Folder(tmp_path / "out"), 0, tensor, Stage(0, stages))
    with pytest.raises(LoadError, match="for pipeline_parallel_degree 2, not 1; set pipeline_parallel_degree to 2"):
        Checkpoint.open(Folder(tmp_path / "out"))


def test_more_stages_than_layers_are_refused_with_the_number_of_layers(folders: dict[str, Path]) -> None:
    for kind, names in (("llama", ["num_hidden_layers"]), ("t5", ["num_decoder_layers"])):
        config = dict(Checkpoint.open(Folder(folders[kind])).config)
        assert family_of(config).check(config, 1, 3) == [
            f"pipeline_parallel_degree 3 is more than {name!r} 2: every stage has a layer" for name in names
        ]


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_every_stage_works_on_another_lane_at_the_same_time(folders: dict[str, Path], kind: str) -> None:
    def rank(mesh: Mesh) -> tuple[Any, int]:
        core, busy = core_of(model_on(folders[kind], stage=mesh.stage), slots=4, mesh=mesh), 0
        original = core._compute

        def compute(flight: Any) -> list[Tensor]:
            nonlocal busy
            busy += all(core._flights)
            return original(flight)

        core._compute = compute  # type: ignore[method-assign]
        return answers_of(core, PROMPTS[:4], [12] * 4), busy

    (answers, busy), (others, _) = on_mesh(1, 2, rank)

    alone = answers_of(core_of(model_on(folders[kind])), PROMPTS[:4], [12] * 4)
    assert answers == others == alone
    assert busy >= 12  # of some 24 steps for two lanes of two rows


@pytest.mark.parametrize("kind", ["t5", "llama"])
@pytest.mark.parametrize("how", [{"num_beams": 3}, {"temperature": 0.8, "seed": 7, "logprobs": 3, "top_k": 20}])
def test_beams_draws_and_log_probabilities_are_those_of_one_stage(
    folders: dict[str, Path], kind: str, how: dict[str, Any]
) -> None:
    def steps(mesh: Mesh = ALONE) -> dict[int, list[Chosen]]:
        core = core_of(model_on(folders[kind], stage=mesh.stage), slots=6, mesh=mesh)
        news = News(tuple(arrival(key, prompt, 9, **how) for key, prompt in enumerate(PROMPTS)))
        found: dict[int, list[Chosen]] = {}
        with torch.inference_mode():
            while core.busy or news.arrived:
                for progress in core.step(news):
                    found.setdefault(progress.sequence.key, []).extend(progress.chosen)
                news = News()
        return found

    alone = steps()
    first, last = on_mesh(1, 2, steps)

    assert first == last
    for key, chosen in alone.items():
        assert [each.token for each in first[key]] == [each.token for each in chosen]
        for own, other in zip(first[key], chosen, strict=True):
            assert [token for token, _ in own.top] == [token for token, _ in other.top]
            assert own.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_a_request_that_is_cancelled_in_flight_ends_on_all_stages(folders: dict[str, Path]) -> None:
    schedule = {
        0: News(tuple(arrival(key, PROMPTS[key], 20) for key in range(4))),
        5: News((), (0, 1)),
        6: News((arrival(4, PROMPTS[4], 9),), (2,)),
    }

    def rank(mesh: Mesh) -> Any:
        return run(core_of(model_on(folders["t5"], stage=mesh.stage), slots=3, mesh=mesh), schedule)

    first, last = on_mesh(1, 2, rank)

    alone = answers_of(core_of(model_on(folders["t5"])), PROMPTS, [20, 20, 20, 20, 9])
    assert first == last
    assert set(first) >= {3, 4}
    assert all(first[key].tokens == alone[key].tokens for key in first)

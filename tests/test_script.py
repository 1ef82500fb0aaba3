"""The script engine in its own process: LMI's handler contract, and what a script may answer."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from heavylift_runtime.engines.requirements import missing_of
from tests.served import Served, alive, eventually, serving, write_script

pytestmark = pytest.mark.slow

ANSWERS = """
import sys
from datetime import date
from djl_python import Input, Output
from djl_python.inputs import Input as SameInput

calls = []

def handle(inputs: Input):
    assert SameInput is Input
    calls.append(inputs.is_empty())
    if inputs.is_empty():
        return None
    kind = inputs.get_as_json()["kind"]
    if kind == "properties":
        return {name: str(value) for name, value in inputs.get_properties().items()}
    if kind == "calls":
        return {"calls": calls}
    if kind == "dict":
        return {"when": date(2026, 11, 20).isoformat(), "accents": "é"}
    if kind == "text":
        return "plain"
    if kind == "bytes":
        return b"\\x00\\x01"
    if kind == "none":
        return None
    if kind == "number":
        return 3
    if kind == "nan":
        return {"x": float("nan")}
    if kind == "error":
        return Output().error("no tea", code=418)
    if kind == "code":
        return Output(code=9999)
    if kind == "header":
        return Output().add_property("x-split", "a\\r\\nx-evil: 1").add("body")
    if kind == "finalize":
        output = Output().add("ok").add_property("X-Amzn-SageMaker-Custom-Attributes", "k=v")
        return output.finalize(calls.clear)
    if kind == "raise":
        raise ValueError("the tea is cold")
    if kind == "surrogate":
        raise ValueError(inputs.get_as_json()["text"])
    if kind == "long":
        raise ValueError("x" * 10**6)
    if kind == "exit":
        sys.exit(3)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    properties = "engine=Python\noption.flavour=green\noption.model_id=/nowhere\n"
    with serving(write_script(tmp_path_factory.mktemp("script") / "model", ANSWERS, properties)) as served:
        yield served


def test_the_first_call_is_empty(script: Served) -> None:
    assert script.ask({"kind": "calls"}).json()["calls"] == [True, False]


def test_options_and_headers_are_properties_and_options_win(script: Served) -> None:
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": "lemon=yes;model_dir=/etc"}
    found = script.ask({"kind": "properties"}, **attributes, **{"X-Tea": "oolong"}).json()

    assert found["flavour"] == "green"
    assert found["model_id"] == "/nowhere"
    assert found["lemon"] == "yes"
    assert found["model_dir"] != "/etc"
    assert found["content-type"] == "application/json"
    assert found["x-tea"] == "oolong"


@pytest.mark.parametrize(
    ("kind", "code", "content_type", "body"),
    [
        ("dict", 200, "application/json", '{"when": "2026-11-20", "accents": "é"}'.encode()),
        ("text", 200, "text/plain; charset=utf-8", b"plain"),
        ("bytes", 200, "application/octet-stream", b"\x00\x01"),
        ("error", 418, "application/json", b'{"error": "no tea", "code": 418, "message": "invoke handler failure"}'),
    ],
)
def test_what_a_script_returns_is_the_reply(
    script: Served, kind: str, code: int, content_type: str | None, body: bytes
) -> None:
    reply = script.ask({"kind": kind})

    assert (reply.status_code, reply.headers.get("content-type"), reply.content) == (code, content_type, body)


def test_a_script_that_returns_nothing_is_204(script: Served) -> None:
    reply = script.ask({"kind": "none"})

    assert (reply.status_code, reply.content) == (204, b"")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("raise", "the script failed: ValueError: the tea is cold"),
        ("number", "handle() must return an Output, a dict, a list, a str, bytes or None: got int"),
        ("nan", "the script failed: ValueError: Out of range float values are not JSON compliant"),
        ("code", "an Output's code must be from 200 to 599: got 9999"),
        ("header", "a property of an Output is no HTTP header: 'x-split'"),
    ],
)
def test_what_a_script_does_wrong_is_424_with_the_reason(script: Served, kind: str, sentence: str) -> None:
    reply = script.ask({"kind": kind})

    assert reply.status_code == 424
    assert sentence in reply.json()["error"]
    assert script.ping() == 200


def test_an_error_that_quotes_half_a_character_is_the_clients_answer_and_no_end(script: Served) -> None:
    body = b'{"kind": "surrogate", "text": "\\ud800"}'

    reply = httpx.post(f"{script.address}/invocations", content=body)

    assert (reply.status_code, reply.json()["error"]) == (424, "the script failed: ValueError: \ud800")
    assert script.ask({"kind": "calls"}).json()["calls"]


def test_an_endless_error_is_cut(script: Served) -> None:
    reply = script.ask({"kind": "long"})

    assert reply.status_code == 424
    assert len(reply.json()["error"]) < 3000


def test_an_output_sets_headers_and_is_finalized(script: Served) -> None:
    reply = script.ask({"kind": "finalize"})

    assert reply.headers["x-amzn-sagemaker-custom-attributes"] == "k=v"
    assert script.ask({"kind": "calls"}).json()["calls"] == [False]


def test_an_empty_body_is_refused_because_it_would_look_like_the_first_call(script: Served) -> None:
    reply = httpx.post(f"{script.address}/invocations")

    assert (reply.status_code, reply.json()["error"]) == (400, "the body is empty")


def test_a_script_that_exits_is_started_again(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", ANSWERS)) as served:
        reply = served.ask({"kind": "exit"})
        served.wait()

        assert reply.status_code == 424
        assert "rank 0 of copy 0 exited with code 3" in reply.json()["error"]
        assert served.ask({"kind": "text"}).text == "plain"


NOISY = """
import multiprocessing, os, time

print("http://127.0.0.1:1/ is no address of the server " * 100)
os.write(1, b"\\xff\\xfe raw bytes\\n")

def sleep():
    time.sleep(600)

def handle(inputs):
    print("called")
    if inputs.is_empty():
        children.append(os.fork())
        if children[0] == 0:
            sleep()
        children.append(multiprocessing.get_context("fork").Process(target=sleep))
        children[1].start()
        return None
    kind = inputs.get_as_json()["kind"]
    if kind == "die":
        os._exit(9)
    return {"children": [children[0], children[1].pid], "me": os.getpid()}

children = []
"""


def test_a_script_that_prints_and_forks_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", NOISY, "engine=Python\n")) as served:
        first = served.ask({"kind": "ask"}).json()
        died = served.ask({"kind": "die"})
        eventually(lambda: served.ask({"kind": "ask"}).status_code == 200)

    assert died.status_code == 424 and "exited with code 9" in died.json()["error"]
    eventually(lambda: not any(alive(pid) for pid in [*first["children"], first["me"]]))


@pytest.mark.parametrize(
    ("properties", "script", "sentence"),
    [
        ("option.entryPoint=../evil.py", "", "option.entryPoint must be a .py file in the folder: got '../evil.py'"),
        ("option.entryPoint=/etc/passwd", "", "option.entryPoint must be a .py file in the folder: got '/etc/passwd'"),
        ("option.entryPoint=other.py", "", "there is no other.py in "),
        ("option.handler=answer", "def handle(inputs): ...", "model.py has no function 'answer'"),
        (
            "",
            "def handle(inputs): raise OSError('no disk')",
            "the script failed its empty first call: OSError: no disk",
        ),
        (
            "",
            "from djl_python import Output\ndef handle(inputs): return Output().error('no weights')",
            "the script answered its empty first call with code 424: ",
        ),
        ("option.model_id=s3://", "def handle(inputs): ...", "option.model_id must be s3://bucket/prefix/"),
        ("", "raise ValueError('no tea')", "model.py cannot be imported: ValueError: no tea"),
        ("", "def handle(inputs) return 1", "model.py cannot be imported: SyntaxError: "),
        ("", "import no_such_module", "model.py cannot be imported: ModuleNotFoundError: "),
        ("", "import sys; sys.exit(3)", "rank 0 of copy 0 exited with code 3 while: "),
        ("", "import os; os.kill(os.getpid(), 9)", "rank 0 of copy 0 was killed by SIGKILL"),
        ("", "handle = 3", "model.py has no function 'handle'"),
    ],
)
def test_a_script_that_cannot_be_loaded_ends_the_server(
    tmp_path: Path, properties: str, script: str, sentence: str
) -> None:
    folder = write_script(tmp_path / "model", script, f"engine=Python\n{properties}\n")

    with serving(folder, wait=False) as served:
        code, last = served.end()

    assert code == 1
    assert last.startswith(sentence)


def test_a_requirement_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_script(tmp_path / "model", ANSWERS)
    (folder / "requirements.txt").write_text("starlette>=1\nno-such-package-of-heavylift==1\n")

    with serving(folder, wait=False) as served:
        code, last = served.end()

    assert code == 1
    assert last.startswith("requirements.txt is not satisfied: no-such-package-of-heavylift==1 is not installed; build")


def test_requirements_are_installed_where_the_file_asks_for_it(tmp_path: Path) -> None:
    script = "import tea_of_heavylift\ndef handle(inputs): return tea_of_heavylift.KIND"
    folder = write_script(tmp_path / "model", script, "engine=Python\noption.install_requirements=true\n")
    write_wheel(folder / "tea_of_heavylift-1.0-py3-none-any.whl")
    (folder / "requirements.txt").write_text("./tea_of_heavylift-1.0-py3-none-any.whl\n")

    with serving(folder, {"PIP_NO_INDEX": "1"}) as served:
        assert served.ask({}).text == "green"


def test_wheels_in_the_folders_own_requirements_are_installed_without_being_asked_for(tmp_path: Path) -> None:
    script = "import tea_of_heavylift\ndef handle(inputs): return tea_of_heavylift.KIND"
    folder = write_script(tmp_path / "model", script)
    (folder / "requirements").mkdir()
    write_wheel(folder / "requirements/tea_of_heavylift-1.0-py3-none-any.whl")
    (folder / "requirements.txt").write_text("tea_of_heavylift==1.0\n")

    with serving(folder, {"PIP_INDEX_URL": "http://127.0.0.1:9/nobody"}) as served:
        assert served.ask({}).text == "green"


def test_requirements_are_judged_line_by_line() -> None:
    text = (
        "# tools\nstarlette >= 1  # the server\nstarlette==0.1\nwindows-only ; sys_platform == 'win32'\n-r more.txt\n"
    )

    missing = missing_of(text)

    assert len(missing) == 2
    assert missing[0].startswith("starlette==0.1, but ") and missing[0].endswith(" is installed")
    assert missing[1] == "'-r more.txt' can only be judged by pip"


def write_wheel(path: Path) -> None:
    """The smallest wheel: one module, and the three files that pip wants."""
    name = "tea_of_heavylift-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tea_of_heavylift.py", "KIND = 'green'\n")
        wheel.writestr(f"{name}/METADATA", "Metadata-Version: 2.1\nName: tea-of-heavylift\nVersion: 1.0\n")
        wheel.writestr(f"{name}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}/RECORD", "")

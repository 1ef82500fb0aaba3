"""A stateful model.py: sessions that its copies share, by djl_python's SessionManager."""

from __future__ import annotations

import os
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from enum import IntEnum
from pathlib import Path

import httpx
import numpy as np
import pytest

from djl_python import Input, Session, SessionManager
from tests.served import eventually, kill, serving, write_script

STATEFUL = """
import os
from djl_python import Input, Output, SessionManager

sessions = None

def handle(inputs: Input):
    global sessions
    if sessions is None:
        sessions = SessionManager(inputs.get_properties())
    if inputs.is_empty():
        return None
    action = inputs.get_as_json()["action"]
    outputs = Output().add_property("Content-Type", "application/json")
    if action == "create_session":
        session = sessions.create_session()
        session.get_as_numpy("state", shape=(2, 3), create=True).fill(1)
        session.put("user", {"name": "A", "turns": 0})
        outputs.add_property("X-Amzn-SageMaker-Session-Id", session.session_id)
        return outputs.add_as_json({"result": "created"})
    session = sessions.get_session(inputs.get_property("X-Amzn-SageMaker-Session-Id"))
    if session is None:
        return outputs.error("there is no such session", 404)
    if action == "close_session":
        sessions.close_session(session.session_id)
        return outputs.add_as_json({"result": "closed"})
    state = session.get_as_numpy("state", shape=(2, 3))
    state += 1
    user = session.get("user")
    user["turns"] += 1
    session.put("user", user)
    return outputs.add_as_json({"sum": state.sum(), "user": user, "pid": os.getpid()})
"""


@pytest.fixture
def sessions(tmp_path: Path) -> SessionManager:
    return SessionManager({"sessions_path": str(tmp_path / "sessions"), "sessions_expiration": "100"})


def test_a_session_keeps_values_and_arrays_under_any_key(sessions: SessionManager) -> None:
    session = sessions.create_session()
    session.put("../a key/ü", [1, "two"])
    session.get_as_numpy("state", (2, 2), create=True)[:] = 3

    again = sessions.get_session(session.session_id)

    assert isinstance(again, Session)
    assert (again.get("../a key/ü"), again.get(key="nothing", d=7)) == ([1, "two"], 7)
    np.testing.assert_array_equal(again.get_as_numpy("state", (2, 2)), np.full((2, 2), 3, "float32"))
    with pytest.raises(ValueError, match="has no array 'other': give create=True"):
        session.get_as_numpy("other", (2, 2))


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", (1, 2): b"\x00", None: {3, 4}, "dict": [{"tuple": 1}]},
        (1, (2.5, [True, None])),
        [frozenset({1}), bytearray(b"x"), float("inf"), {}, ()],
        [date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, tzinfo=UTC)],
        [np.float32(1.5), np.bool_(True), np.arange(6, dtype="int16").reshape(2, 3), np.array(3)],
    ],
)
def test_what_is_put_into_a_session_comes_back_as_it_was(sessions: SessionManager, value: object) -> None:
    session = sessions.create_session()
    session.put("value", value)

    assert repr(session.get("value")) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        IntEnum("Cup", ["tea"])(1),
        OrderedDict(a=1),
        [np.array([{}])],
        {"a": np.rec.array([(1,)])},
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_a_value_that_would_come_back_as_another_is_refused(sessions: SessionManager, value: object) -> None:
    session = sessions.create_session()
    session.put("value", "old")

    with pytest.raises(TypeError, match=r"a session keeps values of plain types .*: got .*; put what it is made of"):
        session.put("value", value)
    assert session.get("value") == "old"


def test_an_array_that_is_created_is_new_and_one_of_another_shape_is_refused(sessions: SessionManager) -> None:
    session = sessions.create_session()
    old = session.get_as_numpy(key="state", shape=(2, 2), dtype="float32", create=True)
    old[:] = 3

    with pytest.raises(ValueError, match=r"has shape \(2, 2\) and type float32: not \(3,\), float32"):
        session.get_as_numpy("state", (3,))
    new = session.get_as_numpy("state", 3, create=True)

    assert (new.tolist(), session.get_as_numpy("state", (3,)).tolist()) == ([0, 0, 0], [0, 0, 0])
    assert old.tolist() == [[3, 3], [3, 3]]


def test_a_session_has_a_folder_for_files_and_is_removed_with_all_it_keeps(sessions: SessionManager) -> None:
    session = sessions.create_session()
    Path(session.files_path, "frame.png").write_bytes(b"png")
    session.put("value", 1)

    assert session.remove() is True
    assert not Path(session.files_path).exists()
    assert sessions.get_session(session.session_id) is None
    with pytest.raises(ValueError, match="there is no open session"):
        session.remove()


@pytest.mark.parametrize("none", [None, "", "NEW_SESSION", "6f1c1c1e-0000-4000-8000-000000000000"])
def test_where_there_is_no_open_session_it_is_none(sessions: SessionManager, none: object) -> None:
    assert sessions.get_session(none) is None
    with pytest.raises(ValueError, match="there is no open session"):
        sessions.close_session(none)


@pytest.mark.parametrize("wrong", ["nonsense", "..", "../..", "x" * 5000, 3])
def test_what_is_no_id_of_a_session_is_refused(sessions: SessionManager, wrong: object) -> None:
    for of in (sessions.get_session, sessions.close_session):
        with pytest.raises(ValueError, match="a session's id is 36 characters that create_session gave: got "):
            of(wrong)


def test_a_session_that_was_not_used_for_its_time_is_over_and_leaves_its_place(
    sessions: SessionManager, tmp_path: Path
) -> None:
    old, kept = sessions.create_session(), sessions.create_session()
    for session, age in ((old, 101), (kept, 60)):
        folder = tmp_path / "sessions" / session.session_id
        os.utime(folder, (folder.stat().st_mtime - age,) * 2)

    assert sessions.get_session(old.session_id) is None
    sessions.create_session()
    request = Input({"x-amzn-sagemaker-session-id": kept.session_id})

    assert sessions.get_session(request) is not None
    assert not (tmp_path / "sessions" / old.session_id).exists()


@pytest.mark.slow
def test_a_stateful_script_goes_on_in_any_copy_and_after_its_death(tmp_path: Path) -> None:
    properties = f"engine=Python\nminWorkers=2\nmaxWorkers=2\noption.sessions_path={tmp_path}/sessions\n"
    with serving(write_script(tmp_path / "model", STATEFUL, properties)) as served:

        def ask(action: str, session: str = "") -> httpx.Response:
            headers = {"X-Amzn-SageMaker-Session-Id": session} if session else {}
            return httpx.post(f"{served.address}/invocations", json={"action": action}, headers=headers, timeout=60)

        session = ask("create_session").headers["x-amzn-sagemaker-session-id"]
        turns = [ask("go on", session).json() for _ in range(4)]
        kill(turns[-1]["pid"])
        (later,) = eventually(lambda: [reply.json() for reply in [ask("go on", session)] if reply.status_code == 200])
        closed, gone = ask("close_session", session), ask("go on", session)

    assert [each["sum"] for each in (*turns, later)] == [12, 18, 24, 30, 36]
    assert later["user"] == {"name": "A", "turns": 5}
    assert (closed.json(), gone.status_code) == ({"result": "closed"}, 404)

"""Traces: what is recorded comes back, whole or cut off, and foreign files are refused."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.agent.events import EpisodeStarted, Event, StepFinished, TextDecoded
from edge_router.agent.listeners.json_printer import JsonPrinter
from edge_router.agent.listeners.printer import PlainPrinter
from edge_router.agent.trace import FORMAT, TraceWriter, read_trace, replay
from edge_router.errors import UserError
from edge_router.files.data_files import NotUnderstoodError, from_plain
from tests.sample_episode import EPISODE, FINISHED, STARTED, step_events, tell


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A trace of the sample episode."""
    file = tmp_path / "episode.jsonl"
    with TraceWriter(file) as writer:
        tell(writer, EPISODE)
    return file


def replayed(path: Path) -> list[Event]:
    events: list[Event] = []
    replay(read_trace(path), [events.append])
    return events


def merged(events: list[Event]) -> list[Event]:
    """Events with the pieces of each step's text put together."""
    out: list[Event] = []
    for event in events:
        if isinstance(event, TextDecoded) and out and isinstance(out[-1], TextDecoded):
            out[-1] = replace(out[-1], text=out[-1].text + event.text)
        else:
            out.append(event)
    return out


def test_a_replay_tells_the_same_events(path: Path) -> None:
    assert merged(replayed(path)) == merged(list(EPISODE))


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_a_replay_prints_the_same_bytes(path: Path, kind: str) -> None:
    def printed(events: list[Event]) -> str:
        file, diagnostics = io.StringIO(), io.StringIO()
        tell(JsonPrinter(file, diagnostics) if kind == "json" else PlainPrinter(file), events)
        return file.getvalue() + diagnostics.getvalue()

    assert printed(replayed(path)) == printed(list(EPISODE))


def test_the_header_tells_what_made_the_trace(path: Path) -> None:
    header = json.loads(path.read_text().splitlines()[0])
    assert header["format"] == FORMAT
    assert header["episode"]["tiers"][0]["fingerprint"] == "0" * 64
    assert header["episode"]["seed"] == 7
    assert {"version", "python", "llama_cpp_python", "system", "cpu", "cores"} <= header.keys()


def test_a_trace_has_a_line_a_step(path: Path) -> None:
    kinds = [json.loads(line)["type"] for line in path.read_text().splitlines()]
    assert kinds == ["header", "step", "step", "step", "footer"]


def test_a_step_is_on_disk_as_soon_as_it_is_finished(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    writer = TraceWriter(file)
    tell(writer, [STARTED, *step_events(0, "a", "a")])
    assert file.read_text().count("\n") == 2
    tell(writer, step_events(1, "b", "b")[:-1])
    assert file.read_text().count("\n") == 2
    writer.close()


@pytest.mark.parametrize("cut", ["mid-line", "between lines"])
def test_a_trace_that_is_cut_off_is_read_up_to_the_cut(path: Path, cut: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + (lines[3][:100] if cut == "mid-line" else ""))
    trace = read_trace(path)
    assert [s.finished.step for s in trace.steps] == [0, 1]
    assert trace.finished is None
    assert "after 2 steps" in trace.note
    assert replayed(path)[-1] == trace.steps[1].finished


def test_a_whole_trace_needs_no_note(path: Path) -> None:
    trace = read_trace(path)
    assert trace.finished == FINISHED
    assert trace.note == ""


@settings(deadline=None)
@given(data=st.data())
def test_any_cut_leaves_the_whole_steps_before_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole, cut = folder / "whole.jsonl", folder / "cut.jsonl"
    with TraceWriter(whole) as writer:
        tell(writer, EPISODE)
    content = whole.read_bytes()
    first = content.index(b"\n") + 1
    at = data.draw(st.integers(first, len(content)))
    cut.write_bytes(content[:at])
    trace = read_trace(cut)
    lines = content[:at].count(b"\n")
    complete = content.endswith(b"\n") and at >= len(content) - 1
    assert len(trace.steps) >= min(3, lines - 1)
    assert (trace.note == "") == complete


def test_a_damaged_line_ends_the_replay(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"decode_ms":45.1', '"decode_ms":"fast"')
    path.write_text("".join(lines))
    trace = read_trace(path)
    assert len(trace.steps) == 1
    assert "line 3 is damaged" in trace.note


def test_a_missing_step_is_noticed(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    assert "after 0 steps" in read_trace(path).note


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"hello\n", "no trace of edge-router"),
        (b"GGUF\x00\xff\xfe", "no trace of edge-router"),
        (b"[1, 2]\n", "no trace of edge-router"),
        (b'{"format": "something/else/1"}\n', "no trace of edge-router"),
        (b'{"format": "edge-router/trace/1", "episode": {}}\n', "no trace of edge-router"),
        (b'{"format": "edge-router/trace/99"}\n', "this version reads"),
        (b"[" * 100_000, "no trace of edge-router"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, why: str
) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=why) as error:
        read_trace(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "absent.jsonl", "absent/t.jsonl"])
def test_a_trace_that_cannot_be_read_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_trace(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "why"), [("", "is a folder"), ("absent/t.jsonl", "make the folder")]
)
def test_a_path_that_cannot_be_written_is_reported_before_anything_starts(
    tmp_path: Path, name: str, why: str
) -> None:
    with pytest.raises(UserError, match=why):
        TraceWriter(tmp_path / name)


def test_an_episode_that_never_starts_leaves_files_as_they_were(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    TraceWriter(path).close()
    assert path.read_bytes() == before
    TraceWriter(tmp_path / "new.jsonl").close()
    assert not (tmp_path / "new.jsonl").exists()


def test_a_new_episode_replaces_an_older_trace(path: Path) -> None:
    with TraceWriter(path) as writer:
        tell(writer, [STARTED, FINISHED])
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_in_one_sentence() -> None:
    writer = TraceWriter(Path("/dev/full"))
    with pytest.raises(UserError, match=os.strerror(28)):
        writer(STARTED)
    writer.close()


def test_replay_takes_the_time_of_the_run(path: Path) -> None:
    slept: list[float] = []
    replay(read_trace(path), [lambda _: None], speed=2.0, sleep=slept.append)
    latency = [e.latency for e in EPISODE if isinstance(e, StepFinished)]
    wanted = sum(x.model_ms + x.env_ms for x in latency) / 1000 / 2
    assert sum(slept) == pytest.approx(wanted)


def test_replay_waits_before_each_step(path: Path) -> None:
    heard: list[object] = []
    replay(read_trace(path), [heard.append], step=lambda: heard.append("wait"))
    before = [heard[i + 1] for i, what in enumerate(heard) if what == "wait"]
    assert [type(e).__name__ for e in before] == ["StepStarted", "StepStarted", "TurnsDropped"]


@pytest.mark.parametrize("change", [{"seed": "7"}, {"seed": True}, {"tiers": {}}, {"goal": None}])
def test_data_of_the_wrong_kind_is_not_understood(change: dict[str, object]) -> None:
    plain = json.loads(json.dumps(asdict(STARTED)))
    assert from_plain(EpisodeStarted, plain) == STARTED
    with pytest.raises(NotUnderstoodError):
        from_plain(EpisodeStarted, plain | change)


def test_ctrl_c_before_the_episode_starts_leaves_no_trace_and_no_error(tmp_path: Path) -> None:
    file = tmp_path / "episode.jsonl"
    with TraceWriter(file) as writer:
        writer(FINISHED)
    assert not file.exists()


@pytest.mark.parametrize("name", ["x" * 300, "nul\0byte"])
def test_a_name_no_file_can_have_is_reported_in_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        TraceWriter(tmp_path / name)


def test_the_check_leaves_a_link_to_nowhere_in_place(tmp_path: Path) -> None:
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "target.jsonl")
    TraceWriter(link)
    assert link.is_symlink()


def test_a_number_too_large_for_its_field_is_not_understood() -> None:
    with pytest.raises(NotUnderstoodError):
        from_plain(EpisodeStarted, asdict(STARTED) | {"temperature": 10**400})


def test_two_runs_do_not_write_one_trace(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    first, late = TraceWriter(path), TraceWriter(path)
    with first:
        tell(first, EPISODE[:-1])
        with pytest.raises(UserError, match="another run is writing the trace"):
            TraceWriter(path)
        with pytest.raises(UserError, match="another run is writing the trace"):
            late(EPISODE[0])
    assert len(read_trace(path).steps) == 3, "what was written stays"
    tell(late, EPISODE)
    assert read_trace(path).finished == FINISHED


def test_a_trace_is_not_written_into_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe or a device"):
        TraceWriter(tmp_path / "pipe")


def test_a_line_that_is_nested_too_deeply_ends_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="no header"):
        read_trace(path)


def test_older_traces_are_read_in_the_words_of_today() -> None:
    """Both were recorded in format 1, which called the low tier the cheapest."""
    low, routed = (read_trace(Path(f"edge_router/demo/{name}.jsonl")) for name in ("low", "routed"))
    assert {step.routed.reason for step in low.steps} == {"always the low tier"}
    assert [step.routed.reason for step in routed.steps][:2] == [
        "p(escalate) 0.01 < 0.50",
        "p(escalate) 0.00 < 0.50",
    ]
    features = routed.steps[-1].routed.features
    assert "escalated_share" in features
    assert "dear_share" not in features

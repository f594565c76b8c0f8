"""What a request may hold. Fields that change nothing here are let through; those that would
change the answer and cannot be kept are refused (`unkept`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

MOST_STOPS = 16
MOST_TOOLS = 128
MOST_LIKELY = 20
NO_LIMIT = 1_000_000  # tokens of an answer: up to where the context is full


def _some(tokens: int | None) -> int | None:
    if tokens == 0:
        raise ValueError("at least 1, or -1 for as many as there is room for")
    return NO_LIMIT if tokens == -1 else tokens


Share = Annotated[float, Field(ge=0, le=1)]
MostTokens = Annotated[int | None, Field(ge=-1, le=NO_LIMIT), AfterValidator(_some)]


class Form(BaseModel):
    """Strict in what it has, indifferent to what else a client sends."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(Form):
    type: Literal["text"]
    text: str


class CalledFunction(Form):
    name: str
    arguments: str | dict[str, Any]  # OpenAI's is a text; templates read objects, as Ollama sends


class CallForm(Form):
    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class MessageForm(Form):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[CallForm] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> MessageForm:
        if self.content is None and self.role != "assistant":  # of an assistant: an empty answer
            raise ValueError("a message needs content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant's messages have tool_calls")
        return self


class FunctionForm(Form):
    name: str = Field(pattern="^[A-Za-z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolForm(Form):
    type: Literal["function"]
    function: FunctionForm


class NamedFunction(Form):
    name: str


class NamedTool(Form):
    type: Literal["function"]
    function: NamedFunction


class SchemaForm(Form):
    name: str = ""
    schema_: dict[str, Any] = Field(alias="schema")


class FormatForm(Form):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaForm | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")  # as llama.cpp's server takes it

    @model_validator(mode="after")
    def _has_its_schema(self) -> FormatForm:
        if self.type == "json_schema" and self.wanted is None:
            raise ValueError("json_schema is missing: {'name': ..., 'schema': {...}}")
        return self

    @property
    def wanted(self) -> dict[str, Any] | None:
        """The schema, if one is sent."""
        return self.schema_ if self.json_schema is None else self.json_schema.schema_


class StreamOptions(Form):
    include_usage: bool = False


class Asking(Form):
    """What both kinds of request may say."""

    model_config = ConfigDict(extra="allow")  # `unkept` looks at the rest

    model: str
    max_tokens: MostTokens = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: Share | None = None
    top_k: int | None = Field(None, ge=-1)  # 0 and -1: all of them
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    response_format: FormatForm | None = None
    json_schema: dict[str, Any] | None = None  # the same in llama.cpp's server

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings; an empty one stops nothing."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)


class ChatForm(Asking):
    """The body of /v1/chat/completions."""

    messages: list[MessageForm] = Field(min_length=1)
    max_completion_tokens: MostTokens = None
    tools: list[ToolForm] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LIKELY)

    @model_validator(mode="after")
    def _fits_together(self) -> ChatForm:
        chosen = self.tool_choice
        if chosen not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice asks for a function and there are no tools")
        if isinstance(chosen, NamedTool):
            names = [tool.function.name for tool in self.tools or ()]
            if chosen.function.name not in names:
                raise ValueError(f"tool_choice names {chosen.function.name!r}, which is no tool")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


class CompletionForm(Asking):
    """The body of /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool | None = Field(None, json_schema_extra={"enum": [False, None]})
    best_of: Literal[1] | None = None
    suffix: None = None

    @field_validator("echo")
    @classmethod
    def _no_echo(cls, echo: bool | None) -> bool | None:
        if echo:
            raise ValueError("the prompt is not echoed; leave it out")
        return echo

    @property
    def text(self) -> str:
        """The prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]

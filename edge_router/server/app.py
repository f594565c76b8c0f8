"""The routes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from edge_router.agent.events import Event
from edge_router.server import openapi
from edge_router.server.answering import AnswerPlan, Served, plan_chat, plan_completion
from edge_router.server.errors import ApiError, GoneError, api_error, invalid
from edge_router.server.events import (
    RequestAnswered,
    RequestAsked,
    RequestEvent,
    RequestFailed,
    ServerEvent,
    ServerListener,
)
from edge_router.server.forms import Asking, ChatForm, CompletionForm
from edge_router.server.guard import Guard, read_body
from edge_router.server.metrics import Metrics
from edge_router.server.names import names
from edge_router.server.replies import DONE, ReplyForm, event, headers
from edge_router.server.unkept import refuse_unkept
from edge_router.server.worker import AnswerWriting, Worker

FormT = TypeVar("FormT", bound=BaseModel)
Handler = Callable[[Request], Awaitable[HttpResponse]]


@dataclass(frozen=True)
class RequestLimits:
    """What a request may take."""

    waiting: int = 32  # requests in the queue
    seconds: float = 600.0  # from a request to the end of its answer


class Api:
    """The handlers, and what they share."""

    def __init__(
        self,
        served: Served,
        guard: Guard,
        limits: RequestLimits,
        listeners: Sequence[ServerListener] = (),
    ) -> None:
        self._served, self._guard, self._limits = served, guard, limits
        self._listeners = listeners
        self._numbers = itertools.count(1)
        self._started = int(time.time())
        self.worker = Worker(limits.waiting)
        self.metrics = Metrics(self.worker)

    def app(self) -> Starlette:
        """The application, for any ASGI server."""
        handlers = {
            openapi.CHAT: self._chat,
            openapi.COMPLETE: self._completions,
            openapi.MODELS: self._models,
            openapi.MODEL: self._model,
            openapi.METRICS: self._metrics,
            openapi.HEALTH: self._health,
            openapi.DOCUMENT: self._document,
        }
        routes = [
            Route(
                one.path, self._guarded(handler) if one.guarded else handler, methods=[one.method]
            )
            for one, handler in handlers.items()
        ]
        return Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _no_route},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self.worker.close)

    def _guarded(self, handler: Handler) -> Handler:
        """A handler whose errors are answered in OpenAI's form, and counted."""

        async def guarded(request: Request) -> HttpResponse:
            started = time.monotonic()
            try:
                self._guard.check(request)
                response = await handler(request)
            except Exception as error:
                response = self._failed(request, error).response()
            if not isinstance(response, StreamingResponse):  # counted at its end
                self._ended(request, response.status_code, started)
            return response

        return guarded

    def _failed(self, request: Request, error: Exception) -> ApiError:
        told = api_error(error)
        said = f"{type(error).__name__}: {error}" if told.status == 500 else told.message
        number = getattr(request.state, "number", None)
        self._tell(RequestFailed(number, request.url.path, told.status, said))
        return told

    def _tell(self, event: ServerEvent) -> None:
        for listener in self._listeners:
            listener(event)

    def _ended(self, request: Request, status: int, started: float) -> None:
        route = request.scope["route"].path
        self.metrics.ended(route, status, time.monotonic() - started)

    async def _health(self, _request: Request) -> HttpResponse:
        return JSONResponse({"status": "ok", "waiting": self.worker.waiting})

    async def _metrics(self, _request: Request) -> HttpResponse:
        return HttpResponse(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _document(self, _request: Request) -> HttpResponse:
        listed = names(self._served.name, self._served.model.tiers)
        needs_key = self._guard.needs_key
        return JSONResponse(openapi.document(self._served.name, listed, needs_key=needs_key))

    async def _models(self, _request: Request) -> HttpResponse:
        listed = names(self._served.name, self._served.model.tiers)
        return JSONResponse({"object": "list", "data": [self._shown(name) for name in listed]})

    async def _model(self, request: Request) -> HttpResponse:
        name = request.path_params["name"]
        if name not in names(self._served.name, self._served.model.tiers):
            raise ApiError(404, f"the model {name[:80]!r} is not here", code="model_not_found")
        return JSONResponse(self._shown(name))

    def _shown(self, name: str) -> dict[str, object]:
        fixed = {"object": "model", "created": self._started, "owned_by": "edge-router"}
        return {"id": name, **fixed}

    async def _chat(self, request: Request) -> HttpResponse:
        form = await _form(request, ChatForm)
        # A schema becomes a grammar here: a few ms, and of a large one more.
        plan = await asyncio.to_thread(plan_chat, form, self._served)
        return await self._answer(request, form, plan)

    async def _completions(self, request: Request) -> HttpResponse:
        form = await _form(request, CompletionForm)
        plan = await asyncio.to_thread(plan_completion, form, self._served)
        return await self._answer(request, form, plan)

    async def _answer(self, request: Request, form: Asking, plan: AnswerPlan) -> HttpResponse:
        number = request.state.number = next(self._numbers)

        def hear(event: Event) -> None:
            self._tell(RequestEvent(number, event))

        write = partial(plan.write, listeners=[hear] if self._listeners else [])
        writing, reply = AnswerWriting(write, self._limits.seconds), ReplyForm(plan, form.model)
        self._tell(RequestAsked(number, form.model, plan.spec, plan.said))
        self.worker.submit(writing)
        watch = asyncio.create_task(_until_gone(request, writing))
        if form.stream:
            await self._begun(writing, watch)
            texts = self._stream(request, form, writing, reply, watch)
            return StreamingResponse(texts, media_type="text/event-stream")
        started = time.monotonic()
        try:
            response = await writing.whole()
        finally:
            writing.give_up()
            watch.cancel()
        self._answered(request, reply, writing, started)
        share = self.metrics.escalation_rate
        return JSONResponse(reply.whole(response, share), headers=headers(response, share))

    async def _begun(self, writing: AnswerWriting, watch: asyncio.Task[None]) -> None:
        """Wait for the first of a stream: an error before it still has a status of its own."""
        try:
            await writing.begun()
        except BaseException:
            writing.give_up()
            watch.cancel()
            raise

    async def _stream(
        self,
        request: Request,
        form: Asking,
        writing: AnswerWriting,
        reply: ReplyForm,
        watch: asyncio.Task[None],
    ) -> AsyncIterator[bytes]:
        started, status = time.monotonic(), 499  # unless it is read to its end
        try:
            async for chunk in reply.pieces(writing.pieces()):
                yield event(chunk)
            assert writing.response is not None
            self._answered(request, reply, writing, started)
            usage = form.stream_options is not None and form.stream_options.include_usage
            share = self.metrics.escalation_rate
            for chunk in reply.endings(writing.response, share, usage=usage):
                yield event(chunk)
            yield DONE
            status = 200
        except Exception as error:
            told = self._failed(request, error)
            status = told.status
            if not isinstance(error, GoneError):
                yield event(told.body())
        except BaseException:  # it is cancelled, or closed: nobody reads any longer
            self._failed(request, GoneError())
            raise
        finally:
            writing.give_up()
            watch.cancel()
            self._ended(request, status, started)

    def _answered(
        self, request: Request, reply: ReplyForm, writing: AnswerWriting, started: float
    ) -> None:
        response = writing.response
        assert response is not None
        self.metrics.answered(response, reply.plan.tier is not None)
        asked, seconds = reply.plan.said[-1]["content"], time.monotonic() - started
        number = request.state.number
        self._tell(RequestAnswered(number, reply.model, asked, response, seconds))


async def _form(request: Request, kind: type[FormT]) -> FormT:
    body = await read_body(request)
    try:
        form = kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error
    refuse_unkept(form.model_extra or {})
    return form


async def _until_gone(request: Request, writing: AnswerWriting) -> None:
    """Give the writing up when the client goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    writing.give_up()


async def _no_route(request: Request, error: Exception) -> HttpResponse:
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    there = ", ".join(f"{one.method} {one.path}" for one in openapi.OPERATIONS)
    asked = f"{request.method} {request.url.path[:80]}"
    said = f"{asked} is nothing that this server has; it has {there.replace(':path', '')}"
    return ApiError(error.status_code, said, headers=error.headers).response()

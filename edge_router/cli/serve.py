"""`edge-router serve`: a ladder behind OpenAI's interface."""

from __future__ import annotations

import sys
from functools import partial

import click

from edge_router.cli.options import (
    LadderChoice,
    Routing,
    ladder_options,
    machine_options,
    routing_options,
)
from edge_router.cli.types import COUNT, PORT, SECONDS, WORD
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.errors import UserError


@click.command()
@ladder_options()
@routing_options
@click.option("--host", type=WORD, default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=PORT, default=8080, show_default=True, help="0 is any free one.")
@click.option("--api-key", type=WORD, metavar="KEY", help="What each request has to carry.  [none]")
@click.option(
    "--slots",
    type=COUNT,
    default=4,
    show_default=True,
    help="Conversations whose KV is kept while they take turns.",
)
@click.option("--queue", type=COUNT, default=32, show_default=True, help="Requests that may wait.")
@click.option(
    "--timeout",
    type=SECONDS,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="What a request may take.",
)
@click.option("--log-texts", is_flag=True, help="Print requests and answers as well.")
@click.option("--watch", is_flag=True, help="Open the app on it: who answers, why, what it costs.")
@machine_options
def serve(
    ladder: LadderChoice,
    routing: Routing,
    host: str,
    port: int,
    api_key: str | None,
    slots: int,
    queue: int,
    timeout: float,
    log_texts: bool,
    watch: bool,
    machine: ModelRuntime,
) -> None:
    """Serve a ladder to other programs, as OpenAI's API does.

    Programs take http://127.0.0.1:8080/v1 as their base URL. The model's name may
    ask for more: household@0.3 (that dial), household:q8_0 (that tier alone),
    household#high (that router). On another host than this machine's own a key is
    needed; EDGE_ROUTER_SERVE_API_KEY keeps it out of lists of processes.

    \b
    edge-router serve
    edge-router serve --model qwen3-0.6b --budget 0.2 --port 8081
    edge-router serve --watch
    """
    from edge_router.agent.listeners.output import app_lacks

    if watch and (lacking := app_lacks()):
        raise UserError(
            f"--watch opens the app, which needs {lacking}; without it each request is a line"
        )
    try:
        from edge_router.server.answering import Served
        from edge_router.server.app import RequestLimits
        from edge_router.server.run import Listening, watched
        from edge_router.server.run import serve as run
    except ModuleNotFoundError as error:
        raise UserError(
            f"serve needs {error.name}, which is not installed: pip install 'edge-router[serve]'"
        ) from error
    from edge_router.api import load
    from edge_router.parts import load_part

    limits = RequestLimits(queue, timeout)
    listening = Listening(host, port, api_key, log_texts, limits)
    listening.check()
    described = ladder.resolved()
    router = routing.router_for(described)
    router.reset(tuple(spec.name for spec in described.tiers), 0)
    with (
        listening.open() as opened,
        load(
            described,
            kv=routing.kv,
            context=machine.ctx,
            threads=machine.threads,
            gpu_layers=machine.gpu_layers,
            slots=slots,
            opening_store=not machine.no_opening_store,
        ) as model,
    ):
        served = Served(described.name or "ladder", model, router, routing.setting, routing.lookup)
        if watch:
            app = load_part("tui.apps.commands", extra="tui")
            sys.exit(app.watch(partial(watched, served, listening, opened)))
        run(served, listening, opened)
    sys.exit(0)

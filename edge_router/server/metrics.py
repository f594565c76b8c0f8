"""Counters of a server, for Prometheus and for the escalation rate that answers tell."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edge_router.agent.response import Response
from edge_router.server.worker import Worker

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What has been answered since the server started."""

    def __init__(self, worker: Worker) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "edge_router_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self._answers = Counter(
            "edge_router_answers",
            "Answers by the tier that wrote them.",
            ["tier"],
            registry=registry,
        )
        self._tokens = Counter(
            "edge_router_tokens",
            "Tokens: prompt (computed or cached) and completion.",
            ["kind"],
            registry=registry,
        )
        self._seconds = Histogram(
            "edge_router_request_seconds",
            "From a request to the end of its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        waiting = Gauge("edge_router_waiting", "Requests in the queue.", registry=registry)
        waiting.set_function(lambda: worker.waiting)
        rate = Gauge(
            "edge_router_escalation_rate", "Share of escalated answers.", registry=registry
        )
        rate.set_function(lambda: self.escalation_rate)
        self._answered = self._escalated = 0

    @property
    def escalation_rate(self) -> float:
        """Share of the answers that a higher tier wrote."""
        return self._escalated / max(1, self._answered)

    def answered(self, response: Response, tier_alone: bool) -> None:
        """An answer was written; those of a tier alone say nothing of the router."""
        if not tier_alone:
            self._answered += 1
            self._escalated += response.escalated
        self._answers.labels(response.tier).inc()
        self._tokens.labels("cached").inc(response.cached_tokens)
        self._tokens.labels("computed").inc(response.prompt_tokens - response.cached_tokens)
        self._tokens.labels("completion").inc(response.completion_tokens)

    def ended(self, route: str, status: int, seconds: float) -> None:
        """A request was answered, or refused."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self.registry)

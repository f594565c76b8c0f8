"""Schemathesis asks what the OpenAPI document allows, and what it does not.

    pip install schemathesis

It is no part of the `dev` extra: its plugin would lengthen every start of pytest.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import RunningServer, short_context

schemathesis: Any = pytest.importorskip("schemathesis")
hypothesis: Any = pytest.importorskip("hypothesis")
pytestmark = pytest.mark.slow

# A request may keep to the schema and still ask for what cannot be done: a message that is the
# assistant's at the end, a schema that makes no grammar. The document says that this is a 400.
UNCHECKED = ("positive_data_acceptance",)


server = pytest.fixture(scope="module")(short_context)


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Any:
    return schemathesis.openapi.from_url(f"{server.root}/openapi.json")


described = schemathesis.pytest.from_fixture("api")


def test_every_answer_is_as_described(case: Any) -> None:
    excluded = [getattr(schemathesis.checks, name) for name in UNCHECKED]
    case.call_and_validate(excluded_checks=excluded)


settings = hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
test_every_answer_is_as_described = described.parametrize()(
    settings(test_every_answer_is_as_described)
)

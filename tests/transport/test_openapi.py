"""The description of the HTTP interface: complete, and what the server does whatever it is sent."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import pytest
import schemathesis
from http_parties import prepare, prepare_prover, running, transcript, verify
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks as all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from pyattr.transport.answers import SEALED, Offer, Progress, Refusal
from pyattr.transport.openapi import DESCRIPTION
from pyattr.transport.server import application
from pyattr.transport.terms import Quotas

TOKEN = "a-token-of-many-letters"
CHECKS = [
    all_checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.ignored_auth,
]
MESSAGES = [message for seed in (1, 2) for message in transcript(seed)]
NUMBERS = {"challenge": 2, "decision": 5}
OPERATIONS = [
    (path, method)
    for path, item in DESCRIPTION["paths"].items()
    for method in sorted(item.keys() & {"get", "post"})
]


@st.composite
def bodies(draw):
    """Messages of two sessions, such messages with a part replaced, and bytes of any kind."""
    message = draw(st.sampled_from(MESSAGES))
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return message
    if kind == 1:
        start = draw(st.integers(0, len(message)))
        stop = draw(st.integers(start, min(start + 64, len(message))))
        return message[:start] + draw(st.binary(max_size=64)) + message[stop:]
    return draw(st.binary(max_size=200))


schemathesis.openapi.media_type(SEALED, bodies())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with sessions in several states."""
    path = tmp_path_factory.mktemp("openapi")
    places = {1: prepare(path, 1)[0], 2: prepare_prover(path, 2)}
    quotas = Quotas(open_sessions=1000)
    with running(path / "host", quotas=quotas, token=TOKEN) as (url, _):
        verify(path, url, client={"token": TOKEN})
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": SEALED}
        begun = httpx.post(f"{url}/v1/sessions", content=transcript(2, 1)[0], headers=headers)
        assert begun.headers["location"] == f"/v1/sessions/{places[2]}"
        yield url, places


def attacks(path, mode):
    """Wrong requests can only be made where there is something to be right."""
    return mode is GenerationMode.POSITIVE or "{place}" in path or path == "/v1/sessions"


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [(*words, mode) for words in OPERATIONS for mode in GenerationMode if attacks(words[0], mode)],
)
def test_answers_are_as_described_whatever_is_sent(server, path, method, mode):
    url, places = server
    transcripts = {1: MESSAGES[:6], 2: MESSAGES[6:]}
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")[path][method.upper()]
    answers = Counter()

    @given(st.data())
    @settings(
        max_examples=100 if method == "post" else 30,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def attack(data):
        case = data.draw(operation.as_strategy(mode))
        kind = data.draw(st.integers(0, 3)) if "{place}" in path else 0
        if kind:
            seed = data.draw(st.sampled_from([1, 2]))
            case.path_parameters["place"] = places[seed]
            if kind == 3 and method == "post" and mode is GenerationMode.POSITIVE:
                case.body = transcripts[seed][NUMBERS[path.rpartition("/")[2]]]
        answer = case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS, timeout=10
        )
        answers[answer.status_code] += 1

    attack()
    assert max(answers) < 500
    if mode is GenerationMode.POSITIVE:
        described = DESCRIPTION["paths"][path][method]["responses"]
        assert {int(code) for code in described if code[0] == "2"} <= answers.keys(), answers
        if method == "post":
            assert answers[400] + answers[409] > 5


def test_every_route_is_described_and_every_description_is_a_route(server):
    url, _ = server
    assert httpx.get(f"{url}/openapi.json").json() == DESCRIPTION
    routes = application(None)._app.routes
    served = {(route.path, method.lower()) for route in routes for method in route.methods}
    assert {words for words in served if words[1] != "head"} == set(OPERATIONS)


@pytest.mark.parametrize("kind", [Offer, Progress, Refusal])
def test_schemas_have_the_fields_of_the_answers(kind):
    schema = DESCRIPTION["components"]["schemas"][kind.__name__]
    assert list(schema["properties"]) == schema["required"] == list(kind.__struct_fields__)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("lie", ["status", "schema", "media type"])
def test_a_lie_in_the_description_is_found(server, lie):
    wrong = json.loads(json.dumps(DESCRIPTION))
    answers = wrong["paths"]["/healthz"]["get"]["responses"]
    if lie == "status":
        answers["204"] = answers.pop("200")
    elif lie == "schema":
        answers["200"]["content"]["application/json"]["schema"] = {"type": "array"}
    else:
        answers["200"]["content"] = {"text/plain": {}}
    case = schemathesis.openapi.from_dict(wrong)["/healthz"]["GET"].Case()
    with pytest.raises(FailureGroup):
        case.call_and_validate(base_url=server[0], checks=CHECKS)

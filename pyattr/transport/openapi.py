"""The description of the HTTP interface, OpenAPI 3.1; `pyattr.transport.server` does what it says."""

from __future__ import annotations

from typing import Any, Final

from pyattr.protocol.manifest import PROTOCOL
from pyattr.transport.answers import REQUEST_CAP, SEALED

__all__ = ["DESCRIPTION"]

_HEX: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_PLACE: Final = {
    "name": "place",
    "in": "path",
    "required": True,
    "description": "Name of the session: the digest of its invitation.",
    "schema": _HEX,
}
_REASONS: Final = {
    "400": "The message is not what it should be, or not the verifier's.",
    "401": "The bearer token is missing or another.",
    "403": "There were as many sessions about this claim as may be.",
    "404": "There is no such session, or it has no such message yet.",
    "408": "The request took too long to arrive.",
    "409": "Another message was sent in this place before.",
    "413": "The request is too large.",
    "415": "The request is of another media type.",
    "429": "As many sessions are open as may be.",
    "503": "The request took too long to answer, or too many are under way.",
}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _sealed() -> dict[str, Any]:
    return {SEALED: {"schema": {"type": "string", "format": "pyattr-sealed"}}}


def _operation(
    name: str,
    summary: str,
    *,
    answer: dict[str, Any],
    status: str = "200",
    refusals: str = "",
    takes_message: bool = False,
    is_open: bool = False,
) -> dict[str, Any]:
    codes = refusals.split()
    if takes_message:
        codes += ["400", "408", "409", "413", "415"]
    if not is_open:
        codes += ["401", "503"]
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {status: answer}
        | {
            code: {"description": _REASONS[code], "content": _json("Refusal")}
            for code in sorted(codes)
        },
    }
    if takes_message:
        operation["requestBody"] = {"required": True, "content": _sealed()}
    if is_open:
        operation["security"] = []
    return operation


_SCHEMAS: Final[dict[str, Any]] = {
    "Refusal": _object({"error": {"type": "string", "minLength": 1, "maxLength": 2000}}),
    "Progress": _object(
        {
            "state": {"enum": ["committed", "training", "failed", "answered", "closed"]},
            "done": _COUNT,
            "planned": _COUNT,
        }
    ),
    "Subject": _object(
        {
            "type": {"const": "subject"},
            "train": {"type": "string", "pattern": "^([0-9a-f]{64})?$"},
            "targets": {"type": "string", "pattern": "^([0-9a-f]{64})?$"},
            "recipe": {"type": "object"},
            "output": {"type": "string"},
            "platform": {"type": "string"},
            "versions": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ),
    "Offer": _object(
        {
            "protocol": {"const": PROTOCOL},
            "key": _HEX,
            "verifier": _HEX,
            "subject": {"$ref": "#/components/schemas/Subject"},
            "n_train": {"type": "integer", "minimum": 1},
            "n_targets": {"type": "integer", "minimum": 1},
            "p": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "clip": {"type": ["number", "null"]},
            "tolerance": {"type": "number", "minimum": 0},
            "max_trainings": {"type": "integer", "minimum": 1},
        }
    ),
}

_LOCATION: Final = {
    "Location": {"required": True, "schema": {"type": "string", "format": "uri-reference"}}
}

DESCRIPTION: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {
        "title": "pyattr prover",
        "version": PROTOCOL.rpartition("/")[2],
        "description": (
            f"Sessions of {PROTOCOL}. Bodies of type {SEALED} are signed messages of the protocol, "
            f"in requests of at most {REQUEST_CAP} bytes. Every request can be sent again: the same "
            "bytes get the same answer, other bytes in the same place are refused with 409."
        ),
    },
    "security": [{"bearer": []}],
    "paths": {
        "/v1/prover": {
            "get": _operation(
                "describeProver",
                "What this prover is ready to prove.",
                answer={"description": "Its keys, subject and limits.", "content": _json("Offer")},
            )
        },
        "/v1/sessions": {
            "post": _operation(
                "beginSession",
                "Invitation; answered with the commitment.",
                status="201",
                answer={
                    "description": "The sealed commitment.",
                    "headers": _LOCATION,
                    "content": _sealed(),
                },
                refusals="403 429",
                takes_message=True,
            )
        },
        "/v1/sessions/{place}": {
            "parameters": [_PLACE],
            "get": _operation(
                "showSession",
                "How far the session is.",
                answer={"description": "State and trainings.", "content": _json("Progress")},
                refusals="404",
            ),
        },
        "/v1/sessions/{place}/challenge": {
            "parameters": [_PLACE],
            "post": _operation(
                "challenge",
                "Challenge; training begins, or goes on if it had stopped.",
                status="202",
                answer={"description": "State and trainings.", "content": _json("Progress")},
                refusals="404",
                takes_message=True,
            ),
        },
        "/v1/sessions/{place}/outputs-commitment": {
            "parameters": [_PLACE],
            "get": _operation(
                "outputsCommitment",
                "Root of all outputs, once they are trained.",
                answer={"description": "The sealed message.", "content": _sealed()},
                refusals="404",
            ),
        },
        "/v1/sessions/{place}/outputs": {
            "parameters": [_PLACE],
            "get": _operation(
                "outputs",
                "All outputs and the openings of both commitments.",
                answer={"description": "The sealed message.", "content": _sealed()},
                refusals="404",
            ),
        },
        "/v1/sessions/{place}/decision": {
            "parameters": [_PLACE],
            "post": _operation(
                "decide",
                "Decision; the session is over.",
                status="204",
                answer={"description": "It is stored."},
                refusals="404",
                takes_message=True,
            ),
        },
        "/openapi.json": {
            "get": _operation(
                "describeInterface",
                "This description.",
                answer={
                    "description": "OpenAPI 3.1.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
                is_open=True,
            )
        },
        "/healthz": {
            "get": _operation(
                "health",
                "Whether the server answers.",
                answer={
                    "description": "It does.",
                    "content": {
                        "application/json": {"schema": _object({"status": {"const": "ok"}})}
                    },
                },
                is_open=True,
            )
        },
    },
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
    },
}

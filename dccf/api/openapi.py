"""The description of the API: APIFlask finds the routes, this adds what they take and answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from apiflask import APIBlueprint, APIFlask
from flask import Response, current_app, json
from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from dccf.administration import (
    NewSchedule,
    NewScheduleOfJob,
    OwnerLimits,
    OwnerUsage,
    QueueInfo,
    Schedule,
    ScheduleChange,
    ScheduleDetails,
)
from dccf.api import queries
from dccf.api.answers import JSON
from dccf.api.errors import MEDIA_TYPE
from dccf.fields import Frozen
from dccf.models import Artifact, Attempt, BundleFile, Job, JobEvent, JobSpec, JobState
from dccf.store.fleet import ControllerInfo, WorkerInfo

bp = APIBlueprint("openapi", __name__, enable_openapi=False)

_REF = "#/components/schemas/{model}"


class ProblemField(Frozen):
    """One thing that is wrong in a request."""

    pointer: str
    detail: str


class Problem(Frozen):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stays the same; programs decide by it.")
    request_id: str
    errors: tuple[ProblemField, ...]


class JobPage(Frozen):
    """One page of a listing."""

    items: tuple[Job, ...]
    next_cursor: str | None


_MODELS: tuple[type[BaseModel], ...] = (
    Job,
    JobSpec,
    JobPage,
    Attempt,
    JobEvent,
    Artifact,
    BundleFile,
    WorkerInfo,
    ControllerInfo,
    OwnerLimits,
    OwnerUsage,
    QueueInfo,
    NewSchedule,
    NewScheduleOfJob,
    Schedule,
    ScheduleChange,
    ScheduleDetails,
    Problem,
)

#: What the operations answer when all is well: status, media type, model, whether it is a list.
_ANSWERS: dict[str, tuple[str, str, str | None, bool]] = {
    "POST /v1/jobs": ("202", JSON, "Job", False),
    "GET /v1/jobs": ("200", JSON, "JobPage", False),
    "GET /v1/jobs/{job_id}": ("200", JSON, "Job", False),
    "DELETE /v1/jobs/{job_id}": ("200", JSON, "Job", False),
    "POST /v1/jobs/{job_id}:cancel": ("200", JSON, "Job", False),
    "POST /v1/jobs/{job_id}:rerun": ("202", JSON, "Job", False),
    "GET /v1/jobs/{job_id}/attempts": ("200", JSON, "Attempt", True),
    "GET /v1/jobs/{job_id}/history": ("200", JSON, "JobEvent", True),
    "GET /v1/jobs/{job_id}/bundle": ("200", JSON, "BundleFile", True),
    "GET /v1/jobs/{job_id}/artifacts": ("200", JSON, "Artifact", True),
    "GET /v1/jobs/{job_id}/logs": ("200", "text/plain", None, False),
    "GET /v1/jobs/{job_id}/artifacts/{path}": ("200", "application/octet-stream", None, False),
    "GET /v1/jobs/{job_id}/artifacts.tar": ("200", "application/x-tar", None, False),
    "GET /metrics": ("200", "text/plain", None, False),
    "GET /v1/workers": ("200", JSON, "WorkerInfo", True),
    "GET /v1/controllers": ("200", JSON, "ControllerInfo", True),
    "GET /v1/queues": ("200", JSON, "QueueInfo", True),
    "POST /v1/queues/{queue}:pause": ("200", JSON, "QueueInfo", True),
    "POST /v1/queues/{queue}:resume": ("200", JSON, "QueueInfo", True),
    "GET /v1/schedules": ("200", JSON, "Schedule", True),
    "POST /v1/schedules": ("201", JSON, "Schedule", False),
    "GET /v1/schedules/{name}": ("200", JSON, "ScheduleDetails", False),
    "PATCH /v1/schedules/{name}": ("200", JSON, "Schedule", False),
    "DELETE /v1/schedules/{name}": ("200", JSON, "Schedule", True),
    "POST /v1/schedules/{name}:run": ("202", JSON, "Job", False),
    "POST /v1/schedules/{name}:pause": ("200", JSON, "Schedule", False),
    "POST /v1/schedules/{name}:resume": ("200", JSON, "Schedule", False),
    "GET /v1/limits": ("200", JSON, "OwnerUsage", True),
    "PUT /v1/limits/{owner}": ("200", JSON, "OwnerUsage", False),
}
_FURTHER_ANSWERS: dict[str, dict[str, str]] = {
    "POST /v1/jobs/{job_id}:cancel": {"202": "Its worker was told to stop it."},
    "GET /v1/jobs/{job_id}/artifacts/{path}": {"206": "The range that was asked for.", "304": "Not changed."},
}
_QUERIES: dict[str, type[Frozen]] = {
    "GET /v1/jobs": queries.ListQuery,
    "GET /v1/jobs/{job_id}": queries.GetQuery,
    "GET /v1/jobs/{job_id}/logs": queries.LogQuery,
    "GET /v1/schedules/{name}": queries.OwnerQuery,
    "PATCH /v1/schedules/{name}": queries.OwnerQuery,
    "DELETE /v1/schedules/{name}": queries.OwnerQuery,
    "POST /v1/schedules/{name}:run": queries.OwnerQuery,
    "POST /v1/schedules/{name}:pause": queries.OwnerQuery,
    "POST /v1/schedules/{name}:resume": queries.OwnerQuery,
    "GET /getJobStatus": queries.AliasQuery,
    "GET /getResultingFiles": queries.AliasQuery,
}
_BODIES = {
    "PUT /v1/limits/{owner}": "OwnerLimits",
    "POST /v1/schedules": "NewScheduleOfJob",
    "PATCH /v1/schedules/{name}": "ScheduleChange",
}
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and the same request again make nothing twice.",
    "schema": {"type": "string", "maxLength": 255},
    "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
}
_LEFT_OUT = frozenset({"title", "description", "default"})
_PUBLIC_PATHS = frozenset({"/", "/healthz", "/readyz"})


def register(app: APIFlask) -> None:
    """Make an application describe itself."""
    app.config["SECURITY_SCHEMES"] = {"token": {"type": "http", "scheme": "bearer"}}
    app.config["AUTO_SERVERS"] = False
    app.config["AUTO_404_RESPONSE"] = False
    app.config["AUTO_VALIDATION_ERROR_RESPONSE"] = False
    app.config["AUTO_OPERATION_ID"] = True
    app.description = "Runs Dockerfiles as asynchronous jobs: Dockerfile and files in, output and logs out."
    app.spec_callback = complete


@bp.get("/openapi.json")
def spec() -> Response:
    """Give the description."""
    return Response(json.dumps(cast("APIFlask", current_app).spec), content_type=JSON)


def complete(made: dict[str, Any] | str) -> dict[str, Any] | str:
    """Add to a description what APIFlask cannot know; text (YAML) is never asked for here."""
    if isinstance(made, str):
        raise TypeError("the description is wanted as a mapping")
    shown: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "serialization") for model in _MODELS]
    _, schemas = models_json_schema([*shown, (queries.LogQuery, "validation")], ref_template=_REF)
    made["components"]["schemas"] = {name: schema for name, schema in schemas["$defs"].items() if name != "LogQuery"}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if isinstance(operation, dict):
                _complete_operation(f"{method.upper()} {path}", path, operation)
    spec = {"spec": "JobSpec"}
    made["paths"]["/v1/jobs"]["post"] |= {
        "requestBody": {"required": True, "content": _multipart("dockerfile", "files", spec)},
        "parameters": [_KEY],
    }
    made["paths"]["/v1/schedules"]["post"]["requestBody"]["content"] |= _multipart(
        "dockerfile", "files", {**spec, "schedule": "NewSchedule"}
    )
    made["paths"]["/v1/schedules"]["post"]["parameters"] = [_KEY]
    made["paths"]["/v1/schedules/{name}:run"]["post"]["parameters"].append(_KEY)
    made["paths"]["/submit"]["post"]["requestBody"] = {
        "required": True,
        "content": _multipart("dockerFile", "taskFiles", {}),
    }
    return made


def _complete_operation(key: str, path: str, operation: dict[str, Any]) -> None:
    if path not in _PUBLIC_PATHS:
        operation["security"] = [{"token": []}]
    if key in _BODIES:
        operation["requestBody"] = {"required": True, "content": {JSON: _content(_BODIES[key], is_list=False)}}
    if key in _QUERIES:
        operation["parameters"] = [*operation.get("parameters", ()), *_query_parameters(_QUERIES[key])]
    responses = operation.setdefault("responses", {})
    if key in _ANSWERS:
        status, media_type, model, is_list = _ANSWERS[key]
        responses.clear()
        responses[status] = {"description": "All is well.", "content": {media_type: _content(model, is_list=is_list)}}
    for status, description in _FURTHER_ANSWERS.get(key, {}).items():
        responses[status] = {"description": description}
    responses["default"] = {
        "description": "Something is wrong.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}, "example": PROBLEM_EXAMPLE}},
    }


def _query_parameters(model: type[Frozen]) -> list[dict[str, Any]]:
    described = model.model_json_schema()
    parameters = []
    for name, property_schema in described["properties"].items():
        text = json.dumps(property_schema).replace("#/$defs/", _REF.format(model=""))
        # Defaults are those of the parsed value, not of the text in the address.
        schema = {key: value for key, value in json.loads(text).items() if key not in _LEFT_OUT}
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in described.get("required", ()),
                "description": model.model_fields[name].description,
                "schema": schema,
            }
        )
    return parameters


def _content(model: str | None, *, is_list: bool) -> dict[str, Any]:
    if model is None:
        return {"schema": {"type": "string"}}
    schema: dict[str, Any] = {"$ref": _REF.format(model=model)}
    if is_list:
        items = {"type": "array", "items": schema}
        schema = {"type": "object", "required": ["items"], "properties": {"items": items}}
    content = {"schema": schema}
    if model == "Job":
        content["example"] = job_example().model_dump(mode="json")
    return content


def _multipart(dockerfile: str, files: str, texts: dict[str, str]) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    properties: dict[str, Any] = {dockerfile: binary, files: {"type": "array", "items": binary}}
    properties |= {name: {"$ref": _REF.format(model=model)} for name, model in texts.items()}
    encoding = {name: {"contentType": JSON} for name in texts}
    return {"multipart/form-data": {"schema": {"type": "object", "properties": properties}, "encoding": encoding}}


PROBLEM_EXAMPLE: dict[str, Any] = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "the job's options are not valid: cpus: Input should be greater than or equal to 0.01",
    "instance": "/v1/jobs",
    "code": "invalid_request",
    "request_id": "5f0c6c1f9be0b5a4",
    "errors": [{"pointer": "#/cpus", "detail": "Input should be greater than or equal to 0.01"}],
}


def job_example() -> Job:
    """Give a job as an example."""
    at = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
    return Job(
        id=UUID("0198c0de-0000-7000-8000-00000000abcd"),
        state=JobState.SUCCEEDED,
        message="the container ended with exit code 0",
        exit_code=0,
        owner="ada",
        spec=JobSpec(labels={"project": "demo"}),
        bundle_id=UUID("8e03978e-40d5-43dd-bc93-6894a57f9324"),
        fence=1,
        failures=0,
        max_attempts=3,
        worker="worker-1",
        created_at=at,
        run_after=at,
        started_at=at,
        running_at=at,
        collecting_at=at,
        finished_at=at,
    )

"""A secret reaches the container and nothing else: not the database, not a message, not the worker's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from dccf.celery_app import DccfCelery, messages
from dccf.config import Settings
from dccf.lifecycle.ids import new_job_id
from dccf.lifecycle.intake import Intake
from dccf.lifecycle.submit import submit
from dccf.models import Job, JobSpec, JobState, Reason, Stream
from dccf.store import jobs, logs
from dccf.store.database import Database
from dccf.store.jobs import NewJob
from dccf.store.tables import metadata
from tests.processes import DccfProcess, wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.docker]

VALUE = "correct-horse-battery-staple"
#: Stands where secrets must not; that it is found shows that the search finds.
MARK = "visible-to-everybody"

Run = Callable[[str, JobSpec], Job]


@pytest.fixture
def environment(settings: Settings, docker_url: str, tmp_path: Path) -> dict[str, str]:
    """Settings of a worker with a folder of secrets, and of a controller that sends hints."""
    folder = tmp_path / "secrets" / "ada"
    folder.mkdir(parents=True)
    (folder / "token").write_text(VALUE)
    return {
        "DCCF_DATABASE_URL": settings.database_url,
        "DCCF_BROKER_URL": settings.broker_url,
        "DCCF_BROKER_FOLDER": str(settings.broker_folder),
        "DCCF_STATE_FOLDER": str(settings.state_folder),
        "DCCF_DOCKER_URL": docker_url,
        "DCCF_WORKER_NAME": "secrets-worker",
        "DCCF_SELF_TEST": "off",
        "DCCF_IMAGE_CACHE_BYTES": "0",
        "DCCF_DISK_FREE_BYTES": "0",
        "DCCF_SECRETS_FOLDER": str(folder.parent),
        "DCCF_LOG_LEVEL": "DEBUG",
        "DCCF_RETRY_BACKOFF_SECONDS": "0",
    }


@pytest.fixture
def run(environment: dict[str, str], database: Database, settings: Settings, tmp_path: Path) -> Iterator[Run]:
    """Runs jobs of ada's on a real worker to their ends."""
    celery = DccfCelery("test")
    celery.__dict__["settings"] = settings
    processes = [DccfProcess([name], environment, tmp_path / f"{name}.log") for name in ("worker", "controller")]

    def run_job(dockerfile: str, spec: JobSpec) -> Job:
        intake = Intake(database, settings)
        intake.add("Dockerfile", dockerfile.encode())
        intake.finish()
        job_id = new_job_id()
        with database.begin() as tx:
            bundle_id = intake.make_bundle(tx, "ada")
            message = messages.for_job(celery, job_id, "ada", spec)
            submit(tx, settings, NewJob(job_id, "ada", spec, bundle_id, (), message, False, 3))
        return wait_for("the end of the job", lambda: ended(database, job_id))

    yield run_job
    for process in processes:
        process.stop()


def ended(database: Database, job_id: UUID) -> Job | None:
    with database.begin() as tx:
        job = jobs.get(tx, job_id)
    return job if job is not None and job.state.is_final else None


def dump(database: Database) -> bytes:
    """Everything that the database holds, as COPY writes it: text as it is, bytes in hex."""
    rows = []
    with database.begin() as tx:
        for table in metadata.sorted_tables:
            rows += [str(row[0]) for row in tx.exec_driver_sql(f'SELECT t::text FROM "{table.name}" t')]
    return "\n".join(rows).encode()


def test_a_value_stands_in_the_container_alone(
    run: Run, database: Database, settings: Settings, tmp_path: Path
) -> None:
    spec = JobSpec(secrets={"TOKEN": "token"}, env={"MARK": MARK})
    job = run(
        'FROM busybox\nRUN env\nCMD echo "$MARK"; echo "$TOKEN"; echo "$TOKEN" >&2; printf "$TOKEN" | wc -c; exit 3',
        spec,
    )

    assert (job.state, job.reason, job.exit_code) == (JobState.FAILED, Reason.EXIT_NONZERO, 3)
    with database.begin() as tx:
        chunks = logs.get(tx, job.id, job.fence, (Stream.STDOUT, Stream.STDERR), -1)
    printed = {stream: b"".join(chunk.data for chunk in chunks if chunk.stream is stream) for stream in Stream}
    assert printed[Stream.STDOUT] == f"{MARK}\n***\n{len(VALUE)}\n".encode()
    assert printed[Stream.STDERR] == b"***\n"
    assert settings.broker_folder is not None
    kept = [*tmp_path.glob("*.log"), *settings.broker_folder.glob("*/*")]
    everything = b"\n".join([dump(database), *(path.read_bytes() for path in kept if path.is_file())])
    found = [text.encode() in everything or text.encode().hex().encode() in everything for text in (MARK, VALUE)]
    assert found == [True, False]


def test_an_unknown_secret_ends_the_job_at_its_first_attempt(run: Run) -> None:
    job = run("FROM busybox\nCMD true", JobSpec(secrets={"TOKEN": "other"}, retries=3))

    assert (job.state, job.reason, job.fence) == (JobState.FAILED, Reason.REJECTED, 1)
    assert "The secret 'other' is not there for owner ada: correct the name, or ask" in job.message

"""DCCF runs Dockerfiles as asynchronous jobs over Celery, Kafka and PostgreSQL."""

__version__ = "0.1.0"

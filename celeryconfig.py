"""Celery's configuration for Celery's own commands; values and reasons stand in dccf/celery_app/conf.py."""

from dccf import config
from dccf.celery_app import conf

globals().update(conf.build(config.load()))

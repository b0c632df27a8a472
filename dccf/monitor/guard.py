"""Keeps web pages of other machines out of a Flower without a login: they could read all tasks and send any."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import tornado.httputil
from flower import command
from flower.app import Flower
from tornado.web import RequestHandler

from dccf import errors, loopback


class Refusal(RequestHandler):
    """Answers a request that may not come in; every method alike."""

    def initialize(self, why: str) -> None:
        """Take over what to say."""
        self._why = f"{why}. To reach Flower by another name give it a login: FLOWER_BASIC_AUTH=name:password.\n"

    def check_xsrf_cookie(self) -> None:
        """Look at no cookie: it is refused for another reason."""

    def prepare(self) -> None:
        """Refuse, before any method is looked for."""
        self.set_status(HTTPStatus.FORBIDDEN)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(self._why)


class LoopbackFlower(Flower):
    """Flower that answers this machine alone, unless it has a login."""

    def find_handler(self, request: tornado.httputil.HTTPServerRequest, **kwargs: Any) -> Any:
        """Give what answers a request."""
        if not (self.options.basic_auth or self.options.auth):
            try:
                loopback.require_names(request.host, request.headers.get("Origin"))
            except errors.NotAllowed as error:
                return self.get_handler_delegate(request, Refusal, {"why": str(error)})
        return super().find_handler(request, **kwargs)


def install() -> None:
    """Make Flower's command start it so."""
    command.Flower = LoopbackFlower

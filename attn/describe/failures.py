"""Turns a server's failures into one error of one sentence, without the key."""

from __future__ import annotations

import json
import math
import re
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from attn.describe.servers import Server
from attn.errors import (
    AnswerUnreadable,
    ContextOverflow,
    KeyRefused,
    NotAtServer,
    RequestRefused,
    ServerError,
    ServerFailed,
    ServerRedirects,
    ServerUnreachable,
    TooManyRequests,
)

_OVERFLOW = re.compile(
    r"context[ _](size|length|window)|exceed_context|maximum context|prompt is too long"
    r"|too many (input )?tokens|input is too long",
    re.IGNORECASE,
)
_CREDIT = ("insufficient_quota", "billing", "credit")


def refused(server: Server, status: int, response: Any) -> ServerError:
    """The error of an answer with a status of 4xx or 5xx; ``response`` is the HTTP library's."""
    body = server.key.hide(_text(response))
    says = _says(body)
    where = f"The server at {server.host}"
    if status in (401, 403):
        if not server.key:
            return KeyRefused(f"{where} wants a key and none was given{says}: enter one.")
        return KeyRefused(f"{where} refuses the key{says}: check that it is whole and is for it.")
    if status == 404:
        return NotAtServer(
            f"{where} has no model {server.model!r} or no such address{says}: check the model's "
            "name, and that the address ends as the server wants it, most often in /v1."
        )
    if status == 429:
        return _too_many(where, says, body, response.headers.get("retry-after"))
    if status >= 500:
        return ServerFailed(f"{where} failed with status {status}{says}: try again in a while.")
    if status == 413 or _OVERFLOW.search(body):
        return ContextOverflow(
            f"The prompt is longer than {server.model} can read{says}: take fewer examples."
        )
    return RequestRefused(f"{where} does not take the request, status {status}{says}.")


def _too_many(where: str, says: str, body: str, header: str | None) -> TooManyRequests:
    if any(word in body.lower() for word in _CREDIT):
        return TooManyRequests(
            f"{where} says that the account has no credit left{says}: add some there.", math.inf
        )
    wait = _seconds(header)
    if wait is None:
        return TooManyRequests(
            f"{where} gets too many requests and does not say how long to wait{says}: try again "
            "in a minute."
        )
    return TooManyRequests(
        f"{where} gets too many requests{says}: try again in {math.ceil(wait)} seconds.", wait
    )


def _seconds(header: str | None) -> float | None:
    """What Retry-After says, in seconds from now."""
    if not header:
        return None
    try:
        wait = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
            wait = at.timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, wait) if math.isfinite(wait) else None


def redirected(server: Server, location: str) -> ServerRedirects:
    """The error of a redirect, which is not followed because of the key."""
    try:
        parts = urlsplit(location)
        target = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "another path"
    except ValueError:
        target = "another place"
    return ServerRedirects(
        f"The server at {server.host} points to {target}, where the key is not sent: enter the "
        "address that it points to, if you trust it."
    )


def unreachable(server: Server, error: BaseException) -> ServerError:
    """The error of a connection that was not made, or that broke."""
    causes = list(_chain(error))
    ours = next((cause for cause in causes if isinstance(cause, ServerError)), None)
    if ours is not None:
        return ours
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        reason = "its certificate cannot be trusted"
    elif any(isinstance(cause, socket.gaierror) for cause in causes):
        reason = "no machine of that name is known"
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        reason = "the connection is refused"
    else:
        reason = "the connection broke"
    start = "start the server" if server.local else "check the network"
    return ServerUnreachable(
        f"Nothing answers at {server.host}, {reason}: {start}, or check the address."
    )


def unreadable(server: Server, what: str) -> AnswerUnreadable:
    """The error of a response that is not an answer."""
    return AnswerUnreadable(
        f"The server at {server.host} answered with {what} instead of a model's answer: check its "
        "address, which most often ends in /v1."
    )


def _chain(error: BaseException | None) -> Any:
    """An error and its causes, with exception groups unpacked."""
    seen = 0
    waiting = [error]
    while waiting and seen < 50:
        one = waiting.pop()
        if one is None:
            continue
        seen += 1
        yield one
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _text(response: Any) -> str:
    try:
        return str(response.text)[:20_000]
    except (RuntimeError, ValueError, LookupError):
        return ""


def _says(body: str) -> str:
    """The server's own words, in brackets; none where they are a page or not to be found."""
    try:
        found = json.loads(body)
        error = found.get("error", found)
        text = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = "" if body.lstrip().startswith("<") else body
    line = " ".join(str(text).split())[:200].rstrip(".")
    return f" (it says: {line})" if line else ""

"""Tells people of ends: e-mails to the addresses in a job's `notifications`.

The sender is the program's own: `async send_email(to, subject, html, text)`, which raises where it fails. It
is called after the last attempt, when the record of the end is written; what it does changes nothing there.
"""

from __future__ import annotations

import html as markup
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ._outcome import class_of

logger = logging.getLogger("unified_scheduler")

SendEmail = Callable[[str, str, str, str], Any]


def recipients(notifications: Any, status: str) -> list[str]:
    """Whom a job wants to be told of this end: `on_success` of what went well, `on_failure` of what went
    wrong, wholly or in part, and nobody of what did not run.

    >>> recipients({"on_success": ["a@x"], "on_failure": ["b@x", "b@x"]}, "partial")
    ['b@x']
    """
    if not isinstance(notifications, Mapping):
        return []
    key = {"ok": "on_success", "part": "on_failure", "bad": "on_failure"}.get(class_of(status))
    listed = notifications.get(key) if key is not None else None
    if isinstance(listed, str):
        listed = [listed]
    if not isinstance(listed, Iterable):
        return []
    return list(dict.fromkeys(str(address).strip() for address in listed if str(address).strip()))


class Mailer:
    """Sends what is to be told."""

    def __init__(self, send_email: SendEmail | None) -> None:
        self._send = send_email
        self._warned = False
        self.n_sent = 0
        self.n_failed = 0

    async def tell(self, notifications: Any, end: Mapping[str, Any]) -> None:
        """Tells of an end, given as the document of its execution. Never raises an `Exception`."""
        status = str(end.get("status", "unknown"))
        addresses = recipients(notifications, status)
        if not addresses:
            return
        if self._send is None:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "jobs ask for e-mails, and there is no mailer: pass send_email= to the scheduler"
                )
            return
        subject, text = _written(status, end)
        page = f"<pre>{markup.escape(text)}</pre>"
        for address in addresses:
            try:
                answer = self._send(address, subject, page, text)
                if inspect.isawaitable(answer):
                    await answer
                self.n_sent += 1
            except Exception:  # noqa: PERF203
                self.n_failed += 1
                logger.exception("%s could not be told of the job '%s'", address, end.get("job_name"))


def _written(status: str, end: Mapping[str, Any]) -> tuple[str, str]:
    result = end.get("result")
    told: Mapping[str, Any] = result if isinstance(result, Mapping) else {}
    name = str(end.get("job_name") or end.get("job_id") or "a job")
    subject = " ".join(f"[Scheduler] {name}: {status}".split())
    lines = [
        f"Job: {name}",
        f"Status: {status}",
        f"Template: {end.get('template_type') or end.get('handler') or ''}",
        f"Started: {end.get('started_at')}",
        f"Duration: {end.get('duration_seconds')} s",
        f"Triggered by: {end.get('triggered_by')}",
        f"Attempt: {end.get('attempt', 1)}",
        f"Message: {told.get('message', '')}",
    ]
    error = end.get("error")
    if error:
        lines.append(f"Error: {error.get('message') if isinstance(error, Mapping) else error}")
    lines += [f"- {text}" for text in told.get("errors") or []]
    return subject, "\n".join(lines)

"""The process that looks, and this process's end of it.

Whoever may write to a segment can cut it short at the wrong moment, which kills a process that reads it (SIGBUS), or
can make a reader wait. So the looking is done by a child, which tells what it sees line by line. If it dies or takes
too long, the segment that it was at is left alone for a while, and another child goes on.
"""

import contextlib
import json
import os
import resource
import select
import signal
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from shmvar.cli.top import looking
from shmvar.cli.top.facts import Details, Row, Sample

SLOW = 5.0
"""Seconds that a look may take without a word."""

LEFT_ALONE = 10.0
"""Seconds for which a segment that stopped a look is not attached again."""

_PIECE = 1 << 16


class Observer:
    """Gives samples: `ask` for one, then `receive` when `fileno` is readable, and at `overdue_at`."""

    def __init__(self, wanted: list[int | str]) -> None:
        self._wanted = wanted
        self._left_alone: dict[str, tuple[float, str, str]] = {}  # until when, the state, and why
        self._child = 0
        self._forget()
        self._start()

    def _start(self) -> None:
        questions, self._questions = os.pipe()
        self._answers, answers = os.pipe()
        self._child = os.fork()
        if not self._child:
            _observe(self._wanted, questions, answers, (self._questions, self._answers))
        os.close(questions)
        os.close(answers)

    def _forget(self) -> None:
        self._asked_at: float | None = None
        self._told_at = 0.0
        self._buffer = b""
        self._rows: dict[str, dict[str, Any]] = {}
        self._at: str | None = None  # what is looked at just now
        self._details: dict[str, Any] | None = None
        self._error: str | None = None

    def fileno(self) -> int:
        """For `select`."""
        return self._answers

    @property
    def asked(self) -> bool:
        """Whether an answer is on its way."""
        return self._asked_at is not None

    @property
    def overdue_at(self) -> float | None:
        """When to call `receive` although nothing is readable."""
        return self._told_at + SLOW if self.asked else None

    def ask(self, details: str | None = None) -> None:
        """Asks for a sample, with the details of the segment of this name, unless an answer is on its way."""
        if self.asked:
            return
        now = time.monotonic()
        self._left_alone = {name: left for name, left in self._left_alone.items() if left[0] > now}
        question = {"details": details, "leave": list(self._left_alone)}
        self._asked_at = self._told_at = now
        with contextlib.suppress(BrokenPipeError):  # it died meanwhile: `receive` sees that
            os.write(self._questions, json.dumps(question).encode() + b"\n")

    def receive(self) -> Sample | None:
        """Takes what there is of the answer; returns the sample once it is whole, or as whole as it gets."""
        if select.select([self._answers], [], [], 0)[0]:
            more = os.read(self._answers, _PIECE)
            if not more:
                return self._replaced("damaged", "a process that looked at it was killed: it is cut short, or damaged")
            self._told_at = time.monotonic()
            *lines, self._buffer = (self._buffer + more).split(b"\n")
            for line in lines:
                if self._take(json.loads(line)):
                    return self._sample()
        elif self.asked and time.monotonic() >= self._told_at + SLOW:
            return self._replaced("busy", f"a look at it took longer than {SLOW:.0f} s")
        return None

    def _take(self, told: dict[str, Any]) -> bool:
        """One line of an answer. True: it was the last one."""
        if "rows" in told:
            self._rows = {row["name"]: row for row in told["rows"]}
        elif "at" in told:
            self._at = told["at"]
        elif "of" in told:
            self._rows[told["of"]].update(told["facts"])
            self._at = None
        elif "details" in told:
            self._details = told["details"]
        elif "error" in told:
            self._error = told["error"]
        return "end" in told

    def _sample(self) -> Sample:
        rows = []
        for facts in self._rows.values():
            row = Row(**facts)
            if row.name in self._left_alone:
                _, row.state, row.why = self._left_alone[row.name]
            rows.append(row)
        details = Details(**self._details) if self._details else None
        sample = Sample(rows, details, self._error)
        self._forget()
        return sample

    def _replaced(self, state: str, why: str) -> Sample | None:
        """The child is gone, or is to go: another one takes its place. Returns what is known, if it was at work."""
        asked = self.asked
        self.close()
        if self._at is not None:
            self._left_alone[self._at] = (time.monotonic() + LEFT_ALONE, state, why)
        elif asked:
            self._error = self._error or why
        sample = self._sample() if asked else None
        self._start()
        return sample

    def close(self) -> None:
        """Ends the child. A second call does nothing."""
        if not self._child:
            return
        child, self._child = self._child, 0
        os.close(self._questions)
        os.close(self._answers)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _observe(wanted: list[int | str], questions: int, answers: int, others: tuple[int, ...]) -> NoReturn:
    """The child: looks as often as it is asked to, until nobody is there to ask."""
    try:
        # Keys of the terminal are for the parent alone. So are its signals, whose handlers this process inherits.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what kills it is no news
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        for descriptor in others:
            os.close(descriptor)
        with open(questions, "rb") as asked, open(answers, "wb", buffering=0) as told:
            for question in asked:
                for line in _answer(wanted, **json.loads(question)):
                    told.write(json.dumps(line).encode() + b"\n")
    finally:
        os._exit(0)


def _answer(wanted: list[int | str], details: str | None, leave: list[str]) -> Iterator[dict[str, Any]]:
    """The lines of an answer. What is looked at next is told before."""
    try:
        rows = looking.names(wanted)
        yield {"rows": rows}
        for row in rows:
            if row["state"] == "usable" and row["name"] not in leave:
                yield {"at": row["name"]}
                yield {"of": row["name"], "facts": looking.activity(row)}
        for row in rows:
            if row["name"] == details and details not in leave:
                yield {"at": details}
                yield {"details": looking.details(row)}
    except Exception as error:
        yield {"error": str(error) or type(error).__name__}
    yield {"end": True}

"""Follows a segment for a widget: a thread that sleeps until something changes, and one that tells the browser.

`Following` knows nothing of widgets, so that tests need none. The thread that listens does nothing but take steps of
`Segment.changes`, because it may not fall behind removals. The other one reads what is to be seen and sends it, a few
times a second at most; while nothing changes both sleep, and while nothing is visible the second one does. Neither of
them holds the widget.
"""

from __future__ import annotations

import os
import threading
import time

from shmvar._errors import DetachedError, SegmentNotFoundError
from shmvar._text import one_line
from shmvar.notebook._picture import LIVE, Pictures
from shmvar.notebook._rates import WINDOW, Rates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from shmvar._core import Changes, Segment

INTERVAL = 0.2
"""Seconds between two messages, at least."""
_TIMES = 10
"""After reading what is to be seen, the next time is so many times later as the reading took."""

NOBODY = "paused"
"""The state of a widget of which nobody seems to see anything: who does says so, and it goes on."""
ENDED = "ended"


class Following:
    """Both threads, from `start` until `stop`, or until the segment is gone. It is not started again."""

    def __init__(
        self,
        segment: Segment,
        indices: Sequence[int | str] | None,
        rows: int,
        send: Callable[[dict[str, Any]], None],
        asked: Callable[[], int] = lambda: 0,
    ) -> None:
        """Both functions are called in a thread. `send` gets pictures, and raises an exception when there is nobody to
        send them to; `asked` says how often the browser was asked, this time included.
        """
        self._segment = segment
        self._wanted = None if indices is None else frozenset(indices)
        self._rows = rows
        self._pictures = Pictures(segment, indices, rows)
        self._send = send
        self._asked = asked
        self._pid = os.getpid()
        self._some = threading.Condition()
        # What follows is changed under the lock of `_some`.
        self._rates = Rates(time.monotonic())
        self._changes: Changes | None = None
        self._news = False
        self._hidden_since: float | None = None
        self._stopped = False
        self._end: tuple[str, str] | None = None
        """The state in which it ends by itself, and why."""
        self.threads: list[threading.Thread] = []

    @property
    def goes_on(self) -> bool:
        """Whether it follows, and has not ended by itself."""
        return self._pid == os.getpid() and bool(self.threads) and not self._stopped and self._end is None

    def start(self) -> None:
        """Starts the threads. Raises `RuntimeError` if the system has no more."""
        names = {"shmvar-watch": self._listen, "shmvar-show": self._tell}
        for name, run in names.items():
            thread = threading.Thread(target=run, name=name, daemon=True)
            try:
                thread.start()
            except BaseException:
                self.stop()
                raise
            self.threads.append(thread)

    def stop(self) -> None:
        """Lets both threads end; they need not be waited for. Again is a no-op."""
        if self._pid != os.getpid():  # A forked child has no such threads, and the lock may be held for ever.
            return
        with self._some:
            self._stopped = True
            changes, self._changes = self._changes, None
            self._some.notify_all()
        if changes is not None:
            changes.close()

    def set_visible(self, visible: bool) -> None:
        """While it is not visible, nothing is read and nothing is sent."""
        if self._pid != os.getpid():
            return
        with self._some:
            if visible and self._hidden_since is not None:
                self._hidden_since, self._news = None, True
                self._some.notify_all()
            elif not visible and self._hidden_since is None:
                self._hidden_since = time.monotonic()

    def pause(self) -> None:
        """Tells a browser that may be there after all that it ends, and lets both threads end."""
        self._end_with(NOBODY, "")

    def again(self) -> None:
        """Sends what is to be seen, though nothing has changed."""
        if self._pid != os.getpid():
            return
        with self._some:
            self._news = True
            self._some.notify_all()

    # --- the thread that listens

    def _listen(self) -> None:
        try:
            changes = self._segment.changes(prefix=_common(self._wanted))
            with self._some:
                if self._stopped:
                    return
                self._changes = changes
            self.again()  # after `changes` was made: what comes later is told
            for index, version in changes:
                if self._wanted is None or index in self._wanted:
                    self._note(index, version)
                if self._is_idle():
                    break
        except Exception as error:
            self._end_with(ENDED, why_ended(error))
        finally:
            with self._some:
                changes_then, self._changes = self._changes, None
                self._stopped = self._stopped or self._end is None
                self._some.notify_all()
            if changes_then is not None:
                changes_then.close()

    def _note(self, index: int | str, version: int) -> None:
        with self._some:
            self._rates.note(index, version, time.monotonic())
            if not self._news:
                self._news = True
                self._some.notify_all()

    def _end_with(self, state: str, why: str) -> None:
        with self._some:
            self._end = self._end or (state, why)
            changes, self._changes = self._changes, None
            self._some.notify_all()
        if changes is not None:
            changes.close()

    def _is_idle(self) -> bool:
        """Whether it has been hidden for so long that nothing of what was counted before would be seen."""
        return self._hidden_since is not None and time.monotonic() - self._hidden_since > WINDOW

    # --- the thread that tells

    def _tell(self) -> None:
        try:
            while self._tell_once():
                pass
        finally:
            self.stop()

    def _tell_once(self) -> bool:
        """Waits for news and sends them. Returns whether it goes on."""
        with self._some:
            while not (self._stopped or self._end is not None or (self._news and self._hidden_since is None)):
                self._some.wait()
            if self._stopped:
                return False
            self._news = False
        began = time.monotonic()
        try:
            picture = self._picture(began)
        except Exception as error:
            self._end_with(ENDED, why_ended(error))
            picture = self._pictures.last()
        end = self._end
        state, why = end or (LIVE, "")
        try:
            self._send(picture | {"state": state, "why": why, "asked": self._asked()})
        except Exception:
            return False
        if end is not None:
            return False
        rest = max(INTERVAL, _TIMES * (time.monotonic() - began))
        with self._some:
            self._some.wait_for(lambda: self._stopped, rest)
        return True

    def _picture(self, now: float) -> dict[str, Any]:
        with self._some:
            seen = self._pictures.look(self._rates, now)
        return self._pictures.make(seen)


def why_ended(error: BaseException) -> str:
    """What a widget says of an error that ended it."""
    if isinstance(error, SegmentNotFoundError):
        return "the segment was destroyed"
    if isinstance(error, DetachedError):
        return "the handle was detached"
    return one_line(f"{type(error).__name__}: {error}")


def _common(indices: frozenset[int | str] | None) -> str | None:
    """A text with which all of them begin. None: there is none."""
    if not indices or not all(isinstance(index, str) for index in indices):
        return None
    texts = [str(index) for index in indices]
    first, last = min(texts), max(texts)
    length = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return first[:length] or None

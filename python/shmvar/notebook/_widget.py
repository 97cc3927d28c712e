"""The widget of `watch`. This is the only module that imports anywidget.

A picture of the table is a trait: whichever view comes, also that of a page that is loaded anew, finds the last one.
The threads begin when the widget is displayed, not when the browser answers: a kernel hears no browser while a cell
runs, and that is when people watch. What a browser says is in `_views`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from pathlib import Path

import anywidget
import traitlets

from shmvar.notebook import _front_end
from shmvar.notebook._follow import ENDED, Following, why_ended
from shmvar.notebook._picture import as_text
from shmvar.notebook._views import ANSWER_WITHIN, Views

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from shmvar._core import Segment

_HERE = Path(__file__).parent
_LATE = 1.0
"""Seconds after which an event loop that was to do something was busy."""


class Watch(anywidget.AnyWidget):  # type: ignore[misc]  # its types are not there where it is not installed
    """A live table of a segment. `shmvar.notebook.watch` makes one."""

    # As text: anywidget would watch a path for changes.
    _esm = (_HERE / "widget.js").read_text("utf-8")
    _css = (_HERE / "widget.css").read_text("utf-8")

    picture = traitlets.Dict().tag(sync=True)

    def __init__(self, segment: Segment, indices: list[int | str] | None, rows: int) -> None:
        self._segment = segment
        self._indices = indices
        self._rows = rows
        self._following: Following | None = None
        self._views: Views | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__()
        self.on_msg(_heard)

    def __repr__(self) -> str:
        try:
            return as_text(self._segment, self._indices, self._rows)
        except Exception as error:
            return f"<shmvar.notebook.watch: {why_ended(error)}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        found = super()._repr_mimebundle_(**kwargs)
        found[0]["text/plain"] = repr(self)  # it was cut
        if _front_end.shell() is not None:
            self._displayed()
        return found

    def close(self) -> None:
        """End it for good: the thread, and the table in the browser."""
        self._stop()
        super().close()

    def _displayed(self) -> None:
        """Called when the widget was handed to a front end, of which nothing is known yet."""
        if self.comm is None:
            return
        if self._views is None:
            self._views = Views(time.monotonic())
            self._loop = _loop()
            self.comm.on_close(_of(self, lambda widget, _message: widget._stop()))
        else:
            self._views.expect(time.monotonic())
        self._go_on(True)

    def _go_on(self, visible: bool) -> None:
        """Follows, if it does not yet."""
        following = self._following
        if following is not None and following.goes_on:
            following.set_visible(visible)
        elif visible:
            self._stop()
            asked = _of(self, lambda widget: widget._ask(False), 0)
            self._following = Following(self._segment, self._indices, self._rows, _sender(self), asked)
            self._following.start()

    def _stop(self) -> None:
        following = getattr(self, "_following", None)
        if following is not None:
            self._following = None
            following.stop()

    def _ask(self, at_once: bool) -> int:
        """Asks the views who is there if it is time for that. Called when a picture is about to be sent."""
        views, loop, now = self._views, self._loop, time.monotonic()
        if views is None or loop is None:
            return 0
        if views.ask(now, at_once):
            with contextlib.suppress(RuntimeError):  # the loop is closed: the kernel ends
                loop.call_soon_threadsafe(_look_for_answers, loop, _of(self, Watch._forget), now, ANSWER_WITHIN)
        return views.asked

    def _forget(self, since: float) -> None:
        """Ends, or pauses, if no view has answered since then."""
        views, following = self._views, self._following
        if views is not None and following is not None:
            views.forget(since)
            if views.are_none:
                following.pause()
            else:
                following.set_visible(views.are_visible)

    def _hear(self, message: Any) -> None:
        """What a browser says: that one of its views is there, visible or not, or that it goes."""
        if not isinstance(message, dict) or not isinstance(view := message.get("view"), str) or len(view) > 64:
            return
        if self._views is None:
            self._displayed()
        views = self._views
        if views is None:
            return
        if message.get("kind") != "gone":
            views.heard(view, bool(message.get("visible")), time.monotonic())
        else:
            views.gone(view)
            if self._following is not None and not views.are_none:
                # The others may be of a page that is not there any more.
                self._ask(True)
                self._following.again()
        if views.are_none:
            self._stop()
        else:
            self._go_on(views.are_visible)


def _heard(widget: Watch, content: Any, _buffers: Any) -> None:
    widget._hear(content)


def _of(widget: Watch, call: Callable[..., Any], otherwise: Any = None) -> Callable[..., Any]:
    """`call` with the widget, if it is still there. The threads of `Following` must not keep it."""
    weak = weakref.ref(widget)

    def called(*arguments: Any) -> Any:
        there = weak()
        return otherwise if there is None else call(there, *arguments)

    return called


def _sender(widget: Watch) -> Callable[[dict[str, Any]], None]:
    """Sends a picture. Raises `LookupError` when the widget is closed or gone."""
    weak = weakref.ref(widget)

    def send(picture: dict[str, Any]) -> None:
        there = weak()
        if there is None or there.comm is None:
            raise LookupError("the widget is closed")
        there.picture = picture

    return send


def _loop() -> asyncio.AbstractEventLoop | None:
    """The kernel's event loop, which hears the browser."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _look_for_answers(
    loop: asyncio.AbstractEventLoop, forget: Callable[[float], Any], since: float, seconds: float
) -> None:
    """Calls `forget(since)` in the event loop after so many seconds, if the loop was free to hear answers before."""
    due = loop.time() + seconds

    def look() -> None:
        if loop.time() - due > _LATE:
            # A cell ran. What was said meanwhile is heard now.
            _look_for_answers(loop, forget, since, seconds)
        else:
            loop.call_later(_LATE, forget, since)

    loop.call_at(due, look)


__all__ = ["ENDED", "Watch"]

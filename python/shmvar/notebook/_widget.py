"""The widget of `watch`. This is the only module that imports anywidget.

A picture of the table is a trait: whichever view comes, also that of a page that is loaded anew, finds the last one.
The threads begin when the widget is displayed, not when the browser answers: a kernel hears no browser while a cell
runs, and that is when people watch. What a browser says is in `_views`.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from pathlib import Path

import anywidget
import traitlets

from shmvar.notebook import _front_end
from shmvar.notebook._follow import ENDED, Following, why_ended
from shmvar.notebook._picture import as_text
from shmvar.notebook._views import Views

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from shmvar._core import Segment

_HERE = Path(__file__).parent


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
        self._asked = 0
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
            self._views = Views(time.monotonic(), _soon())
            self.comm.on_close(_of(self, lambda widget, _message: widget._stop()))
        self._go_on(True)

    def _go_on(self, visible: bool) -> None:
        """Follows, if it does not yet."""
        following = self._following
        if following is not None and following.goes_on:
            following.set_visible(visible)
        elif visible:
            self._stop()
            lost = _of(self, lambda widget: widget._are_lost(), True)
            asked = _of(self, lambda widget: 0 if widget._views is None else widget._views.asked, 0)
            self._following = Following(self._segment, self._indices, self._rows, _sender(self), lost, asked)
            self._following.start()

    def _stop(self) -> None:
        following = getattr(self, "_following", None)
        if following is not None:
            self._following = None
            following.stop()

    def _are_lost(self) -> bool:
        views = self._views
        if views is None or not views.are_lost(time.monotonic()):
            return False
        views.forget()
        return True

    def _hear(self, message: Any) -> None:
        """What a browser says: that one of its views is there, visible or not, or that it goes."""
        if not isinstance(message, dict) or not isinstance(view := message.get("view"), str) or len(view) > 64:
            return
        if self._views is None:
            self._displayed()
        views = self._views
        if views is None:
            return
        if message.get("kind") == "gone":
            views.gone(view)
        else:
            views.heard(view, bool(message.get("visible")), time.monotonic())
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


def _soon() -> Callable[[Callable[[], None]], object] | None:
    """Runs a function in the kernel's event loop, if the kernel has one."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        return None


__all__ = ["ENDED", "Watch"]

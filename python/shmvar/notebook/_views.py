"""Who looks at a widget: the views of it in browsers, which are visible or not, and may vanish without a word.

A browser says when a view comes, is hidden, is visible again, and goes. One that crashes, or loses its connection, says
nothing, and a server may keep for it what a kernel sends meanwhile. So it is asked from time to time, with what is sent
anyway. A kernel that runs a cell hears no answer before the cell has ended: an answer is overdue only while the event
loop of the kernel does nothing else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Soon = Callable[[Callable[[], None]], object]

ASK_AFTER = 30.0
"""Seconds without a word after which a browser is asked."""
GIVE_UP_AFTER = 30.0
"""Seconds for the answer."""
_IDLE = 10
"""So often in a row the event loop must have been free when something was sent."""
MOST = 256
"""Views that are remembered: a page that is loaded anew without a word leaves one behind."""


class Views:
    """The views of one widget. All times are of one clock that does not go back, in seconds."""

    def __init__(self, now: float, soon: _Soon | None) -> None:
        """`soon` runs a function in the event loop that hears the browser. None: there is none to ask."""
        self._views: dict[str, bool] = {}
        self._heard_at = now
        self._soon = soon
        self._free = False
        """The event loop has run what it was given last."""
        self._idle = 0
        self.asked = 0
        """How often the browser was asked."""
        self._asked_at: float | None = None

    @property
    def are_none(self) -> bool:
        """Whether nobody looks."""
        return not self._views

    @property
    def are_visible(self) -> bool:
        return any(self._views.values())

    def heard(self, view: str, visible: bool, now: float) -> None:
        """A view says that it is there."""
        self._views.pop(view, None)
        if len(self._views) >= MOST:
            del self._views[next(iter(self._views))]
        self._views[view] = visible
        self._heard_at, self._asked_at, self._idle = now, None, 0

    def gone(self, view: str) -> None:
        """A view says that it goes."""
        self._views.pop(view, None)

    def forget(self) -> None:
        """No view has answered. Who is there all the same says so."""
        self._views.clear()

    def are_lost(self, now: float) -> bool:
        """Called whenever something is about to be sent: whether there is nobody to send it to."""
        if self._soon is None or now - self._heard_at < ASK_AFTER:
            return False
        if self._asked_at is None:
            self.asked += 1
            self._asked_at, self._idle = now, 0
        elif not self._free:
            self._idle = 0
        elif now - self._asked_at >= GIVE_UP_AFTER and self._idle >= _IDLE:
            return True
        else:
            self._idle += 1
        self._free = False
        try:
            self._soon(self._answer)
        except RuntimeError:  # the loop is closed
            return True
        return False

    def _answer(self) -> None:
        self._free = True

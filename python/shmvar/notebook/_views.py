"""Who looks at a widget: the views of it in browsers, which are visible or not, and may vanish without a word.

A browser says when a view comes, is hidden, is visible again, and goes. One that crashes, loses its connection or loads
its page anew may say nothing, and a server may keep for it all that a kernel sends meanwhile. So views are asked from
time to time, with a picture that is sent anyway, and each one that is there answers. A kernel that runs a cell hears no
answer before the cell has ended: whoever looks for answers must know that it was free to hear them.
"""

from __future__ import annotations

ASK_AFTER = 30.0
"""Seconds without a word after which views are asked."""
ANSWER_WITHIN = 10.0
"""Seconds, in which the kernel is free to hear it."""
MOST = 256
"""Views that are remembered."""

_NEW = ""
"""Stands for the view that is to come, from when the widget is displayed until a view says that it is there."""


class Views:
    """The views of one widget. All times are of one clock that does not go back, in seconds."""

    def __init__(self, now: float) -> None:
        self._views: dict[str, tuple[bool, float]] = {_NEW: (True, now)}
        """Of each whether it is visible, and when it was heard last."""
        self._asked_at = now
        self.asked = 0
        """How often they were asked."""

    @property
    def are_none(self) -> bool:
        """Whether nobody looks."""
        return not self._views

    @property
    def are_visible(self) -> bool:
        return any(visible for visible, _ in self._views.values())

    def heard(self, view: str, visible: bool, now: float) -> None:
        """A view says that it is there."""
        self._views.pop(_NEW, None)
        self._views.pop(view, None)
        if len(self._views) >= MOST:
            del self._views[next(iter(self._views))]
        self._views[view] = (visible, now)

    def gone(self, view: str) -> None:
        """A view says that it goes."""
        self._views.pop(view, None)

    def expect(self, now: float) -> None:
        """The widget was displayed once more: there will be a view."""
        self._views[_NEW] = (True, now)

    def ask(self, now: float, at_once: bool = False) -> bool:
        """Called when something is about to be sent: whether it asks who is there: of some nothing was heard."""
        times = [at for _, at in list(self._views.values())]
        if not times or not (at_once or now - max(min(times), self._asked_at) >= ASK_AFTER):
            return False
        self.asked += 1
        self._asked_at = now
        return True

    def forget(self, since: float) -> None:
        """Forgets the views that were asked then and have not answered. Who is there all the same will say so."""
        for view, (_, at) in list(self._views.items()):
            if at < since:
                del self._views[view]

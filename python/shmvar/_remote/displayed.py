"""How segments, locks and queues on a server look in a notebook: as those of this machine do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any


class Displayed:
    """What IPython asks of an object that is the last line of a cell."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from shmvar import _display

        return _display.html(self)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, Any]:
        from shmvar import _display

        return _display.mimebundle(self, include, exclude)

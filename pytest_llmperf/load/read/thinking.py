"""Finding ``<think>`` ... ``</think>`` in text that arrives in pieces, of which nothing is kept."""

from __future__ import annotations

_OPEN_TAG, _CLOSE_TAG = "<think>", "</think>"


class Thinking:
    """Told all text in order, says how much of it was thought.

    ``closing_suffices``: a chat template may open the tag in the prompt, so that a closing tag
    alone tells.
    """

    __slots__ = ("_before", "_closed_at", "_closing_suffices", "_head", "_opened", "_tail", "over")

    def __init__(self, *, closing_suffices: bool) -> None:
        self._closing_suffices = closing_suffices
        self._head = ""
        self._opened: bool | None = None
        self._tail = ""
        self._before = 0  # characters before the tail
        self._closed_at: int | None = None
        #: Whether no further text can change the answer.
        self.over = False

    def take(self, text: str) -> None:
        """Look at the next piece."""
        if self._opened is None:
            self._look_for_opening(text)
        if self.over:
            return
        searched = self._tail + text
        at = searched.find(_CLOSE_TAG)
        if at >= 0:
            self._closed_at = self._before + at + len(_CLOSE_TAG)
            self.over = True
        else:
            self._tail = searched[1 - len(_CLOSE_TAG) :]
            self._before += len(searched) - len(self._tail)

    def _look_for_opening(self, text: str) -> None:
        head = (self._head + text).lstrip()
        if len(head) < len(_OPEN_TAG) and _OPEN_TAG.startswith(head):
            self._head = head
        else:
            self._opened = head.startswith(_OPEN_TAG)
            self.over = not (self._opened or self._closing_suffices)

    @property
    def characters(self) -> int | None:
        """How many of all characters were thought: 0 for none, ``None`` for all."""
        if self._closed_at is not None:
            return self._closed_at
        return None if self._opened else 0

"""A prefix cache that holds no tokens, only what identifies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class PrefixCache:
    """How much of a prompt has been seen before, from its beginning, in whole pages.

    Each page is kept as one hash of itself and all pages before it. At most ``capacity`` tokens
    are kept; those longest unused go first, ends of prompts before their beginnings.
    """

    def __init__(self, page: int, capacity: int) -> None:
        self._page = page
        self._limit = max(1, capacity // page)
        self._pages: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._pages) * self._page

    def take(self, prompt: Sequence[int]) -> int:
        """Tokens of ``prompt`` that are cached, never all of it; from now on the whole is."""
        chain = list(self._chain(prompt))
        known = next((at for at, page in enumerate(chain) if page not in self._pages), len(chain))
        self._touch(chain)
        at_most = (len(prompt) - 1) // self._page
        return max(0, min(known, at_most)) * self._page

    def clear(self) -> None:
        """Forget all."""
        self._pages.clear()

    def _chain(self, prompt: Sequence[int]) -> Iterator[int]:
        page, link = self._page, 0
        for start in range(0, len(prompt) - page + 1, page):
            link = hash((link, *prompt[start : start + page]))
            yield link

    def _touch(self, chain: Sequence[int]) -> None:
        pages = self._pages
        for link in reversed(chain):
            pages.pop(link, None)
            pages[link] = None
        while len(pages) > self._limit:
            del pages[next(iter(pages))]

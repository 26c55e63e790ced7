"""The report as one page: no network, no other files.

What matters is drawn before any script runs: verdict, gates with their intervals, reasons. The
charts are made by the page's own script from the whole report, which it carries compressed and
gives out again.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import UsageMistake

from .columns import inert_report
from .page_view import view_of
from .write import write_text

_SCRIPTS = ("uPlot.iife.min.js", "drawing.js", "in_time.js", "charts.js", "page.js")
#: Of a length that fits a phone.
_OPTION = re.compile(r"(?<![\w-])--[\w-]{2,32}(?![\w-])", re.ASCII)
_STYLES = ("uPlot.min.css", "page.css")


def can_write_pages() -> None:
    """Raises :class:`~pytest_llmperf.errors.UsageMistake` where Jinja2 is not installed."""
    if find_spec("jinja2") is None:
        raise UsageMistake(
            "an HTML page needs Jinja2, which is not installed here; "
            "pip install 'pytest-llmperf[html]'."
        )


def page(document: Mapping[str, Any]) -> str:
    """``document``, a report, as HTML.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` as :func:`can_write_pages` does.
    """
    can_write_pages()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = _whole
    return environment.get_template("page.html").render(
        view=view_of(inert_report(document)),
        styles=[_asset(name) for name in _STYLES],
        scripts=[_asset(name) for name in _SCRIPTS],
        report=_packed(document),
    )


def write_page(document: Mapping[str, Any], path: Path, *, option: str) -> None:
    """Write the page of ``document`` to ``path``, whole or not at all.

    Raises as :func:`page` does, and :class:`~pytest_llmperf.errors.ReportError` for a disk that
    refuses, naming the ``option`` that says where to.
    """
    write_text(page(document), path, option=option, what="the HTML page")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _whole(text: str) -> str:
    """Text as HTML in which an option is not broken at its hyphens."""
    from markupsafe import Markup, escape

    return Markup(_OPTION.sub(r'<span class="word">\g<0></span>', str(escape(text))))  # noqa: S704


def _packed(document: Mapping[str, Any]) -> str:
    """The report as gzip in base64: a fifth of its size, and no character of it is HTML."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(errors="backslashreplace"), mtime=0)).decode()

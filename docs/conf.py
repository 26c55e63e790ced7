"""How Sphinx builds the site; ``make docs`` runs it, with warnings as errors."""

from __future__ import annotations

import re
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from docs.generate import write  # noqa: E402  # found by the line above
from docs.generate.links import relink  # noqa: E402
from docs.generate.repository import moved  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "pytest-llmperf"
author = "The pytest-llmperf maintainers"
copyright = author  # noqa: A001  # Sphinx reads it under this name
version = release = metadata.version("pytest-llmperf")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["generate"]
html_theme = "furo"
html_title = f"pytest-llmperf {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
# Summaries are fetched, which browsers refuse to pages that were opened as files.
html_show_search_summary = False
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# Dates and times of builds would differ from one to the next.
html_last_updated_fmt = None

# Most fences without a language are commands and what they print.
highlight_language = "text"

nitpicky = True
# Types in signatures are of Python, pytest and rooms that are not public; no inventory is fetched.
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
# Options and commands as they are written: no dashes or curved quotes made of them.
smartquotes = False

#: What the reference describes, beside Sphinx's own options and the like: a directive and a role
#: each, with a place in the index.
_OBJECTS = (
    *("marker", "fixture", "hook", "metric", "engine", "workload-field"),
    *("status", "command-status", "reason", "error", "field"),
)


def setup(app: Sphinx) -> None:
    for name in _OBJECTS:
        words = name.replace("-", " ")
        app.add_object_type(name, name, f"pair: %s; {words}", parse_node=_signature, objname=words)
    app.connect("config-inited", lambda *_: write(ROOT))
    app.connect("source-read", _point_into_the_site)
    app.connect("html-page-context", _level_captions, priority=900)  # after the theme's own


def _signature(_: Any, text: str, node: Any) -> str:
    """``name : what it is``, ``name(arguments)`` or ``schema/field``; returns the name."""
    from sphinx import addnodes

    name, _, said = text.partition(" : ")
    called = re.match(r"(?P<name>\w+)(?P<rest>\(.*)", name)
    plain, rest = (called["name"], called["rest"]) if called else (name, "")
    shown = plain.rpartition("/")[2]
    node += addnodes.desc_name(shown, shown)
    if rest:
        node += addnodes.desc_addname(rest, rest)
    if said:
        node += addnodes.desc_annotation(said, f"  {said}")
    return plain


def _point_into_the_site(_: Sphinx, document: str, source: list[str]) -> None:
    """Links of hand-written pages that leave docs/ lead to the pages made of what is there."""
    if not document.startswith(("reference/", "repository/")):
        page = f"{document}.md"
        folder = (Path("docs") / page).parent.as_posix()
        source[0] = relink(source[0], partial(_outside, folder, page))


def _outside(folder: str, page: str, target: str) -> str:
    return moved(ROOT, folder, page, target) if target.startswith("../") else target


def _level_captions(_: Sphinx, __: str, ___: str, context: dict[str, Any], ____: Any) -> None:
    """Captions of the contents say which level of heading they are, for screen readers."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )

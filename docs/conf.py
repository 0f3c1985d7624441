"""How Sphinx builds these pages: `nox -s docs`."""

import os
from importlib import metadata

from sphinx.util.nodes import make_refnode

import triopool

project = "triopool"
author = "The triopool authors"
copyright = f"2026, {author}"
release = version = metadata.version("triopool")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "examples"]
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"triopool {release}"

# `name` in a docstring is a link.
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"

# Links into the manuals of Python and Trio need the network, which a build must not.
if os.environ.get("TRIOPOOL_DOCS_LINKS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "trio": ("https://trio.readthedocs.io/en/stable", None),
        "outcome": ("https://outcome.readthedocs.io/en/latest", None),
    }

# What other manuals explain; any other name that cannot be found is a broken reference.
elsewhere = [
    "asyncio",
    "attrs?",
    "collections",
    "concurrent",
    "contextlib",
    "contextvars",
    "enum",
    "eventlet",
    "gevent",
    "logging",
    "outcome",
    "threading",
    "trio",
    "types",
    "typing",
]
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(elsewhere)})\..+"),
    # What overloads and docstrings name without its module.
    (r"py:class", r"AbstractAsyncContextManager"),
    (r"py:exc", r"BrokenThreadPool"),
    # Type variables.
    (r"py:.*", r"(.*\.|~|\*)?([A-Z][0-9]?|[A-Z]\w*T|[A-Z]\w*_co|Ts|P\.(args|kwargs))"),
]


def look_in_bases(app, env, node, contnode):
    """Find what a class has inherited: the reference shows a method once, with the base class."""
    path = f"{node.get('py:class') or ''}.{node['reftarget']}".split(".")
    found = env.domains["py"].objects
    for base in getattr(getattr(triopool, path[-2], None), "__mro__", ()):
        name = f"triopool.{base.__name__}.{path[-1]}"
        if name in found:
            docname, anchor = found[name].docname, found[name].node_id
            return make_refnode(app.builder, node["refdoc"], docname, anchor, contnode, name)
    return None


def setup(app):
    app.connect("missing-reference", look_in_bases)

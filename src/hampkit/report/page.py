"""HTML pages as single files: templates with escaping, Plotly, one style and one script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from hampkit.errors import visible


def rendered(template: str, context: Mapping[str, Any]) -> str:
    """A page with Plotly and one script of ours inside; its content security policy refuses all other scripts.

    Every text of the context is escaped, and characters that are not shown are made visible, see `hampkit.errors.visible`.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    env = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    env.filters["code"] = with_code
    env.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    scripts = [get_plotlyjs(), _read("page.js")]
    return env.get_template(template).render(
        context,
        style=Markup(_read("style.css")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_hash(script) for script in scripts],
    )


def with_code(text: str) -> Any:
    """The text as HTML, escaped, with what stands in backticks as code.

    >>> str(with_code("see `a<b` and ``c``"))
    'see <code>a&lt;b</code> and <code>c</code>'
    """
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(`{1,2})([^`]+)\1", r"<code>\2</code>", str(escape(visible(str(text))))))


def _shown(value: Any) -> Any:
    return visible(value) if type(value) is str else value


def _read(name: str) -> str:
    return files("hampkit.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(script: str) -> str:
    """The hash of a script for the content security policy: the browser refuses scripts with other hashes."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

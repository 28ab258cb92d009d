"""The outcomes of a policy as JUnit XML, which continuous integration shows as tests."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from hampkit.errors import visible
from hampkit.report.rows import Json


def render_junit(outcomes: Sequence[Json]) -> str:
    """A test suite with one test for each limit and model; a limit that is not kept is a failure.

    outcomes: each with ``limit``, ``model``, ``status``, ``passed`` and ``text``. An unresolved limit that the policy accepts is
    skipped.
    """
    failed = [each for each in outcomes if not each["passed"]]
    skipped = [each for each in outcomes if each["passed"] and each["status"] == "unresolved"]
    counts = {"tests": len(outcomes), "failures": len(failed), "errors": 0, "skipped": len(skipped)}
    attributes = {key: str(value) for key, value in counts.items()}
    suites = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "hampkit policy", **attributes})
    for each in outcomes:
        named = {"classname": visible(each["model"]), "name": visible(each["limit"]["text"])}
        case = ElementTree.SubElement(suite, "testcase", named)
        if each in failed:
            told = {"message": visible(each["text"]), "type": each["status"]}
            ElementTree.SubElement(case, "failure", told).text = visible(each["text"])
        elif each in skipped:
            ElementTree.SubElement(case, "skipped", {"message": visible(each["text"])})
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"

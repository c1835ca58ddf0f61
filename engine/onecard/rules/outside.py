"""Rules in Python: each version of the rules names the functions that are asked, and the versions of them."""

from typing import Any

from onecard.rules.scaling import Scaler, changed
from onecard.rules.source import RuleFile

_DEFAULTS = {"required": False}


def python_rule_lines(scaler: Scaler, source: RuleFile) -> list[dict[str, Any]]:
    """Table of the rules in Python, by ascending id."""
    rules = source.python_rules
    scaler.unique("python_rules", "Python rule", (rule.id for rule in rules))
    scaler.unique("python_rules", "Python rule", (rule.name for rule in rules), "name")
    lines = [
        {
            "id": rule.id,
            "name": scaler.name(("python_rules", at, "name"), rule.name),
            "version": scaler.name(("python_rules", at, "version"), rule.version),
        }
        | changed({"required": rule.required}, _DEFAULTS)
        for at, rule in enumerate(rules)
    ]
    return sorted(lines, key=lambda line: line["id"])

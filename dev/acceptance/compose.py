"""Checks the composition without a daemon.

1. docker-compose.yml fits the Compose specification, and every file that it mounts or builds from is there.
2. Prometheus' and Grafana's files can be read, and every metric that they ask for is one that the code registers: a
   dashboard of names that no one exports is empty and says nothing.

usage: compose.py        from anywhere; needs PyYAML and check-jsonschema
"""

import json
import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIXES = ("", "planner_", "splitter_", "kafka_", "store_", "write_")
# What the exposition adds to a name: the kind of a sample, then the unit.
SUFFIXES = ("", "_total", "_bucket", "_count", "_sum")
UNITS = ("", "_seconds", "_bytes")
FROM_OTHERS = {"up"}


def bound_files():
    """Files and folders of the repository that the services use."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, service in compose["services"].items():
        if "build" in service:
            yield name, ROOT / service["build"] / "Dockerfile"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                yield name, ROOT / source


def expressions():
    """What Prometheus and Grafana ask for, and where."""
    rules = yaml.safe_load((ROOT / "dev/compose/alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]
    for path in sorted((ROOT / "dev/compose/grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"panel {panel['title']!r}", target["expr"]


def metrics_of(expression):
    """Names of metrics in a PromQL expression: words that are followed by a selector, a range or nothing that calls them."""
    without_strings = re.sub(r'"[^"]*"', "", expression)
    without_labels = re.sub(r"\{[^}]*\}", "", without_strings)
    without_lists = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", without_labels)
    words = re.findall(r"(?<![\w$.])[a-zA-Z_:][\w:]*(?!\w*\s*\()", without_lists)
    return {word for word in words if word not in {"or", "and", "unless", "offset", "le", "sum", "min", "max", "m", "s"}}


def registered():
    """Every string of the code that could be the name of a metric."""
    names = set()
    for folder in ("server", "planner", "splitter", "crates"):
        for path in (ROOT / folder).rglob("*.rs"):
            names.update(re.findall(r'"([a-z][a-z0-9_]*)"', path.read_text()))
    return names


def is_known(metric, names):
    bare = metric.removeprefix("anabranch_")
    return any(
        bare.removeprefix(prefix).removesuffix(suffix).removesuffix(unit) in names
        for prefix in PREFIXES
        for suffix in SUFFIXES
        for unit in UNITS
    )


def main():
    problems = [f"{service}: {path.relative_to(ROOT)} is not there" for service, path in bound_files() if not path.exists()]
    names = registered()
    asked = 0
    for place, expression in expressions():
        for metric in metrics_of(expression) - FROM_OTHERS:
            asked += 1
            if not is_known(metric, names):
                problems.append(f"{place}: no code registers {metric}")
    checked = subprocess.run(
        [pathlib.Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"],
        check=False,
    )
    if checked.returncode:
        problems.append("docker-compose.yml does not fit the Compose specification")
    print("\n".join(problems) or f"the composition holds together: {asked} uses of metrics, all known")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

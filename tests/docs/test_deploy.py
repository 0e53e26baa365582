"""What is in deploy/ fits the service: every metric and label that a query names is there, every file is mounted."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from service.config import load_config
from tests.docs.pages import ROOT
from tests.docs.regions import metric_families

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "tidegauge.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "tidegauge.json").read_text())
CONFIGURATIONS = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml"), ROOT / "docker-compose.yml"])
OF_PROMETHEUS = {"job", "instance"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [*(rule["expr"] for rule in rules()), *panels]


def label_queries() -> list[tuple[str, str]]:
    """Variables of the dashboard: (selector, label)."""
    found = []
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert match is not None, variable["name"]
            found.append((match[1], match[2]))
    return found


def selectors(expression: Any) -> Iterator[Any]:
    """Give the selectors of a parsed query."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        inner = getattr(expression, name, None)
        if inner is not None and not isinstance(inner, str):
            yield from selectors(inner)
    for argument in getattr(expression, "args", None) or []:
        yield from selectors(argument)


def family_of(name: str) -> str:
    """Give the metric that a series is of: a histogram is three."""
    family = re.sub(r"_(bucket|sum|count)$", "", name)
    return family if metric_families().get(family, ("",))[0] == "histogram" else name


def check(query: str) -> None:
    found = list(selectors(promql_parser.parse(query)))
    assert found, query
    for selector in found:
        matched = {matcher.name for matcher in selector.matchers.matchers}
        if selector.name == "up":
            assert matched <= OF_PROMETHEUS
            continue
        name = family_of(selector.name)
        assert name in metric_families(), f"{query}: no metric {selector.name}"
        _, labels, _ = metric_families()[name]
        assert matched <= {*labels, *OF_PROMETHEUS}, f"{query}: {selector.name} has no such label"


@pytest.mark.parametrize("query", queries())
def test_a_query_parses_and_asks_for_metrics_that_there_are(query: str) -> None:
    check(query)


def test_a_query_for_a_metric_that_there_is_not_is_found() -> None:
    with pytest.raises(AssertionError, match="no metric"):
        check("sum(rate(tidegauge_no_such_total[5m]))")
    with pytest.raises(AssertionError, match="no such label"):
        check('tidegauge_task_ready{model_id="churn"}')


def test_the_variables_of_the_dashboard_are_labels_of_metrics_that_there_are() -> None:
    for selector, label in label_queries():
        check(selector)
        name = selector.split("{")[0]
        assert label in metric_families()[name][1]


def test_a_query_uses_only_variables_that_the_dashboard_has() -> None:
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used <= known


def test_the_labels_that_a_query_groups_by_and_an_annotation_shows_are_there() -> None:
    every_label = {label for _, labels, _ in metric_families().values() for label in labels} | OF_PROMETHEUS | {"le"}
    for query in queries():
        for names in re.findall(r"by \(([^)]*)\)", query):
            assert {name.strip() for name in names.split(",")} <= every_label, query
    for rule in rules():
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
        kept = {name.strip() for names in re.findall(r"by \(([^)]*)\)", rule["expr"]) for name in names.split(",")}
        assert shown <= (kept or OF_PROMETHEUS), rule


def test_every_metric_of_the_service_is_on_the_dashboard() -> None:
    shown = {family_of(selector.name) for query in queries() for selector in selectors(promql_parser.parse(query))}
    assert set(metric_families()) - shown == set()


def test_every_alert_is_named_as_prometheus_wants_and_explained_in_operations() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    page = (ROOT / "docs" / "operations.md").read_text()
    for alert in alerts:
        assert re.fullmatch(r"Tidegauge([A-Z][a-z]+)+", alert["alert"])
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"]
        assert f"| `{alert['alert']}` |" in page, alert["alert"]


def test_panels_have_numbers_of_their_own_and_do_not_cover_each_other() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_dashboard_reads_the_data_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/tidegauge.yaml").read_text())
    (variable,) = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "datasource"]
    assert variable["current"]["value"] in {source["uid"] for source in provisioned["datasources"]}


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=relative)
def test_a_file_of_the_deployment_parses(path: Path) -> None:
    assert all(isinstance(part, dict) for part in yaml.safe_load_all(path.read_text()))


# docker-compose -------------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    """Give both files as Docker merges them: services of the second beside those of the first."""
    base, more = (
        yaml.safe_load((ROOT / name).read_text()) for name in ("docker-compose.yml", "deploy/compose.monitoring.yml")
    )
    assert not set(base["services"]) & set(more["services"])
    return {**base, "services": {**base["services"], **more["services"]}}


def test_all_ports_are_published_on_loopback_alone() -> None:
    services = compose()["services"]
    assert set(services) == {"kafka", "tidegauge", "prometheus", "alertmanager", "grafana"}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_file_that_a_container_mounts_is_there() -> None:
    stack = compose()
    for name, service in stack["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            there = (ROOT / source).exists() if source.startswith(".") else source in stack["volumes"]
            assert there, f"{name}: {mount}"
        if "build" in service:
            assert (ROOT / service["build"] / "Dockerfile").exists()
        if "image" in service:
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), "an image has an exact version"


def test_the_configuration_of_the_container_fits_the_stack() -> None:
    service = compose()["services"]["tidegauge"]
    command = service["command"]
    mounted = {mount.split(":")[1]: mount.split(":")[0] for mount in service["volumes"]}
    config = load_config(ROOT / mounted[command[command.index("--config") + 1]], {})
    assert config.log.carrier == "kafka"
    assert config.http.host == "0.0.0.0"  # noqa: S104  # published on the host's loopback alone
    assert f"127.0.0.1:{config.http.port}:{config.http.port}" in service["ports"]
    kafka = compose()["services"]["kafka"]["environment"]
    assert f"://{config.log.kafka.bootstrap_servers[0]}" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert str(config.http.port) in " ".join(service["healthcheck"]["test"])


def test_prometheus_scrapes_the_service_and_knows_its_alertmanager() -> None:
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    services = compose()["services"]
    targets = [scrape["static_configs"] for scrape in settings["scrape_configs"]]
    targets += [manager["static_configs"] for manager in settings["alerting"]["alertmanagers"]]
    for target in (target for group in targets for part in group for target in part["targets"]):
        host, _, port = target.partition(":")
        assert f"127.0.0.1:{port}:{port}" in services[host]["ports"]
    mounts = " ".join(services["prometheus"]["volumes"])
    assert all(str(Path(pattern).parent) in mounts for pattern in settings["rule_files"])


def test_alertmanager_sends_to_receivers_that_there_are() -> None:
    settings = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    receivers = {receiver["name"] for receiver in settings["receivers"]}
    assert {settings["route"]["receiver"], *(route["receiver"] for route in settings["route"]["routes"])} == receivers

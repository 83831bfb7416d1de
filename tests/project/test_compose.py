"""Dockerfile, compose file and pins, against what the code expects of them."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from streamer.settings import Settings, unknown_variables

ROOT = Path(__file__).resolve().parents[2]
OURS = {"sample", "train", "worker", "demo"}
SERVERS = {"kafka", "redis"}
OBSERVERS = {"prometheus", "grafana"}
REQUIREMENTS = [f"requirements{kind}.txt" for kind in ("", "-dev", "-docs", "-supply")]
ONE_SHOT = {"topics", "sample", "train", "demo"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    found: dict[str, Any] = compose["services"]
    return found


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, rest in pairs]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def created_topics(services: dict[str, Any]) -> dict[str, tuple[int, dict[str, str]]]:
    """Name -> partitions and settings, out of the one-shot service's script."""
    topics = {}
    for line in services["topics"]["command"][0].splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["create", "--topic"]:
            settings = [words[i + 1] for i, word in enumerate(words) if word == "--config"]
            partitions = int(words[words.index("--partitions") + 1])
            topics[words[2]] = (partitions, dict(setting.split("=", 1) for setting in settings))
    return topics


def pins(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    found = [
        Requirement(line.removesuffix(" \\")) for line in lines if line and line[0] not in "#- "
    ]
    return {canonicalize_name(pin.name): pin for pin in found}


def depends_on(services: dict[str, Any], name: str) -> dict[str, str]:
    return {other: how["condition"] for other, how in services[name].get("depends_on", {}).items()}


def test_the_topics_are_made_with_their_partitions(services: dict[str, Any]) -> None:
    topics = created_topics(services)
    assert {name: partitions for name, (partitions, _) in topics.items()} == {
        "orders": 4,
        "churn-warnings": 4,
        "clv-scores": 4,
        "orders-dead-letter": 1,
        "clv-erasures": 1,
    }


def test_scores_and_erasures_are_compacted_and_everything_else_is_kept_for_a_time(
    services: dict[str, Any],
) -> None:
    for name, (_, settings) in created_topics(services).items():
        if name in ("clv-scores", "clv-erasures"):
            assert settings == {"cleanup.policy": "compact"}
        else:
            assert int(settings["retention.ms"]) >= 7 * 86_400_000


def test_history_is_not_old_to_the_broker(services: dict[str, Any]) -> None:
    """With the producer's stamps, orders of 1997 would be past their retention on arrival."""
    _, settings = created_topics(services)["orders"]
    assert settings["message.timestamp.type"] == "LogAppendTime"


def test_no_topic_comes_into_being_by_accident(services: dict[str, Any]) -> None:
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_kafka_4_runs_without_zookeeper(services: dict[str, Any]) -> None:
    assert services["kafka"]["image"].startswith("apache/kafka:4.")
    assert services["kafka"]["environment"]["KAFKA_PROCESS_ROLES"] == "broker,controller"


def test_clients_are_told_addresses_that_they_can_reach(services: dict[str, Any]) -> None:
    advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    addresses = dict(entry.split("://") for entry in advertised.split(","))
    assert addresses["HOST"] == "localhost:9092"
    assert "127.0.0.1:9092:9092" in services["kafka"]["ports"]
    for name in ("worker", "demo"):
        assert services[name]["environment"]["KAFKA_BOOTSTRAP_SERVERS"] == addresses["INSIDE"]


def test_redis_appends_to_a_file_and_never_evicts(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "everysec"
    assert options["--maxmemory-policy"] == "noeviction"
    assert services["redis"]["volumes"] == ["redis:/data"]


def test_nothing_that_keeps_customers_is_open_to_whoever_gets_there(
    services: dict[str, Any],
) -> None:
    command = services["redis"]["command"]
    password = command[command.index("--requirepass") + 1]
    assert re.fullmatch(r"\$\{REDIS_PASSWORD:\?.+\}", password)  # there is no default
    for name in ("worker", "demo"):
        assert services[name]["environment"]["REDIS_URL"] == f"redis://:{password}@redis:6379/0"
        for secret in ("CLV_KAFKA_PASSWORD", "CLV_WEB_TOKEN", "CLV_ERASURE_KEY"):
            given = services[name]["environment"].get(secret, "${X:?not asked for}")
            assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", given), (name, secret)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_ports_are_published_on_loopback_alone(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_workers_pages_ask_for_a_token_that_has_no_default(services: dict[str, Any]) -> None:
    token = services["worker"]["environment"]["CLV_WEB_TOKEN"]
    assert re.fullmatch(r"\$\{CLV_WEB_TOKEN:\?.+\}", token)
    assert services["worker"]["ports"] == ["127.0.0.1:6066:6066"]


def test_prometheus_asks_the_worker_with_its_token(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["worker:6066"]}]
    assert job["authorization"] == {"credentials_file": "/run/secrets/web_token"}
    assert services["prometheus"]["secrets"] == ["web_token"]


def test_what_is_mounted_into_observers_is_there(services: dict[str, Any]) -> None:
    for name in OBSERVERS:
        mounted = [v.split(":") for v in services[name]["volumes"] if v.startswith("./")]
        assert mounted
        assert all((ROOT / path).exists() and how == "ro" for path, _, how in mounted)
    [provider] = yaml.safe_load(
        (ROOT / "ops/grafana/provisioning/dashboards/folder.yml").read_text()
    )["providers"]
    folders = [v.split(":")[1] for v in services["grafana"]["volumes"]]
    assert provider["options"]["path"] in folders


def test_images_are_pinned_to_a_patch_release_and_its_bytes(
    services: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    images = [service["image"] for name, service in services.items() if name not in OURS]
    images += [rest for name, rest in dockerfile if name == "FROM"]
    pinned = r".+:v?\d+\.\d+\.\d+(-[a-z]+)*@sha256:[0-9a-f]{64}"
    assert all(re.fullmatch(pinned, image) for image in images), images


def test_our_image_carries_the_version_of_the_project(
    services: dict[str, Any], project: dict[str, Any]
) -> None:
    assert {services[name]["image"] for name in OURS} == {f"clv-streamer:{project['version']}"}


def test_servers_are_waited_for_until_they_answer(services: dict[str, Any]) -> None:
    assert all("test" in services[name]["healthcheck"] for name in SERVERS)
    assert depends_on(services, "topics") == {"kafka": "service_healthy"}
    assert depends_on(services, "worker") == {
        "kafka": "service_healthy",
        "redis": "service_healthy",
        "topics": "service_completed_successfully",
        "train": "service_completed_successfully",
    }
    assert depends_on(services, "demo") == {"worker": "service_healthy"}


def test_what_runs_once_is_not_started_again(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name


def test_only_the_sample_orders_and_observers_need_a_profile(services: dict[str, Any]) -> None:
    profiles = {
        name: service["profiles"] for name, service in services.items() if "profiles" in service
    }
    assert profiles == {"demo": ["demo"], "prometheus": ["observe"], "grafana": ["observe"]}


def test_history_is_not_judged_by_todays_clock(services: dict[str, Any]) -> None:
    assert services["worker"]["environment"]["CLV_IDLE_AFTER"] == "${CLV_IDLE_AFTER:-off}"


def test_the_worker_finds_the_model_that_was_trained(services: dict[str, Any]) -> None:
    model = services["worker"]["environment"]["CLV_MODEL"]
    assert f"--out {model}" in services["train"]["command"][0]
    assert f"{model}/manifest.json" in services["train"]["command"][0]
    assert "model:/model:ro" in services["worker"]["volumes"]


def test_the_worker_starts_on_the_variables_it_is_given(services: dict[str, Any]) -> None:
    environment = services["worker"]["environment"]
    secret = {
        name: re.sub(r"\$\{\w+:\?.*?\}", "0" * 48, value) for name, value in environment.items()
    }
    given = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in secret.items()}
    assert unknown_variables(given) == []
    settings = Settings.load(given)
    assert settings.idle_after_ms is None
    assert settings.kafka_bootstrap_servers == "kafka:19092"


def test_topics_and_port_are_the_settings_defaults(
    services: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    settings = Settings.load({}, needs=())
    topics = created_topics(services)
    ours = {settings.orders_topic, settings.warnings_topic, settings.scores_topic}
    assert set(topics) == ours | {settings.dead_letter_topic, settings.erasures_topic}
    assert {topics[name][0] for name in ours} == {settings.partitions}
    assert f"http://{settings.web_bind}:{settings.web_port}/" in dict(dockerfile)["HEALTHCHECK"]


@pytest.mark.parametrize("module", ["streamer", "streamer.demo.sample", "model"])
def test_modules_that_containers_start_exist(module: str) -> None:
    target = module if "." in module else f"{module}.__main__"
    assert importlib.util.find_spec(target) is not None


def test_the_container_runs_as_a_user_of_its_own(dockerfile: list[tuple[str, str]]) -> None:
    users = [rest for name, rest in dockerfile if name == "USER"]
    assert users
    assert users[-1] not in {"root", "0"}


def test_health_is_asked_on_the_containers_own_loopback(dockerfile: list[tuple[str, str]]) -> None:
    (check,) = [rest for name, rest in dockerfile if name == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert "http://127.0.0.1:6066/healthz" in command[2]


def test_a_container_is_a_worker_unless_told_otherwise(dockerfile: list[tuple[str, str]]) -> None:
    last = dict(dockerfile)
    assert json.loads(last["ENTRYPOINT"]) == ["python", "-m", "streamer"]
    assert json.loads(last["CMD"]) == ["worker"]


def test_every_package_is_in_the_image(dockerfile: list[tuple[str, str]]) -> None:
    copied = {rest.split()[0] for name, rest in dockerfile if name == "COPY"}
    assert copied >= {"features", "model", "streamer", "requirements.txt"}
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)


def test_the_images_python_is_one_we_support(
    dockerfile: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    version = re.findall(r"python:(\d+\.\d+\.\d+)", dict(dockerfile)["FROM"])[0]
    assert version in SpecifierSet(project["requires-python"])


def test_pins_are_exact_and_say_which_bytes() -> None:
    for name in REQUIREMENTS:
        for pin in pins(name).values():
            assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
        hashed = r"^[^#\s-][^\n]*( \\\n +--hash=sha256:[0-9a-f]{64})+$"
        assert len(re.findall(hashed, (ROOT / name).read_text(), re.MULTILINE)) == len(pins(name))


def test_our_containers_write_to_their_volumes_alone(services: dict[str, Any]) -> None:
    ours = [service for service in services.values() if "build" in service]
    assert ours
    assert all(service["read_only"] and service["tmpfs"] == ["/tmp"] for service in ours)


@pytest.mark.parametrize("group", ["", "explain", "parquet", "dev"])
def test_pins_lie_within_the_bounds_of_the_project(group: str, project: dict[str, Any]) -> None:
    wanted = project["optional-dependencies"][group] if group else project["dependencies"]
    pinned = pins("requirements.txt") | (pins("requirements-dev.txt") if group else {})
    for requirement in map(Requirement, wanted):
        if requirement.name != project["name"]:
            pin = pinned[canonicalize_name(requirement.name)]
            (exact,) = pin.specifier
            assert exact.version in requirement.specifier, f"{pin} is outside {requirement}"
            assert str(pin.marker) == str(requirement.marker), pin

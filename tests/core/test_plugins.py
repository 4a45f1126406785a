"""Plug-ins: found through entry points, imported on first use, and named when something is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from machinery._config import Config
from machinery._entry_points import DISTRIBUTIONS
from machinery._plugins import describe_installation, has_backend, has_lock, load_backend, load_broker, load_lock
from machinery.abc import Finding
from machinery.errors import ConfigError, SchemeConflict, UnknownScheme
from machinery.memory import MemoryBackend, MemoryBroker, MemoryLock
from tests.core.site_packages import SitePackages

ALL = {
    "brokers": {"shelf": "Broker"},
    "backends": {"shelf": "Backend"},
    "locks": {"shelf": "Lock"},
}


def test_core_serves_its_own_schemes_without_installed_metadata(site_packages: SitePackages) -> None:
    assert isinstance(load_broker("memory://", Config()), MemoryBroker)
    assert isinstance(load_backend("memory://", Config()), MemoryBackend)
    assert isinstance(load_lock("memory://", Config()), MemoryLock)


def test_core_serves_its_own_schemes_as_it_is_installed() -> None:
    assert isinstance(load_broker("memory://", Config()), MemoryBroker)


def test_core_installed_is_no_conflict_with_core_as_it_is(site_packages: SitePackages) -> None:
    site_packages.install("Machinery_Core", {"brokers": {"memory": "Broker"}})
    assert type(load_broker("memory://", Config())).__module__ == "machinery_core"


def test_an_installed_plug_in_serves_its_scheme(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    assert type(load_broker(" shelf://here ", Config())).__module__ == "acme_shelf"
    assert type(load_backend("shelf://here", Config())).__module__ == "acme_shelf"
    assert type(load_lock("SHELF://here", Config())).__module__ == "acme_shelf"


def test_a_plug_in_gets_the_url_and_its_section(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    broker = load_broker("shelf://here", Config(sections={"shelf": {"size": "7"}}))
    assert vars(broker)["options"].size == 7
    assert vars(broker)["url"] == "shelf://here"


def test_a_plug_in_is_imported_when_its_scheme_is_first_used(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    load_broker("memory://", Config())
    assert has_lock("shelf")
    assert "acme_shelf" not in sys.modules
    load_broker("shelf://", Config())
    assert "acme_shelf" in sys.modules


def test_importing_the_plug_in_machinery_imports_no_plug_in() -> None:
    loaded = "[name for name in sys.modules if name.startswith('machinery.') and '_' not in name]"
    script = f"import sys, machinery._plugins; print({loaded})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "machinery.memory" not in done.stdout


def test_amazons_services_are_known_by_their_host(site_packages: SitePackages) -> None:
    site_packages.install("acme-aws", {"brokers": {"sqs": "Broker"}, "backends": {"dynamodb": "Backend"}})
    load_broker("https://sqs.eu-west-1.amazonaws.com/123", Config())
    load_backend("https://dynamodb.eu-west-1.amazonaws.com", Config())


def test_whether_a_scheme_has_a_backend_or_a_lock_is_known_without_importing_it(site_packages: SitePackages) -> None:
    site_packages.install(
        "acme-shelf", {"brokers": ALL["brokers"], "backends": ALL["backends"]}, source="raise RuntimeError"
    )
    assert has_backend("shelf")
    assert not has_lock("shelf")
    assert has_backend("null")
    assert not has_lock("null")


@pytest.mark.parametrize("scheme", DISTRIBUTIONS)
def test_a_known_scheme_that_is_not_installed_is_refused_with_what_to_install(
    site_packages: SitePackages, scheme: str
) -> None:
    with pytest.raises(UnknownScheme) as caught:
        load_broker(f"{scheme}://me:s3cr3t@localhost", Config())
    text = str(caught.value)
    assert f"pip install {DISTRIBUTIONS[scheme]}" in text
    assert "installed: eager, memory, sqlite" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize(("scheme", "meant"), [("redsi", "redis"), ("sqlite3", "sqlite"), ("shelv", "shelf")])
def test_a_misspelled_scheme_is_refused_with_the_closest_one(
    site_packages: SitePackages, scheme: str, meant: str
) -> None:
    site_packages.install("acme-shelf", ALL)
    with pytest.raises(UnknownScheme, match=f"did you mean '{meant}'"):
        load_broker(f"{scheme}://localhost", Config())


def test_a_scheme_like_no_other_is_refused_without_a_guess(site_packages: SitePackages) -> None:
    with pytest.raises(UnknownScheme) as caught:
        load_broker("xyzzy://localhost", Config())
    assert "did you mean" not in str(caught.value)


def test_a_web_address_of_no_known_service_is_refused_with_the_form_that_is_known(site_packages: SitePackages) -> None:
    with pytest.raises(UnknownScheme, match=r"https://sqs\.<region>"):
        load_broker("https://example.org", Config())


def test_a_role_that_an_installed_distribution_does_not_play_is_not_said_to_be_missing(
    site_packages: SitePackages,
) -> None:
    site_packages.install("machinery-broker-sqs", {"brokers": {"sqs": "Broker"}})
    with pytest.raises(UnknownScheme, match="machinery-broker-sqs has none") as caught:
        load_backend("sqs://", Config())
    assert "pip install" not in str(caught.value)


def test_two_distributions_that_claim_one_scheme_are_both_named(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    site_packages.install("other-shelf", {"brokers": ALL["brokers"]})
    with pytest.raises(SchemeConflict, match=r"acme-shelf and other-shelf both claim the broker scheme 'shelf'"):
        load_broker("shelf://", Config())
    load_backend("shelf://", Config())


def test_a_distribution_that_claims_a_scheme_of_core_is_a_conflict(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", {"brokers": {"memory": "Broker"}})
    with pytest.raises(SchemeConflict, match="acme-shelf and machinery-core"):
        load_broker("memory://", Config())


def test_one_distribution_found_twice_is_no_conflict(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    site_packages.install("Acme.Shelf", ALL, path=site_packages.path / "acme.editable")
    load_broker("shelf://", Config())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("raise RuntimeError('no libshelf')", "RuntimeError: no libshelf"),
        ("", "has no attribute 'Broker'"),
        ("def", "SyntaxError"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_named_with_the_reason(
    site_packages: SitePackages, source: str, reason: str
) -> None:
    site_packages.install("acme-shelf", ALL, source=source or "x = 1")
    with pytest.raises(ConfigError, match="acme-shelf is installed but cannot be imported") as caught:
        load_broker("shelf://", Config())
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["NotAClass", "NotABroker", "Backend"])
def test_a_plug_in_that_offers_no_broker_for_one_is_named(site_packages: SitePackages, name: str) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": name}})
    with pytest.raises(ConfigError, match="acme-shelf is broken"):
        load_broker("shelf://", Config())


@pytest.mark.parametrize("url", ["", None, "localhost:6379", "me:s3cr3t@h"])
def test_a_url_without_a_scheme_is_refused_with_an_example(site_packages: SitePackages, url: str) -> None:
    for load in (load_broker, load_backend, load_lock):
        with pytest.raises(ConfigError, match="redis://localhost:6379") as caught:
            load(url, Config())
        assert "s3cr3t" not in str(caught.value)


def describe(config: Config, level: str) -> list[str]:
    return [found.text for found in describe_installation(config) if found.level == level]


def test_the_doctor_lists_what_is_installed_with_its_schemes(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    assert Finding("ok", "acme-shelf 1.2 serves shelf") in describe_installation(Config())
    assert not describe(Config(), "warning")
    assert not describe(Config(), "error")


def test_the_doctor_names_a_plug_in_that_cannot_be_imported(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL, source="raise RuntimeError('no libshelf')")
    (text,) = describe(Config(), "error")
    assert "acme-shelf" in text
    assert "no libshelf" in text


def test_the_doctor_names_conflicts(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    site_packages.install("other-shelf", {"brokers": ALL["brokers"]})
    (text,) = describe(Config(), "error")
    assert "acme-shelf and other-shelf" in text


def test_the_doctor_names_sections_that_nobody_reads(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    amqp, other = describe(Config(sections={"amqp": {}, "shelv": {}, "shelf": {"size": 1}}), "warning")
    assert "pip install machinery-broker-amqp" in amqp
    assert "did you mean 'shelf'" in other


def test_the_doctor_names_what_a_plug_in_would_refuse(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", ALL)
    (text,) = describe(Config(sections={"shelf": {"sise": 1}}), "error")
    assert "did you mean 'size'" in text


def test_the_doctor_knows_sections_that_declare_keys_alone(site_packages: SitePackages) -> None:
    source = """
from machinery.abc import Section
from machinery.memory import MemoryBroker
class Broker(MemoryBroker):
    section = Section("shelf", keys=frozenset({"size"}))
"""
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}}, source=source)
    assert not describe(Config(sections={"shelf": {"size": 1}}), "error")
    (text,) = describe(Config(sections={"shelf": {"sise": 1}}), "error")
    assert "Config.sections: section shelf has no key 'sise' (did you mean 'size'?)" in text


def test_the_installation_of_this_very_process_has_no_errors(tmp_path: Path) -> None:
    assert not describe(Config(), "error")

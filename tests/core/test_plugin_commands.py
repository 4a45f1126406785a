"""Commands of plug-ins: ``machinery shelf build`` is a function of an installed distribution that is called so."""

from __future__ import annotations

import pytest

from machinery._cli import main
from tests.core.site_packages import PLUG_IN, SitePackages

BUILDING = (
    PLUG_IN
    + """
from machinery.errors import BackendUnavailable, ConfigError

def build(arguments):
    if "wrong" in arguments:
        raise ConfigError("a shelf has no such board")
    if "away" in arguments:
        raise BackendUnavailable("nobody is at home")
    print("built", *arguments)
    return 4 if "crooked" in arguments else 0

class Building(Backend):
    commands = {"build": build}
"""
)


@pytest.fixture
def shelf(site_packages: SitePackages) -> None:
    site_packages.install("acme-backend-shelf", {"backends": {"shelf+oak": "Building"}}, source=BUILDING)


def test_a_command_gets_the_words_after_it_and_says_the_status(shelf: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shelf", "build", "--height", "3"]) == 0
    assert main(["shelf", "build", "crooked"]) == 4
    assert capsys.readouterr().out == "built --height 3\nbuilt crooked\n"


def test_its_errors_are_shown_like_those_of_any_command(shelf: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shelf", "build", "wrong"]) == 2
    assert main(["shelf", "build", "away"]) == 3
    assert capsys.readouterr().err == (
        "machinery: ConfigError: a shelf has no such board\nmachinery: BackendUnavailable: nobody is at home\n"
    )


@pytest.mark.parametrize("words", [["shelf"], ["shelf", "burn"]])
def test_what_there_is_is_said(shelf: None, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: machinery shelf" in capsys.readouterr().err


def test_help_lists_the_commands(shelf: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["shelf", "--help"])
    assert caught.value.code == 0
    assert "build" in capsys.readouterr().out


def test_a_plug_in_that_cannot_be_imported_is_a_wrong_configuration(
    site_packages: SitePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    site_packages.install("acme-backend-shelf", {"backends": {"shelf": "Backend"}}, source="raise OSError('no oak')")
    assert main(["shelf", "build"]) == 2
    assert "acme-backend-shelf is installed but cannot be imported: OSError: no oak" in capsys.readouterr().err


def test_cores_own_commands_are_not_a_plug_ins(site_packages: SitePackages, capsys: pytest.CaptureFixture[str]) -> None:
    site_packages.install("acme-backend-doctor", {"backends": {"doctor": "Backend"}}, source="raise OSError")
    assert main(["doctor", "memory://"]) in {0, 1}
    assert "memory" in capsys.readouterr().out

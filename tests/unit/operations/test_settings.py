"""The orchestrator's settings for its webhook: what cannot work is refused, and no secret is told."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.settings import Settings
from rpc.settings import tell_wrong_settings

SECRET = "canary-of-16-bytes"
URL = "https://hooks.example/in"


def settings(**said: str) -> Settings:
    return Settings(database_url="postgresql://nowhere", **said)  # type: ignore[arg-type]  # by name, from the tests


def test_without_a_webhook_nothing_is_needed_for_it() -> None:
    assert settings().webhook_url == ""


def test_the_secret_is_taken_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    for said in ({"webhook_secret": SECRET}, {"webhook_secret_file": str(tmp_path / "secret")}):
        assert settings(webhook_url=URL, **said).webhook_key == SECRET.encode()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"webhook_url": "ftp://hooks.example"}, "ASSENT_WEBHOOK_URL: must be an http:// or https:// URL"),
        ({"webhook_url": "hooks.example/in"}, "ASSENT_WEBHOOK_URL: must be an http"),
        ({"webhook_url": "https:///in"}, "ASSENT_WEBHOOK_URL: must be an http"),
        ({"webhook_url": "https://canary:canary@hooks.example"}, "ASSENT_WEBHOOK_URL: must hold no user"),
        ({"webhook_url": "https://hooks.example/#canary"}, "ASSENT_WEBHOOK_URL: must hold no user"),
        ({"webhook_url": URL, "webhook_secret": "canary"}, "must give a secret of 16 bytes or more"),
        ({"webhook_url": URL}, "must give a secret of 16 bytes or more"),
        ({"webhook_url": URL, "webhook_secret_file": "/nowhere/at/all"}, "cannot be read: No such file"),
        ({"webhook_url": URL, "webhook_secret": SECRET, "webhook_secret_file": "/tmp"}, "are both set"),
    ],
)
def test_what_cannot_work_is_said_without_telling_the_secret(
    said: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValidationError) as wrong:
        settings(**{"webhook_secret": SECRET, **said} if "hooks" not in said.get("webhook_url", "") else said)
    assert tell_wrong_settings(wrong.value) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert "canary" not in errors


def test_the_secret_is_in_no_text_of_the_settings() -> None:
    made = settings(webhook_url=URL, webhook_secret=SECRET)
    assert SECRET not in f"{made!r} {made} {made.model_dump()} {made.model_dump_json()}"

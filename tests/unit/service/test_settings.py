"""Settings: where they come from, and which combinations are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.access.keyring import hash_key
from service.settings import ServiceSettings, is_loopback


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAMIAN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GRAMIAN_PORT", "0")
    monkeypatch.setenv("GRAMIAN_API_KEY_SHA256", f" {'a' * 64} , {'b' * 64},")
    monkeypatch.setenv("GRAMIAN_CORS_ORIGINS", "https://a.example,https://b.example")
    settings = ServiceSettings()
    assert settings.data_dir == tmp_path
    assert settings.api_key_sha256 == ("a" * 64, "b" * 64)
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.resolved_catalog_url == f"sqlite:///{tmp_path}/catalog.sqlite"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "gramian.example", ""])
def test_an_open_service_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(ValidationError, match="without an API key"):
        ServiceSettings(host=host)
    assert ServiceSettings(host=host, api_key_sha256=(hash_key("k"),)).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert ServiceSettings(host=host).api_key_sha256 == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key_sha256": ("plain-text-key",)},
        {"api_key_sha256": ("A" * 64,)},
        {"port": 70000},
        {"compute_block_rows": 100},
        {"tile_rows": 1536},
        {"tile_rows": 256},
        {"n_workers": 0},
        {"worker_memory_limit_bytes": 1000},
        {"default_page_items": 400},
        {"no_such_setting": 1},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings(**wrong)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        ServiceSettings().port = 1


def test_what_is_logged_holds_no_secret() -> None:
    settings = ServiceSettings(
        catalog_url="postgresql://gramian:hunter2@db.example/gramian",
        api_key_sha256=("c" * 64,),
    )
    shown = repr(settings.safe_summary())
    assert "hunter2" not in shown
    assert "c" * 64 not in shown
    assert "db.example" in shown


def test_every_limit_has_a_unit_or_counts_things() -> None:
    units = (
        "_bytes",
        "_seconds",
        "_rows",
        "_items",
        "_jobs",
        "_numbers",
        "_job",
        "_worker",
        "_tiles",
        "_connections",
    )
    limits = [name for name in ServiceSettings.model_fields if name.startswith("max_")]
    assert limits
    assert [name for name in limits if not name.endswith(units)] == []

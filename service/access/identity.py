"""Who is asking, and what that allows: the whole vocabulary of permissions on one page.

Scopes are levels: `submit` includes `read`, and `admin` includes both and sees everything. Things
belong to owners (names); the keys of one owner share what they own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from storage.catalog import KeyQuota

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Asks what something would cost and changes nothing; a POST because of its body.
_ESTIMATES = "/v1/estimates"
ADMIN_PREFIX = "/v1/admin"


class Scope(StrEnum):
    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Caller:
    """Who made a request. `owner` owns what the request makes."""

    owner: str
    key_id: str
    scope: Scope
    quota: KeyQuota = field(default_factory=KeyQuota)

    @property
    def is_admin(self) -> bool:
        return self.scope is Scope.ADMIN

    @property
    def visible_to(self) -> str | None:
        """What the catalog's `visible_to` takes: None sees everything."""
        return None if self.is_admin else self.owner


# A keyless service on loopback: whoever has this machine may do everything.
LOCAL = Caller(owner="local", key_id="open", scope=Scope.ADMIN)


def operator(digest: str) -> Caller:
    """The holder of a key that is named in the settings by its SHA-256."""
    return Caller(owner="operator", key_id=f"settings:{digest[:8]}", scope=Scope.ADMIN)


def required_scope(method: str, path: str) -> Scope:
    """What a key must be allowed to do for this request. Routes cannot forget it: it follows from
    the method and the place."""
    if path == ADMIN_PREFIX or path.startswith(f"{ADMIN_PREFIX}/"):
        return Scope.ADMIN
    if method in _SAFE_METHODS or path == _ESTIMATES:
        return Scope.READ
    return Scope.SUBMIT

"""The calls about keys, owners, readers and the audit log, as methods of the client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from service.client.models import Json
from service.client.transport import Transport


class People:
    """Who may do what. Part of `Client`."""

    _transport: Transport

    def me(self) -> Json:
        """Owner, scope and quota of this client's key, and what its owner uses."""
        return self._transport.json("GET", "/v1/me")

    def access(self, thing_id: str) -> Json:
        """Owners and readers of a data set, a job or a matrix."""
        return self._transport.json("GET", f"/v1/access/{thing_id}")

    def share(self, thing_id: str, reader: str) -> Json:
        """Let the keys of `reader` (`*`: everybody) read one thing; its owners and readers."""
        return self._transport.json("PUT", f"/v1/access/{thing_id}/{quote(reader, safe='')}")

    def unshare(self, thing_id: str, reader: str) -> Json:
        return self._transport.json("DELETE", f"/v1/access/{thing_id}/{quote(reader, safe='')}")

    def create_key(
        self,
        owner: str,
        *,
        scope: str = "submit",
        note: str | None = None,
        expires_at: datetime | None = None,
        **quota: int,
    ) -> Json:
        """A new key, for administrators; `["key"]` is told only now.

        `quota`: max_open_jobs, max_stored_bytes, max_matrix_rows, max_requests_per_minute.
        """
        body: dict[str, Any] = {"owner": owner, "scope": scope, "note": note, "quota": quota}
        body["expires_at"] = expires_at and expires_at.isoformat()
        return self._transport.json("POST", "/v1/admin/keys", json=body)

    def keys(self, owner: str | None = None) -> Iterator[Json]:
        """All keys without their secrets, newest first, for administrators."""
        parameters = {} if owner is None else {"owner": owner}
        return self._transport.pages("/v1/admin/keys", parameters)

    def revoke_key(self, key_id: str) -> Json:
        return self._transport.json("DELETE", f"/v1/admin/keys/{key_id}")

    def garbage(self, *, delete: bool = False) -> Json:
        """What may be thrown away; with `delete` it is. For administrators."""
        return self._transport.json("POST", "/v1/admin/garbage", json={"delete": delete})

    def audit(self, owner: str | None = None) -> Iterator[Json]:
        """Who did what, newest first, for administrators."""
        parameters = {} if owner is None else {"owner": owner}
        return self._transport.pages("/v1/admin/audit", parameters)

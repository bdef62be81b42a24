"""The API server as the controller uses it: what `certs.api` has, deletion, and an apply that can give way."""

from certs.api import Api, Object

_APPLY = "application/apply-patch+yaml"


class Client(Api):
    """Counts what it writes: `writes` by verb."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.writes = {"apply": 0, "delete": 0}

    async def write(self, path: str, body: Object, *, manager: str, force: bool) -> Object:
        """Server-side apply; without `force`, fields that another manager has are a 409 that names it."""
        self.writes["apply"] += 1
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._call("PATCH", path, params, body, _APPLY)

    async def delete(self, path: str, uid: str) -> None:
        """Delete the object that has this uid; a 409 says that another one is called so now."""
        self.writes["delete"] += 1
        await self._call("DELETE", path, {}, {"preconditions": {"uid": uid}})

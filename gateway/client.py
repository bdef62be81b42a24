"""The API server as the controller uses it: what `certs.api` has, deletion, and an apply that can give way."""

from collections.abc import Callable

from certs.api import Api, Object

_APPLY = "application/apply-patch+yaml"


class NotLeading(ConnectionError):
    """Another may lead by now: nothing is written."""


class Client(Api):
    """Counts what it writes: `writes` by verb. Asks `may_write` before each: a process may freeze between any two."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.writes = {"apply": 0, "delete": 0}
        self.may_write: Callable[[], bool] = lambda: True

    async def write(self, path: str, body: Object, *, manager: str, force: bool) -> Object:
        """Server-side apply; without `force`, fields that another manager has are a 409 that names it."""
        self._count("apply")
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._call("PATCH", path, params, body, _APPLY)

    async def delete(self, path: str, uid: str) -> None:
        """Delete the object that has this uid; a 409 says that another one is called so now."""
        self._count("delete")
        await self._call("DELETE", path, {}, {"preconditions": {"uid": uid}})

    def _count(self, verb: str) -> None:
        if not self.may_write():
            raise NotLeading("the Lease is no longer held")
        self.writes[verb] += 1

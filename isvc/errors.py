"""What can be wrong with an InferenceService as it is written: what, where, and what is allowed."""

Path = tuple[str | int, ...]


class Malformed(ValueError):
    """The object does not have the form of an InferenceService; `path` leads to the field that is wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{dotted(path) or 'the object'}: {problem}")


class InvalidAnnotation(ValueError):
    """An annotation or setting has a value that is not allowed.

    `where` is whose it is ("InferenceService", "Namespace", "cluster defaults"), `key` its full name.
    """

    def __init__(self, key: str, value: str, allowed: str, where: str = "InferenceService") -> None:
        self.key = key
        self.value = value
        self.allowed = allowed
        self.where = where
        super().__init__(f'{where} annotation {key}: "{value}" is not allowed; write {allowed}')


def dotted(path: Path) -> str:
    """A path as people write it: ("spec", "containers", 0, "args") -> "spec.containers[0].args"."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")

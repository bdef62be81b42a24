"""The official CRDs as a judge of objects: what the API server with `fieldValidation=Strict` would refuse.

Structural schema with unknown fields refused, defaults applied, list keys unique, CEL rules evaluated. The CRDs
stand in the folder of TOKEN_METER_CRDS, else in `../shared/crds`; without them the tests that ask are skipped.
"""

import copy
import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cel
import jsonschema
import pytest
import yaml

Schema = Mapping[str, Any]
FOLDER = Path(os.environ.get("TOKEN_METER_CRDS") or Path(__file__).parents[2] / "shared" / "crds")
needed = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no CRDs: set TOKEN_METER_CRDS to the folder that holds them"
)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def ai_gateway_releases() -> list[str]:
    """The AI Gateway releases whose CRDs are there."""
    return sorted(path.name for path in (FOLDER / "ai-gateway").glob("v*"))


def load(*folders: str) -> tuple[Mapping[str, Any], ...]:
    """The raw CRDs in folders below FOLDER."""
    paths = [path for name in folders for path in sorted((FOLDER / name).rglob("*.yaml"))]
    return tuple(crd for path in paths for crd in _load(path))


@functools.cache
def _load(path: Path) -> tuple[Mapping[str, Any], ...]:
    documents = yaml.load_all(path.read_text(), yaml.CSafeLoader)
    return tuple(doc for doc in documents if doc and doc["kind"] == "CustomResourceDefinition")


@functools.cache
def schema_of(folders: tuple[str, ...], api_version: str, kind: str) -> Schema:
    """The schema of a served version; fails the test where there is none."""
    group, _, version = api_version.partition("/")
    for crd in load(*folders):
        if (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, kind):
            for served in crd["spec"]["versions"]:
                if served["name"] == version and served["served"]:
                    found: Schema = served["schema"]["openAPIV3Schema"]
                    return found
    pytest.fail(f"{kind} is not served as {api_version}")


@functools.cache
def _validator(folders: tuple[str, ...], api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_strict(schema_of(folders, api_version, kind)))


def problems(obj: Mapping[str, Any], *folders: str) -> list[str]:
    """Everything that is wrong with the object by the CRDs in `folders`; empty where it would be accepted."""
    schema = schema_of(folders, obj["apiVersion"], obj["kind"])
    found = list(_metadata(obj["metadata"]))
    validator = _validator(folders, obj["apiVersion"], obj["kind"])
    found += [f"{error.json_path}: {error.message}" for error in validator.iter_errors(obj)]
    if not found:  # the API server evaluates rules only on what has the right structure
        found += _walk(schema, _defaulted(schema, copy.deepcopy(obj)), "$")
    return found


def _metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    """What the API server checks of every object's metadata, as far as it is ours to get wrong."""
    if unknown := set(metadata) - {"name", "namespace", "labels", "annotations", "ownerReferences"}:
        yield f"metadata: unknown {unknown}"
    if len(metadata["name"]) > 253 or not _SUBDOMAIN.fullmatch(metadata["name"]):
        yield f"metadata.name: {metadata['name']} is not a DNS subdomain"
    for key, value in metadata.get("labels", {}).items():
        if not _LABEL_VALUE.fullmatch(value):
            yield f"metadata.labels.{key}: {value} is not a label's value"
    for owner in metadata.get("ownerReferences", []):
        if missing := {"apiVersion", "kind", "name", "uid"} - {key for key, value in owner.items() if value}:
            yield f"metadata.ownerReferences: without {missing}"


def _strict(schema: Schema) -> dict[str, Any]:
    """The structural schema as a JSON Schema that refuses fields it does not know."""
    keywords = {"type", "enum", "pattern", "required", "minimum", "maximum", "exclusiveMinimum"}
    keywords |= {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
    keywords |= {"anyOf", "allOf", "oneOf", "not"}
    out = {key: value for key, value in schema.items() if key in keywords}
    if schema.get("x-kubernetes-int-or-string"):
        out.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    properties = schema.get("properties", {})
    if properties:
        out["properties"] = {name: _strict(child) for name, child in properties.items()}
    if isinstance(more := schema.get("additionalProperties"), Mapping):
        out["additionalProperties"] = _strict(more)
    elif properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    if "items" in schema:
        out["items"] = _strict(schema["items"])
    if schema.get("nullable"):
        out = {"anyOf": [out, {"type": "null"}]}
    return out


def _defaulted(schema: Schema, value: Any) -> Any:
    """The value with the schema's defaults in it, as rules see it. Changes `value`."""
    match value:
        case dict():
            for name, child in schema.get("properties", {}).items():
                if name not in value and "default" in child:
                    value[name] = copy.deepcopy(child["default"])
                if name in value:
                    _defaulted(child, value[name])
            if isinstance(more := schema.get("additionalProperties"), Mapping):
                for item in value.values():
                    _defaulted(more, item)
        case list():
            for item in value:
                _defaulted(schema.get("items", {}), item)
    return value


def _walk(schema: Schema, value: Any, path: str) -> Iterator[str]:
    """Rules and list keys, at the value and everywhere below it."""
    for rule in schema.get("x-kubernetes-validations", []):
        # A transition rule says something about updates only.
        if "oldSelf" not in rule["rule"] and not _program(rule["rule"]).execute({"self": value}):
            yield f"{path}: {rule.get('message', rule['rule'])}"
    match value:
        case dict():
            for name, child in schema.get("properties", {}).items():
                if name in value:
                    yield from _walk(child, value[name], f"{path}.{name}")
        case list():
            yield from _repeated(schema, value, path)
            for i, item in enumerate(value):
                yield from _walk(schema.get("items", {}), item, f"{path}[{i}]")


def _repeated(schema: Schema, value: list[Any], path: str) -> Iterator[str]:
    match schema.get("x-kubernetes-list-type"):
        case "map":
            keys = [tuple(item.get(key) for key in schema["x-kubernetes-list-map-keys"]) for item in value]
            if len(set(keys)) < len(keys):
                yield f"{path}: repeated {schema['x-kubernetes-list-map-keys']}"
        case "set":
            if len(set(map(str, value))) < len(value):
                yield f"{path}: repeated items"


@functools.cache
def _program(rule: str) -> cel.Program:
    return cel.compile(rule)


def core_problems(obj: Mapping[str, Any]) -> list[str]:
    """The same for a Service or a Secret, which have no CRD: what we write of them, and no more."""
    found = list(_metadata(obj["metadata"]))
    validator = jsonschema.Draft202012Validator(_CORE[obj["kind"]])
    return found + [f"{error.json_path}: {error.message}" for error in validator.iter_errors(obj)]


_PORT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "port", "targetPort", "protocol"],
    "properties": {
        "name": {"pattern": "^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "targetPort": {"type": "integer", "minimum": 1, "maximum": 65535},
        "protocol": {"const": "TCP"},
    },
}
_HEAD = {"apiVersion": {"const": "v1"}, "kind": True}
_CORE: Mapping[str, Any] = {
    "Service": {
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            **_HEAD,
            "metadata": {"properties": {"name": {"pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}}},
            "spec": {
                "additionalProperties": False,
                "required": ["clusterIP", "selector", "ports"],
                "properties": {
                    "clusterIP": {"const": "None"},
                    "selector": {"type": "object", "additionalProperties": {"type": "string"}},
                    "ports": {"type": "array", "items": _PORT, "minItems": 1},
                },
            },
        },
    },
    "ConfigMap": {
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "data"],
        "properties": {
            **_HEAD,
            "metadata": True,
            "data": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
    "Secret": {
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "type"],
        "oneOf": [{"required": ["data"]}, {"required": ["stringData"]}],
        "properties": {
            **_HEAD,
            "metadata": True,
            "type": {"const": "Opaque"},
            "data": {"type": "object", "additionalProperties": {"pattern": "^[A-Za-z0-9+/]+=*$"}},
            "stringData": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}

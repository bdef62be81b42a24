"""Envoy's ratelimit.v3 messages, as far as they are used: the fields and numbers of rls.proto and ratelimit.proto."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_STRING, _UINT32, _INT32, _MESSAGE = 9, 13, 5, 11
_ONE, _MANY = 1, 3
_PACKAGE = "envoy.service.ratelimit.v3"
_Field = tuple[str, int, int, int, str]
_MESSAGES: dict[str, tuple[_Field, ...]] = {
    "Entry": (("key", 1, _STRING, _ONE, ""), ("value", 2, _STRING, _ONE, "")),
    "Descriptor": (("entries", 1, _MESSAGE, _MANY, "Entry"),),
    "RateLimitRequest": (
        ("domain", 1, _STRING, _ONE, ""),
        ("descriptors", 2, _MESSAGE, _MANY, "Descriptor"),
        ("hits_addend", 3, _UINT32, _ONE, ""),
    ),
    "RateLimit": (("requests_per_unit", 1, _UINT32, _ONE, ""),),
    "Status": (
        ("code", 1, _INT32, _ONE, ""),
        ("current_limit", 2, _MESSAGE, _ONE, "RateLimit"),
        ("limit_remaining", 3, _UINT32, _ONE, ""),
    ),
    "RateLimitResponse": (
        ("overall_code", 1, _INT32, _ONE, ""),
        ("statuses", 2, _MESSAGE, _MANY, "Status"),
    ),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="token-meter/rls.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            added = message.field.add(name=field, number=number, type=kind, label=label)
            if of:
                added.type_name = f".{_PACKAGE}.{of}"
    return file


_classes = message_factory.GetMessages([_file()], pool=descriptor_pool.DescriptorPool())
METHOD = f"/{_PACKAGE}.RateLimitService/ShouldRateLimit"
Request: Any = _classes[f"{_PACKAGE}.RateLimitRequest"]
Response: Any = _classes[f"{_PACKAGE}.RateLimitResponse"]

"""token-meter itself: is the webhook reached and its certificate good, do controller and ledger work?"""

import base64
import binascii
from datetime import UTC, datetime, timedelta

from certs import bundle
from cli.checks.finding import Check, Finding, State, ok
from cli.checks.snapshot import SYSTEM, Object, Snapshot

WEBHOOK, LEDGER = "token-meter-webhook", "token-meter-ledger"
LEASES = {"webhook": "token-meter-webhook", "controller": "token-meter-gateway"}
_SOON = timedelta(days=14)
_INSTALL = "kubectl apply -k manifests/"
_LOGS = f"kubectl -n {SYSTEM} logs deployment/{{}}"


def checks(now: datetime) -> tuple[Check, ...]:
    """`now` is what certificates and Leases are held against."""
    configurations = "mutatingwebhookconfigurations"
    return (
        Check("webhook", (configurations, "endpointslices"), webhook),
        Check("certificate", (configurations,), lambda snapshot: certificate(snapshot, now)),
        Check("controller", ("leases",), lambda snapshot: controller(snapshot, now)),
        Check("ledger", ("deployments", "endpointslices"), ledger),
        Check("charging", ("deployments", "rolebindings"), charging),
    )


def webhook(snapshot: Snapshot) -> Finding:
    """Its configuration is there, and somebody is ready to answer."""
    if not _configuration(snapshot):
        return Finding(
            State.FAILURE,
            f"there is no MutatingWebhookConfiguration {WEBHOOK}: nothing is injected",
            _INSTALL,
        )
    ready = _ready(snapshot, WEBHOOK)
    if not ready:
        return Finding(
            State.FAILURE,
            "no replica of the webhook is ready: what is created now is stored without the sidecar",
            f"kubectl -n {SYSTEM} get pods; {_LOGS.format(WEBHOOK)}",
        )
    return ok(f"{ready} replica{'s' if ready > 1 else ''} ready")


def certificate(snapshot: Snapshot, now: datetime) -> Finding:
    """The CA that the API server verifies the webhook with."""
    found = _configuration(snapshot)
    if not found:
        return Finding(State.FAILURE, f"there is no MutatingWebhookConfiguration {WEBHOOK}", _INSTALL)
    lives = []
    for hook in found["webhooks"]:
        try:
            pem = base64.b64decode(hook["clientConfig"].get("caBundle") or "", validate=True)
        except binascii.Error:
            pem = b""
        good = [one for one in bundle.split(pem) if one.not_valid_before_utc <= now < one.not_valid_after_utc]
        if not good:
            return Finding(
                State.FAILURE,
                f"{hook['name']} has no caBundle that is valid now: the API server trusts no webhook",
                f"see that a replica leads ({_LOGS.format(WEBHOOK)}); it writes the caBundle",
            )
        lives.append(max(one.not_valid_after_utc for one in good))
    left = min(lives) - now
    text = f"the CA is valid for {left.days} days"
    if left < _SOON:
        return Finding(State.WARNING, text, f"see why it is not renewed: {_LOGS.format(WEBHOOK)}")
    return ok(text)


def controller(snapshot: Snapshot, now: datetime) -> Finding:
    """Somebody holds its Lease and renews it."""
    name = LEASES["controller"]
    for lease in snapshot.of("leases"):
        spec = lease.get("spec") or {}
        if lease["metadata"]["name"] == name and spec.get("holderIdentity"):
            renewed = datetime.fromisoformat(spec["renewTime"]) if spec.get("renewTime") else None
            life = timedelta(seconds=2 * int(spec.get("leaseDurationSeconds") or 15))
            if renewed and now - renewed.astimezone(UTC) < life:
                return ok(f"{spec['holderIdentity']} leads")
            return Finding(
                State.FAILURE,
                f"the controller's Lease was renewed last at {spec.get('renewTime', 'no time')}: nobody works",
                f"kubectl -n {SYSTEM} get pods; {_LOGS.format('token-meter-gateway')}",
            )
    return Finding(
        State.FAILURE,
        "no replica of the controller leads: no gateway objects are made",
        f"kubectl -n {SYSTEM} get pods; {_LOGS.format('token-meter-gateway')}",
    )


def ledger(snapshot: Snapshot) -> Finding:
    """Somebody takes the sidecars' events. What is sent elsewhere (OpenMeter) is no business of this check."""
    if not _ledger(snapshot):
        return ok("none is installed: usage goes where TOKEN_METER_WEBHOOK_LEDGER_URL says")
    if not _ready(snapshot, LEDGER):
        return Finding(
            State.WARNING,
            "the ledger is not ready: usage waits in the sidecars' spools, and their oldest goes when they are full",
            f"kubectl -n {SYSTEM} get pods,pvc; {_LOGS.format(LEDGER)}",
        )
    return ok("it takes usage")


def charging(snapshot: Snapshot) -> Finding:
    """The ledger may read the CA that it needs to charge what the gateway did not."""
    deployment = _ledger(snapshot)
    if not deployment:
        return ok("no ledger of ours is installed, so nothing is charged beside the gateway")
    containers = deployment["spec"]["template"]["spec"]["containers"]
    given = {variable["name"] for one in containers for variable in one.get("env") or ()}
    if "TOKEN_METER_LEDGER_RATE_LIMIT_CA_FILE" in given:
        return ok("the ledger has a CA of the rate limit service of its own")
    for binding in snapshot.of("rolebindings"):
        for subject in binding.get("subjects") or ():
            if (subject.get("namespace"), subject["name"]) == (SYSTEM, LEDGER):
                return ok(
                    f"the ledger may read the rate limit service's CA in {binding['metadata']['namespace']}"
                )
    return Finding(
        State.WARNING,
        "the ledger may not read the rate limit service's CA: what the gateway misses (streams that clients cut)"
        " is counted, and taken from no limit",
        "kubectl apply -f manifests/components/charge-gateway/rbac.yaml",
    )


def _ledger(snapshot: Snapshot) -> Object | None:
    for obj in snapshot.of("deployments"):
        if (obj["metadata"]["namespace"], obj["metadata"]["name"]) == (SYSTEM, LEDGER):
            return obj
    return None


def _ready(snapshot: Snapshot, service: str) -> int:
    """How many endpoints of a Service of ours are ready."""
    return sum(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for slice_ in snapshot.of("endpointslices")
        if (slice_["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service
        for endpoint in slice_.get("endpoints") or ()
    )


def _configuration(snapshot: Snapshot) -> Object | None:
    for obj in snapshot.of("mutatingwebhookconfigurations"):
        if obj["metadata"]["name"] == WEBHOOK:
            return obj
    return None

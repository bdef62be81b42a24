"""The manifests: what they install, with which rights, and that install.yaml is the same."""

import itertools
import os

import pytest

from cli.checks.snapshot import CONFIG_MAPS
from gateway.controller import READ_CRDS
from gateway.resources import PLURALS
from gateway.settings import Settings as GatewaySettings
from isvc import names
from ledger.settings import Settings as LedgerSettings
from ledger.settings import read_settings
from tests.manifests.render import COMPONENTS, FOLDER, Object, objects, one, text
from webhook.cluster import KSERVE_CONFIG
from webhook.plan import SidecarSettings
from webhook.settings import PREFIX, Settings

HEADER = (
    "# Rendered from manifests/ by `make golden`: kubectl apply -f install.yaml does what kubectl apply -k"
    " manifests/ does.\n"
)
NAMESPACE = "token-meter-system"
WEBHOOK = "token-meter-webhook"
SETTINGS = Settings(namespace=NAMESPACE)


def test_golden_install_yaml_is_the_rendered_base() -> None:
    install = FOLDER / "install.yaml"
    if os.environ.get("GOLDEN") == "write":
        install.write_text(HEADER + text())
    assert install.read_text() == HEADER + text(), "install.yaml is stale: run make golden"


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_renders_on_the_base(component: str) -> None:
    assert objects(component) != objects()


def test_all_components_render_together() -> None:
    kinds = {obj["kind"] for obj in objects(*COMPONENTS)}
    assert {
        "Certificate",
        "NetworkPolicy",
        "PodMonitor",
        "ServiceMonitor",
        "ValidatingAdmissionPolicy",
    } <= kinds


def test_the_configuration_sorts_after_kserves() -> None:
    names_of = [o["metadata"]["name"] for o in objects() if o["kind"] == "MutatingWebhookConfiguration"]
    assert names_of == [WEBHOOK]
    assert min(names_of) > "inferenceservice.serving.kserve.io"


@pytest.mark.parametrize("index", [0, 1])
def test_each_webhook_fails_open_quickly_and_for_labelled_namespaces_only(index: int) -> None:
    webhook = one("MutatingWebhookConfiguration", WEBHOOK)["webhooks"][index]
    assert (webhook["failurePolicy"], webhook["reinvocationPolicy"]) == ("Ignore", "IfNeeded")
    assert webhook["timeoutSeconds"] <= 5
    label, system = webhook["namespaceSelector"]["matchExpressions"]
    assert label == {"key": "token-meter.dev/injection", "operator": "In", "values": ["enabled", "annotated"]}
    assert set(system["values"]) == {"kube-system", NAMESPACE}
    assert "caBundle" not in webhook["clientConfig"]


def test_the_webhook_looks_at_services_created_and_updated_and_at_pods_created() -> None:
    services, pods = one("MutatingWebhookConfiguration", WEBHOOK)["webhooks"]
    assert services["rules"] == [
        {
            "apiGroups": ["serving.kserve.io"],
            "apiVersions": ["v1beta1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["inferenceservices"],
            "scope": "Namespaced",
        }
    ]
    assert (pods["rules"][0]["operations"], pods["rules"][0]["resources"]) == (["CREATE"], ["pods"])
    assert f'"{names.CONTAINER}"' in pods["matchConditions"][0]["expression"]
    paths = [webhook["clientConfig"]["service"]["path"] for webhook in (services, pods)]
    assert paths == ["/mutate", "/mutate-pods"]


def test_the_api_servers_way_leads_to_the_process() -> None:
    (container,) = pod()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"admission": SETTINGS.port, "admin": SETTINGS.admin_port}
    service = one("Service", SETTINGS.service)
    targets = {port["port"]: port["targetPort"] for port in service["spec"]["ports"]}
    assert targets[443] == "admission"
    labels = one("Deployment", WEBHOOK)["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["metadata"]["namespace"] == NAMESPACE


def test_sidecars_are_sent_to_the_ledgers_service() -> None:
    service = one("Service", "token-meter-ledger")
    (port,) = [port["port"] for port in service["spec"]["ports"]]
    assert SETTINGS.ledger == f"http://token-meter-ledger.{service['metadata']['namespace']}.svc:{port}"
    policy = one("NetworkPolicy", "token-meter-ledger")["spec"]
    labels = one("Deployment", "token-meter-ledger")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (inward,) = policy["ingress"]
    assert "from" not in inward
    assert {"port": port} in inward["ports"]


def test_the_names_that_the_process_asks_for_are_installed() -> None:
    assert one("Secret", SETTINGS.secret).get("data") is None
    defaults = one("ConfigMap", SETTINGS.config_map)["data"]
    assert defaults["sidecar-image"] == SidecarSettings().image
    assert one("MutatingWebhookConfiguration", SETTINGS.configuration)


def test_two_replicas_stand_apart_and_one_always_stays() -> None:
    deployment = one("Deployment", WEBHOOK)["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert one("PodDisruptionBudget", WEBHOOK)["spec"]["maxUnavailable"] == 1
    assert pod()["affinity"]["podAntiAffinity"]
    drain = SETTINGS.drain_seconds + SETTINGS.close_seconds
    assert pod()["terminationGracePeriodSeconds"] > drain


def pod(*components: str, deployment: str = WEBHOOK) -> Object:
    spec: Object = one("Deployment", deployment, *components)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("deployment", [WEBHOOK, "token-meter-gateway"])
@pytest.mark.parametrize("components", [(), *[(name,) for name in COMPONENTS]])
def test_the_pod_fits_pod_security_restricted(components: tuple[str, ...], deployment: str) -> None:
    spec = pod(*components, deployment=deployment)
    assert (
        one("Namespace", NAMESPACE)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert all(
        set(volume) <= {"name", "secret", "configMap", "emptyDir"} for volume in spec.get("volumes", [])
    )


GATEWAY = "token-meter-gateway"


def rules(gateway: bool) -> list[tuple[str, str, str, tuple[str, ...], str]]:
    """What the controller's, or the others', roles allow: kind, API group, resource, names, verb."""
    return [
        (obj["kind"], group, resource, tuple(rule.get("resourceNames", [])), verb)
        for obj in objects()
        if obj["kind"] in ("Role", "ClusterRole") and (obj["metadata"]["name"] == GATEWAY) is gateway
        for rule in obj["rules"]
        for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    ]


RULES = rules(gateway=False)
READ = {"get", "list", "watch"}


def test_nothing_is_allowed_by_wildcard_nor_to_be_deleted() -> None:
    assert not [rule for rule in RULES if "*" in rule or rule[4] in ("delete", "deletecollection")]


def test_what_is_written_is_named() -> None:
    unnamed = {
        (group, resource) for _, group, resource, named, verb in RULES if verb not in READ and not named
    }
    # A review is an answer; nothing is stored.
    reviews = {("authentication.k8s.io", "tokenreviews"), ("authorization.k8s.io", "subjectaccessreviews")}
    assert unnamed - reviews == {("events.k8s.io", "events")}


def test_the_controller_writes_its_own_kinds_and_nothing_else_unnamed() -> None:
    allowed = rules(gateway=True)
    unnamed = {resource for _, _, resource, named, verb in allowed if verb not in READ and not named}
    assert unnamed == {*PLURALS.values(), "events"}
    assert {resource for _, _, resource, _, verb in allowed if verb == "delete"} == set(PLURALS.values())
    assert not [rule for rule in allowed if "*" in rule or rule[4] == "deletecollection"]


def test_the_controllers_names_and_port_are_those_of_its_process() -> None:
    settings = GatewaySettings()
    named = {resource: names for _, _, resource, names, _ in rules(gateway=True) if names}
    assert named["leases"] == (settings.lease,)
    assert named["configmaps"] == (settings.config_map,)
    assert set(named["customresourcedefinitions"]) == set(READ_CRDS)
    (container,) = one("Deployment", GATEWAY)["spec"]["template"]["spec"]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [settings.admin_port]
    assert container["args"] == ["gateway"]


def test_secrets_and_config_maps_are_read_by_name_only() -> None:
    named = {(kind, name) for kind, _, resource, name, _ in RULES if resource in ("secrets", "configmaps")}
    assert named == {
        ("Role", (SETTINGS.secret,)),
        ("Role", (SETTINGS.config_map,)),
        ("ClusterRole", (KSERVE_CONFIG,)),
        ("ClusterRole", CONFIG_MAPS),
    }


def test_cert_manager_takes_our_ca_and_its_rights_away() -> None:
    rendered = objects("cert-manager")
    assert not [o for o in rendered if o["metadata"]["name"] == f"{WEBHOOK}-certificates"]
    assert not [o for o in rendered if o["kind"] == "Secret"]
    configuration = one("MutatingWebhookConfiguration", WEBHOOK, "cert-manager")
    namespace, certificate = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"].split(
        "/"
    )
    leaf = one("Certificate", certificate, "cert-manager")
    assert (leaf["metadata"]["namespace"], namespace) == (NAMESPACE, NAMESPACE)
    assert f"{SETTINGS.service}.{NAMESPACE}.svc" in leaf["spec"]["dnsNames"]
    (container,) = pod("cert-manager")["containers"]
    assert {"name": f"{PREFIX}CERT_MODE", "value": "mounted"} in container["env"]
    assert container["volumeMounts"][0]["mountPath"] == str(SETTINGS.cert_dir)
    (volume,) = pod("cert-manager")["volumes"]
    assert volume["secret"]["secretName"] == leaf["spec"]["secretName"]


def test_a_single_replica_has_no_budget_that_would_hold_up_a_drain() -> None:
    assert one("Deployment", WEBHOOK, "single-replica")["spec"]["replicas"] == 1
    assert "PodDisruptionBudget" not in {obj["kind"] for obj in objects("single-replica")}


def test_the_network_policy_lets_both_ports_in_and_the_api_server_and_dns_out() -> None:
    policy = one("NetworkPolicy", WEBHOOK, "network-policy")["spec"]
    inward = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    outward = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert inward == {SETTINGS.port, SETTINGS.admin_port}
    assert outward == {53, 443, 6443}


def test_nothing_has_a_finalizer_that_could_hold_up_an_uninstall() -> None:
    assert not [obj for obj in objects(*COMPONENTS) if "finalizers" in obj["metadata"]]


def test_everything_that_is_namespaced_goes_with_the_namespace() -> None:
    cluster_wide = {
        "ClusterRole",
        "ClusterRoleBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    for obj in objects(*COMPONENTS):
        if obj["kind"] not in cluster_wide and obj not in CHARGE_GATEWAY:
            assert obj["metadata"]["namespace"] == NAMESPACE, obj["metadata"]["name"]


CHARGE_GATEWAY = [obj for obj in objects("charge-gateway") if obj not in objects()]


def test_the_ledger_may_read_one_secret_of_envoy_gateways_and_only_with_the_component() -> None:
    role, binding = CHARGE_GATEWAY
    (rule,) = role["rules"]
    settings = LedgerSettings()
    assert (rule["resources"], rule["verbs"]) == (["secrets"], ["get"])
    assert [f"{role['metadata']['namespace']}/{rule['resourceNames'][0]}"] == [settings.rate_limit_ca_secret]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == one("ClusterRoleBinding", "token-meter-ledger")["subjects"]


@pytest.mark.parametrize("components", [(), ("postgresql",)])
def test_the_ledger_is_told_where_the_rate_limit_service_is(components: tuple[str, ...]) -> None:
    (container,) = pod(*components, deployment="token-meter-ledger")["containers"]
    env = {one["name"]: one.get("value", "from a Secret") for one in container["env"]}
    assert read_settings(env | {"TOKEN_METER_LEDGER_DATABASE_URL": ""}).rate_limit.endswith(":8081")
    assert ("TOKEN_METER_LEDGER_DATABASE_URL" in env) == bool(components)

"""The settings of a node's programs, and its addresses: nobody outside its network namespace meets them."""

import json
from pathlib import Path
from typing import Any

NAME = "node"
ADDRESS = "10.89.0.1"
API_SERVICE, DNS_SERVICE = "10.96.0.1", "10.96.0.10"
PODS = "10.244.0.0/16"
DOMAIN = "cluster.local"
PAUSE = "token-meter.dev/pause:1"
CONTAINERD = "/run/containerd/containerd.sock"
"""In the node's own /run."""
KUBELET = "/run/kubelet"
"""Its folder, as it is seen in the node."""
RUNC = "runc"
"""In the node's folder."""


def containerd(folder: Path, plugins: Path) -> str:
    """containerd's configuration (version 2: containerd 1.6 and newer). `plugins` are CNI's."""
    return f"""\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE a negative score is refused.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{folder}/{RUNC}"
"""


def runc(cgroup: str) -> str:
    """What containerd runs as runc. kubelet names no cgroup for pods where it does not manage them by QoS, and
    containerd puts them below /k8s.io then, beside those of every other node."""
    return f"""\
#!/bin/sh
last=
for one; do
    [ "$last" = --bundle ] && sed -i 's|"cgroupsPath":"/k8s.io/|"cgroupsPath":"/{cgroup}/|' "$one/config.json"
    last=$one
done
exec runc "$@"
"""


def cni(folder: Path) -> str:
    """The pods' network. Each is routed by the node: on a bridge, answers of Services would miss kube-proxy's rules."""
    ranges = {
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{folder}/addresses",
    }
    pods = {"type": "ptp", "ipam": {"type": "host-local", **ranges}}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [pods]})


def kubelet(folder: Path, cgroup: str) -> dict[str, Any]:
    """KubeletConfiguration. Images and disk are the machine's: it must not clear them away."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        "resolvConf": f"{folder}/resolv.conf",
        "podLogsDir": f"{folder}/pods",
        "volumePluginDir": f"{folder}/plugins",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": dict.fromkeys(("imagefs.available", "nodefs.available", "nodefs.inodesFree"), "0%"),
        # A minute by default: how long a changed Secret may take to be seen in a pod.
        "syncFrequency": "5s",
    }


def kube_proxy(kubeconfig: Path) -> dict[str, Any]:
    """KubeProxyConfiguration; the kernel's limits are not touched."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": NAME,
        "clusterCIDR": PODS,
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


COREFILE = f"""\
.:53 {{
    bind {ADDRESS}
    errors
    ready {ADDRESS}:8181
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig KUBECONFIG
    }}
    cache 5
}}
"""


def objects(folder: Path) -> list[dict[str, Any]]:
    """The Service of the DNS, and volumes for the first claims that come."""
    head = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [{"name": f"dns-{kind.lower()}", "port": 53, "protocol": kind} for kind in ("UDP", "TCP")]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": head,
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**head, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ADDRESS]}],
            "ports": ports,
        },
        *(_volume(folder, number) for number in range(VOLUMES)),
    ]


VOLUMES = 4


def _volume(folder: Path, number: int) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"volume-{number}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "local": {"path": f"{folder}/volumes/{number}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }

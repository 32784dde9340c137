"""Values that are set together: every pair of choices is in one of the combinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any, Final

Values = dict[str, Any]
_BUNDLED: Final = {"enabled": True}

CHOICES: Final[dict[str, dict[str, Values]]] = {
    "broker": {
        "open": {"nats": {"url": "nats://a:4222,nats://b:4222"}},
        "keys": {
            "nats": {"credentials": {"existingSecret": "broker"}, "nativeAgents": {"existingSecret": "broker"}},
        },
        "password": {"nats": {"password": {"existingSecret": "broker", "key": "1", "user": "y"}}},
        "mutual-tls": {
            "nats": {"url": "tls://nats:4222", "tls": {"existingSecret": "broker", "clientCertificate": True}}
        },
        "three": {"nats": {"bundled": _BUNDLED}},
        "one": {"nats": {"bundled": {**_BUNDLED, "replicas": 1, "storage": {"className": "fast", "size": "1Ti"}}}},
        "three-given": {"nats": {"bundled": {**_BUNDLED, "existingSecret": "mine"}}},
    },
    "auth": {
        "keys": {"auth": {"tokenKeys": {"existingSecret": "tokens"}}},
        "issuer": {
            "auth": {
                "jwks": {"url": "https://id.example:8443/k", "ca": {"existingSecret": "issuer-ca"}},
                "issuers": ["a", "b"],
                "audience": "c",
            }
        },
        "generated": {"auth": {"devSecret": {"generate": True}}},
        "given": {"auth": {"devSecret": {"existingSecret": "dev"}}},
    },
    "door": {
        "none": {},
        "ingress": {"ingress": {"enabled": True, "hosts": ["a.example", "b.example"]}},
        "ingress-tls": {
            "ingress": {
                "enabled": True,
                "hosts": ["a.example"],
                "tlsSecret": "cert",
                "className": "nginx",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": 600, "x/flag": True},
            }
        },
        "route": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["a.example"]}},
    },
    "scale": {
        "fixed": {"gateway": {"replicas": 3, "workers": 2}},
        "auto": {"autoscaling": {"enabled": True, "targetMemoryUtilizationPercentage": 80}},
    },
    "tls": {"off": {}, "on": {"gateway": {"tls": {"existingSecret": "cert"}}}},
    "network": {
        "off": {"networkPolicy": {"enabled": False}},
        "on": {},
        "narrow": {
            "networkPolicy": {
                "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
                "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
                "natsTo": [{"ipBlock": {"cidr": "10.1.0.0/16"}}],
                "natsPorts": [4222, 4443],
                "extraEgress": [{"ports": [{"port": 4317}]}],
            }
        },
    },
    "watching": {
        "off": {},
        "on": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "1e3"}},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True},
        },
    },
    "names": {
        "plain": {},
        "short": {"nameOverride": "y", "commonLabels": {"cost": 1000000, "on": True, "tier": "1e3"}},
        "whole": {"fullnameOverride": "a-name-that-is-longer-than-what-kubernetes-lets-one-have"},
    },
    "placing": {
        "plain": {},
        "off": {
            "gateway": {"topologySpread": {"zones": "off", "nodes": "off"}},
            "podDisruptionBudget": {"enabled": False},
        },
        "much": {
            "gateway": {
                "topologySpread": {"zones": "DoNotSchedule"},
                "nodeSelector": {"pool": 7},
                "tolerations": [{"key": "spot", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "priorityClassName": "high",
                "podAnnotations": {"a": 1, "b": False},
                "podLabels": {"team": "no"},
            },
            "podDisruptionBudget": {"maxUnavailable": "25%"},
        },
    },
    "saying": {
        "plain": {},
        "much": {
            "gateway": {
                "allowOrigins": ["https://a.example"],
                "trustedProxies": ["10.0.0.0/8"],
                "cookie": "token",
                "demoPage": True,
                "limits": {"participant.appends": "50/200", "tenant.open_connections": 100000},
                "extraArgs": ["--hsts=300"],
                "extraEnv": [{"name": "SESSION_FABRIC_HELLO_S", "value": "5"}],
                "preStopSeconds": 0,
            },
            "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": ["pull"]},
            "encryption": {"existingSecret": "seals"},
            "serviceAccount": {"create": False, "name": "theirs"},
        },
    },
    "provisioning": {"on": {}, "off": {"provisioning": {"enabled": False}}},
}


def merged(*parts: Mapping[str, Any]) -> Values:
    """Return the values of all parts, as Helm puts files together."""
    whole: Values = {}
    for part in parts:
        for key, value in part.items():
            ours = whole.get(key)
            whole[key] = merged(ours, value) if isinstance(ours, dict) and isinstance(value, dict) else value
    return whole


def pairwise(choices: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return few combinations in which each two choices of different names are together at least once."""
    names = list(choices)
    left = {((a, x), (b, y)) for a, b in combinations(names, 2) for x, y in product(choices[a], choices[b])}
    out = []
    while left:
        chosen: dict[str, str] = dict([*min(left)])
        for name in names:
            if name not in chosen:
                chosen[name] = max(
                    choices[name],
                    key=lambda value: sum(
                        ((other, have), (name, value)) in left or ((name, value), (other, have)) in left
                        for other, have in chosen.items()
                    ),
                )
        out.append(chosen)
        left -= {((a, chosen[a]), (b, chosen[b])) for a, b in combinations(names, 2)}
    return out


COMBINED: Final[dict[str, Values]] = {
    " ".join(f"{name}={choice}" for name, choice in sorted(chosen.items())): merged(
        *(CHOICES[name][choice] for name, choice in chosen.items())
    )
    for chosen in pairwise({name: list(options) for name, options in CHOICES.items()})
}

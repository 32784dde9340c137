{{/* What no schema can say: values that do not go together. Each ends with a sentence that says what to set. */}}

{{- define "sf.checks" -}}
{{- $auth := .Values.auth }}{{- $nats := .Values.nats }}{{- $gateway := .Values.gateway }}
{{- if not (or $auth.tokenKeys.existingSecret $auth.jwks.url $auth.devSecret.existingSecret $auth.devSecret.generate) }}
{{- fail "Nothing says who may come in: set auth.tokenKeys.existingSecret or auth.jwks.url; to try it out, auth.devSecret.generate=true." }}
{{- end }}
{{- if and $auth.jwks.url (or (empty $auth.issuers) (empty $auth.audience)) }}
{{- fail "auth.jwks.url needs auth.issuers and auth.audience: an issuer signs tokens for others too, with the same keys." }}
{{- end }}
{{- if and $auth.jwks.ca.existingSecret (not $auth.jwks.url) }}
{{- fail "auth.jwks.ca.existingSecret is for auth.jwks.url: set that, too." }}
{{- end }}
{{- if and $auth.devSecret.generate $auth.devSecret.existingSecret }}
{{- fail "auth.devSecret.generate and auth.devSecret.existingSecret exclude each other: set one." }}
{{- end }}
{{- if and $gateway.cookie (has "*" $gateway.allowOrigins) }}
{{- fail "gateway.cookie with gateway.allowOrigins * lets every page in the name of whoever looks at it: list the origins of your pages." }}
{{- end }}
{{- if gt (int $gateway.drainSeconds) (int $gateway.stopSeconds) }}
{{- fail (printf "gateway.drainSeconds=%v is more than gateway.stopSeconds=%v: clients would be cut before their time to go is over." $gateway.drainSeconds $gateway.stopSeconds) }}
{{- end }}
{{- if eq (int $gateway.adminPort) 8080 }}
{{- fail "gateway.adminPort=8080 is where clients are served: choose another." }}
{{- end }}
{{- $needed := add (int $gateway.preStopSeconds) (int $gateway.drainSeconds) (int $gateway.stopSeconds) }}
{{- $grace := int $gateway.terminationGracePeriodSeconds }}
{{- if and (gt $grace 0) (le $grace (int $needed)) }}
{{- fail (printf "gateway.terminationGracePeriodSeconds=%d is not more than preStopSeconds + drainSeconds + stopSeconds = %d: pods would be killed while they drain. Leave it 0, or set %d or more." $grace $needed (add $needed 1)) }}
{{- end }}
{{- if $nats.bundled.enabled }}
{{- range $name, $secret := dict "nats.credentials" $nats.credentials "nats.password" $nats.password "nats.tls" $nats.tls "nats.nativeAgents" $nats.nativeAgents }}
{{- if $secret.existingSecret }}
{{- fail (printf "%s.existingSecret is for a broker of yours, and nats.bundled.enabled=true runs another: unset one of them." $name) }}
{{- end }}
{{- end }}
{{- if not (has $nats.url (list "" "nats://nats:4222")) }}
{{- fail (printf "nats.url=%s is a broker of yours, and nats.bundled.enabled=true runs another, with nothing in it: unset one of them." $nats.url) }}
{{- end }}
{{- $least := add (int $nats.bundled.lameDuckSeconds) 15 }}
{{- $grace := int $nats.bundled.terminationGracePeriodSeconds }}
{{- if and (gt $grace 0) (lt $grace (int $least)) }}
{{- fail (printf "nats.bundled.terminationGracePeriodSeconds=%d is less than lameDuckSeconds + 15 = %d: nodes would be killed before their clients have gone. Leave it 0, or set %d or more." $grace $least $least) }}
{{- end }}
{{- else }}
{{- if and $nats.credentials.existingSecret $nats.password.existingSecret }}
{{- fail "nats.credentials.existingSecret and nats.password.existingSecret exclude each other: set one." }}
{{- end }}
{{- if not $nats.url }}
{{- fail "nats.url says where the broker is; for one of our own set nats.bundled.enabled=true." }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (empty .Values.ingress.hosts) }}
{{- fail "ingress.enabled=true needs ingress.hosts: the names that it answers to." }}
{{- end }}
{{- if and .Values.httpRoute.enabled (empty .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled=true needs httpRoute.parentRefs: the gateways that it hangs on." }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas=%v is more than autoscaling.maxReplicas=%v." .Values.autoscaling.minReplicas .Values.autoscaling.maxReplicas) }}
{{- end }}
{{- $streams := int .Values.provisioning.streams }}
{{- if not (has $streams (list 1 2 4 8 16 32 64 128 256)) }}
{{- fail (printf "provisioning.streams=%d is no power of two up to 256." $streams) }}
{{- end }}
{{- end }}

{{/* What the restricted pod security standard asks for. */}}
{{- define "sf.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sf.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
{{- end }}

{{/* Takes (dict "root" $ "part" "gateway" "spread" .Values.gateway.topologySpread). */}}
{{- define "sf.spread" -}}
{{- $root := .root }}{{- $part := .part }}
{{- $constraints := list }}
{{- range $key, $when := dict "topology.kubernetes.io/zone" .spread.zones "kubernetes.io/hostname" .spread.nodes }}
{{- if ne $when "off" }}
{{- $constraints = append $constraints (dict "key" $key "when" $when) }}
{{- end }}
{{- end }}
{{- with $constraints }}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: 1
    topologyKey: {{ .key }}
    whenUnsatisfiable: {{ .when }}
    labelSelector:
      matchLabels:
        {{- include "sf.selector" (dict "root" $root "part" $part) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where pods may run. Takes a part of the values. */}}
{{- define "sf.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- include "sf.strings" . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

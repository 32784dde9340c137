{{- define "sf.toBroker" -}}
- ports:
    {{- if .Values.nats.bundled.enabled }}
    - port: 4222
      protocol: TCP
    {{- else }}
    {{- range .Values.networkPolicy.natsPorts }}
    - port: {{ int . }}
      protocol: TCP
    {{- end }}
    {{- end }}
  {{- if .Values.nats.bundled.enabled }}
  to:
    - podSelector:
        matchLabels:
          {{- include "sf.selector" (dict "root" . "part" "nats") | nindent 10 }}
  {{- else if .Values.networkPolicy.natsTo }}
  to:
    {{- toYaml .Values.networkPolicy.natsTo | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Where names are looked up. */}}
{{- define "sf.toNames" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

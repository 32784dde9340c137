{{/* How our own processes reach the broker: variables, files, and where they come from. */}}

{{- define "sf.natsUrl" -}}
{{- if .Values.nats.bundled.enabled -}}
nats://{{ include "sf.nats" . }}:4222
{{- else -}}
{{ .Values.nats.url }}
{{- end -}}
{{- end }}

{{- define "sf.natsSecret" -}}
{{- default (printf "%s-auth" (include "sf.nats" .)) .Values.nats.bundled.existingSecret -}}
{{- end }}

{{/* The secret with a password for the broker, as `name key user`; empty when there is none. */}}
{{- define "sf.natsPassword" -}}
{{- if .Values.nats.bundled.enabled -}}
{{ include "sf.natsSecret" . }} password fabric
{{- else if .Values.nats.password.existingSecret -}}
{{ .Values.nats.password.existingSecret }} {{ .Values.nats.password.key }} {{ .Values.nats.password.user }}
{{- end -}}
{{- end }}

{{/* Variables that the gateway and fabricctl both read. */}}
{{- define "sf.brokerEnv" -}}
- name: SESSION_FABRIC_NATS
  value: {{ include "sf.natsUrl" . | quote }}
{{- if and (not .Values.nats.bundled.enabled) .Values.nats.credentials.existingSecret }}
- name: SESSION_FABRIC_NATS_CREDENTIALS
  value: {{ printf "/etc/session-fabric/nats/%s" .Values.nats.credentials.key | quote }}
{{- end }}
{{- if and (not .Values.nats.bundled.enabled) .Values.nats.tls.existingSecret }}
- name: SESSION_FABRIC_NATS_CA
  value: {{ printf "/etc/session-fabric/nats-tls/%s" .Values.nats.tls.caKey | quote }}
{{- if .Values.nats.tls.clientCertificate }}
- name: SESSION_FABRIC_NATS_CERT
  value: /etc/session-fabric/nats-tls/tls.crt
- name: SESSION_FABRIC_NATS_KEY
  value: /etc/session-fabric/nats-tls/tls.key
{{- end }}
{{- end }}
{{- if .Values.encryption.existingSecret }}
- name: SESSION_FABRIC_ENCRYPTION_KEYS
  value: {{ printf "/etc/session-fabric/encryption/%s" .Values.encryption.key | quote }}
{{- end }}
{{- end }}

{{- define "sf.passwordEnv" -}}
{{- with include "sf.natsPassword" . | splitList " " }}
{{- if eq (len .) 3 }}
- name: SESSION_FABRIC_NATS_USER
  value: {{ index . 2 | quote }}
- name: SESSION_FABRIC_NATS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ index . 0 | quote }}
      key: {{ index . 1 | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sf.brokerMounts" -}}
{{- if and (not .Values.nats.bundled.enabled) .Values.nats.credentials.existingSecret }}
- name: nats-credentials
  mountPath: /etc/session-fabric/nats
  readOnly: true
{{- end }}
{{- if and (not .Values.nats.bundled.enabled) .Values.nats.tls.existingSecret }}
- name: nats-tls
  mountPath: /etc/session-fabric/nats-tls
  readOnly: true
{{- end }}
{{- if .Values.encryption.existingSecret }}
- name: encryption
  mountPath: /etc/session-fabric/encryption
  readOnly: true
{{- end }}
{{- end }}

{{- define "sf.brokerVolumes" -}}
{{- if and (not .Values.nats.bundled.enabled) .Values.nats.credentials.existingSecret }}
- name: nats-credentials
  secret:
    secretName: {{ .Values.nats.credentials.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- if and (not .Values.nats.bundled.enabled) .Values.nats.tls.existingSecret }}
- name: nats-tls
  secret:
    secretName: {{ .Values.nats.tls.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- if .Values.encryption.existingSecret }}
- name: encryption
  secret:
    secretName: {{ .Values.encryption.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{- define "sf.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "sf.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "sf.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sf.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "sf.nats" -}}{{ include "sf.fullname" . }}-nats{{- end }}

{{/* Labels that never change: selectors hold them. Takes (dict "root" $ "part" "gateway"). */}}
{{- define "sf.selector" -}}
app.kubernetes.io/name: {{ include "sf.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .part | quote }}
{{- end }}

{{- define "sf.labels" -}}
{{ include "sf.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
app.kubernetes.io/part-of: "session-fabric"
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- include "sf.strings" .root.Values.commonLabels }}
{{- end }}

{{/* Labels and annotations are strings, whatever YAML takes them for (a key `on` too). A number of some size comes as a
float, and must not turn to 1e+06. */}}
{{- define "sf.strings" -}}
{{- range $key, $value := . }}
{{ $key | quote }}: {{ if kindIs "float64" $value }}{{ if eq (floor $value) $value }}{{ int64 $value | toString | quote }}{{ else }}{{ toString $value | quote }}{{ end }}{{ else }}{{ toString $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{- define "sf.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sf.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* Takes an `image` of the values, and the tag when it has none. */}}
{{- define "sf.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .tag .image.tag }}
{{- end -}}
{{- end }}

{{- define "sf.ourImage" -}}
{{ include "sf.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{- define "sf.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

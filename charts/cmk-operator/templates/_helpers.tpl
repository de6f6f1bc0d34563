{{- define "cmk-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "cmk-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "cmk-operator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cmk-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "cmk-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "cmk-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "cmk-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cmk-operator.labels" -}}
{{ include "cmk-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "cmk-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "cmk-operator.endpointUrl" -}}
{{- if .Values.endpoint.url }}
{{- .Values.endpoint.url }}
{{- else }}
{{- $host := printf "%s.%s.svc" (include "cmk-operator.fullname" .) .Release.Namespace }}
{{- if eq (int .Values.endpoint.service.port) 443 }}
{{- printf "https://%s" $host }}
{{- else }}
{{- printf "https://%s:%d" $host (int .Values.endpoint.service.port) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cmk-operator.tlsSecret" -}}
{{- if eq .Values.endpoint.tls.mode "CertManager" }}
{{- printf "%s-tls" (include "cmk-operator.fullname" .) }}
{{- else }}
{{- required "endpoint.tls.secretName is needed with endpoint.tls.mode: Secret" .Values.endpoint.tls.secretName }}
{{- end }}
{{- end }}

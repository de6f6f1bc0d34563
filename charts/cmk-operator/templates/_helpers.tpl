{{- define "cmk-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* At most 50 characters, so that `-metrics` and the hash of a pod's name still fit into 63. */}}
{{- define "cmk-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "cmk-operator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cmk-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "cmk-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed with serviceAccount.create: false: a ServiceAccount of the operator's own" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* Who the operator is to the API server. */}}
{{- define "cmk-operator.user" -}}
{{- printf "system:serviceaccount:%s:%s" .Release.Namespace (include "cmk-operator.serviceAccountName" .) }}
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

{{- /* The host of the endpoint's Service. */}}
{{- define "cmk-operator.endpointHost" -}}
{{- printf "%s-kms.%s.svc" (include "cmk-operator.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "cmk-operator.endpointUrl" -}}
{{- if .Values.endpoint.url }}
{{- .Values.endpoint.url }}
{{- else if eq (int .Values.endpoint.service.port) 443 }}
{{- printf "https://%s" (include "cmk-operator.endpointHost" .) }}
{{- else }}
{{- printf "https://%s:%d" (include "cmk-operator.endpointHost" .) (int .Values.endpoint.service.port) }}
{{- end }}
{{- end }}

{{- /*
Every name that clients may call the endpoint by, as JSON: `names`, and of these the DNS names in `dns` and the addresses in `ips`.
With an authority that everybody knows, none of the cluster's: no such authority issues a certificate for one.
*/}}
{{- define "cmk-operator.endpointNames" -}}
{{- $names := list }}
{{- if not (and (eq .Values.endpoint.tls.mode "CertManager") (not .Values.endpoint.tls.privateCA)) }}
{{- $service := printf "%s-kms" (include "cmk-operator.fullname" .) }}
{{- $inNamespace := printf "%s.%s" $service .Release.Namespace }}
{{- $names = list $service $inNamespace (printf "%s.svc" $inNamespace) (printf "%s.svc.cluster.local" $inNamespace) }}
{{- end }}
{{- if .Values.endpoint.url }}
{{- $names = append $names (get (urlParse .Values.endpoint.url) "hostname") }}
{{- end }}
{{- $names = concat $names (.Values.endpoint.tls.dnsNames | default list) | uniq }}
{{- $dns := list }}
{{- $ips := list }}
{{- range $names }}
{{- if or (contains ":" .) (regexMatch "^[0-9]+([.][0-9]+){3}$" .) }}
{{- $ips = append $ips . }}
{{- else }}
{{- $dns = append $dns . }}
{{- end }}
{{- end }}
{{- dict "names" $names "dns" $dns "ips" $ips | toJson }}
{{- end }}

{{- define "cmk-operator.tlsSecret" -}}
{{- if eq .Values.endpoint.tls.mode "CertManager" }}
{{- printf "%s-kms-tls" (include "cmk-operator.fullname" .) }}
{{- else }}
{{- .Values.endpoint.tls.secretName }}
{{- end }}
{{- end }}

{{- /* Whether root keys are files: "true" or nothing. */}}
{{- define "cmk-operator.rootKeyFiles" -}}
{{- if or .Values.rootKey.existingSecret .Values.rootKey.volume }}true{{ end }}
{{- end }}

{{- /* The seconds in a duration such as 1m30s. */}}
{{- define "cmk-operator.seconds" -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 }}
{{- $seconds := 0.0 }}
{{- range regexFindAll "[0-9.]+(ms|h|m|s)" . -1 }}
{{- $unit := regexFind "[hms]+$" . }}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (get $units $unit)) }}
{{- end }}
{{- $seconds }}
{{- end }}

{{- /* What the schema can't say: fields that need or exclude each other, and one operator a cluster. */}}
{{- define "cmk-operator.validate" -}}
{{- with .Values.endpoint }}
{{- if and .enabled (eq .tls.mode "Secret") (not .tls.secretName) }}
{{- fail "endpoint.tls.secretName is needed with endpoint.tls.mode: Secret" }}
{{- end }}
{{- if and .enabled (eq .tls.mode "CertManager") (not .tls.issuerRef.name) }}
{{- fail "endpoint.tls.issuerRef.name is needed with endpoint.tls.mode: CertManager" }}
{{- end }}
{{- if and (ne .tls.mode "Secret") .tls.secretName }}
{{- fail "endpoint.tls.secretName is for endpoint.tls.mode: Secret only" }}
{{- end }}
{{- if and (ne .tls.mode "CertManager") .tls.issuerRef }}
{{- fail "endpoint.tls.issuerRef is for endpoint.tls.mode: CertManager only" }}
{{- end }}
{{- if and (eq .tls.mode "Secret") .tls.dnsNames }}
{{- fail "endpoint.tls.dnsNames is not for endpoint.tls.mode: Secret: the names are in the certificate that is given" }}
{{- end }}
{{- if and .enabled (ne .tls.mode "SelfMade") (eq (include "cmk-operator.tlsSecret" $) "cmk-kms-tls") }}
{{- fail "cmk-kms-tls is the Secret of the certificate that the operator makes: with another one, say another endpoint.tls.secretName or fullnameOverride" }}
{{- end }}
{{- $names := (include "cmk-operator.endpointNames" $ | fromJson).names }}
{{- if and .enabled (eq .tls.mode "CertManager") (not .tls.privateCA) (not .url) (not (has (include "cmk-operator.endpointHost" $) $names)) }}
{{- fail (printf "endpoint.url is needed with endpoint.tls.mode: CertManager and endpoint.tls.privateCA: false: an authority that everybody knows issues no certificate for %s, which clients are told otherwise. Where yours does, name it in endpoint.tls.dnsNames" (include "cmk-operator.endpointHost" $)) }}
{{- end }}
{{- if lt (include "cmk-operator.seconds" .maxStaleness | float64) 10.0 }}
{{- fail "endpoint.maxStaleness has to be at least 10s: a look at the API server takes its time" }}
{{- end }}
{{- end }}
{{- if and .Values.rootKey.existingSecret .Values.rootKey.volume }}
{{- fail "rootKey.existingSecret and rootKey.volume exclude each other: root keys come from one of them" }}
{{- end }}
{{- $stopping := add .Values.shutdownDelaySeconds 25 }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $stopping) }}
{{- fail (printf "terminationGracePeriodSeconds has to be at least %d: shutdownDelaySeconds, 20 s for the requests that are under way then, and 5 s for the last traces" $stopping) }}
{{- end }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "cmk-operator.fullname" .)) }}
{{- fail (printf "no Service can be called %s: give another release name, or fullnameOverride: lower-case letters, digits and hyphens, with a letter first" (include "cmk-operator.fullname" .)) }}
{{- end }}
{{- $own := include "cmk-operator.labels" . | fromYaml }}
{{- $labels := dict "podLabels" .Values.podLabels }}
{{- range $kind := list "serviceMonitor" "prometheusRule" "dashboard" }}
{{- $_ := set $labels (printf "metrics.%s.labels" $kind) (dig $kind "labels" dict $.Values.metrics) }}
{{- end }}
{{- range $where, $given := $labels }}
{{- range $name, $_ := $given }}
{{- if hasKey $own $name }}
{{- fail (printf "%s has %s, which is the chart's own: objects are found by it" $where $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if hasKey (.Values.podAnnotations | default dict) "kubectl.kubernetes.io/default-container" }}
{{- fail "podAnnotations has kubectl.kubernetes.io/default-container, which is the chart's own" }}
{{- end }}
{{- if eq .Release.Namespace "default" }}
{{- fail "the operator needs a namespace of its own, as whoever reads Secrets there has all keys: --namespace cmk-system --create-namespace" }}
{{- end }}
{{- if has .Release.Namespace .Values.watchNamespaces }}
{{- fail "watchNamespaces has the operator's own namespace in it: keys are for other namespaces" }}
{{- end }}
{{- with lookup "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicy" "" "cmk-operator-status.cmk-operator.dev" }}
{{- $annotations := .metadata.annotations | default dict }}
{{- $name := get $annotations "meta.helm.sh/release-name" }}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" }}
{{- if and $name (or (ne $name $.Release.Name) (ne $namespace $.Release.Namespace)) }}
{{- fail (printf "this cluster has cmk-operator already, as the release %s in the namespace %s, or was left its policies by that one: there is one operator a cluster. Install it under the same name and namespace: its keys are there" $name $namespace) }}
{{- end }}
{{- end }}
{{- end }}

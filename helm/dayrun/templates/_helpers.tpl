{{/* Names, labels and addresses. 40 characters leave room for a component and a hash within the 63 of a label. */}}
{{- define "dayrun.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "dayrun.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "dayrun.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "dayrun.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What selectors are made of. They can never be changed, so nothing that a value or a version could change is in here. */}}
{{- define "dayrun.selector" -}}
app.kubernetes.io/name: {{ include "dayrun.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "dayrun.labels" -}}
{{ include "dayrun.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: dayrun
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The same without versions, for pods: an upgrade of the chart alone restarts nothing. */}}
{{- define "dayrun.podLabels" -}}
{{ include "dayrun.selector" . }}
app.kubernetes.io/part-of: dayrun
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .more }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "dayrun.image" -}}
{{- $image := index .root.Values.image .which -}}
{{- with .root.Values.image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{- define "dayrun.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "dayrun.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "dayrun.runs.namespace" -}}
{{- default .Release.Namespace .Values.runs.namespace -}}
{{- end }}

{{- define "dayrun.runs.anchor" -}}
{{- include "dayrun.fullname" . }}-runs
{{- end }}

{{/* Secrets: the service's, the store's, and those of the bundled parts. */}}
{{- define "dayrun.secret" -}}
{{- default (include "dayrun.fullname" .) .Values.existingSecret -}}
{{- end }}

{{/* Name of the Secret with the store's credentials; empty where there are none but the pods' own identity. */}}
{{- define "dayrun.objects.secret" -}}
{{- if .Values.objects.existingSecret -}}
{{- .Values.objects.existingSecret -}}
{{- else if or .Values.objects.accessKeyId .Values.seaweedfs.enabled -}}
{{- include "dayrun.fullname" . }}-objects
{{- end -}}
{{- end }}

{{- define "dayrun.objects.environment" -}}
AWS_REGION: {{ .Values.objects.region | quote }}
{{- if .Values.seaweedfs.enabled }}
AWS_ENDPOINT_URL: http://{{ include "dayrun.fullname" . }}-seaweedfs.{{ .Release.Namespace }}.svc:8333
AWS_ALLOW_HTTP: "true"
{{- else }}
{{- with .Values.objects.endpoint }}
AWS_ENDPOINT_URL: {{ . | quote }}
{{- end }}
{{- if .Values.objects.allowHttp }}
AWS_ALLOW_HTTP: "true"
{{- end }}
{{- end }}
{{- end }}

{{- define "dayrun.queue" -}}
{{- default (ternary (default (include "dayrun.fullname" .) .Values.kueue.localQueue.name) "" .Values.kueue.create) (get .Values.cluster.profile "queue") -}}
{{- end }}

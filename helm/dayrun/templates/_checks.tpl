{{/* What the schema cannot say. Each message tells what to set. */}}
{{- define "dayrun.checks" -}}
{{- $v := .Values -}}
{{- $database := 0 -}}
{{- range list $v.database.url $v.database.urlFrom $v.postgres.enabled -}}{{- if . -}}{{- $database = add1 $database -}}{{- end -}}{{- end -}}
{{- if gt (int $database) 1 -}}
{{- fail "database: set one of database.url, database.urlFrom and postgres.enabled, not several" -}}
{{- end -}}
{{- if and (eq (int $database) 0) (not $v.existingSecret) -}}
{{- fail "database: none is named. Set database.url, database.urlFrom, or existingSecret with a key DAYRUN_DATABASE; to try dayrun out, postgres.enabled=true" -}}
{{- end -}}
{{- $broker := 0 -}}
{{- range list $v.broker.url $v.broker.urlFrom $v.valkey.enabled -}}{{- if . -}}{{- $broker = add1 $broker -}}{{- end -}}{{- end -}}
{{- if gt (int $broker) 1 -}}
{{- fail "broker: set one of broker.url, broker.urlFrom and valkey.enabled, not several" -}}
{{- end -}}
{{- if and (eq (int $broker) 0) (not $v.existingSecret) -}}
{{- fail "broker: none is named. Set broker.url, broker.urlFrom, or existingSecret with a key DAYRUN_BROKER; to try dayrun out, valkey.enabled=true" -}}
{{- end -}}
{{- if and $v.existingSecret (or $v.secretKey $v.database.url $v.broker.url $v.postgres.enabled $v.valkey.enabled) -}}
{{- fail "existingSecret replaces the chart's own Secret: put secretKey, database.url and broker.url into it as DAYRUN_SECRET_KEY, DAYRUN_DATABASE and DAYRUN_BROKER; bundled stores need the chart's own" -}}
{{- end -}}
{{- if and $v.seaweedfs.enabled (or $v.objects.endpoint $v.objects.accessKeyId $v.objects.existingSecret) -}}
{{- fail "objects: seaweedfs.enabled brings its own endpoint and credentials; leave objects.endpoint, accessKeyId and existingSecret empty, or seaweedfs.enabled=false" -}}
{{- end -}}
{{- if and $v.objects.existingSecret $v.objects.accessKeyId -}}
{{- fail "objects: set existingSecret or accessKeyId and secretAccessKey, not both" -}}
{{- end -}}
{{- if ne (empty $v.objects.accessKeyId) (empty $v.objects.secretAccessKey) -}}
{{- fail "objects: accessKeyId and secretAccessKey belong together" -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled -}}
{{- fail "metrics: serviceMonitor and podMonitor would scrape the same figures twice; enable one" -}}
{{- end -}}
{{- if and $v.runs.createNamespace (eq (include "dayrun.runs.namespace" .) .Release.Namespace) -}}
{{- fail "runs.createNamespace: set runs.namespace to another one than the release's" -}}
{{- end -}}
{{- if and $v.kueue.create (not $v.kueue.flavors) -}}
{{- fail "kueue.flavors: none is given, so that the queue would admit nothing. Give at least one, such as {name: h200, nodeLabels: {nvidia.com/gpu.product: NVIDIA-H200}, quotas: {cpu: 640, memory: 6400Gi, nvidia.com/gpu: 32}}" -}}
{{- end -}}
{{- if and $v.convert.enabled (not (and $v.convert.source $v.convert.out)) -}}
{{- fail "convert: set convert.source and convert.out, such as s3://dayrun/tars and s3://dayrun/data/set" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- fail "ingress.hosts: give at least one, such as {host: dayrun.example.org}" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: name the Gateway, such as {name: public, namespace: gateways}" -}}
{{- end -}}
{{- end }}

{{/* The settings as variables. An object is given as JSON. */}}
{{- define "dayrun.settings" -}}
DAYRUN_HOME: /var/lib/dayrun
DAYRUN_HOST: 0.0.0.0
DAYRUN_PORT: "8765"
DAYRUN_RUNS: {{ .Values.objects.url | quote }}
{{- if .Values.cluster.enabled }}
DAYRUN_CLUSTER: /etc/dayrun/cluster.json
{{- end }}
{{- with .Values.api.forwardedAllowIps }}
FORWARDED_ALLOW_IPS: {{ . | quote }}
{{- end }}
{{ include "dayrun.objects.environment" . }}
{{- range $name, $value := .Values.settings }}
{{- if not (kindIs "invalid" $value) }}
DAYRUN_{{ upper $name }}: {{ if kindIs "map" $value }}{{ toJson $value | quote }}{{ else }}{{ toString $value | quote }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

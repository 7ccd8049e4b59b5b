{{/*
What all pods of the service image have in common. No variables of Services: one named `dayrun` would set DAYRUN_PORT.
Arguments, not a command: the image's own first process passes signals on and collects what ends.
*/}}
{{- define "dayrun.pod.common" -}}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- end }}

{{- define "dayrun.pod.placement" -}}
{{- with .part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
{{- if .part.affinity }}
  {{- toYaml .part.affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "dayrun.selector" . | nindent 14 }}
{{- end }}
{{- with .part.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "dayrun.container" -}}
image: {{ include "dayrun.image" (dict "root" .root "which" "service") }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
{{- with .resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The settings: the ConfigMap, then the Secrets, then single keys of other people's Secrets. */}}
{{- define "dayrun.environment" -}}
{{- $values := .root.Values -}}
envFrom:
  - configMapRef:
      name: {{ include "dayrun.fullname" .root }}
  - secretRef:
      name: {{ include "dayrun.secret" .root }}
  {{- with include "dayrun.objects.secret" .root }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- $more := concat $values.extraEnv (default list .more) -}}
{{- if or $values.database.urlFrom $values.broker.urlFrom $more }}
env:
  {{- with $values.database.urlFrom }}
  - name: DAYRUN_DATABASE
    valueFrom:
      secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
  {{- end }}
  {{- with $values.broker.urlFrom }}
  - name: DAYRUN_BROKER
    valueFrom:
      secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
  {{- end }}
  {{- with $more }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "dayrun.mounts" -}}
volumeMounts:
  - name: home
    mountPath: /var/lib/dayrun
  - name: scratch
    mountPath: /tmp
  {{- if .root.Values.cluster.enabled }}
  - name: cluster
    mountPath: /etc/dayrun
    readOnly: true
  {{- end }}
{{- end }}

{{- define "dayrun.volumes" -}}
volumes:
  - name: home
    emptyDir: {}
  - name: scratch
    emptyDir: {}
  {{- if .root.Values.cluster.enabled }}
  - name: cluster
    configMap:
      name: {{ include "dayrun.fullname" .root }}-cluster
  {{- end }}
{{- end }}

{{/* Waits until the tables are those of this image, or of a newer one (a rollback), and never makes them: that is the Job's. */}}
{{- define "dayrun.waiting" -}}
- name: schema
  {{- include "dayrun.container" (dict "root" .root "resources" .root.Values.migration.resources) | nindent 2 }}
  args: [python, -m, service.migrate, --wait, --patience, {{ .root.Values.migration.waitSeconds | quote }}]
  {{- include "dayrun.environment" . | nindent 2 }}
  {{- include "dayrun.mounts" . | nindent 2 }}
{{- end }}

{{/*
A change of settings starts pods anew. What the chart generates is not in here: outside of a cluster it is another in every render, and
pods would start anew for nothing.
*/}}
{{- define "dayrun.podAnnotations" -}}
checksum/settings: {{ include "dayrun.settings" .root | sha256sum }}
checksum/cluster: {{ include "dayrun.profile" .root | sha256sum }}
checksum/given-secrets: {{ list .root.Values.secretKey .root.Values.database .root.Values.broker .root.Values.objects | toJson | sha256sum }}
{{- with .part.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

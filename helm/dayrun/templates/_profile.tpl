{{/*
The file that DAYRUN_CLUSTER names: `cluster.profile`, and what the chart knows itself. A recipe's pods see the store's address as variables
and its credentials through a Secret of their own namespace. `resource: ""` becomes null, since a null in values means that a default is
taken away, not that there is nothing.

The owner has no uid: it is found at each launch. One that `lookup` wrote here would be missing in the first install and in every render
outside of a cluster, and wrong once the anchor was made anew: the garbage collector then deletes whatever names it.
*/}}
{{- define "dayrun.profile" -}}
{{- $given := deepCopy .Values.cluster.profile -}}
{{- $profile := dict
  "namespace" (include "dayrun.runs.namespace" .)
  "image" (include "dayrun.image" (dict "root" . "which" "trainer"))
  "pull_policy" .Values.image.pullPolicy
  "pull_secrets" .Values.image.pullSecrets
-}}
{{- $environment := fromYaml (include "dayrun.objects.environment" .) -}}
{{- $_ := set $given "environment" (mergeOverwrite $environment (default dict $given.environment)) -}}
{{- with include "dayrun.objects.secret" . -}}
{{- if not $given.environment_secrets -}}
{{- $_ := set $given "environment_secrets" (list .) -}}
{{- end -}}
{{- end -}}
{{- with include "dayrun.queue" . -}}
{{- $_ := set $given "queue" . -}}
{{- end -}}
{{- range $name, $hardware := $given.hardware -}}
{{- if eq (toString (get $hardware "resource")) "" -}}
{{- $_ := set $hardware "resource" nil -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.runs.onUninstall "delete" -}}
{{- $_ := set $profile "owner" (dict "apiVersion" "v1" "kind" "ConfigMap" "name" (include "dayrun.runs.anchor" .)) -}}
{{- end -}}
{{- toPrettyJson (mergeOverwrite $given $profile) -}}
{{- end }}

{{/* Whether some hardware asks for more than restricted pods may have. */}}
{{- define "dayrun.runs.privileged" -}}
{{- range $hardware := .Values.cluster.profile.hardware -}}
{{- if or (dig "fabric" "lock_memory" false $hardware) (get $hardware "cache_folder") -}}true{{- end -}}
{{- end -}}
{{- end }}

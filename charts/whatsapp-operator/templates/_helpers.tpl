{{/*
A value that is not there gets its default again: one that was set to null, and one that the release before this one did not know, as
`helm upgrade --reuse-values` leaves it out. Rendered, it would be an argument without a value, with which no program starts. Parts
that a null takes out on purpose stay out (resources, security contexts, an image's registry, the labels of the Grafana dashboard), as
do `replicas`, for an autoscaler. Every template begins with this, since none knows which of them is rendered first.
*/}}
{{- define "whatsapp-operator.defaults" -}}
{{- include "whatsapp-operator.fill" (dict "values" .Values "defaults" (.Files.Get "files/defaults.yaml" | fromYaml)) -}}
{{- end -}}
{{- define "whatsapp-operator.fill" -}}
{{- $values := .values -}}
{{- range $key, $default := .defaults -}}
{{- $missing := or (not (hasKey $values $key)) (kindIs "invalid" (index $values $key)) -}}
{{- if has $key (list "resources" "podSecurityContext" "securityContext" "labels") -}}
{{- if $missing }}{{ $_ := set $values $key dict }}{{ end -}}
{{- else if has $key (list "registry" "replicas") -}}
{{- if $missing }}{{ $_ := set $values $key "" }}{{ end -}}
{{- else if $missing -}}
{{- $_ := set $values $key $default -}}
{{- else if kindIs "map" $default -}}
{{- include "whatsapp-operator.fill" (dict "values" (index $values $key) "defaults" $default) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Beginning of all names. 40 characters leave room for what follows: a pod's name has at most 63. */}}
{{- define "whatsapp-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are selected by: (dict "root" $ "component" "gateway"). Never changes. */}}
{{- define "whatsapp-operator.selector" -}}
app.kubernetes.io/name: whatsapp-operator
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/*
Labels: (dict "root" $ "component" "gateway" "labels" (dict)). Each stands there once, whoever sets it: Kustomize takes no key twice. What
pods are selected by, and what Helm knows its objects by, nobody can set.
*/}}
{{- define "whatsapp-operator.labels" -}}
{{- $fixed := set (include "whatsapp-operator.selector" . | fromYaml) "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $chart := printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $usual := dict "app.kubernetes.io/version" .root.Chart.AppVersion "app.kubernetes.io/part-of" "whatsapp-operator" "helm.sh/chart" $chart -}}
{{- toYaml (merge $fixed (.labels | default dict) .root.Values.commonLabels $usual) -}}
{{- end -}}

{{/* Whether an object of the cluster is a bridge of this release, by its labels: (dict "root" $ "object" .) */}}
{{- define "whatsapp-operator.isBridgeOfRelease" -}}
{{- $labels := .object.metadata.labels | default dict -}}
{{- $other := false -}}
{{- range $key, $value := include "whatsapp-operator.selector" (dict "root" .root "component" "bridge") | fromYaml -}}
{{- if ne (get $labels $key) $value }}{{ $other = true }}{{ end -}}
{{- end -}}
{{- if not $other }}true{{ end -}}
{{- end -}}

{{/* Metadata: (dict "root" $ "component" "gateway" "name" "..." "cluster" false "annotations" (dict) "labels" (dict)) */}}
{{- define "whatsapp-operator.metadata" -}}
name: {{ .name | quote }}
{{- if not .cluster }}
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
{{- end }}
labels:
  {{- include "whatsapp-operator.labels" . | nindent 2 }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Reference of an image: (dict "root" $ "image" .Values.image) */}}
{{- define "whatsapp-operator.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- if $registry }}{{ $registry }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "whatsapp-operator.operatorAccount" -}}
{{- if .Values.operator.serviceAccount.create }}{{ .Values.operator.serviceAccount.name | default (include "whatsapp-operator.fullname" .) }}{{ else }}{{ .Values.operator.serviceAccount.name | default "default" }}{{ end -}}
{{- end -}}

{{- define "whatsapp-operator.gatewayAccount" -}}
{{- if .Values.gateway.serviceAccount.create }}{{ .Values.gateway.serviceAccount.name | default (printf "%s-gateway" (include "whatsapp-operator.fullname" .)) }}{{ else }}{{ .Values.gateway.serviceAccount.name | default "default" }}{{ end -}}
{{- end -}}

{{- define "whatsapp-operator.bridgeAccount" -}}
{{- if .Values.bridge.serviceAccount.create }}{{ .Values.bridge.serviceAccount.name | default (printf "%s-bridge" (include "whatsapp-operator.fullname" .)) }}{{ else }}{{ .Values.bridge.serviceAccount.name | default "default" }}{{ end -}}
{{- end -}}

{{/* One installation serves a cluster, since owners' limits hold across it: this name is the same in all of them. */}}
{{- define "whatsapp-operator.webhookConfiguration" -}}whatsapp-operator{{- end -}}

{{- define "whatsapp-operator.webhookSecret" -}}{{ include "whatsapp-operator.fullname" . }}-webhook{{- end -}}

{{- define "whatsapp-operator.bridgeSecret" -}}
{{- .Values.bridge.credentials.existingSecret | default (printf "%s-bridge" (include "whatsapp-operator.fullname" .)) -}}
{{- end -}}

{{- define "whatsapp-operator.bridgeTlsSecret" -}}
{{- .Values.bridge.tls.existingSecret | default (printf "%s-bridge-tls" (include "whatsapp-operator.fullname" .)) -}}
{{- end -}}

{{/* Whether the operator makes the bridge's token, and its certificate. */}}
{{- define "whatsapp-operator.makesToken" -}}
{{- if and .Values.bridge.enabled (not .Values.bridge.credentials.existingSecret) }}true{{ end -}}
{{- end -}}
{{- define "whatsapp-operator.makesCertificate" -}}
{{- if and .Values.bridge.enabled .Values.bridge.tls.enabled (not .Values.bridge.tls.existingSecret) }}true{{ end -}}
{{- end -}}

{{/* A namespace if the operator looks there, else the first in which it does: (dict "root" $ "namespace" "default") */}}
{{- define "whatsapp-operator.watched" -}}
{{- $watched := .root.Values.operator.watchNamespaces -}}
{{- if or (not $watched) (has .namespace $watched) }}{{ .namespace }}{{ else }}{{ first $watched }}{{ end -}}
{{- end -}}

{{/* Where the gateway creates sessions when a request does not say. */}}
{{- define "whatsapp-operator.defaultNamespace" -}}
{{- .Values.gateway.defaultNamespace | default (include "whatsapp-operator.watched" (dict "root" . "namespace" .Release.Namespace)) -}}
{{- end -}}

{{- define "whatsapp-operator.gatewayScheme" -}}
{{- if .Values.gateway.tls.secretName }}https{{ else }}http{{ end -}}
{{- end -}}
{{- define "whatsapp-operator.gatewayPort" -}}
{{- if .Values.gateway.service.port }}{{ .Values.gateway.service.port }}{{ else if .Values.gateway.tls.secretName }}443{{ else }}80{{ end -}}
{{- end -}}

{{/* Where people reach the gateway; nothing where that is not known. */}}
{{- define "whatsapp-operator.gatewayPublicUrl" -}}
{{- with .Values.gateway -}}
{{- if .publicUrl -}}
{{- .publicUrl -}}
{{- else if and .ingress.enabled .ingress.hosts (not (hasPrefix "*" (first .ingress.hosts))) -}}
{{- if .ingress.tlsSecretName }}https{{ else }}http{{ end }}://{{ first .ingress.hosts -}}
{{- else if and .httpRoute.enabled .httpRoute.hostnames (not (hasPrefix "*" (first .httpRoute.hostnames))) -}}
https://{{ first .httpRoute.hostnames -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the cluster chooses users and groups itself. */}}
{{- define "whatsapp-operator.openshift" -}}
{{- $said := .Values.openshift | toString -}}
{{- if or (eq $said "true") (and (eq $said "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) }}true{{ end -}}
{{- end -}}

{{/* A security context, of a pod or of a container, without what the cluster chooses: (dict "root" $ "context" .Values.operator.securityContext) */}}
{{- define "whatsapp-operator.podSecurityContext" -}}
{{- $context := .context | default dict -}}
{{- if include "whatsapp-operator.openshift" .root -}}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" "supplementalGroups" -}}
{{- end -}}
{{- with $context }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "whatsapp-operator.ipFamilies" -}}
{{- with .Values.services.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.services.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* The parts that all pods have in common: (dict "root" $ "component" "gateway" "values" .Values.gateway) */}}
{{- define "whatsapp-operator.podMetadata" -}}
{{- /* Not the chart's version: a chart that changes nothing for a pod must not restart it. */}}
{{- $fixed := include "whatsapp-operator.selector" . | fromYaml }}
{{- $usual := dict "app.kubernetes.io/part-of" "whatsapp-operator" }}
labels:
  {{- toYaml (merge $fixed (.values.podLabels | default dict) .root.Values.commonLabels $usual) | nindent 2 }}
{{- $annotations := merge (dict) (.podAnnotations | default dict) .values.podAnnotations .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "whatsapp-operator.podPlacement" -}}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "whatsapp-operator.podSecurityContext" (dict "root" .root "context" .values.podSecurityContext) }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "whatsapp-operator.selector" . | nindent 8 }}
    {{- if ne .component "bridge" }}
    # Of one rollout: those of the one before, which are about to end, would have the new ones placed beside them, in the end all on one node.
    matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Liveness does not depend on the API server or WhatsApp; readiness says what is missing. */}}
{{- define "whatsapp-operator.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{- define "whatsapp-operator.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "whatsapp-operator.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready does nothing that a drain could interrupt; without this it would hold up the drain for as long as it is not.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "whatsapp-operator.selector" . | nindent 6 }}
{{- end -}}

{{/* Labels of this release's WhatsAppBridge, with what the operator chooses its bridges by: it would not serve its own otherwise. */}}
{{- define "whatsapp-operator.bridgeLabels" -}}
{{- $labels := set (include "whatsapp-operator.selector" (dict "root" . "component" "bridge") | fromYaml) "app.kubernetes.io/managed-by" "whatsapp-operator" -}}
{{- range splitList "," .Values.operator.bridgeSelector -}}
{{- $pair := splitn "=" 2 . -}}
{{- if and $pair._0 (not (hasKey $labels $pair._0)) }}{{ $_ := set $labels $pair._0 ($pair._1 | default "") }}{{ end -}}
{{- end -}}
{{- toYaml (merge $labels .Values.commonLabels) -}}
{{- end -}}

{{/* The WhatsAppBridge of this release, as the operator makes it. */}}
{{- define "whatsapp-operator.bridgeManifest" -}}
{{- $full := printf "%s-bridge" (include "whatsapp-operator.fullname" .) -}}
{{- $scheme := ternary "https" "http" .Values.bridge.tls.enabled -}}
apiVersion: whatsapp-operator.dev/v1alpha1
kind: WhatsAppBridge
metadata:
  name: {{ .Values.bridge.name | quote }}
  labels:
    {{- include "whatsapp-operator.bridgeLabels" . | nindent 4 }}
  {{- $annotations := ternary (dict "whatsapp-operator.dev/is-default" "true") dict .Values.bridge.default }}
  {{- with merge $annotations .Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  builtin:
    shards:
      {{- range $n := until (int .Values.bridge.shards) }}
      - name: shard-{{ $n }}
        url: {{ $scheme }}://{{ $full }}-{{ $n }}.{{ $full }}.{{ $.Release.Namespace }}.svc:8443
      {{- end }}
    {{- with .Values.bridge.tls.caBundle }}
    caBundle: |
      {{- . | nindent 6 }}
    {{- end }}
  credentialsSecretRef:
    namespace: {{ .Release.Namespace | quote }}
    name: {{ include "whatsapp-operator.bridgeSecret" . | quote }}
    key: token
  allowedNamespaces:
    {{- toYaml .Values.bridge.allowedNamespaces | nindent 4 }}
  capacity:
    sessionsPerShard: {{ .Values.bridge.sessionsPerShard }}
{{- end -}}

{{/* A quantity as a number of bytes, since the API server writes 1024Mi as 1Gi, and half of 1Gi as 512Mi: (. is "5Gi") */}}
{{- define "whatsapp-operator.bytes" -}}
{{- $units := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $number := regexFind "^[0-9.]+" (toString .) -}}
{{- printf "%.0f" (mulf (float64 $number) (float64 (get $units (trimPrefix $number (toString .)) | default 1))) -}}
{{- end -}}

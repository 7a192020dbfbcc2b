{{- define "gramian.name" -}}
{{- if contains "gramian" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-gramian" (.Release.Name | trunc 32 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "gramian.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- /* Labels that a selector needs: (list $ "worker"). */ -}}
{{- define "gramian.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: gramian
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "gramian.labels" -}}
{{- $root := index . 0 -}}
{{ include "gramian.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "gramian.schedulerAddress" -}}
{{- printf "%s://%s-scheduler:8786" (ternary "tls" "tcp" (ne .Values.tls.existingSecret "")) (include "gramian.name" .) -}}
{{- end -}}

{{- /* What every pod has. Without enableServiceLinks: false Kubernetes would set GRAMIAN_PORT and
the like to the address of a Service of that name, and the settings would be refused. */ -}}
{{- define "gramian.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "gramian.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- /* Files of one role: (list $ "worker"). */ -}}
{{- define "gramian.tlsVolume" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
- name: certs
  secret:
    secretName: {{ $root.Values.tls.existingSecret }}
    defaultMode: 0440
    items:
      - {key: ca.pem, path: ca.pem}
      - {key: {{ $role }}.pem, path: cert.pem}
      - {key: {{ $role }}-key.pem, path: key.pem}
{{- end -}}

{{- define "gramian.tlsEnv" -}}
- {name: GRAMIAN_TLS_CA, value: /certs/ca.pem}
- {name: GRAMIAN_TLS_CERT, value: /certs/cert.pem}
- {name: GRAMIAN_TLS_KEY, value: /certs/key.pem}
{{- end -}}

{{- define "gramian.claim" -}}
{{- .Values.data.existingClaim | default (printf "%s-data" (include "gramian.name" .)) -}}
{{- end -}}

{{- /* What lies at /data: the volume of all pods, or a place of the pod's own beside a bucket. */ -}}
{{- define "gramian.dataVolume" -}}
- name: data
  {{- if .Values.store.bucket }}
  emptyDir: {}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ include "gramian.claim" . }}
  {{- end }}
{{- end -}}

{{- define "gramian.storeUrl" -}}
{{- $options := list -}}
{{- with .Values.store.endpoint }}{{ $options = append $options (printf "endpoint=%s" .) }}{{ end -}}
{{- with .Values.store.region }}{{ $options = append $options (printf "region=%s" .) }}{{ end -}}
{{- printf "s3://%s" (list .Values.store.bucket .Values.store.prefix | compact | join "/") -}}
{{- with $options }}?{{ join "&" . }}{{ end -}}
{{- end -}}

{{- /* Service and workers alike: where the bucket is, and the keys to it. */ -}}
{{- define "gramian.storeEnv" -}}
- name: GRAMIAN_STORE_URL
  value: {{ include "gramian.storeUrl" . | quote }}
{{- with .Values.store.existingSecret }}
{{- $secret := . }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

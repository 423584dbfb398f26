{{- define "handoff.labels" -}}
app.kubernetes.io/name: handoff
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "handoff.selector" -}}
app.kubernetes.io/name: handoff
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The pod of the Deployment and of the StatefulSet. */}}
{{- define "handoff.pod" -}}
metadata:
  labels:
    {{- include "handoff.labels" . | nindent 4 }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  # Whatever is down, the process ends 5 s after its drain.
  terminationGracePeriodSeconds: {{ add .Values.drainSeconds 20 }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "handoff.selector" $ | nindent 10 }}
    {{- end }}
  containers:
    - name: handoff
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run]
      env:
        - name: HANDOFF_CONFIG
          value: /etc/handoff/handoff.toml
        {{- if eq .Values.ledger.kind "sqlite" }}
        - name: HANDOFF__LEDGER__URL
          value: sqlite:///var/lib/handoff/handoff.db
        {{- else }}
        - name: HANDOFF__LEDGER__URL
          value: {{ .Values.ledger.postgresqlUrl | quote }}
        - name: HANDOFF__LEDGER__PASSWORD_FILE
          value: /run/secrets/handoff/ledger_password
        {{- end }}
        - name: HANDOFF__DRAIN__TIMEOUT_MS
          value: {{ mul .Values.drainSeconds 1000 | quote }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: admin
          containerPort: 9464
      startupProbe:
        httpGet: { path: /health, port: admin }
        periodSeconds: 2
        failureThreshold: 60
      # Slow on purpose: a restart costs a rebalance.
      livenessProbe:
        httpGet: { path: /health, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /ready, port: admin }
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/handoff
          readOnly: true
        - name: secrets
          mountPath: /run/secrets/handoff
          readOnly: true
        {{- if eq .Values.ledger.kind "sqlite" }}
        - name: ledger
          mountPath: /var/lib/handoff
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ .Release.Name }}
    - name: secrets
      secret:
        secretName: {{ .Values.existingSecret }}
        defaultMode: 0440
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

# Played in the guest by "make run": one pod serves HTTP, another asks for it by
# the name of its Service, through the cluster's DNS.
set -e
sudo kubectl get nodes -o wide
sudo kubectl wait --for=create serviceaccount/default --timeout=300s >/dev/null # a pod needs one
sudo kubectl apply -f - <<'EOF'
apiVersion: v1
kind: ConfigMap
metadata: {name: hello}
data:
  index.html: |
    hello from a pod, by the name of its Service
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers:
      - name: hello
        image: kedge.local/pause:v1 # what the image brings; the tool comes from the node
        command: [/busybox, httpd, -f, -p, "8080", -h, /www]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        volumeMounts:
        - {name: www, mountPath: /www}
        - {name: busybox, mountPath: /busybox, readOnly: true}
      volumes:
      - {name: www, configMap: {name: hello}}
      - {name: busybox, hostPath: {path: /usr/bin/busybox, type: File}}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: ask}
spec:
  restartPolicy: Never
  containers:
  - name: ask
    image: kedge.local/pause:v1
    command: [/busybox, sh, -c, 'until /busybox wget -q -T 5 -O - http://hello.default.svc.cluster.local; do /busybox sleep 1; done 2>/dev/null']
    volumeMounts: [{name: busybox, mountPath: /busybox, readOnly: true}]
  volumes: [{name: busybox, hostPath: {path: /usr/bin/busybox, type: File}}]
EOF
sudo kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/ask --timeout=300s
sudo kubectl get pods -A -o wide
echo '$ kubectl logs ask'
sudo kubectl logs ask

package nodeagent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// HookLabel marks the pod of a hook; its value is the hook's name.
const HookLabel = "upgrade.kedgeos.io/hook"

// hookPatience is what a pod has, beside the time of its hook, for the kubelet
// to end it.
const hookPatience = time.Minute

// A HookPod is how far the pod of a hook is.
type HookPod struct {
	Phase   corev1.PodPhase
	Made    time.Time
	Message string // why it failed, or waits
}

// hookPods reads those of the hooks among a node's pods, by their names.
func hookPods(pods []corev1.Pod) map[string]HookPod {
	found := map[string]HookPod{}
	for i := range pods {
		if p := &pods[i]; isHook(p) {
			found[p.Name] = HookPod{p.Status.Phase, p.CreationTimestamp.Time, hookMessage(p)}
		}
	}
	return found
}

func isHook(p *corev1.Pod) bool {
	return p.Namespace == v1alpha1.Namespace && p.Labels[HookLabel] != "" && p.DeletionTimestamp == nil
}

// hookMessage is what is known of the one container of a pod.
func hookMessage(p *corev1.Pod) string {
	for _, c := range p.Status.ContainerStatuses {
		switch t, w := c.State.Terminated, c.State.Waiting; {
		case t != nil && t.ExitCode != 0:
			return strings.TrimSpace(fmt.Sprintf("exit code %d: %s", t.ExitCode, orElse(t.Message, t.Reason)))
		case w != nil && w.Message != "":
			return w.Message
		}
	}
	return p.Status.Message
}

// runHooks has hooks run, one after the other. It tells whether all have ended
// well, and how one has failed; else it says what goes on.
func (d *decider) runHooks(stage string, hooks []v1alpha1.Hook) (done bool, failed string) {
	for _, h := range hooks {
		pod := d.hookPod(stage, h)
		is, there := d.Hooks[pod.Name]
		switch {
		case !there:
			d.action = RunHook{pod}
			d.st.Reason, d.st.Message = "Hook", fmt.Sprintf("the hook %q is to run", h.Name)
			return false, ""
		case is.Phase == corev1.PodSucceeded:
			continue
		case is.Phase == corev1.PodFailed:
			return false, fmt.Sprintf("the hook %q failed: %s", h.Name, orElse(is.Message, "it does not say why"))
		case d.Now.Sub(is.Made) > h.Limit()+hookPatience:
			return false, fmt.Sprintf("the hook %q has not ended within %v: %s", h.Name, h.Limit(), orElse(is.Message, "it runs"))
		}
		d.st.Reason, d.st.Message = "Hook", limited(fmt.Sprintf("the hook %q runs: pod %s/%s %s", h.Name, v1alpha1.Namespace, pod.Name, is.Message), 2048)
		return false, ""
	}
	return true, ""
}

// preHooks tells whether the node may go on leaving.
func (d *decider) preHooks() bool {
	if d.goal.Hooks == nil {
		return true
	}
	done, failed := d.runHooks("pre", d.goal.Hooks.Pre)
	if failed != "" {
		d.fail("HookFailed", "%s", failed)
	}
	return done
}

// held goes on with a trial that waits for this cluster's word.
func (d *decider) held(p ask.Part, is ask.State) {
	digest := key(is.To)
	if !d.say.Healthy {
		return
	}
	if d.goal.Hooks != nil && d.goal.State == v1alpha1.GoalActive && d.goal.Target != nil && wants(d.goal.Target, p, is.To) {
		done, failed := d.runHooks("post", d.goal.Hooks.Post)
		switch {
		case failed != "":
			d.st.Reason, d.st.Message = "HookFailed", limited(failed, 2048)
			d.action = Rollback{ask.Rollback{Part: p, Digest: digest, Reason: failed}}
			return
		case !done:
			return
		}
	}
	d.action = Confirm{ask.Confirm{Part: p, Digest: digest}}
}

// hookPod is the pod of a hook in this leave. Whoever asks again gets the same
// name, as long as all is the same.
func (d *decider) hookPod(stage string, h v1alpha1.Hook) *corev1.Pod {
	text, _ := json.Marshal([]any{d.Node.Name, stage, h, d.goal.GrantedAt, d.goal.Target}) // what cannot fail
	sum := sha256.Sum256(text)
	limit := int64(h.Limit() / time.Second)
	token := h.ServiceAccount != ""
	env := []corev1.EnvVar{{Name: "KEDGE_NODE", Value: d.Node.Name}}
	if d.goal.Plan != nil {
		env = append(env, corev1.EnvVar{Name: "KEDGE_PLAN", Value: d.goal.Plan.Name})
	}
	var target []string
	for _, w := range wanted(d.goal.Target) {
		target = append(target, orElse(w.version, w.image))
	}
	env = append(env, corev1.EnvVar{Name: "KEDGE_TARGET", Value: strings.Join(target, " ")})
	for name, value := range h.Env {
		env = append(env, corev1.EnvVar{Name: name, Value: value})
	}
	slices.SortFunc(env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.Namespace, Name: "upgrade-" + stage + "-" + hex.EncodeToString(sum[:8]),
			Labels:      map[string]string{HookLabel: labelled(h.Name), "app.kubernetes.io/name": "upgrade-hook"},
			Annotations: map[string]string{"upgrade.kedgeos.io/node": d.Node.Name},
		},
		Spec: corev1.PodSpec{
			NodeName: d.Node.Name, RestartPolicy: corev1.RestartPolicyNever, ActiveDeadlineSeconds: &limit,
			ServiceAccountName: h.ServiceAccount, AutomountServiceAccountToken: &token,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "hook", Image: h.Image, Command: h.Command, Args: h.Args, Env: env,
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			}},
		},
	}
}

// labelled makes a name fit for a label's value.
func labelled(name string) string {
	name = strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-_.", r):
			return r
		}
		return '-'
	}, name), "-_.")
	return orElse(name, "hook")
}

// clearHooks takes away the pods of hooks, those that failed only when the next
// leave begins: until then somebody may want their logs.
func (l *Loop) clearHooks(ctx context.Context, failed bool) error {
	pods, err := l.Cluster.Pods(ctx)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for i := range pods {
		p := &pods[i]
		if !isHook(p) || p.Status.Phase == corev1.PodFailed && !failed {
			continue
		}
		if err := l.Cluster.Delete(ctx, p, nil); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete pod of a hook: %w", err)
		}
	}
	return nil
}

// RunHook makes the pod of a hook.
type RunHook struct{ Pod *corev1.Pod }

func (a RunHook) String() string { return "run hook " + a.Pod.Labels[HookLabel] }
func (a RunHook) do(ctx context.Context, l *Loop) error {
	err := l.Cluster.Create(ctx, a.Pod)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Confirm lets a trial come to its end.
type Confirm struct{ ask.Confirm }

func (a Confirm) String() string { return fmt.Sprintf("confirm %s", a.Part) }
func (a Confirm) do(ctx context.Context, l *Loop) error {
	_, err := l.Agent.Confirm(ctx, a.Confirm)
	return err
}

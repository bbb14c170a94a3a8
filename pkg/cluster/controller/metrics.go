package controller

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// stuck is how long one decision, with all its writes, may take before the
// process counts as ill. The first decision for ten thousand nodes makes as many
// objects.
const stuck = 10 * time.Minute

// metrics are what monitoring sees. They are those of the leader; another has
// zeros.
type metrics struct {
	registry *prometheus.Registry

	leader, nodeCount, decideSeconds, lastDecision prometheus.Gauge
	plans, nodes, planNodes                        *prometheus.GaugeVec
	rounds, writes                                 *prometheus.CounterVec
	decide, wait                                   prometheus.Histogram

	lock sync.Mutex
	busy time.Time // since when; zero for not
}

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "kedge_upgrade_" + name, Help: help})
	}
	by := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kedge_upgrade_" + name, Help: help}, labels)
	}
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kedge_upgrade_" + name, Help: help}, labels)
	}
	m := &metrics{
		registry:      prometheus.NewRegistry(),
		leader:        gauge("leader", "1 for the controller that decides."),
		nodeCount:     gauge("cluster_nodes", "Nodes of the cluster."),
		decideSeconds: gauge("last_decide_seconds", "How long the last decision took, without what it wrote."),
		lastDecision:  gauge("last_decision_timestamp_seconds", "When the last decision was."),
		plans:         by("plans", "Plans by phase.", "phase"),
		nodes:         by("nodes", "Nodes by the phase that they say they are in.", "phase"),
		planNodes:     by("plan_nodes", "Nodes of a plan: chosen, staged, updating, updated, unavailable, failed, rolledback.", "plan", "state"),
		rounds:        count("rounds_total", "Rounds of the loop by their result.", "result"),
		writes:        count("writes_total", "Writes to the API by what was written, and the result.", "what", "result"),
		decide: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kedge_upgrade_decide_seconds", Help: "How long decisions took, without what they wrote.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kedge_upgrade_wait_seconds", Help: "How long changes of nodes and plans waited for the decision that saw them.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		}),
	}
	m.registry.MustRegister(m.leader, m.nodeCount, m.decideSeconds, m.lastDecision, m.plans, m.nodes, m.planNodes, m.rounds, m.writes, m.decide, m.wait,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) begin() {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.busy = time.Now()
}

func (m *metrics) end(err error) {
	m.rounds.WithLabelValues(result(err)).Inc()
	m.lock.Lock()
	defer m.lock.Unlock()
	m.busy = time.Time{}
}

func (m *metrics) wrote(what string, err error) { m.writes.WithLabelValues(what, result(err)).Inc() }

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// decided shows a decision, and what it was about.
func (m *metrics) decided(in upgrade.Input, d upgrade.Decision, took time.Duration) {
	m.decide.Observe(took.Seconds())
	m.decideSeconds.Set(took.Seconds())
	m.lastDecision.SetToCurrentTime()
	m.nodeCount.Set(float64(len(in.Nodes)))
	m.plans.Reset()
	m.planNodes.Reset()
	for plan, s := range d.Statuses {
		m.plans.WithLabelValues(string(s.Phase)).Inc()
		for state, n := range map[string]int32{
			"chosen": s.Nodes, "staged": s.Staged, "updating": s.Updating, "updated": s.Updated,
			"unavailable": s.Unavailable, "failed": s.Failed, "rolledback": s.RolledBack,
		} {
			m.planNodes.WithLabelValues(plan, state).Set(float64(n))
		}
	}
	phases := map[v1alpha1.NodePhase]int{}
	for _, nu := range in.NodeUpgrades {
		phase := nu.Status.Phase
		if phase == "" {
			phase = "Silent" // its agent has said nothing yet
		}
		phases[phase]++
	}
	m.nodes.Reset()
	for phase, n := range phases {
		m.nodes.WithLabelValues(string(phase)).Set(float64(n))
	}
}

// handler answers /healthz and /metrics.
func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		m.lock.Lock()
		defer m.lock.Unlock()
		if !m.busy.IsZero() && time.Since(m.busy) > stuck {
			http.Error(w, "a decision does not end", http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

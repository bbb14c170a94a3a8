package upgrade

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// A row is one rule. Want are pieces of the decision's text, separated by " | ";
// one that begins with "!" must not occur.
type row struct {
	name  string
	spec  func(*planSpec)
	nodes string
	more  func(*fleet)
	want  string
}

func all(edits ...func(*planSpec)) func(*planSpec) {
	return func(p *planSpec) {
		for _, e := range edits {
			e(p)
		}
	}
}

func away2(p *planSpec)  { p.MaxUnavailable = number(2) }
func late(p *planSpec)   { p.Stage = v1alpha1.StageLate }
func two(p *planSpec)    { p.MaxDownloads = number(2) }
func paused(p *planSpec) { p.Paused = true }
func canary(p *planSpec) {
	p.Steps = []v1alpha1.Step{step(1, time.Hour), step("50%", 2*time.Hour)}
	p.MaxUnavailable = number(10)
}
func zones(p *planSpec) { p.Spread, p.MaxUnavailable = "zone", number(5) }
func saturday(start string, d time.Duration, zone string) func(*planSpec) {
	return func(p *planSpec) {
		p.Windows = append(p.Windows, v1alpha1.Window{Days: []v1alpha1.Weekday{"Sat"}, Start: start, Duration: metav1.Duration{Duration: d}, TimeZone: zone})
	}
}

// noWindow opens on another day.
var noWindow = func(p *planSpec) {
	p.Windows = []v1alpha1.Window{{Cron: "0 2 * * 0", Duration: metav1.Duration{Duration: time.Hour}}}
}

func failing(n any, retries int32) func(*planSpec) {
	return func(p *planSpec) {
		p.Failure = &v1alpha1.Failure{Retries: retries}
		switch n := n.(type) {
		case int:
			p.Failure.HaltAfter = number(n)
		case string:
			p.Failure.HaltAfter = percent(n)
		}
	}
}

func kube(version string) func(*planSpec) {
	return func(p *planSpec) { p.OS, p.Kubernetes = nil, &v1alpha1.KubernetesRelease{Version: version} }
}

func osAndKube(version string) func(*planSpec) {
	return func(p *planSpec) { p.Kubernetes = &v1alpha1.KubernetesRelease{Version: version} }
}

func noBackup(p *planSpec)  { p.Backup = v1alpha1.BackupNever }
func backAll(p *planSpec)   { p.Failure = &v1alpha1.Failure{Rollback: v1alpha1.RollbackAll} }
func rollback(p *planSpec)  { p.Rollback = true }
func downgrade(p *planSpec) { p.AllowDowngrade = true }
func checks(p *planSpec) {
	p.Health = &v1alpha1.Health{Checks: []v1alpha1.Check{{Name: "shop"}}, Deadline: duration(10 * time.Minute)}
	p.MaxUnavailable = number(5)
}

func shopFails(since time.Duration) func(*fleet) {
	return func(f *fleet) {
		f.Checks["p"] = []CheckResult{{Name: "shop", Message: "1 of 2 ready", Since: f.Now.Add(-since)}}
	}
}

func etcd(members ...string) func(*fleet) {
	return func(f *fleet) {
		for _, m := range members {
			name, what, _ := strings.Cut(m, ":")
			f.Etcd = append(f.Etcd, Member{Node: name, Voter: what != "learner", Healthy: what != "sick", Leader: what == "leader"})
		}
	}
}

func follows(constraint string) func(*fleet) {
	return func(f *fleet) {
		t := osTarget("v2.0.0", "")
		t.OS.UpgradeFrom = constraint
		f.Resolutions["p"] = Resolution{Target: t}
	}
}

func second(edits ...func(*planSpec)) func(*fleet) {
	return func(f *fleet) {
		f.plan("q", append([]func(*planSpec){func(p *planSpec) { p.OS.Image = "reg/kedge:v3.0.0" }}, edits...)...)
	}
}

func unresolved(why string) func(*fleet) {
	return func(f *fleet) {
		delete(f.Resolutions, "p")
		if why != "" {
			f.Resolutions["p"] = Resolution{Err: why}
		}
	}
}

// changed makes the plan mean another release than the goals of its nodes.
func changed(f *fleet) {
	f.Plans[0].Spec.OS.Image = "reg/kedge:v2.1.0"
	f.Plans[0].Generation = 2
	f.Resolutions["p"] = Resolution{Target: osTarget("v2.1.0", "")}
}

func channel(f *fleet) {
	f.Plans[0].Spec.OS, f.Plans[0].Spec.Channel = nil, &v1alpha1.Channel{URL: "https://releases.example/kedge"}
}

// named makes the channel name a release.
func named(version string, serial int64) func(*fleet) {
	return func(f *fleet) {
		channel(f)
		t := osTarget(version, "")
		t.Serial = serial
		f.Resolutions["p"] = Resolution{Target: t}
	}
}

func inImage(version string) func(*fleet) {
	return func(f *fleet) {
		r := f.Resolutions["p"]
		r.Target.OS.KubernetesVersion = version
		f.Resolutions["p"] = r
	}
}

// beside puts another Kubernetes beside the system of every node.
func beside(version string) func(*fleet) {
	return func(f *fleet) {
		for _, nu := range f.NodeUpgrades {
			nu.Status.Running.Kubernetes = &v1alpha1.Version{Version: version, Digest: "sha256:" + strings.Repeat("e", 64)}
		}
	}
}

var rows = []row{
	// Which nodes.
	{"a plan without a selector chooses every node", nil, "w1 w2", nil, "goals: w1=Staged/Stage w2=Staged/Stage | 0/2"},
	{"a selector chooses some nodes", func(p *planSpec) {
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
	}, "w1:pool=a w2", nil, "goals: w1=Staged/Stage\n | 0/1"},
	{"a selector by expression chooses too", func(p *planSpec) {
		p.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "pool", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}}}
	}, "w1:pool=a w2", nil, "goals: w2=Staged/Stage\n"},
	{"the skip label keeps a node out", nil, "w1:skip w2", nil, "goals: w2=Staged/Stage\n | 0/1"},
	{"a skipped node that is away does not use up the budget", nil, "w1:staged w2:skip,notready", nil, "w1=Active/Activate"},
	{"a node that gets the skip label is let go", nil, "w1:staged,skip w2:staged", nil, "w1=/Released | w2=Active/Activate"},
	{"a node that runs already is not called back by the skip label", nil, "w1:trial,skip", nil, "goals: none"},
	{"no node is no completion", nil, "", nil, "Pending/NoNodes | no node is chosen | again: never"},
	{"a selector that matches nobody is no completion", func(p *planSpec) {
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "x"}}
	}, "w1", nil, "Pending/NoNodes"},
	{"a node without a NodeUpgrade gets one", nil, "w1:silent", nil, "goals: w1=Staged/Stage | Waiting/NoAgent | w1: its agent has not said anything yet"},
	{"a node that runs the release by itself is left alone", nil, "w1:runs", nil, "goals: none | Complete/Complete 1/1"},
	{"a node that joins later is upgraded", nil, "w1:done w2", nil, "goals: w2=Staged/Stage | 1/2"},
	{"a node that is gone with its upgrade frees its place", nil, "w2:staged", func(f *fleet) {
		f.NodeUpgrades = append(f.NodeUpgrades, &nodeUp{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalActive}})
	}, "w2=Active/Activate | !w1"},
	{"a release without a digest on the node is known by its version", nil, "w1:os=v2.0.0,nodigest", nil, "Complete"},
	{"the same version with another digest is another release", nil, "w1:os=v2.0.0", func(f *fleet) { f.NodeUpgrades[0].Status.Running.OS.Digest = digest("v6.6.6") }, "w1=Staged/Stage"},

	// What the plan means.
	{"a tag that is not looked up yet is waited for", nil, "w1", unresolved(""), "Pending/NotResolved | not looked up yet | goals: none"},
	{"a registry's answer is passed on", nil, "w1", unresolved("pull reg/kedge:v2.0.0: unauthorized"), "the release is not known: pull reg/kedge:v2.0.0: unauthorized"},
	{"a tag is pinned by the status", nil, "w1", func(f *fleet) {
		t := osTarget("v2.0.0", "")
		f.Plans[0].Status.Target = &t
		f.Resolutions["p"] = Resolution{Target: func() v1alpha1.Target { t := osTarget("v2.0.0", ""); t.OS.Digest = digest("v6.6.6"); return t }()}
	}, "w1=Staged/Stage"},
	{"a tag is pinned by a goal when the status is lost", nil, "w1:done w2:done", func(f *fleet) {
		t := osTarget("v2.0.0", "")
		t.OS.Digest = digest("v6.6.6")
		f.Resolutions["p"] = Resolution{Target: t}
	}, "Complete/Complete 2/2 | goals: none"},
	{"a pin of another image is none", nil, "w1", func(f *fleet) {
		t := osTarget("v1.5.0", "")
		f.Plans[0].Status.Target = &t
	}, "0/1 | w1=Staged/Stage"},
	{"a Kubernetes version needs no look-up", kube("v1.36.3"), "w1", unresolved(""), "w1=Staged/Stage"},
	{"a resolution of another image is refused", nil, "w1", func(f *fleet) { f.Resolutions["p"] = Resolution{Target: osTarget("v7.0.0", "")} }, "not what the plan names"},
	{"a channel names the release", nil, "w1", named("v2.0.0", 7), "w1=Staged/Stage"},
	{"a channel that is not read yet is waited for", nil, "w1", func(f *fleet) { channel(f); delete(f.Resolutions, "p") }, "NotResolved"},
	{"a channel with a lower serial is not followed", nil, "w1", func(f *fleet) {
		named("v1.9.0", 6)(f)
		t := osTarget("v2.0.0", "")
		t.Serial = 7
		f.Plans[0].Status.Target = &t
	}, "w1=Staged/Stage"},
	{"a channel with a lower version is not followed", nil, "w1:runs", func(f *fleet) {
		named("v1.9.0", 8)(f)
		t := osTarget("v2.0.0", "")
		t.Serial = 7
		f.Plans[0].Status.Target = &t
	}, "Complete/Complete 1/1"},
	{"a channel that went back is known from goals when the status is lost", nil, "w1:done", func(f *fleet) { named("v1.9.0", 0)(f) }, "Complete/Complete 1/1"},
	{"a channel that does not answer keeps what it said", nil, "w1:done", func(f *fleet) {
		channel(f)
		f.Resolutions["p"] = Resolution{Err: "no route"}
	}, "Complete/Complete 1/1"},
	{"a channel that goes on is followed", nil, "w1:done", func(f *fleet) {
		named("v2.1.0", 8)(f)
	}, "w1=Staged/Stage"},

	// What cannot be followed.
	{"a cron line that is none says so", func(p *planSpec) { p.Windows = []v1alpha1.Window{{Cron: "x", Duration: *duration(time.Hour)}} }, "w1", nil, "Invalid/Invalid | windows[0]: cron \"x\" | goals: none"},
	{"a time zone that is none says so", saturday("02:00", time.Hour, "Europe/Kedge"), "w1", nil, "time zone \"Europe/Kedge\": a name such as Europe/Berlin is meant"},
	{"a cron line for a day that never comes says so", func(p *planSpec) {
		p.Windows = []v1alpha1.Window{{Cron: "0 0 31 2 *", Duration: *duration(time.Hour)}}
	}, "w1", nil, "there is no such day"},
	{"a share that is none says so", func(p *planSpec) { p.MaxUnavailable = percent("many") }, "w1", nil, "maxUnavailable: \"many\""},
	{"a plan of nothing says so", func(p *planSpec) { p.OS = nil }, "w1", nil, "it names no os, no kubernetes and no channel"},
	{"a selector that is none says so", func(p *planSpec) {
		p.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
	}, "w1", nil, "Invalid/Invalid | nodeSelector"},
	{"a plan that became invalid keeps its goals", nil, "w1:done w2:staged", func(f *fleet) { f.Plans[0].Spec.MaxUnavailable = percent("many") }, "Invalid | goals: none"},

	// How many.
	{"one node goes by default", nil, "w1:staged w2:staged", nil, "goals: w1=Active/Activate\n | Rolling/Rolling 0/2"},
	{"maxUnavailable lets more go", away2, "w1:staged w2:staged w3:staged", nil, "goals: w1=Active/Activate w2=Active/Activate\n"},
	{"a percentage is rounded down", func(p *planSpec) { p.MaxUnavailable = percent("50%") }, "w1:staged w2:staged w3:staged", nil, "goals: w1=Active/Activate\n"},
	{"a percentage is at least one", func(p *planSpec) { p.MaxUnavailable = percent("1%") }, "w1:staged w2:staged", nil, "goals: w1=Active/Activate\n"},
	{"a dead node uses up the budget", nil, "w1:staged w2:notready", nil, "Waiting/MaxUnavailable | 1 of 1 allowed unavailable: w2 (not Ready) | !Active"},
	{"a cordoned node uses up the budget", nil, "w1:staged w2:staged,cordoned w3:done,cordoned", nil, "2 of 1 allowed unavailable: w2 (cordoned), w3 (cordoned)"},
	{"a cordoned node may go in its own place", nil, "w1:staged,cordoned w2:staged", nil, "goals: w1=Active/Activate\n"},
	{"a node on its way uses up the budget", nil, "w1:draining w2:staged", nil, "goals: none | Rolling/Rolling | w1 drains"},
	{"a done node that is lost later uses up the budget", nil, "w1:done=30h,notready w2:staged", nil, "1 of 1 allowed unavailable: w1 (not Ready)"},
	{"a node that was called back and has not heard uses up the budget", nil, "w1:calledback,unseen w2:staged", nil, "!Active | w1 was called back, and has not heard yet"},
	{"a node that was called back and heard it may go again", nil, "w1:calledback w2:staged", nil, "goals: w1=Active/Activate\n"},
	{"a goal that was not seen yet uses up the budget", nil, "w1:granted,unseen w2:staged", nil, "goals: none | w1 is told to restart"},
	{"a node that is not Ready is not told to restart", away2, "w1:staged,notready w2:staged", nil, "goals: w2=Active/Activate\n"},
	{"a node that is not Ready may still be told to download", nil, "w1:notready", nil, "w1=Staged/Stage | w1 is not Ready"},
	{"a node that drains although it was called back uses up the budget", nil, "w1:draining w2:staged", func(f *fleet) { f.NodeUpgrades[0].Spec.State = v1alpha1.GoalStaged }, "goals: none"},
	{"a node on trial without a goal uses up the budget", nil, "w1:trial w2:staged", func(f *fleet) { f.NodeUpgrades[0].Spec = v1alpha1.NodeUpgradeSpec{} }, "!Active"},

	// In which order.
	{"the control plane goes before workers", away2, "s1:staged w1:staged", nil, "goals: s1=Active/Activate\n"},
	{"control-plane nodes go one at a time", away2, "s1:staged s2:staged s3:staged", nil, "goals: s1=Active/Activate\n"},
	{"a control-plane node waits for another that is not Ready", away2, "s1:notready s2:staged w1:staged", nil, "control-plane node s1 is not Ready, and they go one at a time | !Active"},
	{"a control-plane node outside the plan counts too", func(p *planSpec) {
		p.MaxUnavailable = number(2)
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
	}, "s1:notready s2:staged,pool=a", nil, "control-plane node s1 is not Ready | !Active"},
	{"workers go when the control plane is through", away2, "s1:done w1:staged w2:staged w3:staged", nil, "goals: w1=Active/Activate w2=Active/Activate\n"},
	{"workers wait for a control-plane node that is not there", away2, "s1:notready,staged w1:staged", nil, "s1 is not Ready, and it is its turn | !Active"},
	{"workers wait for a control-plane node that downloads", away2, "s1:fetching w1:staged", nil, "Staging/Staging | s1 downloads, 40 % | !Active"},
	{"the leader of etcd is last", nil, "s1:staged s2:staged s3:staged", etcd("s1:leader", "s2", "s3"), "goals: s2=Active/Activate\n"},
	{"the leader goes when the others are through", nil, "s1:staged s2:done s3:done", etcd("s1:leader", "s2", "s3"), "goals: s1=Active/Activate\n"},
	{"the leader goes before workers", away2, "s1:staged s2:done s3:done w1:staged", etcd("s1:leader", "s2", "s3"), "goals: s1=Active/Activate\n"},
	{"two members of etcd cannot spare one", nil, "s1:staged s2:staged", etcd("s1", "s2"), "Waiting/ControlPlane | etcd has two members, and none of them may leave | !Active"},
	{"one member of etcd must leave to be upgraded", nil, "s1:staged", etcd("s1:leader"), "s1=Active/Activate"},
	{"a sick member holds the others", nil, "s1:staged s2:staged s3:staged", etcd("s1", "s2", "s3:sick"), "s3=Active/Activate | !s1=Active | !s2=Active"},
	{"five members can spare a second one", nil, "s1:staged s2:staged s3:staged s4:staged s5:staged", etcd("s1", "s2", "s3", "s4", "s5:sick"), "goals: s1=Active/Activate\n"},
	{"a learner is no voter", nil, "s1:staged s2:staged s3:staged", etcd("s1", "s2:learner", "s3:learner"), "goals: s1=Active/Activate\n"},
	{"groups go one after another", func(p *planSpec) {
		p.Order = []metav1.LabelSelector{{MatchLabels: map[string]string{"canary": "yes"}}}
		p.MaxUnavailable = number(3)
	}, "w1:staged w2:staged,canary=yes", nil, "goals: w2=Active/Activate\n"},
	{"a group waits for the one before it", func(p *planSpec) {
		p.Order = []metav1.LabelSelector{{MatchLabels: map[string]string{"canary": "yes"}}}
		p.MaxUnavailable = number(3)
	}, "w1:staged w2:trial,canary=yes", nil, "goals: none"},
	{"groups do not put workers before the control plane", func(p *planSpec) {
		p.Order = []metav1.LabelSelector{{MatchLabels: map[string]string{"canary": "yes"}}}
		p.MaxUnavailable = number(3)
	}, "s1:staged w2:staged,canary=yes", nil, "goals: s1=Active/Activate\n"},
	{"who has downloaded goes first", nil, "w1:fetching w2:staged", nil, "goals: w2=Active/Activate\n"},

	// Steps.
	{"the first step is a canary", canary, "w1:staged w2:staged w3:staged w4:staged", nil, "goals: w1=Active/Activate\n | step \"1/2\""},
	{"a step soaks", canary, "w1:done=10m w2:staged w3:staged w4:staged", nil, "Soaking/Soaking 1/4 | step \"1/2\": soaking for 50m after step 1/2 | again: in 50m0s | !Active"},
	{"the next step begins after the soak", canary, "w1:done=61m w2:staged w3:staged w4:staged", nil, "goals: w2=Active/Activate\n | step \"2/2\""},
	{"a step's share is of all nodes", canary, "w1:done=90m w2:done=3h w3:staged w4:staged", nil, "goals: none | soaking for 30m after step 2/2"},
	{"behind the last step all go", canary, "w1:done=5h w2:done=5h w3:staged w4:staged", nil, "goals: w3=Active/Activate w4=Active/Activate\n"},
	{"a node that had the release before is no canary", canary, "w1:runs w2:staged w3:staged w4:staged", nil, "goals: w2=Active/Activate\n | step \"1/2\""},
	{"a canary on its way holds the step", canary, "w1:trial w2:staged", nil, "goals: none | Rolling"},
	{"a canary that is not Ready after its upgrade holds the step", canary, "w1:done=30m,notready=5m w2:staged", nil, "!Active | NotReady"},
	{"a canary that stays away after its upgrade is a failure", canary, "w1:done=30m,notready=25m w2:staged", nil, "Halted/Halted | w1: it is not Ready since its upgrade"},
	{"a larger step than there are nodes lets all go", func(p *planSpec) {
		p.Steps, p.MaxUnavailable = []v1alpha1.Step{step(50, time.Hour)}, number(5)
	}, "w1:staged w2:staged", nil, "w1=Active/Activate w2=Active/Activate"},
	{"a clock that went back makes a soak longer, not endless", canary, "w1:done=10m w2:staged", func(f *fleet) { f.Now = f.Now.Add(-24 * time.Hour) }, "Soaking | again: in 1h0m0s"},

	// Spread.
	{"nodes of one zone go together", zones, "w1:staged,zone=a w2:staged,zone=b w3:staged,zone=a", nil, "goals: w1=Active/Activate w3=Active/Activate\n"},
	{"a zone on its way is finished first", zones, "w1:staged,zone=a w2:trial,zone=b w3:staged,zone=b", nil, "goals: w3=Active/Activate\n"},
	{"a zone waits for the last node of another", zones, "w1:staged,zone=a w2:trial,zone=b", nil, "goals: none"},
	{"a zone that has begun goes on", zones, "w1:staged,zone=a w2:done,zone=b w3:staged,zone=b", nil, "goals: w3=Active/Activate\n"},
	{"nodes without the label are a zone of their own", zones, "w1:staged,zone=a w2:staged", nil, "goals: w2=Active/Activate\n"},
	{"a dead node does not hold the other zones for ever", zones, "w1:staged,zone=a,notready w2:staged,zone=b", nil, "goals: w2=Active/Activate\n"},

	// Windows.
	{"nothing restarts outside a window", noWindow, "w1:staged", nil, "Waiting/Window | waiting for window Sun 02:00 UTC in 14h | again: in 14h0m0s | !Active"},
	{"nodes download outside a window", noWindow, "w1", nil, "w1=Staged/Stage | waiting for window Sun 02:00 UTC"},
	{"a late plan does not download outside a window", all(noWindow, late), "w1", nil, "goals: none | Waiting/Window"},
	{"an open window lets nodes go", saturday("11:30", time.Hour, ""), "w1:staged", nil, "w1=Active/Activate | again: in 10m0s"},
	{"a window knows its time zone", saturday("14:30", time.Hour, "Europe/Berlin"), "w1:staged", nil, "waiting for window Sat 14:30 Europe/Berlin in 1h30m | !Active"},
	{"a window that began in another zone is open", saturday("12:30", time.Hour, "Europe/Berlin"), "w1:staged", nil, "w1=Active/Activate"},
	{"one of two windows is enough", all(noWindow, saturday("11:00", 2*time.Hour, "")), "w1:staged", nil, "w1=Active/Activate"},
	{"a window gates every node", noWindow, "w1:done w2:staged", nil, "!Active | Waiting/Window"},
	{"a closed window calls back who has not begun", noWindow, "w1:granted", nil, "w1=Staged/CalledBack"},
	{"a closed window calls back who still drains", noWindow, "w1:draining", nil, "w1=Staged/CalledBack"},
	{"a node that did not begin before the window closed is no failure", noWindow, "w1:granted=30m", func(f *fleet) { f.NodeUpgrades[0].Spec.NotAfter = stamp(noon.Add(-time.Minute)) }, "w1=Staged/CalledBack | !Halted"},
	{"a closed window lets a restart come to its end", noWindow, "w1:armed", nil, "goals: none | Rolling"},
	{"a closed window lets a trial come to its end", noWindow, "w1:trial", nil, "goals: none | w1 is on trial"},

	// Download.
	{"early downloads are for all", nil, "w1 w2 w3", nil, "w1=Staged/Stage w2=Staged/Stage w3=Staged/Stage | Staging/Staging"},
	{"late downloads are for those whose turn it is", late, "w1 w2 w3", nil, "goals: w1=Staged/Stage\n"},
	{"a late download is followed by the restart", late, "w1:staged w2", nil, "goals: w1=Active/Activate\n"},
	{"a late download keeps its place", late, "w1:fetching w2", nil, "goals: none | w1 downloads, 40 %"},
	{"a download that nobody takes is told", nil, "w1:fetching,unseen", nil, "w1 is told to download"},
	{"a download says what hinders it", nil, "w1:fetching,says=registry_is_away", nil, "w1 downloads: registry is away"},
	{"a slow download does not hold the others", nil, "w1:fetching w2:fetching w3:staged", nil, "goals: w3=Active/Activate\n"},

	// The way of a node.
	{"a drain says what blocks it", nil, "w1:draining,says=PodDisruptionBudget_shop/web_allows_no_eviction w2:staged", nil, "Rolling/Draining | w1 drains: PodDisruptionBudget shop/web allows no eviction"},
	{"a drain that does not end is a failure", nil, "w1:draining=90m,says=PodDisruptionBudget_shop/web_allows_no_eviction w2:staged", nil, "Halted | it has not been drained in time: PodDisruptionBudget shop/web allows no eviction"},
	{"a drain that may wait for ever is no failure", nil, "w1:draining=90h w2:staged", func(f *fleet) { f.NodeUpgrades[0].Spec.Drain.WhenBlocked = v1alpha1.DrainWait }, "Rolling | goals: none"},
	{"hooks make the drain longer", nil, "w1:draining=52m", func(f *fleet) {
		f.NodeUpgrades[0].Spec.Hooks = &v1alpha1.Hooks{Pre: []v1alpha1.Hook{{Name: "a"}}}
	}, "Rolling"},
	{"a node that does not begin is a failure", nil, "w1:granted=11m", nil, "Halted | w1: it has not begun: is its agent running?"},
	{"a node that has not begun yet is waited for", nil, "w1:granted=4m", nil, "Rolling | again: in 6m0s"},
	{"a node that does not come back is a failure", nil, "w1:armed=40m,notready w2:staged", nil, "Halted/Halted 0/2 failed 1 | w1: it has not come back since it was restarted | !Active"},
	{"a node has its deadline to come back", nil, "w1:armed=20m,notready", nil, "Rolling | w1 restarts | again: in 6m0s"},
	{"a trial that does not end is a failure", nil, "w1:trial=40m,says=pod_x_pending", nil, "w1: it is still on trial: pod x pending"},
	{"a node that comes back after all is none", nil, "w1:done=1h w2:staged", nil, "w2=Active/Activate"},
	{"a node that runs the release but is of an earlier boot is not through", nil, "w1:done,boot=boot-2 w2:staged", nil, "w1 restarted, and its agent has not said anything since | !Active"},
	{"a committed node that is not Ready is not through", nil, "w1:done=5m,notready w2:staged", nil, "!Complete | !Active"},
	{"all through is complete", nil, "s1:done w1:done", nil, "Complete/Complete 2/2 | os v2.0.0 runs on 2 nodes | again: never"},
	{"a node that is away later leaves a plan complete", nil, "w1:done=30h,notready w2:done", nil, "Complete"},

	// Failures.
	{"a node that rolled back halts the plan", nil, "w1:rolledback w2:staged", nil, "Halted/Halted 0/2 failed 1 | halted: 1 of 1 allowed failures: w1: kubelet did not start | !Active"},
	{"a halted plan lets nothing download", nil, "w1:rolledback w2", nil, "goals: none"},
	{"a halted plan calls back who has not begun", away2, "w1:rolledback w2:granted", nil, "w2=Staged/CalledBack"},
	{"a halted plan lets a restart come to its end", away2, "w1:rolledback w2:armed", nil, "goals: none | Halted | w2 restarts"},
	{"haltAfter bears failures", failing(2, 0), "w1:rolledback w2:staged", nil, "w2=Active/Activate"},
	{"haltAfter halts", failing(2, 0), "w1:rolledback w2:rolledback w3:staged", nil, "2 of 2 allowed failures | !Active"},
	{"haltAfter may be a share", failing("50%", 0), "w1:rolledback w2:staged w3:staged w4:staged", nil, "w2=Active/Activate"},
	{"a plan with failures ends halted", failing(3, 0), "w1:rolledback w2:done", nil, "Halted/Halted 1/2 | all other nodes are through: w1: kubelet did not start"},
	{"a refused download is a failure", nil, "w1:failed w2:staged", nil, "w1: no space | Halted"},
	{"a failed node waits before it tries again", failing(1, 1), "w1:rolledback=3m w2:staged", nil, "Waiting/Retry | waiting to try w1 again in 8m: kubelet did not start | again: in 8m0s | !Active"},
	{"a failed node tries again", failing(1, 1), "w1:rolledback=30m w2:staged", nil, "w1=Staged/Retry#2! | !Active"},
	{"who tries again goes first", failing(1, 1), "w1:staged w2:staged,attempt=2", nil, "goals: w2=Active/Activate#2!\n"},
	{"a second wait is longer", failing(1, 2), "w1:rolledback=15m,attempt=2 w2:staged", nil, "waiting to try w1 again in 6m"},
	{"no try is left", failing(1, 1), "w1:rolledback=10h,attempt=2 w2:staged", nil, "Halted"},
	{"a retry that is awaited does not hold those whom haltAfter allows", failing(2, 1), "w1:rolledback=3m w2:staged", nil, "w2=Active/Activate"},
	{"a worker that tries again does not hold the control plane", failing(1, 1), "s1:staged w1:staged,attempt=2", nil, "s1=Active/Activate"},
	{"a node that tries again takes its zone first", all(zones, failing(1, 1)), "w1:staged,zone=a w2:staged,zone=b,attempt=2", nil, "goals: w2=Active/Activate#2!\n"},
	{"a dead node that was to try again does not hold the others", all(away2, failing(1, 1)), "w1:staged w2:staged,attempt=2,notready", nil, "w1=Active/Activate"},
	{"raising retry tries again", func(p *planSpec) { p.Retry = 1 }, "w1:rolledback w2:staged", nil, "w1=Staged/Retry! | !Halted"},
	{"a retry is raised once", func(p *planSpec) { p.Retry = 1 }, "w1:rolledback,retry w2:staged", nil, "Halted"},
	{"a node that does not begin is called back", nil, "w1:granted=20m w2:staged", nil, "goals: w1=Staged/GaveUp\n | Halted"},
	{"a drain that does not end is called back", nil, "w1:draining=90m", nil, "w1=Staged/GaveUp | Halted"},
	{"a node that was given up is a failure for good", nil, "w1:gaveup=2h w2:staged", nil, "goals: none | Halted | w1: it has not begun"},
	{"a node that was given up and has not heard is away", away2, "w1:gaveup,unseen w2:staged w3:staged", func(f *fleet) { f.Plans[0].Spec.Failure = &v1alpha1.Failure{HaltAfter: number(2)} }, "goals: w2=Active/Activate\n | failed 1"},
	{"a node that was given up tries again", failing(1, 1), "w1:gaveup=2h", nil, "w1=Staged/Retry#2!"},
	{"retry tries a node again that was given up", func(p *planSpec) { p.Retry = 1 }, "w1:gaveup=2h", nil, "w1=Staged/Retry!"},
	{"a node that was given up and made it is done", nil, "w1:gaveup=2h w2:staged", func(f *fleet) {
		f.NodeUpgrades[0].Status.Phase, f.NodeUpgrades[0].Status.Running = v1alpha1.NodeCommitted, f.NodeUpgrades[0].Status.Staged
	}, "w2=Active/Activate | 1/2"},
	{"a known-bad release is not tried by itself", nil, "w1:bad w2:staged", nil, "Halted | w1: the release failed on it before: it panicked | !w1="},
	{"retry tries a known-bad release", func(p *planSpec) { p.Retry = 1 }, "w1:bad", nil, "w1=Staged/Retry!"},
	{"a known-bad release that is tried again is not held against it", nil, "w1:staged,bad,attempt=2", nil, "w1=Active/Activate#2!"},
	{"an answer to an earlier goal is no failure", nil, "w1:rolledback=5m,unseen w2:staged", nil, "!Halted"},

	// Going back.
	{"a halted plan leaves upgraded nodes alone", nil, "w1:rolledback w2:done", nil, "goals: none | Halted"},
	{"a halted plan takes all back if it should", backAll, "w1:rolledback w2:done", nil, "goals: w2=RolledBack/RollBack\n | RollingBack"},
	{"a rollback keeps to maxUnavailable", all(backAll), "w1:rolledback w2:done w3:done", nil, "goals: w2=RolledBack/RollBack\n"},
	{"a rollback keeps to windows", all(noWindow, backAll), "w1:rolledback w2:done", nil, "goals: none | RollingBack/Window"},
	{"a rollback takes workers first", rollback, "s1:done w1:done", nil, "goals: w1=RolledBack/RollBack\n"},
	{"a rollback takes the control plane last", rollback, "s1:done w1:wentback", nil, "goals: s1=RolledBack/RollBack\n"},
	{"a rollback takes control-plane nodes one at a time", all(rollback, away2), "s1:done s2:done", nil, "goals: s1=RolledBack/RollBack\n"},
	{"a rollback waits for workers on their way", rollback, "s1:done w1:back", nil, "goals: none | w1 is told to go back"},
	{"a rollback ends", rollback, "w1:wentback w2:wentback", nil, "RolledBack/RolledBack 0/2 | 2 nodes went back | again: never"},
	{"a rollback leaves nodes alone that had the release before", rollback, "w1:runs w2:wentback", nil, "RolledBack"},
	{"a rollback calls back who has not begun", rollback, "w1:granted", nil, "w1=Staged/CalledBack"},
	{"a rollback that does not begin is given up", rollback, "w1:back=20m", nil, "goals: w1=Active/GaveUp\n"},
	{"a rollback that was given up is not given up again", rollback, "w1:back=20m,unseen", func(f *fleet) {
		nu := f.NodeUpgrades[0]
		nu.Spec.State, nu.Spec.GaveUp = v1alpha1.GoalActive, &v1alpha1.GaveUp{At: *stamp(noon), Message: "it has not begun"}
		nu.Status = v1alpha1.NodeUpgradeStatus{}
	}, "goals: none"},
	{"a rollback needs something to go back to", rollback, "w1:done,nothingbefore", nil, "goals: none | w1 did not: it has nothing to go back to"},
	{"a datastore does not go back", all(kube("v1.36.3"), rollback), "s1:done", nil, "its datastore cannot follow to Kubernetes v1.35.2"},
	{"a rollback that is not wanted any more is undone", nil, "w1:wentback w2:done", nil, "w1=Staged/Retry!"},
	{"a rollback that has not begun is undone", nil, "w1:back", nil, "w1=Active/CalledBack"},
	{"a paused rollback calls back who has not begun", all(rollback, paused), "w1:back", nil, "w1=Active/CalledBack"},
	{"a paused rollback does not begin", all(rollback, paused), "w1:done", nil, "goals: none | Paused/Paused"},

	// Pause.
	{"a paused plan lets nothing begin", paused, "w1:staged w2", nil, "goals: none | Paused/Paused"},
	{"a paused plan calls back who has not begun", paused, "w1:granted", nil, "w1=Staged/CalledBack"},
	{"a paused plan calls back who drains", paused, "w1:draining", nil, "w1=Staged/CalledBack"},
	{"a paused plan lets a trial come to its end", paused, "w1:trial", nil, "goals: none | Paused/Paused | w1 is on trial"},
	{"a plan that is complete and paused is complete", paused, "w1:done", nil, "Complete"},

	// Guards.
	{"an older system is refused", nil, "w1:os=v2.5.0 w2:staged", nil, "w2=Active/Activate | !w1="},
	{"a refusal says why and how", nil, "w1:os=v2.5.0 w2:done", nil, "Waiting/Blocked 1/2 | it runs v2.5.0, and v2.0.0 is older; allowDowngrade takes it"},
	{"an older system is taken if allowed", downgrade, "w1:os=v2.5.0", nil, "w1=Staged/Stage"},
	{"a system that may follow is taken", nil, "w1", follows(">=1.0.0"), "w1=Staged/Stage"},
	{"a system that may not follow is refused", nil, "w1", follows(">=1.5.0"), "Blocked | it runs v1.0.0, and v2.0.0 may follow only >=1.5.0; go there first | goals: none"},
	{"a node that runs it already is done", nil, "w1:done", follows(">=1.5.0"), "Complete"},
	{"a system that does not say soundly what it may follow is refused", nil, "w1", follows("new"), "Blocked | does not say what it may follow | goals: none"},
	{"a lower minor version of Kubernetes is refused, allowed or not", all(kube("v1.34.9"), downgrade), "w1", nil, "Blocked | a lower minor version than that cannot follow"},
	{"a system with a lower minor version under what runs beside it is taken", nil, "w1", func(f *fleet) { inImage("v1.34.9")(f); beside("v1.35.2")(f) }, "w1=Staged/Stage"},
	{"a system with a lower minor version is refused", nil, "w1", inImage("v1.34.9"), "Blocked | a lower minor version than that cannot follow"},
	{"an older patch of Kubernetes is refused", kube("v1.35.1"), "w1", nil, "Blocked | allowDowngrade takes it"},
	{"an older patch of Kubernetes is taken if allowed", all(kube("v1.35.1"), downgrade), "w1", nil, "w1=Staged/Stage"},
	{"Kubernetes goes one minor version at a time", kube("v1.37.0"), "w1", nil, "Blocked | go to v1.36 first | goals: none"},
	{"Kubernetes in the system image is looked at too", nil, "w1", inImage("v1.37.0"), "Blocked | go to v1.36 first"},
	{"a kubelet is never newer than the oldest API server", func(p *planSpec) {
		kube("v1.36.3")(p)
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
	}, "s1 w1:staged,pool=a", nil, "Waiting/VersionSkew | w1 waits: an API server is still v1.35, and no kubelet may be newer | !Active"},
	{"a kubelet waits while an API server is on its way", func(p *planSpec) {
		kube("v1.36.3")(p)
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
	}, "s1:k=v1.36.3 w1:staged,pool=a", func(f *fleet) { f.NodeUpgrades[0].Status.Phase = v1alpha1.NodeTrial }, "control-plane node s1 is on its way | !Active"},
	{"a kubelet follows its API servers", kube("v1.36.3"), "s1:done w1:staged", nil, "w1=Active/Activate"},
	{"API servers stay within one minor version", kube("v1.36.3"), "s1:staged,saved s2:k=v1.34.0", nil, "another API server is still v1.34 | !Active"},
	{"an API server does not leave old kubelets behind", kube("v1.36.3"), "s1:staged,saved w1:k=v1.32.0", nil, "a kubelet is still v1.32, too old for an API server of v1.36 | !Active"},
	{"a kubelet that waits for an API server that failed ends the plan", all(kube("v1.36.3"), failing(2, 0)), "s1:rolledback w1:staged", nil, "Halted/Halted | the other nodes cannot go without it: s1: kubelet did not start"},
	{"so does one that would try again", all(kube("v1.36.3"), failing(2, 1)), "s1:rolledback=9h,attempt=2 w1:staged,attempt=2", nil, "Halted/Halted | the other nodes cannot go without it: s1"},
	{"the same minor version has no order of its own", func(p *planSpec) {
		kube("v1.35.4")(p)
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
	}, "s1 w1:staged,pool=a", nil, "w1=Active/Activate"},
	{"system and Kubernetes go in one restart", osAndKube("v1.36.3"), "s1:done w1:staged", nil, "w1=Active/Activate | 1/2"},
	{"system and Kubernetes must both be there", osAndKube("v1.36.3"), "s1:done w1:done,k=v1.35.2", nil, "!Complete"},

	// Backup.
	{"a new minor version wants a snapshot first", kube("v1.36.3"), "s1:staged", nil, "goals: s1=Staged/Snapshot\n | Waiting/Snapshot | waiting for a snapshot of the datastore on s1"},
	{"a snapshot that is asked for is waited for", kube("v1.36.3"), "s1:staged,asked", nil, "goals: none | Snapshot | again: in 59m0s"},
	{"one server is asked for a snapshot, not all", all(kube("v1.36.3"), away2), "s1:staged s2:staged", nil, "goals: s1=Staged/Snapshot\n"},
	{"the server that was asked stays the one", all(kube("v1.36.3"), away2), "s1:staged s2:staged,asked,unseen", nil, "goals: none"},
	{"a snapshot lets the server go", kube("v1.36.3"), "s1:staged,saved", nil, "s1=Active/Activate"},
	{"an old snapshot does not count", kube("v1.36.3"), "s1:staged,saved=2h", nil, "goals: s1=Staged/Snapshot\n"},
	{"a snapshot from the future does not count", kube("v1.36.3"), "s1:staged,saved=-2h", nil, "goals: s1=Staged/Snapshot\n"},
	{"an answer to another request does not count", kube("v1.36.3"), "s1:staged,saved", func(f *fleet) { f.NodeUpgrades[0].Status.Snapshot.RequestedAt = stamp(noon.Add(-9 * time.Hour)) }, "goals: none | Snapshot"},
	{"the second server needs no snapshot", all(kube("v1.36.3")), "s1:done s2:staged", nil, "s2=Active/Activate"},
	{"a patch needs no snapshot", kube("v1.35.4"), "s1:staged", nil, "s1=Active/Activate"},
	{"a worker needs no snapshot", kube("v1.36.3"), "s1:done w1:staged", nil, "w1=Active/Activate"},
	{"a snapshot may be wanted always", func(p *planSpec) { p.Backup = v1alpha1.BackupAlways }, "s1:staged", nil, "s1=Staged/Snapshot"},
	{"a snapshot may be wanted never", all(kube("v1.36.3"), noBackup), "s1:staged", nil, "s1=Active/Activate"},
	{"no snapshot is asked for outside a window", all(kube("v1.36.3"), noWindow), "s1:staged", nil, "goals: none"},

	// Health.
	{"a check that failed before is not held against the release", checks, "w1:staged w2:staged", shopFails(time.Hour), "w1=Active/Activate w2=Active/Activate"},
	{"a check may have to hold before the first node", func(p *planSpec) { checks(p); p.Health.Baseline = v1alpha1.BaselineRequire }, "w1:staged", shopFails(time.Hour), "Waiting/Health | waiting for health check shop: 1 of 2 ready | !Active"},
	{"a check that fails after a node holds the next", checks, "w1:done=2m w2:staged", shopFails(time.Minute), "Waiting/Health | again: in 9m0s | !Active"},
	{"a check that fails for longer is a failure", checks, "w1:done=20m w2:staged", shopFails(15 * time.Minute), "Halted | w1: health check shop does not hold since its upgrade: 1 of 2 ready"},
	{"a check of which nobody knows since when it fails is no failure yet", checks, "w1:done=20m w2:staged", func(f *fleet) { f.Checks["p"] = []CheckResult{{Name: "shop", Message: "1 of 2 ready"}} }, "Waiting/Health | !Halted"},
	{"a check of the baseline may go on failing", checks, "w1:done=20m,baseline=shop w2:staged", shopFails(15 * time.Minute), "w2=Active/Activate"},
	{"a check that fails long after is nobody's failure", checks, "w1:done=9h w2:staged", shopFails(30 * time.Minute), "Waiting/Health | !Halted"},
	{"the last node must leave the checks holding", checks, "w1:done=2m", shopFails(time.Minute), "!Complete | Waiting/Health"},
	{"a check that fails long after leaves a plan complete", checks, "w1:done=9h", shopFails(30 * time.Minute), "Complete"},
	{"a check that fails while nodes are on their way holds the others", checks, "w1:trial w2:staged", shopFails(time.Minute), "!Active"},

	// Two plans.
	{"of two plans the older wins", nil, "w1:staged", second(), "w1=Active/Activate | q: Waiting/OtherPlan | w1 is left to another: plan p is older and decides over it"},
	{"the older plan wins after it is complete, too", nil, "w1:done", second(), "goals: none | p: Complete | q: Waiting/OtherPlan"},
	{"the younger plan goes its way elsewhere", func(p *planSpec) {
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
	}, "w1:done,pool=a w2", second(), "w2=Staged/Stage"},
	{"a plan for Kubernetes waits for one for the system", nil, "w1:staged", second(kube("v1.35.4")), "w1=Active/Activate | q: Waiting/OtherPlan | plan p is older and comes first"},
	{"a plan for Kubernetes follows one for the system", nil, "w1:done", second(kube("v1.35.4")), "w1=Staged/Stage | p: Complete | q: Staging"},
	{"two plans together keep the control plane whole", func(p *planSpec) {
		p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
	}, "s1:staged,pool=a s2", func(f *fleet) {
		second(func(p *planSpec) { p.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "b"}} })(f)
		f.Nodes[1].Labels["pool"] = "b"
		t := osTarget("v3.0.0", "")
		f.NodeUpgrades[1].Spec = v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalStaged, Target: &t, Attempt: 1, Plan: &v1alpha1.PlanRef{Name: "q", UID: "uid-q"}}
		f.NodeUpgrades[1].Status.Phase, f.NodeUpgrades[1].Status.Staged = v1alpha1.NodeStaged, releaseOf(&t)
	}, "goals: s1=Active/Activate\n | q: Waiting/ControlPlane"},
	{"an invalid older plan does not stand in the way", func(p *planSpec) { p.MaxUnavailable = percent("x") }, "w1", second(), "w1=Staged/Stage"},

	// Changes in the middle.
	{"another release is downloaded instead", nil, "w1:staged w2:done", changed, "w1=Staged/Stage w2=Staged/Stage | 0/2"},
	{"another release calls back who has not begun", nil, "w1:granted", changed, "w1=Staged/CalledBack"},
	{"another release lets a trial come to its end", nil, "w1:trial", changed, "goals: none"},
	{"another release forgets failures", nil, "w1:rolledback w2:staged", changed, "w1=Staged/Stage w2=Staged/Stage | !Halted"},
	{"a plan that is deleted lets its nodes go", nil, "w1:staged w2:granted w3:trial", func(f *fleet) { f.Plans = nil }, "goals: w1=/Released w2=/Released\n"},
	{"a plan that is being deleted is none", nil, "w1:staged", func(f *fleet) { f.Plans[0].DeletionTimestamp = stamp(noon) }, "goals: w1=/Released\n"},
	{"a plan of the same name is another plan", nil, "w1:rolledback,attempt=1 w2:staged", func(f *fleet) { f.Plans[0].UID = types.UID("uid-new"); f.NodeUpgrades[0].Status.Bad = nil }, "w1=Staged/Stage w2=Staged/Stage"},
	{"a lost status changes nothing", canary, "w1:done=10m w2:staged", func(f *fleet) { f.Plans[0].Status = v1alpha1.PlanStatus{} }, "Soaking"},
	{"a single node is not drained", nil, "s1:staged", nil, "s1=Active/Activate"},
	// Downloads.
	{"so many download at once", two, "w1:fetching w2 w3", nil, "goals: w2=Staged/Stage\n | 1 node will download later"},
	{"whose turn it is first downloads first", two, "w1 w2 s1 s2", nil, "goals: s1=Staged/Stage s2=Staged/Stage\n"},
	{"who is away keeps no place", two, "w1:fetching,notready w2 w3 w4", nil, "goals: w2=Staged/Stage w3=Staged/Stage\n"},
	{"who is away is told when it is back", two, "w1:notready w2", nil, "goals: w2=Staged/Stage\n"},
	{"who is through makes place", two, "w1:staged w2:staged w3:fetching w4 w5", nil, "w4=Staged/Stage | !w5="},
	{"a download without end keeps no place", two, "w1:fetching w2:fetching w3", func(f *fleet) {
		f.NodeUpgrades[0].Status.Since = stamp(noon.Add(-3 * time.Hour))
	}, "goals: w3=Staged/Stage\n"},
	{"who was told keeps a place until it answers", two, "w1:fetching w2:fetching w3", unanswered(9 * time.Minute), "goals: none"},
	{"whoever does not answer keeps no place", two, "w1:fetching w2:fetching w3", unanswered(11 * time.Minute), "goals: w3=Staged/Stage\n"},
	{"who was told in the future keeps a place", two, "w1:fetching w2:fetching w3", unanswered(-11 * time.Minute), "goals: none"},
	{"late downloads are counted too", all(two, late, func(p *planSpec) { p.MaxUnavailable = number(9) }), "w1:fetching w2 w3", nil, "w2=Staged/Stage | !w3= | w3 will download later"},
	{"what maxDownloads may be", func(p *planSpec) { p.MaxDownloads = percent("x") }, "w1", nil, "Invalid | maxDownloads"},
	{"a clock far in the future does not panic", nil, "w1:trial", func(f *fleet) { f.Now = f.Now.AddDate(100, 0, 0) }, "Halted"},
	{"a clock far in the past does not panic", saturday("02:00", time.Hour, "Europe/Berlin"), "w1:trial w2:staged", func(f *fleet) { f.Now = time.Unix(0, 0) }, "Rolling"},
}

// unanswered has the first node told to download so long ago, and silent since.
func unanswered(ago time.Duration) func(*fleet) {
	return func(f *fleet) {
		nu := f.NodeUpgrades[0]
		nu.Spec.StageRequestedAt = stamp(noon.Add(-ago))
		nu.Status.ObservedGeneration, nu.Status.Phase = nu.Generation-1, v1alpha1.NodeIdle
	}
}

func TestDecide(t *testing.T) {
	if len(rows) < 120 {
		t.Errorf("%d rows; the rules are more than 120", len(rows))
	}
	names := map[string]bool{}
	for _, r := range rows {
		if names[r.name] {
			t.Errorf("%q twice", r.name)
		}
		names[r.name] = true
		t.Run(r.name, func(t *testing.T) {
			f := newFleet()
			f.plan("p", r.spec)
			f.nodes(r.nodes)
			if r.more != nil {
				r.more(f)
			}
			got := f.text(Decide(f.Input))
			for _, want := range strings.Split(r.want, " | ") {
				no, absent := strings.CutPrefix(want, "!")
				if absent && strings.Contains(got, no) || !absent && !strings.Contains(got, want) {
					t.Errorf("%q is not as it should be in\n%s", want, got)
				}
			}
		})
	}
}

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A Plan says which release the nodes of this cluster are to run, and how they
// get there: in which order, how many at a time, when, and what happens if one
// of them fails. It stays in force: a node that joins later is upgraded too.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=upl,categories=kedge
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.status.targetText`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="Updated",type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.failed`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Window",type=string,JSONPath=`.status.nextWindow`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Plan struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what you want.
	Spec PlanSpec `json:"spec"`
	// Status is how far it is; the controller writes it.
	// +optional
	// +kubebuilder:default={nodes:0, staged:0, updating:0, updated:0, unavailable:0, failed:0, conditions:{{type:"Ready", status:"False", reason:"New", message:"no controller has looked at it yet", lastTransitionTime:"1970-01-01T00:00:00Z"}}}
	Status PlanStatus `json:"status,omitempty"`
}

// PlanList is a list of plans.
//
// +kubebuilder:object:root=true
type PlanList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Plan `json:"items"`
}

// PlanSpec is what the user wants.
//
// +kubebuilder:validation:XValidation:rule="has(self.channel) != (has(self.os) || has(self.kubernetes))",message="name either a channel, or an os or kubernetes release, or both of the latter"
type PlanSpec struct {
	// OS is the system image that nodes are to run.
	// +optional
	OS *OSRelease `json:"os,omitempty"`
	// Kubernetes is the version of Kubernetes that nodes are to run, where it is
	// not the one that the system image brings.
	// +optional
	Kubernetes *KubernetesRelease `json:"kubernetes,omitempty"`
	// Channel follows a signed document that names the releases, in the place of
	// os and kubernetes. It never goes back to an older one.
	// +optional
	Channel *Channel `json:"channel,omitempty"`

	// NodeSelector chooses the nodes by their labels; all nodes without one. The
	// label upgrade.kedgeos.io/skip=true on a node keeps every plan away from it.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// Order lists groups of nodes. Each group is finished before the next begins;
	// nodes that are in none come last. Whatever it says, control-plane nodes go
	// before workers, one at a time, and the leader of etcd is the last of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Order []metav1.LabelSelector `json:"order,omitempty"`
	// Steps widen the rollout: after max nodes were upgraded it rests for the soak,
	// and only then goes on to the next step. The nodes beyond the last step follow
	// it without one. Without steps all nodes are one step.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Steps []Step `json:"steps,omitempty"`
	// MaxUnavailable is how many of the chosen nodes may be away at once, as a
	// number or a percentage, rounded down but at least 1. A node that is not
	// Ready or is cordoned counts, whatever the cause. 1 by default.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || self >= 1",message="a number of at least 1, or 1% to 100%"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`
	// Spread is a label of nodes, such as topology.kubernetes.io/zone: nodes of
	// only one value are away at the same time, and one value is finished before
	// the next begins.
	// +optional
	// +kubebuilder:validation:MaxLength=317
	Spread string `json:"spread,omitempty"`
	// Windows are the times at which a node may be drained and restarted; at any
	// time without one. A node that has not restarted when the window closes waits
	// for the next.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Windows []Window `json:"windows,omitempty"`
	// Stage says when nodes download the release: Early, as soon as the plan is
	// there, outside windows too; or Late, when it is the node's turn.
	// +optional
	// +kubebuilder:default=Early
	Stage StageTime `json:"stage,omitempty"`
	// MaxDownloads is how many of the chosen nodes download the release at once, as
	// a number or a percentage; all of them without one. Those whose turn comes
	// first go first. A download that takes longer than two hours, and a node that
	// does not answer for ten minutes, keep no other from its own.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || self >= 1",message="a number of at least 1, or 1% to 100%"
	MaxDownloads *intstr.IntOrString `json:"maxDownloads,omitempty"`

	// Drain says how pods leave a node before it restarts.
	// +optional
	Drain *Drain `json:"drain,omitempty"`
	// Health says what an upgraded node, and the cluster, must show.
	// +optional
	Health *Health `json:"health,omitempty"`
	// Failure says what happens when a node cannot keep the release.
	// +optional
	Failure *Failure `json:"failure,omitempty"`
	// Backup says when a snapshot of the cluster's datastore must be there before a
	// control-plane node restarts: Auto, when the minor version of Kubernetes
	// changes; Always; or Never.
	// +optional
	// +kubebuilder:default=Auto
	Backup BackupMode `json:"backup,omitempty"`
	// Hooks are containers that run on the node before it is drained and after it
	// was upgraded.
	// +optional
	Hooks *Hooks `json:"hooks,omitempty"`
	// AllowDowngrade takes an older release too. A lower minor version of
	// Kubernetes is refused all the same: no datastore can follow it.
	// +optional
	AllowDowngrade bool `json:"allowDowngrade,omitempty"`
	// Paused lets nothing new begin. A node that restarts already comes to its end.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// Rollback takes every node that this plan upgraded back to the release that
	// it ran before.
	// +optional
	Rollback bool `json:"rollback,omitempty"`
	// Retry gives nodes that failed another chance when it is raised.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Retry int64 `json:"retry,omitempty"`
}

// OSRelease names a system image.
type OSRelease struct {
	// Image is an OCI image, such as registry.example/kedge:v1.4.0 or
	// registry.example/kedge@sha256:…. A tag is looked up once; from then on the
	// plan means the digest that was found.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image"`
}

// KubernetesRelease names a version of Kubernetes.
//
// +kubebuilder:validation:XValidation:rule="has(self.version) || has(self.image)",message="name a version, an image, or both"
type KubernetesRelease struct {
	// Version, such as v1.36.3.
	// +optional
	// +kubebuilder:validation:Pattern=`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`
	Version string `json:"version,omitempty"`
	// Image is the OCI image that brings it, by tag or digest.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
}

// Channel is where a signed document with the current releases is.
//
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.configMap)",message="name either a url or a configMap"
type Channel struct {
	// URL of the document, https or http.
	// +optional
	// +kubebuilder:validation:Pattern=`^https?://`
	URL string `json:"url,omitempty"`
	// ConfigMap that holds the document, for a cluster without a network.
	// +optional
	ConfigMap *ConfigMapKey `json:"configMap,omitempty"`
	// Track is the name of the release line in the document; stable by default.
	// +optional
	// +kubebuilder:default=stable
	Track string `json:"track,omitempty"`
	// Interval between two looks; 1h by default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m')",message="at least 1m"
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// ConfigMapKey is one entry of a ConfigMap.
type ConfigMapKey struct {
	// Namespace of the ConfigMap. The controller may read those of kedge-system; for
	// one elsewhere, a Role there has to let it.
	Namespace string `json:"namespace"`
	// Name of the ConfigMap.
	Name string `json:"name"`
	// Key of the entry; channel by default.
	// +optional
	// +kubebuilder:default=channel
	Key string `json:"key,omitempty"`
}

// Step is one widening of a rollout.
type Step struct {
	// Max is how many of the chosen nodes this plan has upgraded, all steps so far
	// together, when the step is done: a number, or a percentage of the nodes,
	// rounded down but at least 1.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || self >= 1",message="a number of at least 1, or 1% to 100%"
	Max intstr.IntOrString `json:"max"`
	// Soak is the rest between the last node of this step and the first of the
	// next.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="a duration such as 90s or 1h30m"
	Soak metav1.Duration `json:"soak,omitempty"`
}

// Window is a time that comes again and again. It begins at the times of a cron
// line, or on some days of the week at one time of day, in its time zone. Its
// duration is time that really passes, also when clocks are changed in between.
// A beginning that does not exist on the day clocks go forward is an hour later;
// of one that comes twice, the first counts.
//
// +kubebuilder:validation:XValidation:rule="has(self.cron) != has(self.start)",message="name either cron, or days and start"
// +kubebuilder:validation:XValidation:rule="has(self.start) || !has(self.days)",message="days need a start"
type Window struct {
	// Cron is five fields: minute, hour, day of month, month, day of week.
	// +optional
	// +kubebuilder:validation:MaxLength=120
	Cron string `json:"cron,omitempty"`
	// Days of the week on which the window begins; every day without one.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=7
	Days []Weekday `json:"days,omitempty"`
	// Start is the time of day at which it begins, such as 02:00.
	// +optional
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	Start string `json:"start,omitempty"`
	// Duration, at most 168h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('168h')",message="from 1m to 168h"
	Duration metav1.Duration `json:"duration"`
	// TimeZone is a name of the IANA database, such as Europe/Berlin; UTC by
	// default.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`
}

// Weekday is a day of the week.
//
// +kubebuilder:validation:Enum=Mon;Tue;Wed;Thu;Fri;Sat;Sun
type Weekday string

// StageTime says when a release is downloaded.
//
// +kubebuilder:validation:Enum=Early;Late
type StageTime string

// When a release is downloaded.
const (
	StageEarly StageTime = "Early"
	StageLate  StageTime = "Late"
)

// BackupMode says when the datastore must have been saved.
//
// +kubebuilder:validation:Enum=Auto;Always;Never
type BackupMode string

// When the datastore must have been saved.
const (
	BackupAuto   BackupMode = "Auto"
	BackupAlways BackupMode = "Always"
	BackupNever  BackupMode = "Never"
)

// Drain says how pods leave a node.
type Drain struct {
	// Mode is Auto, Always or Never. Auto drains, unless the cluster has only one
	// node, whose pods have nowhere to go.
	// +optional
	// +kubebuilder:default=Auto
	Mode DrainMode `json:"mode,omitempty"`
	// Timeout for the whole drain; 30m by default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="a duration such as 90s or 1h30m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// GracePeriodSeconds that pods get, in the place of their own.
	// +optional
	// +kubebuilder:validation:Minimum=0
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`
	// WhenBlocked says what happens when pods are still there after the timeout,
	// because a PodDisruptionBudget allows no eviction: GiveUp uncordons the node
	// and counts as its failure; Wait goes on trying as long as the window is open;
	// Force deletes the pods.
	// +optional
	// +kubebuilder:default=GiveUp
	WhenBlocked BlockedDrain `json:"whenBlocked,omitempty"`
	// PodSelector limits the drain to some pods; all but those of DaemonSets
	// without one.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
}

// DrainMode says whether a node is drained.
//
// +kubebuilder:validation:Enum=Auto;Always;Never
type DrainMode string

// Whether a node is drained.
const (
	DrainAuto   DrainMode = "Auto"
	DrainAlways DrainMode = "Always"
	DrainNever  DrainMode = "Never"
)

// BlockedDrain says what happens to a drain that does not end.
//
// +kubebuilder:validation:Enum=GiveUp;Wait;Force
type BlockedDrain string

// What happens to a drain that does not end.
const (
	DrainGiveUp BlockedDrain = "GiveUp"
	DrainWait   BlockedDrain = "Wait"
	DrainForce  BlockedDrain = "Force"
)

// Health says what must be well after an upgrade.
type Health struct {
	// Deadline for a node to be Ready with the new release, from its restart on,
	// and for the checks to hold again after it; 15m by default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="a duration such as 90s or 1h30m"
	Deadline *metav1.Duration `json:"deadline,omitempty"`
	// Checks are looked at in the cluster, before each node and after it.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=50
	Checks []Check `json:"checks,omitempty"`
	// Probes are made by the node itself, while the new release is on trial.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=20
	Probes []Probe `json:"probes,omitempty"`
	// Baseline says what becomes of checks and probes that failed before the node
	// began: Ignore does not hold them against the new release; Require lets no
	// node begin before they hold.
	// +optional
	// +kubebuilder:default=Ignore
	Baseline Baseline `json:"baseline,omitempty"`
}

// Baseline says what becomes of checks that failed before.
//
// +kubebuilder:validation:Enum=Ignore;Require
type Baseline string

// What becomes of checks that failed before.
const (
	BaselineIgnore  Baseline = "Ignore"
	BaselineRequire Baseline = "Require"
)

// Check is an expression that must hold for objects of the cluster.
type Check struct {
	// Name by which messages call the check.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// APIVersion of the objects, such as apps/v1.
	APIVersion string `json:"apiVersion"`
	// Kind of the objects, such as Deployment.
	Kind string `json:"kind"`
	// Namespace of the objects; all namespaces without one.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// ObjectName is the name of the one object that is meant.
	// +optional
	ObjectName string `json:"objectName,omitempty"`
	// Selector chooses objects by their labels; all without one.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// Expr is a CEL expression over self, the object, that must be true for each
	// of them: "self.status.readyReplicas == self.spec.replicas".
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Expr string `json:"expr"`
}

// Probe is something that must answer on the node.
//
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.tcp)",message="name either a url or a tcp address"
type Probe struct {
	// Name by which messages call the probe.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// URL that must answer a GET with a status of 200 to 399.
	// +optional
	// +kubebuilder:validation:Pattern=`^https?://`
	URL string `json:"url,omitempty"`
	// TCP is an address, host:port, that must take a connection.
	// +optional
	TCP string `json:"tcp,omitempty"`
}

// Failure says what happens when nodes fail.
type Failure struct {
	// HaltAfter is the number or percentage of the chosen nodes whose failure
	// stops the plan; 1 by default.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || self >= 1",message="a number of at least 1, or 1% to 100%"
	HaltAfter *intstr.IntOrString `json:"haltAfter,omitempty"`
	// Retries is how often a node tries again before its failure counts; 0 by
	// default.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	Retries int32 `json:"retries,omitempty"`
	// Backoff before the first retry, doubled for each further one; 10m by
	// default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="a duration such as 90s or 1h30m"
	Backoff *metav1.Duration `json:"backoff,omitempty"`
	// Rollback says which nodes go back when the plan halts: Failed, only those
	// that failed, by themselves; or All, also those that this plan had upgraded.
	// +optional
	// +kubebuilder:default=Failed
	Rollback RollbackScope `json:"rollback,omitempty"`
}

// RollbackScope says which nodes go back when a plan halts.
//
// +kubebuilder:validation:Enum=Failed;All
type RollbackScope string

// Which nodes go back when a plan halts.
const (
	RollbackFailed RollbackScope = "Failed"
	RollbackAll    RollbackScope = "All"
)

// Hooks run on a node.
type Hooks struct {
	// Pre run before the node is drained, one after the other; the first that fails
	// is the failure of the node.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10
	Pre []Hook `json:"pre,omitempty"`
	// Post run once the new release is healthy, before it is kept; the first that
	// fails takes it back.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10
	Post []Hook `json:"post,omitempty"`
}

// Hook is a container that runs once on a node and must end with exit code 0.
type Hook struct {
	// Name by which messages call the hook.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Image of the container.
	// +kubebuilder:validation:MinLength=1
	Image string `json:"image"`
	// Command in the place of the image's own.
	// +optional
	// +listType=atomic
	Command []string `json:"command,omitempty"`
	// Args in the place of the image's own.
	// +optional
	// +listType=atomic
	Args []string `json:"args,omitempty"`
	// Env is what the container finds in its environment, beside KEDGE_NODE,
	// KEDGE_PLAN and KEDGE_TARGET.
	// +optional
	Env map[string]string `json:"env,omitempty"`
	// ServiceAccount in the controller's namespace whose rights it has; none
	// without one.
	// +optional
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Timeout; 5m by default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="a duration such as 90s or 1h30m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// Target is what a plan means, looked up and pinned.
type Target struct {
	// OS is the system image.
	// +optional
	OS *OSTarget `json:"os,omitempty"`
	// Kubernetes is the version beside it.
	// +optional
	Kubernetes *KubernetesTarget `json:"kubernetes,omitempty"`
	// Serial number of the channel's document that named it.
	// +optional
	Serial int64 `json:"serial,omitempty"`
}

// OSTarget is one system image.
type OSTarget struct {
	// Image as the plan or its channel names it.
	Image string `json:"image"`
	// Digest of the image, sha256:….
	// +kubebuilder:validation:Pattern=`^sha256:[a-f0-9]{64}$`
	Digest string `json:"digest"`
	// Version of the system.
	// +optional
	Version string `json:"version,omitempty"`
	// KubernetesVersion is that of the Kubernetes in the image.
	// +optional
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// UpgradeFrom are the versions of the system that it may follow, such as
	// ">=1.2.0"; all of them without one.
	// +optional
	UpgradeFrom string `json:"upgradeFrom,omitempty"`
}

// KubernetesTarget is one version of Kubernetes.
type KubernetesTarget struct {
	// Version of Kubernetes.
	Version string `json:"version"`
	// Image that brings it.
	// +optional
	Image string `json:"image,omitempty"`
	// Digest of the image, sha256:….
	// +optional
	Digest string `json:"digest,omitempty"`
}

// PlanPhase is a plan's state in one word.
type PlanPhase string

// The phases of a plan.
const (
	PlanInvalid     PlanPhase = "Invalid"     // the spec cannot be followed
	PlanPending     PlanPhase = "Pending"     // what it means is not known yet, or it has no nodes
	PlanStaging     PlanPhase = "Staging"     // nodes download
	PlanWaiting     PlanPhase = "Waiting"     // something must come to pass; the message says what
	PlanRolling     PlanPhase = "Rolling"     // nodes restart
	PlanSoaking     PlanPhase = "Soaking"     // the rest after a step
	PlanPaused      PlanPhase = "Paused"      // the user paused it
	PlanHalted      PlanPhase = "Halted"      // nodes failed; the user must decide
	PlanRollingBack PlanPhase = "RollingBack" // nodes go back
	PlanRolledBack  PlanPhase = "RolledBack"  // they have gone back
	PlanComplete    PlanPhase = "Complete"    // every chosen node runs the target
)

// Types of a plan's conditions.
const (
	ConditionValid       = "Valid"       // the spec can be followed
	ConditionResolved    = "Resolved"    // the target is known
	ConditionProgressing = "Progressing" // nodes change, or will without further cause; else the reason says why not
	ConditionHalted      = "Halted"      // nodes failed, nothing goes on
	ConditionComplete    = "Complete"    // every chosen node runs the target
	ConditionReady       = "Ready"       // the same, by the name that GitOps programs and "kubectl wait" look for
	ConditionStalled     = "Stalled"     // it cannot go on without the user, by the name that they look for; absent while it can
)

// PlanStatus is how far a plan is.
type PlanStatus struct {
	// ObservedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase is the state in one word.
	// +optional
	Phase PlanPhase `json:"phase,omitempty"`
	// Message says in a sentence what is going on, or what it waits for.
	// +optional
	Message string `json:"message,omitempty"`
	// Target is what the plan means, looked up and pinned.
	// +optional
	Target *Target `json:"target,omitempty"`
	// TargetText is the target's versions, for people.
	// +optional
	TargetText string `json:"targetText,omitempty"`
	// Step is the present step and their number, such as 2/3.
	// +optional
	Step string `json:"step,omitempty"`
	// Progress is how many of the chosen nodes run the target, such as 7/12.
	// +optional
	Progress string `json:"progress,omitempty"`
	// Nodes is the number of nodes that the plan chooses.
	Nodes int32 `json:"nodes"`
	// Staged nodes have the target on their disk, and do not run it yet.
	Staged int32 `json:"staged"`
	// Updating nodes are on their way.
	Updating int32 `json:"updating"`
	// Updated nodes run the target and are Ready.
	Updated int32 `json:"updated"`
	// Unavailable nodes are not Ready, cordoned or on their way.
	Unavailable int32 `json:"unavailable"`
	// Failed nodes could not keep the target.
	Failed int32 `json:"failed"`
	// RolledBack nodes were taken back by this plan.
	// +optional
	RolledBack int32 `json:"rolledBack,omitempty"`
	// Failures names nodes that failed, and why; the first ten.
	// +optional
	// +listType=map
	// +listMapKey=node
	Failures []NodeFailure `json:"failures,omitempty"`
	// NextWindow is when a window opens, or that one is open.
	// +optional
	NextWindow string `json:"nextWindow,omitempty"`
	// Conditions: Valid, Resolved, Progressing, Halted, Complete and Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// NodeFailure is why a node failed.
type NodeFailure struct {
	// Node is its name.
	Node string `json:"node"`
	// Message is why.
	Message string `json:"message"`
	// Attempts is how often it was tried.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
}

// PlanRef names one plan.
type PlanRef struct {
	// Name of the plan.
	Name string `json:"name"`
	// UID of the plan: one that was deleted and made again is another.
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// Generation of the plan when it set the goal.
	// +optional
	Generation int64 `json:"generation,omitempty"`
}

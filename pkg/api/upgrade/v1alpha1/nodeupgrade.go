package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// A NodeUpgrade is how one node stands. It has the name of its node. The
// controller writes the spec, the goal; the node writes the status, what it
// really does. Nobody else needs to write either.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nu,categories=kedge
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Goal",type=string,JSONPath=`.spec.state`
// +kubebuilder:printcolumn:name="OS",type=string,JSONPath=`.status.running.os.version`
// +kubebuilder:printcolumn:name="Kubernetes",type=string,JSONPath=`.status.running.kubernetes.version`
// +kubebuilder:printcolumn:name="Plan",type=string,JSONPath=`.spec.plan.name`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.target.os.image`,priority=1
// +kubebuilder:printcolumn:name="Attempt",type=integer,JSONPath=`.spec.attempt`,priority=1
// +kubebuilder:printcolumn:name="Digest",type=string,JSONPath=`.status.running.os.digest`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Armed', 'Trial']) || !has(self.status) || !has(self.status.phase) || !(self.status.phase in ['Armed', 'Trial']) || !has(self.spec) || !has(oldSelf.spec) || !has(oldSelf.spec.target) || (has(self.spec.target) && self.spec.target == oldSelf.spec.target)",message="the target may not change while the node is Armed or on Trial"
type NodeUpgrade struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the goal; the controller writes it.
	// +optional
	Spec NodeUpgradeSpec `json:"spec,omitempty"`
	// Status is what the node does; the node writes it.
	// +optional
	Status NodeUpgradeStatus `json:"status,omitempty"`
}

// NodeUpgradeList is a list of node upgrades.
//
// +kubebuilder:object:root=true
type NodeUpgradeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeUpgrade `json:"items"`
}

// GoalState is how far a node is to go.
//
// +kubebuilder:validation:Enum="";Staged;Active;RolledBack
type GoalState string

// How far a node is to go.
const (
	GoalNone       GoalState = ""           // no plan wants anything of it
	GoalStaged     GoalState = "Staged"     // have the target on the disk, and go no further
	GoalActive     GoalState = "Active"     // restart into the target and keep it
	GoalRolledBack GoalState = "RolledBack" // leave the target, for what ran before
)

// NodeUpgradeSpec is the goal of one node.
type NodeUpgradeSpec struct {
	// State is how far the node is to go: Staged, Active or RolledBack; nothing is
	// wanted of it without one.
	// +optional
	State GoalState `json:"state,omitempty"`
	// Plan that set this goal.
	// +optional
	Plan *PlanRef `json:"plan,omitempty"`
	// Target is what to run.
	// +optional
	Target *Target `json:"target,omitempty"`
	// Attempt counts the tries of this target on this node, from 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`
	// Retry is the plan's, when the attempts were counted from.
	// +optional
	Retry int64 `json:"retry,omitempty"`
	// Again lets the node take a target that failed on it before.
	// +optional
	Again bool `json:"again,omitempty"`
	// AllowDowngrade lets the node take an older release.
	// +optional
	AllowDowngrade bool `json:"allowDowngrade,omitempty"`

	// StageRequestedAt is when the node was told to download the target.
	// +optional
	StageRequestedAt *metav1.Time `json:"stageRequestedAt,omitempty"`
	// GrantedAt is when the node was told to restart.
	// +optional
	GrantedAt *metav1.Time `json:"grantedAt,omitempty"`
	// NotAfter is when that leave ends: a node that is not Armed by then stops
	// draining, uncordons itself and waits.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
	// GaveUp tells that the controller called the node back, because it did not
	// begin or did not end its drain in time. That is a failure of this attempt.
	// +optional
	GaveUp *GaveUp `json:"gaveUp,omitempty"`
	// Drain says how pods leave the node; it is not drained without one.
	// +optional
	Drain *Drain `json:"drain,omitempty"`
	// HealthDeadline for the node to be Ready with the target, from its restart
	// on.
	// +optional
	HealthDeadline *metav1.Duration `json:"healthDeadline,omitempty"`
	// Probes that the node makes while the target is on trial.
	// +optional
	// +listType=map
	// +listMapKey=name
	Probes []Probe `json:"probes,omitempty"`
	// Failing are the checks of the cluster that failed when the node was told to
	// restart; they are not held against the target.
	// +optional
	// +listType=set
	Failing []string `json:"failing,omitempty"`
	// Hooks that run on the node.
	// +optional
	Hooks *Hooks `json:"hooks,omitempty"`
	// SnapshotRequestedAt asks a control-plane node for a snapshot of the
	// datastore; it answers with the same time in its status.
	// +optional
	SnapshotRequestedAt *metav1.Time `json:"snapshotRequestedAt,omitempty"`
}

// GaveUp is why the controller waited no longer for a node.
type GaveUp struct {
	// At is when, by the controller's clock.
	At metav1.Time `json:"at"`
	// Message is why.
	Message string `json:"message"`
}

// NodePhase is where a node is on its way.
//
// +kubebuilder:validation:Enum=Idle;Fetching;Staged;Draining;Armed;Trial;Committed;RolledBack;Failed
type NodePhase string

// The phases of a node.
const (
	NodeIdle       NodePhase = "Idle"       // nothing goes on
	NodeFetching   NodePhase = "Fetching"   // the target is downloaded, verified and written to the idle slot
	NodeStaged     NodePhase = "Staged"     // the target lies in the idle slot, whole
	NodeDraining   NodePhase = "Draining"   // hooks run, pods leave; not told of a node that may go at once
	NodeArmed      NodePhase = "Armed"      // the next start is the trial, or began a moment ago
	NodeTrial      NodePhase = "Trial"      // the target runs, and has to show its health
	NodeCommitted  NodePhase = "Committed"  // the target is what the node starts
	NodeRolledBack NodePhase = "RolledBack" // the node runs what it ran before
	NodeFailed     NodePhase = "Failed"     // the goal was refused or given up; nothing changed on the node
)

// NodeUpgradeStatus is what a node says of itself.
type NodeUpgradeStatus struct {
	// ObservedGeneration is the generation of the goal that the node knows.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase is where the node is on its way.
	// +optional
	Phase NodePhase `json:"phase,omitempty"`
	// Since is when the phase began, by the node's clock.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// Reason is why the node is in this phase, in one word.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Reason string `json:"reason,omitempty"`
	// Message is the same in a sentence.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`
	// Downloaded is the share of the target that is on the disk, in percent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Downloaded int32 `json:"downloaded,omitempty"`
	// BootID of the kernel that this status was written under.
	// +optional
	BootID string `json:"bootID,omitempty"`
	// Running is what the node runs.
	// +optional
	Running *Release `json:"running,omitempty"`
	// Staged is what lies ready to be started.
	// +optional
	Staged *Release `json:"staged,omitempty"`
	// Previous is what the node can go back to.
	// +optional
	Previous *Release `json:"previous,omitempty"`
	// CommittedAt is when the node kept what it runs, by its clock.
	// +optional
	CommittedAt *metav1.Time `json:"committedAt,omitempty"`
	// Cordoned tells that the node cordoned itself, and will undo only that.
	// +optional
	Cordoned bool `json:"cordoned,omitempty"`
	// Bad are releases that failed on this node.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Bad []BadRelease `json:"bad,omitempty"`
	// Snapshot is the last snapshot of the datastore on this node.
	// +optional
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	// Conditions by Kubernetes' convention.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Release is what runs, or could.
type Release struct {
	// OS is the system image.
	// +optional
	OS *Version `json:"os,omitempty"`
	// Kubernetes is the version of Kubernetes.
	// +optional
	Kubernetes *Version `json:"kubernetes,omitempty"`
}

// Version is a version and, where it is known, the digest of the image that it
// came in.
type Version struct {
	// Version as the release names itself.
	// +optional
	Version string `json:"version,omitempty"`
	// Digest of the image, sha256:…; empty for one that was not pulled.
	// +optional
	Digest string `json:"digest,omitempty"`
}

// BadRelease failed on a node, which does not try it again by itself.
type BadRelease struct {
	// Digest of the image.
	Digest string `json:"digest"`
	// Message is why it failed.
	// +optional
	Message string `json:"message,omitempty"`
	// At is when it failed, by the node's clock.
	// +optional
	At *metav1.Time `json:"at,omitempty"`
}

// Snapshot is one of the datastore.
type Snapshot struct {
	// RequestedAt is the request that it answers.
	// +optional
	RequestedAt *metav1.Time `json:"requestedAt,omitempty"`
	// Name of the snapshot, on the node.
	// +optional
	Name string `json:"name,omitempty"`
}

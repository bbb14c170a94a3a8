package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
)

// kubeRecipe changes the small recipe: its program is Kubernetes, too.
var kubeRecipe = strings.NewReplacer(
	"images:\n", `  - {name: kube, module: hello, ldflags: ["-X k8s.io/component-base/version.gitVersion=v1.37.0"], destination: /usr/bin/kube, links: {/usr/bin/kubectl: kube}}
  - {name: plugin, module: hello, destination: /usr/libexec/cni/plugin}
  - {name: other, module: hello, destination: /usr/bin/kubelike}
images:
`,
	"outputs: [netboot, sbom]", "outputs: [iso]").Replace(smallRecipe)

// TestKubernetesAlone lets xorriso and unsquashfs judge Kubernetes alone, and
// reads it as a machine does.
func TestKubernetesAlone(t *testing.T) {
	s := newSite(t)
	writeFiles(t, s.dir, map[string]string{"images/small.yaml": kubeRecipe})
	o := s.options(t)
	o.Only = []string{outputKubernetes}
	r := mustBuild(t, o)
	name := "small-kubernetes-v1.37.0-" + o.Arch + ".img"
	if len(r.Files) != 1 || filepath.Base(r.Files[0]) != name {
		t.Fatalf("made are %v", r.Files)
	}
	m := r.Manifest
	if m.Of(release.Kubernetes) != nil || m.Kubernetes != "v1.37.0" || m.Version != "1.37.0" || m.Name != "small-kubernetes" || m.Arch != o.Arch {
		t.Errorf("manifest = %+v", m)
	}
	verify(t, r.Files[0])
	squashfs := filepath.Join(t.TempDir(), "kube.squashfs")
	runTool(t, "xorriso", "-osirrox", "on", "-indev", r.Files[0], "-extract", "/"+release.KubePath, squashfs)
	var files []string
	for line := range strings.Lines(runTool(t, "unsquashfs", "-lln", squashfs)) {
		if f := strings.Fields(line); len(f) > 5 && !strings.HasPrefix(f[0], "d") {
			files = append(files, f[1]+" "+strings.Join(f[5:], " "))
		}
	}
	want := "0/0 squashfs-root/usr/bin/kube, 0/0 squashfs-root/usr/libexec/cni/plugin, 0/0 squashfs-root/usr/share/kedge/images/hello.tar"
	if got := strings.Join(files, ", "); got != want {
		t.Errorf("it holds %s, want %s", got, want)
	}
	before, err := os.ReadFile(r.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	again := s.options(t)
	again.Only = o.Only
	after, err := os.ReadFile(mustBuild(t, again).Files[0])
	if err != nil || string(after) != string(before) {
		t.Errorf("built again it has other bytes: %v", err)
	}
}

func TestKubernetesOfNone(t *testing.T) {
	s := newSite(t)
	o := s.options(t)
	o.Only = []string{outputKubernetes}
	if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the recipe has no program kube") {
		t.Errorf("Build = %v", err)
	}
	o.Only = []string{"floppy"}
	if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), `outputs: "floppy" is none of`) {
		t.Errorf("Build = %v", err)
	}
}

// TestOwnVersion: the system says which Kubernetes is its own.
func TestOwnVersion(t *testing.T) {
	s := newSite(t)
	writeFiles(t, s.dir, map[string]string{"images/small.yaml": strings.Replace(kubeRecipe, "outputs: [iso]", "outputs: [netboot, kubernetes]", 1)})
	o := s.options(t)
	r := mustBuild(t, o)
	if r.Manifest.Of(release.System) != nil || r.Manifest.Kubernetes != "v1.37.0" {
		t.Errorf("manifest = %+v", r.Manifest)
	}
	prefix := filepath.Join(o.Output, "small-"+release.Version+"-"+o.Arch)
	if got := runTool(t, "unsquashfs", "-cat", prefix+"-root.squashfs", release.KubeVersionFile[1:]); got != "v1.37.0\n" {
		t.Errorf("the system says %q", got)
	}
	if _, err := os.Stat(filepath.Join(o.Output, "small-kubernetes-v1.37.0-"+o.Arch+".img")); err != nil {
		t.Error(err)
	}
}

package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// kubeProgram is the name of the program in a recipe that is Kubernetes.
const kubeProgram = "kube"

// ofKubernetes tells whether a path of the root is one that a release of
// Kubernetes alone stands in for.
func ofKubernetes(name string) bool {
	return slices.ContainsFunc(release.KubePlaces, func(place string) bool {
		return rootfs.Place(name) == rootfs.Place(place) || strings.HasPrefix(rootfs.Place(name)+"/", rootfs.Place(place)+"/")
	})
}

// kubernetesOnly returns the programs of the recipe that a release of Kubernetes
// alone is made from.
func (r *Recipe) kubernetesOnly() (programs []Program) {
	for _, p := range r.Programs {
		inImage := slices.ContainsFunc(r.Images, func(i Image) bool { return i.Program == p.Name })
		if inImage || p.Destination != "" && ofKubernetes(p.Destination) {
			programs = append(programs, p)
		}
	}
	return programs
}

// kubeVersion returns the version that Kubernetes will tell of itself: the one
// that the linker sets, else that of the module; "" without Kubernetes.
func (b *builder) kubeVersion(programs map[string]string) string {
	const set = "k8s.io/component-base/version.gitVersion="
	for _, p := range b.recipe.Programs {
		if p.Name != kubeProgram || programs[p.Name] == "" {
			continue
		}
		for _, flag := range p.LDFlags {
			if _, version, ok := strings.Cut(flag, set); ok {
				return strings.TrimSpace(version)
			}
		}
		return moduleVersion(programs[p.Name], "k8s.io/kubernetes")
	}
	return ""
}

// addKubeVersion lets the system say which Kubernetes is its own.
func (b *builder) addKubeVersion(t *rootfs.Tree, programs map[string]string) error {
	version := b.kubeVersion(programs)
	if version == "" {
		return nil
	}
	return t.File(release.KubeVersionFile, 0o644, rootfs.Bytes([]byte(version+"\n")), kubeProgram)
}

// runKubernetes makes the release of Kubernetes alone, and nothing else.
func (b *builder) runKubernetes(ctx context.Context) (Result, error) {
	programs, err := b.buildPrograms(ctx, b.recipe.kubernetesOnly())
	if err != nil {
		return Result{}, err
	}
	images, err := b.buildImages(ctx, programs)
	if err != nil {
		return Result{}, err
	}
	result := Result{}
	if err := b.addKubernetes(ctx, programs, images, &result); err != nil {
		return result, err
	}
	return result, writeSums(b.Output, result.Files)
}

// addKubernetes writes the release of Kubernetes alone into the output folder:
// an ISO 9660 file with a manifest, a place for a signature, and a squashfs, so
// that what handles images handles it too. Nothing starts from it.
func (b *builder) addKubernetes(ctx context.Context, programs, images map[string]string, result *Result) error {
	version := b.kubeVersion(programs)
	if version == "" {
		return fmt.Errorf("build Kubernetes alone: the recipe has no program %s, or one without a version", kubeProgram)
	}
	step := b.step("build Kubernetes " + version)
	name := fmt.Sprintf("%s-kubernetes-%s-%s.img", b.recipe.Name, version, b.arch)
	m, err := b.kubernetes(ctx, version, programs, images, filepath.Join(b.Output, name))
	if err != nil {
		return fmt.Errorf("build Kubernetes alone: %w", err)
	}
	result.Files = append(result.Files, filepath.Join(b.Output, name))
	if result.Manifest.ID == "" {
		result.Manifest = m
	}
	step.Done(fmt.Sprintf("%s, release %s", name, m.ID))
	return pointTo(filepath.Join(b.Output, fmt.Sprintf("%s-kubernetes-%s.img", b.recipe.Name, b.arch)), name)
}

func (b *builder) kubernetes(ctx context.Context, version string, programs, images map[string]string, to string) (release.Manifest, error) {
	m := release.Manifest{
		Schema: release.SchemaOf(release.Kubernetes), Kind: release.Kubernetes, Name: b.recipe.Name + "-kubernetes",
		Version: strings.TrimPrefix(version, "v"), Arch: b.arch, Kubernetes: version,
	}
	tree, err := b.kubernetesTree(programs, images)
	if err != nil {
		return m, err
	}
	squashfs, err := b.buildSquashfs(ctx, "kube", tree)
	if err != nil {
		return m, err
	}
	size, sum, err := digest(squashfs)
	if err != nil {
		return m, err
	}
	m.Files = []release.File{{Path: release.KubePath, Size: size, SHA256: sum}}
	m.ID = m.ComputeID()
	return m, b.packKubernetes(ctx, m, squashfs, to)
}

// kubernetesTree holds what stands in for the same places of a system's root.
func (b *builder) kubernetesTree(programs, images map[string]string) (*rootfs.Tree, error) {
	t := rootfs.New()
	for _, p := range b.recipe.kubernetesOnly() {
		if p.Destination == "" {
			continue
		}
		if err := addProgram(t, p, programs[p.Name]); err != nil {
			return nil, err
		}
	}
	if err := b.addImages(t, images); err != nil {
		return nil, err
	}
	t.Remove(func(p string, e rootfs.Entry) bool { return !e.Mode.IsDir() && !ofKubernetes(p) })
	removeEmpty(t, "")
	return t, checkLibraries(t)
}

// packKubernetes writes the ISO file around a squashfs.
func (b *builder) packKubernetes(ctx context.Context, m release.Manifest, squashfs, to string) error {
	dir, err := os.MkdirTemp("", "kedge-kubernetes-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, content := range map[string][]byte{
		release.ManifestPath:  m.Encode(),
		release.SignaturePath: make([]byte, release.SignatureSize),
	} {
		if err := writeBelow(dir, name, content); err != nil {
			return err
		}
	}
	date := b.lock.Date.UTC().Format("20060102150405") + "00"
	return finish(to, func(temporary string) error {
		return full(to, process.Tool{
			Path: "xorriso", Args: []string{"-as", "mkisofs", "-quiet", "-r", "-V", release.VolumeID,
				"--modification-date=" + date, "--set_all_file_dates", date,
				"-o", temporary, "-graft-points", release.KubePath + "=" + squashfs, "/=" + dir},
			Env: []string{"TZ=UTC", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.lock.Date.Unix())},
		}.Run(ctx))
	})
}

package build

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
)

// The part of SPDX 2.3 that a bill of materials needs.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		License       string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Describes     []string           `json:"documentDescribes"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID        string          `json:"SPDXID"`
		Name      string          `json:"name"`
		Version   string          `json:"versionInfo"`
		Location  string          `json:"downloadLocation"`
		Analyzed  bool            `json:"filesAnalyzed"`
		Purpose   string          `json:"primaryPackagePurpose,omitempty"`
		Checksums []spdxChecksum  `json:"checksums,omitempty"`
		External  []spdxReference `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxReference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		Element string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
)

const noAssertion = "NOASSERTION"

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func spdxID(kind, name, version string) string {
	return "SPDXRef-" + kind + "-" + notInID.ReplaceAllString(name+"-"+version, "-")
}

// billOfMaterials lists the Debian packages in the root and every Go module
// that is linked into a program, as SPDX 2.3 in JSON.
func (b *builder) billOfMaterials(m release.Manifest, p parts) ([]byte, error) {
	name := fmt.Sprintf("%s-%s-%s", m.Name, m.Version, m.Arch)
	image := spdxPackage{ID: "SPDXRef-image", Name: m.Name, Version: m.Version, Location: noAssertion, Purpose: "OPERATING-SYSTEM"}
	packages := map[string]spdxPackage{}
	b.debianMaterials(packages)
	if err := goMaterials(packages, p.programs); err != nil {
		return nil, err
	}
	doc := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Namespace: "https://kedgeos.io/spdx/" + name + "-" + m.ID,
		Creation:  spdxCreation{b.lock.Date.UTC().Format(time.RFC3339), []string{"Tool: kedge-" + b.version}},
		Describes: []string{image.ID},
		Packages:  []spdxPackage{image},
	}
	for _, id := range slices.Sorted(maps.Keys(packages)) {
		doc.Packages = append(doc.Packages, packages[id])
		doc.Relationships = append(doc.Relationships, spdxRelationship{image.ID, "CONTAINS", id})
	}
	out, err := json.MarshalIndent(doc, "", " ")
	return append(out, '\n'), err
}

func (b *builder) debianMaterials(packages map[string]spdxPackage) {
	inRoot := forArch(b.recipe.Packages, b.arch)
	inRoot[b.lock.Kernel] = "kernel"
	for name := range forArch(b.recipe.Tools, b.arch) {
		if strings.HasPrefix(name, "grub-") { // its modules end up in the image
			inRoot[name] = "grub"
		}
	}
	for _, p := range b.lock.Packages {
		if _, ok := inRoot[p.Name]; !ok {
			continue
		}
		id := spdxID("deb", p.Name, p.Version)
		packages[id] = spdxPackage{
			ID: id, Name: p.Name, Version: p.Version, Location: noAssertion,
			Checksums: []spdxChecksum{{"SHA256", p.SHA256}},
			External: []spdxReference{{"PACKAGE-MANAGER", "purl", fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s",
				p.Name, strings.ReplaceAll(p.Version, "+", "%2B"), b.arch, b.lock.Suite)}},
		}
	}
}

func goMaterials(packages map[string]spdxPackage, programs map[string]string) error {
	for name, file := range programs {
		info, err := buildinfo.ReadFile(file)
		if err != nil {
			return fmt.Errorf("list modules of %s: %w", name, err)
		}
		add := func(path, version string) {
			id := spdxID("go", path, version)
			packages[id] = spdxPackage{
				ID: id, Name: path, Version: version, Location: noAssertion,
				External: []spdxReference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")}},
			}
		}
		add("stdlib", strings.TrimPrefix(info.GoVersion, "go"))
		for _, d := range info.Deps {
			if d.Replace != nil {
				d = d.Replace
			}
			if d.Version != "" && d.Version != "(devel)" {
				add(d.Path, d.Version)
			}
		}
	}
	return nil
}

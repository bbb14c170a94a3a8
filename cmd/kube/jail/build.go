package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Programs is a folder with kube and what it runs, and one with image files.
type Programs struct {
	Dir    string
	Images string
}

// recipeFile says how the programs of an image are built; the jail has the same.
// It is relative to this module's root, and modules are relative to repository.
const (
	repository = "../.."
	recipeFile = repository + "/images/edge.yaml"
)

// recipe is as much of an image's recipe as the jail needs.
type recipe struct {
	Programs []program
	Images   []struct{ Name, Program string }
}

// A program is one that the recipe builds from a module of its own.
type program struct {
	Name, Module, Package string
	Tags, LDFlags         []string
	CGO                   bool
}

func readRecipe(file string) (recipe, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return recipe{}, err
	}
	var r recipe
	if err := yaml.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", file, err)
	}
	// Init and agent have no part in the jail.
	r.Programs = slices.DeleteFunc(r.Programs, func(p program) bool { return p.Module == "" })
	return r, nil
}

// build fills dir with programs and dir/images with image files. It runs in
// the root of the module.
func build(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "images"), 0o755); err != nil {
		return err
	}
	r, err := readRecipe(recipeFile)
	if err != nil {
		return err
	}
	for _, p := range r.Programs {
		fmt.Fprintln(os.Stderr, "build", p.Name)
		if err := p.build(ctx, filepath.Join(dir, p.Name)); err != nil {
			return fmt.Errorf("build %s: %w", p.Name, err)
		}
	}
	for _, i := range r.Images {
		if err := writeImage(filepath.Join(dir, "images", i.Program+".tar"), i.Name, filepath.Join(dir, i.Program)); err != nil {
			return fmt.Errorf("make image %s: %w", i.Name, err)
		}
	}
	return nil
}

func (p program) build(ctx context.Context, to string) error {
	flags := append([]string{"-s", "-w"}, p.LDFlags...)
	if p.CGO {
		flags = append(flags, "-linkmode", "external", "-extldflags", "-static")
	}
	pkg := p.Package
	if pkg == "" {
		pkg = "."
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", strings.Join(p.Tags, ","), "-ldflags", strings.Join(flags, " "), "-o", to, pkg)
	cmd.Dir = filepath.Join(repository, p.Module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+map[bool]string{false: "0", true: "1"}[p.CGO])
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

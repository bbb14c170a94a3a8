package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/host/publish"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// references tells in a line how a reference is spelled.
const references = "a registry's (registry.example/os/kedge:v1), a folder's (oci:DIR) or a tar file's (oci-archive:FILE)"

// registryFlags are how to speak to a registry.
type registryFlags struct {
	insecure               bool
	username, password, ca string
	limit                  int64
}

func (r *registryFlags) flags(f *flag.FlagSet) {
	f.BoolVar(&r.insecure, "insecure", false, "allow plain HTTP; a registry on this machine needs no leave")
	f.StringVar(&r.username, "username", "", "`name` of a user of the registry")
	f.StringVar(&r.password, "password-file", "", "`file` with the user's password")
	f.StringVar(&r.ca, "ca", "", "`file` with certificates to trust besides those of the system, PEM")
	f.Int64Var(&r.limit, "limit", 0, "greatest speed, in `bytes` per second (default: none)")
}

func (r *registryFlags) options() (o registry.Options, err error) {
	if (r.username == "") != (r.password == "") {
		return o, cli.Usagef("--username and --password-file belong together")
	}
	o.Insecure, o.Username, o.Limit = r.insecure, r.username, r.limit
	password, err := readPassword(r.password)
	if err != nil {
		return o, err
	}
	o.Password = string(password)
	if r.ca != "" {
		o.CA, err = os.ReadFile(r.ca)
	}
	return o, err
}

func pushCommand() *cli.Command {
	var access registryFlags
	return &cli.Command{
		Name: "push", Usage: "IMAGE… REFERENCE [flags]", Short: "check images of one release and put them into a registry",
		Flags: access.flags,
		Run: func(ctx context.Context, env cli.Env) error {
			if len(env.Args) < 3 {
				return cli.Usagef("name images, one for each architecture, and a reference: %s", references)
			}
			files, ref := env.Args[1:len(env.Args)-1], env.Args[len(env.Args)-1]
			if _, err := os.Stat(ref); err == nil {
				return cli.Usagef("%s is a file: name a reference last: %s", ref, references)
			}
			o, err := access.options()
			if err != nil {
				return err
			}
			p := newProgress(env.Stderr)
			defer p.end()
			digest, err := publish.Push(ctx, ref, files, publish.Options{
				Options: o, Warn: p.Warn, Step: func(name string) publish.Step { return p.Step(name) },
			})
			if err != nil {
				return registryHint(imageHint(err))
			}
			if host, _, err := registry.Split(ref); err == nil && host != "" { // a layout is read where it lies
				if err := publishIndexes(ctx, pinned(ref, digest), files, o, p, env.Stderr); err != nil {
					return err
				}
			}
			p.end()
			_, err = fmt.Fprintln(env.Stdout, pinned(ref, digest))
			return err
		},
	}
}

func pullCommand() *cli.Command {
	var access registryFlags
	var output, arch string
	return &cli.Command{
		Name: "pull", Usage: "REFERENCE --output FILE [flags]", Short: "download an image from a registry",
		Flags: func(f *flag.FlagSet) {
			access.flags(f)
			archFlag(f, &arch)
			f.StringVar(&output, "output", "", "`file` for the image")
		},
		Run: func(ctx context.Context, env cli.Env) error {
			ref, err := oneArgument(env, "a reference: "+references)
			if err != nil {
				return err
			}
			if output == "" {
				return cli.Usagef("pull: --output FILE is needed")
			}
			o, err := access.options()
			if err != nil {
				return err
			}
			p := newProgress(env.Stderr)
			defer p.end()
			step := p.Step("pull " + arch)
			var size int64
			o.Progress = func(done, total int64) {
				size = total
				step.Bytes(done, total)
			}
			digest, err := registry.Pull(ctx, ref, arch, output, o)
			if err != nil {
				if _, none := os.Stat(output + ".part"); none == nil {
					p.end()
					fmt.Fprintf(env.Stderr, "%s.part is kept: the same command goes on with it\n", output)
				}
				return registryHint(err)
			}
			step.Done(fmt.Sprintf("%.1f MB", float64(size)/1e6))
			_, err = fmt.Fprintf(env.Stdout, "%s: %s\n", output, pinned(ref, digest))
			return err
		},
	}
}

// pinned returns a reference that stands for this content for ever.
func pinned(ref, digest string) string {
	if i := strings.LastIndex(ref, "@sha256:"); i >= 0 {
		ref = ref[:i]
	}
	return ref + "@" + digest
}

// registryHint adds the way out to the errors that have one.
func registryHint(err error) error {
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		return cli.Hint(err, "--username NAME and --password-file FILE sign in")
	case errors.Is(err, http.ErrSchemeMismatch):
		return cli.Hint(err, "the registry speaks plain HTTP: --insecure allows it")
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return cli.Hint(err, "--ca FILE names the certificate to trust")
	case errors.Is(err, registry.ErrArch):
		return cli.Hint(err, "--arch chooses another one")
	}
	return err
}

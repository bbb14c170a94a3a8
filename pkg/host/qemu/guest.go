package qemu

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// User is the account of every image that a key opens.
const User = "kedge"

// A Guest is the system inside a machine, reached by SSH through a port of the
// loopback address, with a key made for this machine alone.
type Guest struct {
	Port int

	signer    ssh.Signer
	mu        sync.Mutex
	known     ssh.PublicKey // the host key first seen
	authorize string        // the key's line for authorized_keys
}

// newGuest makes the key and writes it, with a configuration for ssh(1), into dir.
func newGuest(dir string, port int) (*Guest, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "kedge run")
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "id_ed25519")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	settings := fmt.Sprintf("Host kedge\n  HostName 127.0.0.1\n  Port %d\n  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n"+
		"  UserKnownHostsFile %s\n  StrictHostKeyChecking accept-new\n", port, User, key, filepath.Join(dir, "known_hosts"))
	if err := os.WriteFile(filepath.Join(dir, "ssh_config"), []byte(settings), 0o600); err != nil {
		return nil, err
	}
	authorize := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))
	return &Guest{Port: port, signer: signer, authorize: authorize}, nil
}

// config is the config.yaml that lets the key in.
func (g *Guest) config() string { return "ssh_authorized_keys:\n- " + g.authorize + "\n" }

// pin accepts the first host key and then only that one.
func (g *Guest) pin(_ string, _ net.Addr, key ssh.PublicKey) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.known = key
	}
	if !bytes.Equal(g.known.Marshal(), key.Marshal()) {
		return errors.New("the guest's host key has changed")
	}
	return nil
}

// Forget drops the pinned host key: a guest without state has a new one after
// each start.
func (g *Guest) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = nil
}

func (g *Guest) dial(ctx context.Context) (*ssh.Client, error) {
	address := fmt.Sprintf("127.0.0.1:%d", g.Port)
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second)) // QEMU accepts before the guest does
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: User, Auth: []ssh.AuthMethod{ssh.PublicKeys(g.signer)}, HostKeyCallback: g.pin,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}

// An ExitError is the status, not 0, with which a command in the guest ended.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Run runs a shell command in the guest. It waits for the SSH server as long
// as ctx allows. The error wraps ExitError when the command itself failed.
func (g *Guest) Run(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) error {
	var client *ssh.Client
	err := retry(ctx, time.Second, func() (err error) {
		client, err = g.dial(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reach the guest by SSH: %w", err)
	}
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("reach the guest by SSH: %w", err)
	}
	defer session.Close()
	session.Stdin, session.Stdout, session.Stderr = stdin, stdout, stderr
	err = session.Run(command)
	var status *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("run %q in the guest: %w", command, context.Cause(ctx))
	case errors.As(err, &status):
		return fmt.Errorf("run %q in the guest: %w", command, ExitError(status.ExitStatus()))
	case err != nil:
		return fmt.Errorf("run %q in the guest: %w", command, err)
	}
	return nil
}

// Output runs a command in the guest and returns its standard output; the
// error has its standard error.
func (g *Guest) Output(ctx context.Context, command string) (string, error) {
	var out, errs bytes.Buffer
	err := g.Run(ctx, command, nil, &out, &errs)
	if err != nil && errs.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return out.String(), err
}

// Kubeconfig returns the administrator's kubeconfig, with the server at a port
// of the host's loopback address.
func (g *Guest) Kubeconfig(ctx context.Context, port int) (string, error) {
	text, err := g.Output(ctx, "sudo cat /etc/rancher/k3s/k3s.yaml")
	if err != nil {
		return "", fmt.Errorf("fetch the kubeconfig: %w", err)
	}
	const inside = "server: https://127.0.0.1:6443"
	if !strings.Contains(text, inside) {
		return "", fmt.Errorf("fetch the kubeconfig: it has no %q", inside)
	}
	return strings.ReplaceAll(text, inside, fmt.Sprintf("server: https://127.0.0.1:%d", port)), nil
}

package qemu

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// fakeGuest serves SSH on a loopback port: it lets in whoever has the key, and
// answers each command with what answer says.
func fakeGuest(t *testing.T, g *Guest, answer func(command string) (out string, status uint32)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	g.Port = listener.Addr().(*net.TCPAddr).Port
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != User || "ssh_authorized_keys:\n- "+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))+"\n" != g.config() {
			return nil, errors.New("not the machine's key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey(t))
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveSSH(conn, config, answer)
		}
	}()
}

func hostKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig, answer func(string) (string, uint32)) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				r.Reply(false, nil)
				continue
			}
			r.Reply(true, nil)
			out, status := answer(string(r.Payload[4:]))
			io.WriteString(channel, out)
			channel.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, status))
			channel.Close()
		}
	}
}

func TestGuestRun(t *testing.T) {
	g, err := newGuest(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	fakeGuest(t, g, func(command string) (string, uint32) {
		if command == "false" {
			return "", 7
		}
		return "ran " + command, 0
	})
	if out, err := g.Output(t.Context(), "uptime"); out != "ran uptime" || err != nil {
		t.Errorf("Output = %q, %v", out, err)
	}
	var status ExitError
	if err := g.Run(t.Context(), "false", nil, nil, nil); !errors.As(err, &status) || status != 7 {
		t.Errorf("Run of a command that fails = %v", err)
	}
}

func TestGuestKeepsItsHostKey(t *testing.T) {
	g, err := newGuest(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	hello := func(string) (string, uint32) { return "hello", 0 }
	fakeGuest(t, g, hello)
	if _, err := g.Output(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	fakeGuest(t, g, hello) // another host key
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := g.Output(ctx, "a"); err == nil || !strings.Contains(err.Error(), "host key has changed") {
		t.Errorf("a guest with another host key: %v", err)
	}
	g.Forget()
	if _, err := g.Output(t.Context(), "a"); err != nil {
		t.Errorf("after a new start: %v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	g, err := newGuest(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	text := "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n"
	fakeGuest(t, g, func(string) (string, uint32) { return text, 0 })
	got, err := g.Kubeconfig(t.Context(), 40123)
	if err != nil || !strings.Contains(got, "server: https://127.0.0.1:40123\n") {
		t.Errorf("Kubeconfig = %q, %v", got, err)
	}
	text = "server: https://elsewhere\n"
	if _, err := g.Kubeconfig(t.Context(), 40123); err == nil {
		t.Error("a kubeconfig of another server was taken")
	}
}

// TestSSHConfig lets ssh itself read what is written for it.
func TestSSHConfig(t *testing.T) {
	dir := t.TempDir()
	if _, err := newGuest(dir, 2022); err != nil {
		t.Fatal(err)
	}
	out, err := process.Tool{Path: "ssh", Args: []string{"-G", "-F", filepath.Join(dir, "ssh_config"), "kedge"}}.Output(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hostname 127.0.0.1\n", "port 2022\n", "user kedge\n", "identityfile " + filepath.Join(dir, "id_ed25519") + "\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("ssh does not see %q", want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "id_ed25519")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is readable by others: %v, %v", info, err)
	}
}

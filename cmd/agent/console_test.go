package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/kedgeos/kedge/pkg/node/apply"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/sys/console"
)

// A person sits in front of a pseudo-terminal.
type person struct {
	t      *testing.T
	master *os.File
	seen   string
}

func sitDown(t *testing.T) (*person, *console.Terminal) {
	t.Helper()
	fd, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var locked, number int32
	for _, call := range []struct {
		request uintptr
		value   *int32
	}{{syscall.TIOCSPTLCK, &locked}, {syscall.TIOCGPTN, &number}} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), call.request, uintptr(unsafe.Pointer(call.value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	master := os.NewFile(uintptr(fd), "master")
	t.Cleanup(func() { master.Close() })
	terminal, err := console.Open(fmt.Sprintf("pts/%d", number))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return &person{t: t, master: master}, terminal
}

// sees waits for text on the screen and forgets what stood before it.
func (p *person) sees(text string) {
	p.t.Helper()
	if err := p.master.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !strings.Contains(p.seen, text) {
		n, err := p.master.Read(buf)
		if err != nil {
			p.t.Fatalf("waiting for %q: %v; on the screen: %q", text, err, p.seen)
		}
		p.seen += string(buf[:n])
	}
	_, p.seen, _ = strings.Cut(p.seen, text)
}

func (p *person) types(text string) {
	p.t.Helper()
	if _, err := p.master.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// users are the files of a machine with one user who has the password "right".
func users(t *testing.T) func(string) ([]byte, error) {
	t.Helper()
	hash, err := apply.Hash("right")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nkedge:x:1000:1000:Kedge operator:/home/kedge:/bin/bash\n",
		"/etc/group":  "sudo:x:27:other,kedge\nadm:x:4:kedge\nkedge:x:1000:\n",
		"/etc/shadow": "root:*:1::::::\nkedge:" + hash + ":1::::::\n",
	}
	return func(path string) ([]byte, error) { return []byte(files[path]), nil }
}

func TestBannerUntilEnter(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	socket := t.TempDir() + "/agent.sock"
	go func() { _ = status.Serve(ctx, socket, node{}) }()
	p, terminal := sitDown(t)
	done := make(chan error)
	go func() { done <- watch(ctx, terminal, status.Client{Socket: socket}) }()
	p.sees("till-7, server, Kubernetes v1.36.3, Ready")
	p.sees("Not applied from the configuration (1):")
	p.types("\r")
	if err := <-done; err != nil {
		t.Errorf("watch = %v", err)
	}
}

func TestLogin(t *testing.T) {
	for _, c := range []struct {
		name, user, password, want string
	}{
		{"right", "kedge", "right", ""},
		{"wrong", "kedge", "wrong", "wrong name or password"},
		{"nobody of that name is asked all the same", "nobody", "right", "wrong name or password"},
		{"nothing typed", "", "", "nobody logged in"},
		{"no password set", "root", "", "no password is set for root: set kedge.password in the configuration, or log in with an SSH key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, terminal := sitDown(t)
			type result struct {
				who account
				err error
			}
			done := make(chan result)
			go func() {
				who, err := login(context.Background(), terminal, users(t))
				done <- result{who, err}
			}()
			p.sees("login: ")
			p.types(c.user + "\r")
			if c.password != "" {
				p.sees("Password: ")
				p.types(c.password + "\r")
			}
			r := <-done
			if c.want != "" {
				if r.err == nil || r.err.Error() != c.want {
					t.Errorf("login = %v, want %s", r.err, c.want)
				}
				return
			}
			if r.err != nil || r.who.UID != 1000 || r.who.home != "/home/kedge" || fmt.Sprint(r.who.Groups) != "[27 4]" {
				t.Errorf("login = %+v, %v", r.who, r.err)
			}
			p.sees("\n")
			if strings.Contains(p.seen, c.password) {
				t.Error("the password was shown")
			}
		})
	}
}

func TestLoginEndsWithTheConsole(t *testing.T) {
	p, terminal := sitDown(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error)
	go func() {
		_, err := login(ctx, terminal, users(t))
		done <- err
	}()
	p.sees("login: ")
	cancel(errors.New("going down"))
	if err := <-done; err == nil {
		t.Error("login went on")
	}
}

func TestAccountEnvironment(t *testing.T) {
	a := account{name: "kedge", home: "/home/kedge", shell: "/bin/bash"}
	for tty, term := range map[string]string{"ttyS0": "vt220", "tty1": "linux", "ttyAMA0": "vt220", "hvc0": "vt220"} {
		env := strings.Join(a.environment(tty, []string{"X=1"}), " ")
		if !strings.Contains(env, "TERM="+term) || !strings.Contains(env, "X=1") || !strings.Contains(env, "HOME=/home/kedge") {
			t.Errorf("%s: %s", tty, env)
		}
	}
}

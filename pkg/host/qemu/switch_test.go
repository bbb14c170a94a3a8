package qemu

import (
	"bytes"
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// A nic is one end of a plug, with the address that it sends from.
type nic struct {
	net.Conn
	t   *testing.T
	mac byte
}

func plugIn(t *testing.T, path string, mac byte) nic {
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return nic{conn, t, mac}
}

func (n nic) send(to byte, text string) {
	frame := append([]byte{0, 0, 0, 0, to, to, to, to, to, to, n.mac, n.mac, n.mac, n.mac, n.mac, n.mac, 8, 0}, text...)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	if _, err := n.Write(frame); err != nil {
		n.t.Fatal(err)
	}
}

// hears fails the test unless the next frame has this text.
func (n nic) hears(text string) {
	n.t.Helper()
	n.SetReadDeadline(time.Now().Add(time.Minute))
	frame, err := readFrame(n)
	if err != nil || !bytes.HasSuffix(frame, []byte(text)) {
		n.t.Fatalf("%x hears %q, %v; want %q", n.mac, frame, err, text)
	}
}

const everybody = 0xff

func TestSwitch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "switch.sock")
	s, err := NewSwitch(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, b, nat := plugIn(t, path, 0x02), plugIn(t, path, 0x04), plugIn(t, path, 0x06)

	// Each says who it is, and hears the others: all three are plugged in.
	for _, n := range []nic{a, b, nat} {
		for {
			n.send(everybody, "hello")
			s.mu.Lock()
			known, plugs := s.behind[address{n.mac, n.mac, n.mac, n.mac, n.mac, n.mac}] != nil, len(s.plugs)
			s.mu.Unlock()
			if known && plugs == 3 {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	b.send(a.mac, "to a only")
	b.send(everybody, "to all")
	for _, n := range []nic{a, nat} {
		for {
			n.SetReadDeadline(time.Now().Add(time.Minute))
			frame, err := readFrame(n)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.HasSuffix(frame, []byte("hello")) {
				continue
			}
			if want := map[byte]string{a.mac: "to a only", nat.mac: "to all"}[n.mac]; !bytes.HasSuffix(frame, []byte(want)) {
				t.Errorf("%x hears %q, want %q", n.mac, frame, want)
			}
			break
		}
	}
	a.hears("to all")

	// A pulled plug is forgotten: what is for it goes to all again.
	a.Close()
	for {
		s.mu.Lock()
		plugs := len(s.plugs)
		s.mu.Unlock()
		if plugs == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.send(a.mac, "where is a?")
	nat.hears("where is a?")
}

func TestSwitchRefusesGarbage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "switch.sock")
	s, err := NewSwitch(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := plugIn(t, path, 0x02)
	n.Write([]byte{0xff, 0xff, 0xff, 0xff})
	n.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := n.Read(make([]byte, 1)); err == nil {
		t.Error("a frame of 4 GiB leaves the plug in")
	}
	if _, err := NewSwitch(path); err == nil {
		t.Error("two switches at one socket")
	}
}

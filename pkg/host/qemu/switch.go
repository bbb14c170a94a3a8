package qemu

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Switch is an Ethernet switch for the machines of one host: each plugs in
// by its Unix socket (Network.Switch). It learns which address is behind which
// plug, so that a NAT in the same network never hears, and never answers, what
// one machine says to another. Its methods may be called from any goroutine.
//
// On a plug each frame follows its length, 32 bits, big-endian: the stream
// network backend of the QEMU invocation manual.
type Switch struct {
	listener net.Listener

	mu     sync.Mutex
	plugs  map[*plug]bool
	behind map[address]*plug
}

type address [6]byte // MAC

// A plug is one connection. Frames wait in its queue; a full queue drops them,
// as a real switch does.
type plug struct {
	conn  net.Conn
	queue chan []byte
}

// Limits of a switch: a frame is at most 64 KiB (jumbo frames and offloads
// stay below), a plug queues this many.
const (
	maxFrame  = 64 << 10
	maxQueued = 1024
)

// NewSwitch starts a switch at a Unix socket. Close ends it and removes the
// socket.
func NewSwitch(path string) (*Switch, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("start network switch: %w", err)
	}
	s := &Switch{listener: listener, plugs: map[*plug]bool{}, behind: map[address]*plug{}}
	go s.accept()
	return s, nil
}

// Close unplugs every machine.
func (s *Switch) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.plugs {
		p.conn.Close()
	}
	return err
}

func (s *Switch) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		p := &plug{conn: conn, queue: make(chan []byte, maxQueued)}
		s.mu.Lock()
		s.plugs[p] = true
		s.mu.Unlock()
		go p.write()
		go s.serve(p)
	}
}

// serve forwards what comes from a plug until it is pulled.
func (s *Switch) serve(p *plug) {
	for {
		frame, err := readFrame(p.conn)
		if err != nil {
			break
		}
		s.forward(p, frame)
	}
	p.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.plugs, p)
	for a, q := range s.behind {
		if q == p {
			delete(s.behind, a)
		}
	}
	close(p.queue)
}

// forward sends a frame to the plug its destination is behind, or to all
// others when it is for many or for one not heard of yet.
func (s *Switch) forward(from *plug, frame []byte) {
	if len(frame) < 4+14 {
		return // no Ethernet header after the length
	}
	to, source := address(frame[4:10]), address(frame[10:16])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind[source] = from
	if only := s.behind[to]; only != nil && to[0]&1 == 0 {
		only.put(frame)
		return
	}
	for p := range s.plugs {
		if p != from {
			p.put(frame)
		}
	}
}

func (p *plug) put(frame []byte) {
	select {
	case p.queue <- frame:
	default:
	}
}

func (p *plug) write() {
	for frame := range p.queue {
		p.conn.Write(frame) // a pulled plug ends in serve
	}
}

// readFrame returns a frame together with its length.
func readFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	frame := make([]byte, 4+n)
	copy(frame, length[:])
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

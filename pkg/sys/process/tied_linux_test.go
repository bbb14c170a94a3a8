package process

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTied kills a program, this one, that has started another.
func TestTied(t *testing.T) {
	if os.Getenv("PROCESS_TIED") != "" {
		p, err := Command{Args: []string{"sleep", "600"}, Session: true, Tied: true}.Start()
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(strconv.Itoa(p.Pid()) + "\n")
		p.Wait()
		return
	}
	self := exec.Command(os.Args[0], "-test.run", "TestTied$")
	self.Env = append(os.Environ(), "PROCESS_TIED=1")
	out, err := self.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	self.Process.Kill()
	self.Wait()
	for end := time.Now().Add(10 * time.Second); !ended(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			syscall.Kill(child, syscall.SIGKILL)
			t.Fatalf("process %d runs on", child)
		}
	}
}

// ended tells whether a process is gone, or only waits for somebody to hear of it.
func ended(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

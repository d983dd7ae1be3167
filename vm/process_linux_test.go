package vm

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// leaderEnds makes the test binary a program whose first thread ends while
// another one holds its files, until the standard input is closed.
const leaderEnds = "VM_TEST_LEADER_ENDS"

func init() {
	if os.Getenv(leaderEnds) == "" {
		return
	}
	runtime.LockOSThread() // init runs on the first thread
	runtime.GOMAXPROCS(2)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
}

func TestProcess_Alive_threads(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), leaderEnds+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	p, err := Identify("leader", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		stat, err := processStat(p.PID)
		if err != nil || time.Now().After(limit) {
			t.Fatalf("its first thread did not end: %+v, %v", stat, err)
		}
		if stat.state == 'Z' {
			break
		}
	}
	if !p.Alive() {
		t.Error("a process with a thread that runs is said to be dead")
	}
	stdin.Close()
	select {
	case <-p.Done():
	case <-time.After(time.Minute):
		t.Fatal("its end was not seen")
	}
	if p.Alive() {
		t.Error("a zombie is said to be alive")
	}
}

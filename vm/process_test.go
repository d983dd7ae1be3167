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

func TestProcess_Alive(t *testing.T) {
	self, err := Identify("test", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !self.Alive() {
		t.Error("this process is said to be dead")
	}
	reused := self
	reused.StartTime++
	if reused.Alive() {
		t.Error("a process with another start time is taken for the same")
	}
	earlier := self
	earlier.BootID = "another boot"
	if earlier.Alive() {
		t.Error("a process of another boot is taken for the same")
	}
	if (Process{}).Alive() {
		t.Error("no process is said to be alive")
	}
}

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

func TestProcess_DoneAndSignal(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	p, err := Identify("sleep", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	done := p.Done()
	select {
	case <-done:
		t.Fatal("done while it runs")
	default:
	}
	other := p
	other.StartTime++
	if err := other.Signal(syscall.SIGKILL); err != nil || !p.Alive() {
		t.Fatalf("a signal to a reused pid: err %v, alive %v", err, p.Alive())
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("its end was not seen")
	}
	if p.Alive() { // a zombie now, until Wait
		t.Error("a zombie is said to be alive")
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to a dead process: %v", err)
	}
}

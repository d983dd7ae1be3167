package vm

import (
	"os"
	"os/exec"
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

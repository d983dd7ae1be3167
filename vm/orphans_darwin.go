package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// orphans finds the processes that run exactly the plan's commands in the
// instance's directory.
func orphans(dir string, plan Plan) []Process {
	own, err := unix.SysctlKinfoProcSlice("kern.proc.uid", os.Getuid())
	if err != nil || len(plan.Processes) == 0 {
		return nil
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil { // lsof knows no links
		dir = real
	}

	var found []Process
	for _, process := range own {
		pid := int(process.Proc.P_pid)
		raw, err := unix.SysctlRaw("kern.procargs2", pid)
		if err != nil {
			continue
		}
		argv, ok := parseProcargs(raw)
		if !ok {
			continue
		}
		for _, c := range plan.Processes {
			if !slices.Equal(argv, c.Argv) || workingDirectory(pid) != dir {
				continue
			}
			if p, err := Identify(c.Name, pid); err == nil {
				found = append(found, p)
			}
		}
	}
	return found
}

// workingDirectory is that of a process, or "" when it is not known.
func workingDirectory(pid int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/sbin/lsof", "-a", "-p", strconv.Itoa(pid), "-d", "cwd", "-Fn").Output()
	if err != nil {
		return ""
	}
	return parseWorkingDirectory(string(out))
}

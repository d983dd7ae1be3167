package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// orphans finds the processes that run exactly the plan's commands in the
// instance's directory.
func orphans(dir string, plan Plan) []Process {
	var found []Process
	own, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		// Not by its name: dir may lead there by a symbolic link.
		if cwd, err := os.Stat(link); err != nil || !os.SameFile(cwd, own) {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if err != nil {
			continue
		}

		for _, c := range plan.Processes {
			if !bytes.Equal(cmdline, commandLine(c.Argv)) {
				continue
			}
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if p, err := Identify(c.Name, pid); err == nil {
				found = append(found, p)
			}
		}
	}
	return found
}

// commandLine is argv in the form of /proc/PID/cmdline.
func commandLine(argv []string) []byte {
	var b bytes.Buffer
	for _, a := range argv {
		b.WriteString(a)
		b.WriteByte(0)
	}
	return b.Bytes()
}

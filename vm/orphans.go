package vm

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// parseProcargs reads the argument vector of a process from the answer of
// macOS's sysctl kern.procargs2: the number of arguments in four bytes, the
// program's path, zeros, and the arguments, each ended by a zero (xnu,
// bsd/kern/kern_sysctl.c, sysctl_procargsx). What follows, the environment, is
// left alone.
func parseProcargs(b []byte) (argv []string, ok bool) {
	if len(b) < 4 {
		return nil, false
	}
	count := binary.LittleEndian.Uint32(b) // both architectures of macOS are
	_, rest, found := bytes.Cut(b[4:], []byte{0})
	if !found || uint64(count) > uint64(len(rest)) {
		return nil, false
	}

	rest = bytes.TrimLeft(rest, "\x00")
	for range count {
		var arg []byte
		if arg, rest, found = bytes.Cut(rest, []byte{0}); !found {
			return nil, false
		}
		argv = append(argv, string(arg))
	}
	return argv, true
}

// parseWorkingDirectory reads the directory from the output of
// `lsof -a -d cwd -Fn`: the line that begins with n.
func parseWorkingDirectory(out string) string {
	for line := range strings.Lines(out) {
		if dir, ok := strings.CutPrefix(line, "n"); ok {
			return strings.TrimSuffix(dir, "\n")
		}
	}
	return ""
}

package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// portTaken says who has a port, with EADDRINUSE behind it.
type portTaken struct{ text string }

func (e portTaken) Error() string { return e.text }
func (e portTaken) Unwrap() error { return syscall.EADDRINUSE }

// CheckPorts tries to bind each forwarded port on the loopback and reports
// every one that is taken, with its owner.
func CheckPorts(p guest.Ports) error {
	var faults []error
	for _, f := range p.Forwards() {
		l, err := net.Listen("tcp4", loopback(f.Host))
		if err != nil {
			faults = append(faults, portFault(f, err))
			continue
		}
		l.Close()
	}
	return errors.Join(faults...)
}

// portFault says why a port cannot be listened to, and what to do.
func portFault(f guest.Forward, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return portTaken{fmt.Sprintf("port %d (%s) is in use by %s: stop that, or choose another port", f.Host, f.Name, portOwner(f.Host))}
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("port %d (%s) may not be used by an ordinary user: choose one above 1023", f.Host, f.Name)
	}
	return fmt.Errorf("port %d (%s): %w", f.Host, f.Name, err)
}

// lingering is how long the ports of a machine that was killed may stay taken:
// the kernel closes them when it has given back the machine's memory.
const lingering = 3 * time.Second

// awaitPorts is [CheckPorts] with patience for ports that are about to be free.
func awaitPorts(ctx context.Context, p guest.Ports) error {
	limit := time.NewTimer(lingering)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := CheckPorts(p)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unseenOwner is what is said of a port's owner when this user may not see it.
const unseenOwner = "a process that this user cannot see"

// listeners collects the inodes of the sockets that listen on port, from a
// table in the format of /proc/net/tcp (proc_net(5), proc_pid_net(5)).
func listeners(table string, port int, inodes map[string]bool) {
	const listen = "0A"
	lines := bufio.NewScanner(strings.NewReader(table))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != listen {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			inodes[f[9]] = true
		}
	}
}

// parseOwner reads the first process from the output of `lsof -Fpc`: lines that
// begin with p and its pid, with c and its name (lsof(8), OUTPUT FOR OTHER
// PROGRAMS).
func parseOwner(out string) (owner string, ok bool) {
	var pid, name string
	for line := range strings.Lines(out) {
		switch line = strings.TrimRight(line, "\n"); {
		case strings.HasPrefix(line, "p") && pid != "": // the next process
			return fmt.Sprintf("%s (pid %s)", name, pid), true
		case strings.HasPrefix(line, "p"):
			if _, err := strconv.Atoi(line[1:]); err != nil {
				return "", false
			}
			pid = line[1:]
		case strings.HasPrefix(line, "c") && pid != "":
			name = cleanLine(line[1:])
		}
	}
	return fmt.Sprintf("%s (pid %s)", name, pid), pid != ""
}

package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
		l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(f.Host))
		if err == nil {
			l.Close()
			continue
		}
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			faults = append(faults, portTaken{fmt.Sprintf("port %d (%s) is in use by %s: stop that, or choose another port", f.Host, f.Name, portOwner("/proc", f.Host))})
		case errors.Is(err, syscall.EACCES):
			faults = append(faults, fmt.Errorf("port %d (%s) may not be used by an ordinary user: choose one above 1023", f.Host, f.Name))
		default:
			faults = append(faults, fmt.Errorf("port %d (%s): %w", f.Host, f.Name, err))
		}
	}
	return errors.Join(faults...)
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

// portOwner names the process that listens on a port, below the proc file
// system at proc.
func portOwner(proc string, port int) string {
	inodes := map[string]bool{}
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		b, err := os.ReadFile(filepath.Join(proc, table))
		if err == nil {
			listeners(string(b), port, inodes)
		}
	}
	links, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/fd/*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !inodes[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return "a process that this user cannot see (`sudo ss -ltnp` names it)"
}

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

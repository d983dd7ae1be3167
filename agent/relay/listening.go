package relay

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rockpool/rootvm/agent"
)

// Bounds of what a workspace can make the relay read and answer.
const (
	maxSockets   = 512 // that listen
	maxAddresses = 8   // of a port
	maxProgram   = 64  // runes of a program's name
	maxCommand   = 4 << 10
	maxLines     = 1 << 14 // of a table of sockets, in which those that listen come first
	maxFilesOf   = 1 << 12 // that a process has open
	maxFilesRead = 1 << 16 // that all processes have open
	scanTime     = 4 * time.Second
	readAtOnce   = 256 // names of a directory
)

// errBusy is that other scans did not end in time.
var errBusy = errors.New("the relay looks through other workspaces' processes; ask again")

// socket is a line of a table of sockets that listens.
type socket struct {
	address netip.Addr
	port    int
	inode   string
}

// listening lists what listens in the network of a process. One question at a
// time looks through the machine's processes; the others wait for their turn.
func (r *Relay) listening(process *os.File) ([]agent.Listener, error) {
	select {
	case r.scans <- struct{}{}:
		defer func() { <-r.scans }()
	case <-time.After(askTime - scanTime):
		return nil, errBusy
	}
	return inNetwork(process, func() ([]agent.Listener, error) {
		var sockets []socket
		for _, table := range []string{"tcp", "tcp6"} {
			f, err := os.Open("/proc/thread-self/net/" + table)
			if errors.Is(err, os.ErrNotExist) { // a kernel without this family
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list sockets: %w", err)
			}
			sockets, err = appendListening(sockets, f)
			_ = f.Close()
			if err != nil {
				return nil, fmt.Errorf("list sockets: %w", err)
			}
		}

		own, err := ownNetwork()
		if err != nil {
			return nil, err
		}
		s := scan{proc: "/proc", network: own, until: time.Now().Add(scanTime), files: maxFilesRead, names: map[string]string{}}
		return group(sockets, s.programs(sockets)), nil
	})
}

// stateListen is TCP_LISTEN in the kernel's tables.
const stateListen = "0A"

// appendListening reads a table like /proc/net/tcp, whose columns proc(5)
// describes: the second is the local address, the fourth the state, the tenth
// the inode.
func appendListening(sockets []socket, r io.Reader) ([]socket, error) {
	s := bufio.NewScanner(r)
	for range maxLines {
		if len(sockets) >= maxSockets || !s.Scan() {
			break
		}
		f := strings.Fields(s.Text())
		if len(f) < 10 || f[3] != stateListen {
			continue
		}
		address, port, ok := strings.Cut(f[1], ":")
		a, err := kernelAddress(address)
		n, portErr := strconv.ParseUint(port, 16, 16)
		if !ok || err != nil || portErr != nil {
			return nil, fmt.Errorf("the table of sockets has the address %q", f[1])
		}
		sockets = append(sockets, socket{a, int(n), f[9]})
	}
	return sockets, s.Err()
}

// kernelAddress reads an address as the kernel writes it on the machines that
// are supported, which are little-endian: words of 32 bits, each with its last
// byte first.
func kernelAddress(s string) (netip.Addr, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.Addr{}, fmt.Errorf("%q is not an address", s)
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	a, _ := netip.AddrFromSlice(b)
	return a, nil
}

// scan looks through processes for the programs that have sockets. What a
// workspace can make of its processes and their files, others pay for, so all of
// it is bounded: beyond a bound, a program's name is not known.
type scan struct {
	proc    string // where the kernel shows processes
	network string // whose processes are looked at
	until   time.Time
	files   int               // how many may still be looked at
	names   map[string]string // of programs, by inodes of sockets; "" while it is looked for
	missing int               // of names
}

// programs are the names of the programs that have the sockets, by inode. What
// ends meanwhile, or may not be looked at, is left out.
func (s *scan) programs(sockets []socket) map[string]string {
	for _, k := range sockets {
		s.names[k.inode] = ""
	}
	s.missing = len(s.names)
	eachName(s.proc, func(pid string) bool {
		if s.missing == 0 || s.files <= 0 || time.Now().After(s.until) {
			return false
		}
		if pid[0] < '0' || pid[0] > '9' { // no process
			return true
		}
		dir := filepath.Join(s.proc, pid)
		if ns, err := os.Readlink(dir + "/ns/net"); err == nil && ns == s.network {
			s.process(dir)
		}
		return true
	})
	return s.names
}

// process looks at the files of a process.
func (s *scan) process(dir string) {
	name, left := "", maxFilesOf
	eachName(dir+"/fd", func(fd string) bool {
		if left == 0 || s.missing == 0 || s.files <= 0 {
			return false
		}
		left--
		s.files--
		target, err := os.Readlink(dir + "/fd/" + fd)
		inode, ok := strings.CutPrefix(target, "socket:[")
		inode = strings.TrimSuffix(inode, "]")
		if known, wanted := s.names[inode]; err != nil || !ok || !wanted || known != "" {
			return true
		}

		if name == "" {
			name = programName(dir)
		}
		if s.names[inode] = name; name != "" {
			s.missing--
		}
		return true
	})
}

// eachName calls f with the names in a directory, as the kernel has them in
// order, until f is false.
func eachName(dir string, f func(name string) bool) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(readAtOnce)
		for _, name := range names {
			if !f(name) {
				return
			}
		}
		if err != nil { // io.EOF at the end
			return
		}
	}
}

// programName is what a process calls itself: the last part of the path that it
// was started by, or the kernel's name for it. It is text of the workspace's.
func programName(dir string) string {
	name := ""
	if f, err := os.Open(dir + "/cmdline"); err == nil {
		b, _ := io.ReadAll(io.LimitReader(f, maxCommand))
		_ = f.Close()
		first, _, _ := strings.Cut(string(b), "\x00")
		first, _, _ = strings.Cut(first, " ") // a title that it gave itself, such as "nginx: master process"
		name = strings.TrimSuffix(path.Base(first), ":")
	}
	if name == "" || name == "." || name == "/" {
		b, _ := os.ReadFile(dir + "/comm")
		name = strings.TrimSpace(string(b))
	}
	return printable(name)
}

// printable is at most maxProgram runes that can be shown.
func printable(s string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
	return string(runes[:min(len(runes), maxProgram)])
}

// group makes one entry of the sockets that have a port and a program in common,
// ordered by port.
func group(sockets []socket, programs map[string]string) []agent.Listener {
	var all []agent.Listener
	for _, s := range sockets {
		i := slices.IndexFunc(all, func(l agent.Listener) bool { return l.Port == s.port && l.Program == programs[s.inode] })
		if i < 0 {
			i = len(all)
			all = append(all, agent.Listener{Port: s.port, Program: programs[s.inode]})
		}
		if a := s.address.String(); len(all[i].Addresses) < maxAddresses && !slices.Contains(all[i].Addresses, a) {
			all[i].Addresses = append(all[i].Addresses, a)
		}
	}
	slices.SortStableFunc(all, func(a, b agent.Listener) int { return a.Port - b.Port })
	return all
}

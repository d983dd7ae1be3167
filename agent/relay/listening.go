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
	"unicode"

	"github.com/rockpool/rootvm/agent"
)

// Bounds of what a workspace can make the relay read and answer.
const (
	maxSockets   = 512 // that listen
	maxAddresses = 8   // of a port
	maxProgram   = 64  // runes of a program's name
	maxCommand   = 4 << 10
)

// socket is a line of a table of sockets that listens.
type socket struct {
	address netip.Addr
	port    int
	inode   string
}

// listening lists what listens in the network of a process.
func listening(process *os.File) ([]agent.Listener, error) {
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

		own, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		return group(sockets, programs(own)), nil
	})
}

// stateListen is TCP_LISTEN in the kernel's tables.
const stateListen = "0A"

// appendListening reads a table like /proc/net/tcp, whose columns proc(5)
// describes: the second is the local address, the fourth the state, the tenth
// the inode.
func appendListening(sockets []socket, r io.Reader) ([]socket, error) {
	s := bufio.NewScanner(r)
	for s.Scan() && len(sockets) < maxSockets {
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

// programs are the names of the programs in a network namespace by the inodes
// of their sockets. What ends meanwhile, or may not be looked at, is left out.
func programs(namespace string) map[string]string {
	found := map[string]string{}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		if ns, err := os.Readlink(dir + "/ns/net"); err != nil || ns != namespace {
			continue
		}
		files, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue
		}

		name := ""
		for _, f := range files {
			target, err := os.Readlink(dir + "/fd/" + f.Name())
			inode, ok := strings.CutPrefix(target, "socket:[")
			if err != nil || !ok {
				continue
			}
			if name == "" {
				name = programName(dir)
			}
			if inode = strings.TrimSuffix(inode, "]"); found[inode] == "" {
				found[inode] = name
			}
		}
	}
	return found
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

package relay

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Lines as Linux 6.12 writes them: applications on four addresses, a connection
// that is open, and one that waits for its end.
const (
	table4 = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 101 1 0000000000000000 100 0 0 10 0
   1: 00000000:0BBB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 103 1 0000000000000000 100 0 0 10 0
   2: 0100007F:0BBA 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 109 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:0BBA 0100007F:C351 06 00000000:00000000 03:00000A8C 00000000     0        0 0 3 0000000000000000
`
	table6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:0BBA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 102 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:0BBB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 104 1 0000000000000000 100 0 0 10 0
   2: B80D0120000000000000000001020304:FFFF 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 105 1 0000000000000000 100 0 0 10 0
`
)

func TestListening_tables(t *testing.T) {
	sockets, err := appendListening(nil, strings.NewReader(table4))
	if err == nil {
		sockets, err = appendListening(sockets, strings.NewReader(table6))
	}
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{"101": "node", "102": "node", "103": "node", "104": "python3", "105": ""}
	want := []agent.Listener{
		{Port: 3001, Program: "node", Addresses: []string{"127.0.0.1"}},
		{Port: 3002, Program: "node", Addresses: []string{"::1"}},
		{Port: 3003, Program: "node", Addresses: []string{"0.0.0.0"}},
		{Port: 3003, Program: "python3", Addresses: []string{"::"}},
		{Port: 65535, Addresses: []string{"2001:db8::403:201"}},
	}
	if got := group(sockets, names); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}

	names["104"] = "node"
	if got := group(sockets, names)[2]; !reflect.DeepEqual(got.Addresses, []string{"0.0.0.0", "::"}) {
		t.Errorf("one program at two addresses: %+v", got)
	}
	for _, line := range []string{"0: 0100007F 0 0A 0 0 0 0 0 101", "0: 01007F:0BB9 0 0A 0 0 0 0 0 101", "0: 0100007F:10BB9 0 0A 0 0 0 0 0 101", "0: xx00007F:0BB9 0 0A 0 0 0 0 0 101"} {
		if got, err := appendListening(nil, strings.NewReader(line)); err == nil {
			t.Errorf("%q is %+v", line, got)
		}
	}
	long := strings.Repeat("0: 0100007F:0BB9 0 01 0 0 0 0 0 101\n", maxLines) + "0: 0100007F:0BB9 0 0A 0 0 0 0 0 101\n"
	if got, err := appendListening(nil, strings.NewReader(long)); err != nil || len(got) > 0 {
		t.Errorf("of a table that is too long: %d, %v", len(got), err)
	}
	if got, err := appendListening(nil, strings.NewReader(strings.Repeat("0: 0100007F:0BB9 0 0A 0 0 0 0 0 101\n", 2*maxSockets))); err != nil || len(got) != maxSockets {
		t.Errorf("of very many sockets: %d, %v", len(got), err)
	}
}

// TestListening_program: the program that has a socket is found by it, and its
// name is made fit to be shown.
func TestListening_program(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sockets, err := appendListening(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	s := scan{proc: "/proc", network: ns, until: time.Now().Add(time.Minute), files: maxFilesRead, names: map[string]string{}}
	for _, g := range group(sockets, s.programs(sockets)) {
		found = found || g.Port == l.Addr().(*net.TCPAddr).Port && g.Program == "relay.test"
	}
	if !found {
		t.Error("this test's own socket is not found, or not as this test's")
	}

	for given, want := range map[string]string{
		"node": "node", "a\nb\x1b[31m": "ab[31m", strings.Repeat("ä", 100): strings.Repeat("ä", maxProgram), "x\xff\u202e": "x",
	} {
		if got := printable(given); got != want {
			t.Errorf("%q is shown as %q, want %q", given, got, want)
		}
	}
}

// TestScan_bounds: a process with very many files costs its share and no more,
// others are found beside it, and a scan that takes too long, or has looked at
// enough, ends with what it knows.
func TestScan_bounds(t *testing.T) {
	proc := t.TempDir()
	process := func(pid, program string, inodes ...int) {
		t.Helper()
		dir := filepath.Join(proc, pid)
		if err := errors.Join(os.MkdirAll(dir+"/ns", 0o755), os.Mkdir(dir+"/fd", 0o755), os.Symlink("net:[1]", dir+"/ns/net"),
			os.WriteFile(dir+"/comm", []byte(program+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
		for fd, inode := range inodes {
			if err := os.Symlink("socket:["+strconv.Itoa(inode)+"]", filepath.Join(dir, "fd", strconv.Itoa(fd))); err != nil {
				t.Fatal(err)
			}
		}
	}
	many := make([]int, maxFilesOf+100)
	for i := range many {
		many[i] = 1_000_000 + i
	}
	process("10", "greedy", many...)
	process("11", "node", 101)
	process("self", "wrong", 102)
	sockets := []socket{{inode: "101"}, {inode: "102"}}

	for name, tt := range map[string]struct {
		until time.Time
		files int
		left  int // at most
		found bool
	}{
		"whole":    {time.Now().Add(time.Minute), maxFilesRead, maxFilesRead - maxFilesOf - 1, true},
		"too late": {time.Now().Add(-time.Second), maxFilesRead, maxFilesRead, false},
		"enough":   {time.Now().Add(time.Minute), 0, 0, false},
	} {
		s := scan{proc: proc, network: "net:[1]", until: tt.until, files: tt.files, names: map[string]string{}}
		names := s.programs(sockets)
		if (names["101"] == "node") != tt.found || names["102"] != "" || len(names) != 2 {
			t.Errorf("%s: found %v", name, names)
		}
		if s.files != tt.left {
			t.Errorf("%s: %d files may be looked at still, want %d", name, s.files, tt.left)
		}
	}
}

// TestRelay_listening/turn: a question does not look through the processes
// beside another that does.
func TestRelay_listening_turn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{scans: make(chan struct{}, 1)}
		r.scans <- struct{}{}
		begin := time.Now()
		if _, err := r.listening(nil); !errors.Is(err, errBusy) {
			t.Errorf("error %v", err)
		}
		if waited := time.Since(begin); waited <= 0 || waited > askTime {
			t.Errorf("it waited %s", waited)
		}
	})
}

package relay

import (
	"net"
	"os"
	"reflect"
	"strings"
	"testing"

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
	for _, g := range group(sockets, programs(ns)) {
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

package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

func TestCheckPorts_namesTheOwner(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0") // also in the way of 127.0.0.1
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	err = CheckPorts(guest.Ports{Dashboard: port})
	if err == nil {
		t.Fatal("a busy port was found free")
	}
	for _, want := range []string{fmt.Sprint("port ", port), "dashboard", fmt.Sprintf("(pid %d)", os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %q", want, err)
		}
	}
	l.Close()
	if err := CheckPorts(guest.Ports{Dashboard: port}); err != nil {
		t.Errorf("after closing: %v", err)
	}
}

func FuzzListeners(f *testing.F) {
	f.Add("  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001 0 4242 1\n")
	f.Fuzz(func(t *testing.T, table string) {
		listeners(table, 8080, map[string]bool{})
	})
}

func TestListeners(t *testing.T) {
	table := "  sl  local_address rem_address   st\n" +
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 4242 1\n" +
		"   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1001        0 4243 1\n" +
		"   2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 4244 1\n"
	inodes := map[string]bool{}
	listeners(table, 8080, inodes)
	if len(inodes) != 1 || !inodes["4242"] {
		t.Errorf("got %v, want 4242 only", inodes)
	}
}

func TestAwaitPorts(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ports := guest.Ports{Dashboard: l.Addr().(*net.TCPAddr).Port}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := awaitPorts(ended, ports); err == nil {
		t.Error("a port that is taken was free")
	}
	got := make(chan error, 1)
	go func() { got <- awaitPorts(t.Context(), ports) }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("a port that became free: %v", err)
	}
}

func TestParseOwner(t *testing.T) {
	for _, tt := range []struct{ name, out, want string }{
		{"one", "p4242\ncnginx\nf6\n", "nginx (pid 4242)"},
		{"two", "p1\ncfirst\nf6\np2\ncsecond\n", "first (pid 1)"},
		{"a name that a terminal obeys", "p7\nca\x1b[2Jb\n", "ab (pid 7)"},
		{"no name", "p7\n", " (pid 7)"},
		{"none", "", ""},
		{"no number", "px\ncnginx\n", ""},
		{"a name only", "cnginx\n", ""},
	} {
		got, ok := parseOwner(tt.out)
		if ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, ok, tt.want)
		}
	}
}

func FuzzParseOwner(f *testing.F) {
	f.Add("p4242\ncnginx\nf6\n")
	f.Fuzz(func(t *testing.T, out string) {
		if owner, ok := parseOwner(out); ok && strings.ContainsAny(owner, "\x1b\n") {
			t.Errorf("%q", owner)
		}
	})
}

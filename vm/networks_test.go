package vm

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOnLink(t *testing.T) {
	var prefixes []netip.Prefix
	for _, s := range []string{
		"127.0.0.1/8", "::1/128", "fe80::1/64", "169.254.7.7/16", // the guest refuses those anyway
		"192.168.1.20/24", "203.0.113.7/32", "2001:db8:1:2:3::7/64",
		"198.18.0.1/16", // of a proxy that answers every name from there: that is the internet
		"10.8.0.2/1",    // a private network that takes everything
	} {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		prefixes = append(prefixes, onLink(&net.IPNet{IP: ip, Mask: n.Mask})...)
	}
	want := []string{"10.8.0.2/32", "192.168.1.0/24", "198.18.0.1/32", "203.0.113.7/32", "2001:db8:1:2::/64"}
	if got := networkList(prefixes); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// fakeTransport is a machine of which only the channel is used.
type fakeTransport struct {
	Machine
	conns chan net.Conn
}

func (f fakeTransport) Channel(ctx context.Context) (io.ReadWriteCloser, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestChannel_Networks: the guest is told the host's networks when it connects,
// when they change, and not when they do not.
func TestChannel_Networks(t *testing.T) {
	machine := fakeTransport{conns: make(chan net.Conn)}
	c := newChannel(machine)
	c.retry = time.Millisecond
	go c.run(t.Context())

	lists := make(chan []string, 8)
	tick := make(chan time.Time)
	lists <- []string{"203.0.113.0/24"}
	go c.watchNetworks(t.Context(), func() ([]string, error) {
		select {
		case l := <-lists:
			return l, nil
		default:
			return nil, errors.New("the host does not say")
		}
	}, tick)

	connect := func() (*bufio.Reader, net.Conn) {
		ours, theirs := net.Pipe()
		machine.conns <- theirs
		return bufio.NewReader(ours), ours
	}
	expect := func(r *bufio.Reader, want string) {
		t.Helper()
		line, err := r.ReadString('\n')
		if err != nil || strings.TrimSpace(line) != want {
			t.Fatalf("%q, %v, want %s", line, err, want)
		}
	}

	r, conn := connect()
	expect(r, `{"request":"status"}`)
	expect(r, `{"request":"networks","hostNetworks":["203.0.113.0/24"]}`)
	lists <- []string{"203.0.113.0/24"} // the same
	tick <- time.Now()
	tick <- time.Now() // it does not say
	lists <- []string{"198.51.100.0/24"}
	tick <- time.Now()
	expect(r, `{"request":"networks","hostNetworks":["198.51.100.0/24"]}`)
	c.send <- "shutdown"
	expect(r, `{"request":"shutdown"}`)
	conn.Close()

	r, conn = connect()
	defer conn.Close()
	expect(r, `{"request":"status"}`)
	expect(r, `{"request":"networks","hostNetworks":["198.51.100.0/24"]}`)
}

func TestHostNetworks(t *testing.T) {
	list, err := hostNetworks()
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLoopback() || n.IP.IsLinkLocalUnicast() {
			continue
		}
		address, _ := netip.AddrFromSlice(n.IP)
		if !slices.ContainsFunc(list, func(s string) bool { return netip.MustParsePrefix(s).Contains(address.Unmap()) }) {
			t.Errorf("the host's %s is in none of %q", address, list)
		}
	}
}

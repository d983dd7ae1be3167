package vm

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rockpool/rootvm/guest"
)

// sshGuest is a guest's SSH server, which leads to servers of the test.
type sshGuest struct {
	port   int
	logins atomic.Int32

	mu      sync.Mutex
	servers map[string]string // addresses by what the guest calls them, host:port
	conns   []net.Conn
}

// serveSSH serves an instance's SSH port, which it sets, with a key that ssh(1)
// would know.
func serveSSH(t *testing.T, inst *Instance, servers map[string]string) *sshGuest {
	t.Helper()
	if _, err := ensureKey(*inst); err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	line := knownhosts.Line([]string{inst.Config.Name}, signer.PublicKey()) + "\n"
	if err := os.WriteFile(inst.Path(knownHostsFile), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}

	own, err := os.ReadFile(inst.Path(keyFile))
	if err != nil {
		t.Fatal(err)
	}
	login, err := ssh.ParsePrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != guest.AdminUser || string(key.Marshal()) != string(login.PublicKey().Marshal()) {
			return nil, errors.New("not this instance's key")
		}
		return nil, nil
	}}
	config.AddHostKey(signer)

	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &sshGuest{port: l.Addr().(*net.TCPAddr).Port, servers: servers}
	inst.Config.Ports.SSH = g.port
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(conn, config)
		}
	}()
	return g
}

func (g *sshGuest) serve(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	g.logins.Add(1)
	g.mu.Lock()
	g.conns = append(g.conns, conn)
	g.mu.Unlock()
	go ssh.DiscardRequests(requests)
	for c := range channels {
		go g.lead(c)
	}
}

// lead is what sshd does for "direct-tcpip" (RFC 4254, 7.2).
func (g *sshGuest) lead(c ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(c.ExtraData(), &to); err != nil || c.ChannelType() != "direct-tcpip" {
		c.Reject(ssh.UnknownChannelType, "no")
		return
	}
	g.mu.Lock()
	address := g.servers[net.JoinHostPort(to.Host, fmt.Sprint(to.Port))]
	g.mu.Unlock()
	server, err := net.Dial("tcp4", address)
	if err != nil {
		c.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	channel, requests, err := c.Accept()
	if err != nil {
		server.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		io.Copy(server, channel)
		server.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(channel, server)
	channel.CloseWrite()
	channel.Close()
}

// cut breaks every SSH connection.
func (g *sshGuest) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Close()
	}
}

// tunnelled is an instance with a guest whose loopback has an echo server on
// 3000 by IPv4 and one on 3001 by IPv6.
func tunnelled(t *testing.T) (Instance, *sshGuest) {
	t.Helper()
	c := validConfig()
	c.Name, c.Ports = "one", guest.Ports{SSH: 1}
	inst := Instance{Dir: t.TempDir(), Config: c}
	address := serveGuest(t, echo)
	g := serveSSH(t, &inst, map[string]string{"127.0.0.1:3000": address, "[::1]:3001": address})
	return inst, g
}

// forwardTunnel forwards free ports to those of the guest.
func forwardTunnel(t *testing.T, inst Instance, ports ...int) []int {
	t.Helper()
	var forwards []guest.Forward
	var free []int
	for _, p := range ports {
		free = append(free, freePort(t))
		forwards = append(forwards, guest.Forward{Name: "dev", Host: free[len(free)-1], Guest: p})
	}
	f, err := listenForwards(forwards, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	tunnel := &tunnel{inst: inst, log: slog.New(slog.DiscardHandler)}
	f.serve(t.Context(), tunnel)
	t.Cleanup(func() {
		tunnel.close()
		endForwarder(t, f)
	})
	return free
}

func TestTunnel(t *testing.T) {
	inst, g := tunnelled(t)
	ports := forwardTunnel(t, inst, 3000, 3001, 3002)
	errs := make(chan error, 40)
	for n := range cap(errs) {
		conn := connect(t, ports[n%2])
		go func() { errs <- roundTrip(conn, 100<<10) }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := refusal(ports[2]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a port without a server: %v", err)
	}
	if n := g.logins.Load(); n != 1 {
		t.Errorf("%d SSH connections, want one", n)
	}
}

// TestTunnel_reconnects: the guest restarts, or its SSH server.
func TestTunnel_reconnects(t *testing.T) {
	inst, g := tunnelled(t)
	ports := forwardTunnel(t, inst, 3000)
	for n := range 3 {
		if err := roundTrip(connect(t, ports[0]), 1000); err != nil {
			t.Errorf("%d: %v", n, err)
		}
		g.cut()
	}
}

// TestTunnel_otherGuest: what answers with another key is not the guest.
func TestTunnel_otherGuest(t *testing.T) {
	inst, _ := tunnelled(t)
	known, err := os.ReadFile(inst.Path(knownHostsFile))
	if err != nil {
		t.Fatal(err)
	}
	serveSSH(t, &inst, nil)
	if err := os.WriteFile(inst.Path(knownHostsFile), known, 0o600); err != nil {
		t.Fatal(err)
	}
	tunnel := &tunnel{inst: inst, log: slog.New(slog.DiscardHandler)}
	if _, err := tunnel.Dial(t.Context(), 3000); err == nil || !strings.Contains(err.Error(), "key mismatch") {
		t.Errorf("got %v", err)
	}
}

func TestTunnel_dialLimit(t *testing.T) {
	inst, _ := tunnelled(t)
	silent := serveGuest(t, func(conn *net.TCPConn) { io.Copy(io.Discard, conn) })
	_, port, _ := net.SplitHostPort(silent)
	fmt.Sscan(port, &inst.Config.Ports.SSH)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	tunnel := &tunnel{inst: inst, log: slog.New(slog.DiscardHandler)}
	if _, err := tunnel.Dial(ctx, 3000); err == nil {
		t.Error("a guest that says nothing was reached")
	}
}

// TestKeepAlive: a connection whose other side has gone silent is closed.
func TestKeepAlive(t *testing.T) {
	inst, _ := tunnelled(t)
	client, err := connectSSH(t.Context(), inst)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		keepAlive(client, time.Millisecond, time.Nanosecond)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the connection is kept")
	}
}

func TestHost_ForwardEcosystem(t *testing.T) {
	c := validConfig()
	c.Name, c.Ports = "one", guest.Ports{SSH: 1}
	d := &fakeDriver{can: Capabilities{Forwards: true}}
	inst := fakeInstance(t, c, d)
	address := serveGuest(t, echo)
	serveSSH(t, &inst, map[string]string{"127.0.0.1:3000": address, "[::1]:3001": address})
	if err := writeJSON(inst.Path(configFile), inst.Config); err != nil {
		t.Fatal(err)
	}
	host := Host{Dir: filepath.Dir(inst.Dir)}
	if err := host.ForwardEcosystem(t.Context(), "one", nil); err == nil {
		t.Error("a VM that is off forwards")
	}
	s, answer := superviseFake(t, inst, d, true)
	if answer != "{}\n" {
		t.Fatalf("answer %q", answer)
	}

	first := guest.Forward{Name: "api", Host: freePort(t), Guest: 3000}
	second := guest.Forward{Name: "client", Host: freePort(t), Guest: 3001}
	ask := func(ports ...guest.Forward) {
		t.Helper()
		if err := host.ForwardEcosystem(t.Context(), "one", ports); err != nil {
			t.Fatal(err)
		}
		state, err := readState(inst.Dir)
		if err != nil || !slices.Equal(state.EcosystemPorts, ports) {
			t.Errorf("state has %v, %v", state.EcosystemPorts, err)
		}
		for _, p := range ports {
			if err := roundTrip(connect(t, p.Host), 1000); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
	}
	ask(first, second)
	idle := connect(t, first.Host)
	ask(first, second) // nothing is interrupted when nothing changes
	if err := roundTrip(idle, 1000); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	ask(second)
	if _, err := net.Dial("tcp4", loopback(first.Host)); err == nil {
		t.Error("a port that was given up is open")
	}

	// A busy port is named, and nothing changes.
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := guest.Forward{Name: "taken", Host: busy.Addr().(*net.TCPAddr).Port, Guest: 3000}
	if err := host.ForwardEcosystem(t.Context(), "one", []guest.Forward{first, taken}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("port %d (taken) is in use by", taken.Host)) {
		t.Errorf("got %v", err)
	}
	if _, err := net.Dial("tcp4", loopback(first.Host)); err == nil {
		t.Error("a port of a request that failed is open")
	}
	if err := roundTrip(connect(t, second.Host), 1000); err != nil {
		t.Errorf("what was forwarded before a request that failed: %v", err)
	}

	// The next supervisor goes on.
	s.die()
	<-s.ended
	if s, answer = superviseFake(t, inst, d, false); answer != "{}\n" {
		t.Fatalf("answer of the second %q", answer)
	}
	if err := roundTrip(connect(t, second.Host), 1000); err != nil {
		t.Errorf("adopted: %v", err)
	}
	s.stop(t, guest.Ports{Dashboard: second.Host})
	if state, err := readState(inst.Dir); err != nil || state.EcosystemPorts != nil {
		t.Errorf("a VM that is off forwards %v, %v", state.EcosystemPorts, err)
	}
}

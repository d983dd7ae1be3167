package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rockpool/rootvm/guest"
)

// tunnel dials ports of the guest through its SSH server, and so also those
// that only the guest's own loopback reaches, which no driver's forwarding
// does: programs for developers listen there by default. It is a [Dialer] with
// one SSH connection, made when it is first needed and made anew when it broke.
type tunnel struct {
	inst Instance
	log  *slog.Logger

	mu     sync.Mutex
	client *ssh.Client
	closed bool
}

// aliveInterval is how often an SSH connection is tried, and aliveLimit how long
// the answer may take: longer than a guest stands still that is not dead.
const (
	aliveInterval = 15 * time.Second
	aliveLimit    = 90 * time.Second
)

// Dial connects to a port of the guest's loopback, by IPv4 or else by IPv6.
func (t *tunnel) Dial(ctx context.Context, port int) (net.Conn, error) {
	client, known, err := t.connection(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := dialLoopback(ctx, client, port)
	if err == nil || !known || isRefused(err) || ctx.Err() != nil {
		return conn, err
	}

	t.log.Debug("SSH connection lost", "err", err)
	client.Close()
	t.forget(client)
	if client, _, err = t.connection(ctx); err != nil {
		return nil, err
	}
	return dialLoopback(ctx, client, port)
}

// dialLoopback tries the addresses that "localhost" may stand for.
func dialLoopback(ctx context.Context, client *ssh.Client, port int) (net.Conn, error) {
	var faults []error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := client.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return conn, nil
		}
		faults = append(faults, err)
		if !isRefused(err) {
			break
		}
	}
	return nil, fmt.Errorf("port %d of the guest: %w", port, errors.Join(faults...))
}

// isRefused reports whether the guest answered that it cannot connect.
func isRefused(err error) bool {
	_, ok := errors.AsType[*ssh.OpenChannelError](err)
	return ok
}

// connection returns the SSH connection, and whether it was there already.
func (t *tunnel) connection(ctx context.Context) (client *ssh.Client, known bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, false, net.ErrClosed
	case t.client != nil:
		return t.client, true, nil
	}

	if client, err = connectSSH(ctx, t.inst); err != nil {
		return nil, false, fmt.Errorf("SSH to the guest: %w", err)
	}
	t.client = client
	go func() {
		keepAlive(client, aliveInterval, aliveLimit)
		t.forget(client)
	}()
	return client, false, nil
}

// forget has the next Dial connect anew, unless that was done already.
func (t *tunnel) forget(client *ssh.Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client == client {
		t.client = nil
	}
}

// close ends the SSH connection and with it all that goes through it.
func (t *tunnel) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.client != nil {
		t.client.Close()
	}
}

// connectSSH connects to the guest's SSH server with the instance's key. The
// guest's key is that which ssh(1) accepted on first sight.
func connectSSH(ctx context.Context, inst Instance) (*ssh.Client, error) {
	key, err := os.ReadFile(inst.Path(keyFile))
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return nil, err
	}
	known, err := knownhosts.New(inst.Path(knownHostsFile))
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User:            guest.AdminUser,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: known,
	}

	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp4", loopback(inst.Config.Ports.SSH))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	alias := net.JoinHostPort(inst.Config.Name, "22") // as HostKeyAlias of SSHArgs
	c, channels, requests, err := ssh.NewClientConn(conn, alias, config)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// keepAlive asks the server for an answer again and again, and closes the
// connection when none comes. It returns when the connection has ended.
func keepAlive(client *ssh.Client, interval, limit time.Duration) {
	ended := make(chan struct{})
	go func() {
		client.Wait()
		close(ended)
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}

		late := time.AfterFunc(limit, func() { client.Close() })
		client.SendRequest("keepalive@openssh.com", true, nil) // its failure ends the connection, too
		late.Stop()
	}
}

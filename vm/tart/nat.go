package tart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// natAddress is the guest's address on Tart's NAT, asked for anew when it does
// not answer or is old.
type natAddress struct {
	mu  sync.Mutex
	ip  string
	got time.Time
}

// natFresh is how long an address is believed.
const natFresh = 30 * time.Second

// dialNAT connects to a port of the guest over Tart's NAT.
func (m *machine) dialNAT(ctx context.Context, port int) (net.Conn, error) {
	ip, err := m.nat.find(ctx, m.driver.Program, m.name)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		m.nat.forget()
		return nil, fmt.Errorf("over Tart's NAT: %w", err)
	}
	return conn, nil
}

func (a *natAddress) find(ctx context.Context, tart Program, name string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ip != "" && time.Since(a.got) < natFresh {
		return a.ip, nil
	}
	ip, err := tart.address(ctx, name)
	if err != nil {
		return "", err
	}
	a.ip, a.got = ip, time.Now()
	return ip, nil
}

func (a *natAddress) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ip = ""
}

// healthChannel stands for the guest's channel where there is none: it says
// ready when the guest's health does.
type healthChannel struct {
	*io.PipeReader
	said   *io.PipeWriter
	cancel context.CancelFunc
}

// healthInterval is between two looks at the guest's health.
const healthInterval = time.Second

func newHealthChannel(m *machine) *healthChannel {
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	c := &healthChannel{r, w, cancel}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.dialNAT(ctx, guest.PortDashboard)
	}}
	go c.watch(ctx, &http.Client{Transport: transport, Timeout: 10 * time.Second})
	return c
}

// watch looks at the health until it is good, and says so once.
func (c *healthChannel) watch(ctx context.Context, client *http.Client) {
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	for !healthy(ctx, client) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	_ = json.NewEncoder(c.said).Encode(guest.Message{Event: guest.EventReady})
}

func healthy(ctx context.Context, client *http.Client) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://rockpool/api/health", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// errNoChannel says that nobody in the guest hears the host.
var errNoChannel = errors.New("without Tart's control.sock the guest hears no requests")

// Write takes what the host asks: nobody hears a request to shut down, which the
// host learns at once and presses the power button.
func (c *healthChannel) Write(b []byte) (int, error) {
	var call guest.Call
	if json.Unmarshal(b, &call) == nil && call.Request == guest.RequestShutdown {
		return 0, errNoChannel
	}
	return len(b), nil
}

// Close ends the looking.
func (c *healthChannel) Close() error {
	c.cancel()
	return errors.Join(c.PipeReader.Close(), c.said.Close())
}

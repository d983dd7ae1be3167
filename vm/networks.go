package vm

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// networksInterval is how often the supervisor looks whether the host's
// networks have changed.
const networksInterval = 30 * time.Second

// hostNetworks are the addresses of the host and its routers and the networks
// that it is in, as [guest.Config] wants them. What the guest refuses anyway,
// loopback and link-local, is left out.
func hostNetworks() ([]string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of the host: %w", err)
	}
	var prefixes []netip.Prefix
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			prefixes = append(prefixes, onLink(n)...)
		}
	}
	return networkList(append(prefixes, routes()...)), nil
}

// onLink is an address and the network around it.
func onLink(n *net.IPNet) []netip.Prefix {
	address, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return nil
	}
	address = address.Unmap()
	bits, _ := n.Mask.Size()
	return []netip.Prefix{netip.PrefixFrom(address, address.BitLen()), netip.PrefixFrom(address, bits).Masked()}
}

// networkList leaves out what is no network of a host, and sorts the rest.
func networkList(prefixes []netip.Prefix) []string {
	prefixes = slices.DeleteFunc(prefixes, func(p netip.Prefix) bool {
		a := p.Addr()
		return !guest.HostNetwork(p) || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()
	})
	var list []string
	for _, p := range guest.MergeNetworks(prefixes) {
		list = append(list, p.String())
	}
	return list[:min(len(list), guest.MaxHostNetworks)]
}

// watchNetworks tells the guest the host's networks, at first and whenever they
// change, until ctx ends. look is asked for them at each tick.
func (c *channel) watchNetworks(ctx context.Context, look func() ([]string, error), tick <-chan time.Time) {
	for {
		if list, err := look(); err == nil {
			c.setNetworks(list)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

// setNetworks has the guest told a list that it has not been told, now and
// after each new connection.
func (c *channel) setNetworks(list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known && slices.Equal(c.networks, list) {
		return
	}
	c.networks, c.known = list, true
	select {
	case c.changed <- struct{}{}:
	default: // it is to be told already
	}
}

// networksCall is the call that tells the guest the host's networks, and
// whether they are known. With it, nothing is left to be told.
func (c *channel) networksCall() (guest.Call, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.changed:
	default:
	}
	return guest.Call{Request: guest.RequestNetworks, HostNetworks: c.networks}, c.known
}

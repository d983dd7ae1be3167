package guest

import (
	"fmt"
	"net/netip"
	"slices"
)

// MaxHostNetworks bounds how many networks the host may name.
const MaxHostNetworks = 256

// The shortest prefixes that a host may name. What is shorter is no network
// that a host is in, but a way to the internet, such as the route of a private
// network that takes everything: to refuse it would leave workspaces nothing.
const (
	minHostBits4 = 8
	minHostBits6 = 32
)

// RouterNames is the range for measurements (RFC 2544) from which routers and
// proxies that look into traffic answer every name. No device has such an
// address, and what is behind one is the internet.
var RouterNames = netip.MustParsePrefix("198.18.0.0/15")

// HostNetwork tells whether p may stand in [Config.HostNetworks]: it is masked,
// no longer form of an IPv4 prefix, without a zone, and neither wider than a
// network that a host is in nor wider than one address in [RouterNames].
func HostNetwork(p netip.Prefix) bool {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return false
	}
	if p.Overlaps(RouterNames) {
		return p.IsSingleIP()
	}
	if p.Addr().Is4() {
		return p.Bits() >= minHostBits4
	}
	return p.Bits() >= minHostBits6
}

// ParseHostNetworks reads [Config.HostNetworks]. The result is sorted, and no
// prefix in it overlaps another.
func ParseHostNetworks(list []string) ([]netip.Prefix, error) {
	if len(list) > MaxHostNetworks {
		return nil, fmt.Errorf("%d networks are more than %d", len(list), MaxHostNetworks)
	}
	prefixes := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil || !HostNetwork(p) || p.String() != s {
			return nil, fmt.Errorf("%.80q is not a network of a host, such as 192.168.1.0/24 or 2001:db8::/64", s)
		}
		prefixes = append(prefixes, p)
	}
	return MergeNetworks(prefixes), nil
}

// MergeNetworks sorts prefixes and leaves out those that lie in another.
func MergeNetworks(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits() // the wider one first
	})
	var merged []netip.Prefix
	for _, p := range sorted {
		if n := len(merged); n > 0 && merged[n-1].Contains(p.Addr()) {
			continue
		}
		merged = append(merged, p)
	}
	return merged
}

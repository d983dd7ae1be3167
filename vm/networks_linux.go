package vm

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
)

// routes are the routers of the host and the networks that it reaches without
// one. A host with an address by DHCPv6 has its network nowhere else: the
// address is one of 128 bits, and the router announces the network.
func routes() []netip.Prefix {
	var all []netip.Prefix
	if b, err := os.ReadFile("/proc/net/route"); err == nil {
		all = append(all, routes4(string(b))...)
	}
	if b, err := os.ReadFile("/proc/net/ipv6_route"); err == nil {
		all = append(all, routes6(string(b))...)
	}
	return all
}

// routes4 reads /proc/net/route: addresses are numbers of the host's byte
// order (proc_net(5), fib_route_seq_show in net/ipv4/fib_trie.c).
func routes4(table string) []netip.Prefix {
	var all []netip.Prefix
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		to, ok1 := address4(f[1])
		router, ok2 := address4(f[2])
		mask, ok3 := address4(f[7])
		if !ok1 || !ok2 || !ok3 {
			continue // the head of the table
		}
		if !router.IsUnspecified() {
			all = append(all, netip.PrefixFrom(router, 32))
			continue
		}
		bits := 0
		for m := mask.As4(); bits < 32 && m[bits/8]&(0x80>>(bits%8)) != 0; bits++ {
		}
		all = append(all, netip.PrefixFrom(to, bits).Masked())
	}
	return all
}

func address4(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, false
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
	return netip.AddrFrom4(a), true
}

// routes6 reads /proc/net/ipv6_route: destination, its length, source, its
// length, router (rt6_info_route in net/ipv6/route.c).
func routes6(table string) []netip.Prefix {
	var all []netip.Prefix
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[9] == "lo" {
			continue
		}
		to, err1 := hex.DecodeString(f[0])
		bits, err2 := hex.DecodeString(f[1])
		router, err3 := hex.DecodeString(f[4])
		if err1 != nil || err2 != nil || err3 != nil || len(to) != 16 || len(bits) != 1 || len(router) != 16 {
			continue
		}
		if r := netip.AddrFrom16([16]byte(router)); !r.IsUnspecified() {
			all = append(all, netip.PrefixFrom(r, 128))
			continue
		}
		all = append(all, netip.PrefixFrom(netip.AddrFrom16([16]byte(to)), int(bits[0])).Masked())
	}
	return all
}

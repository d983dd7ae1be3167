package main

import (
	"fmt"
	"net"
	"testing"
)

func TestReachable(t *testing.T) {
	network := func(list ...string) (all []net.Addr) {
		for _, s := range list {
			ip, n, err := net.ParseCIDR(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return all
	}
	for want, list := range map[string][]string{
		"[]":                     {"127.0.0.1/8", "::1/128", "169.254.1.1/16", "fe80::1/64"},
		"[10.0.2.15]":            {"127.0.0.1/8", "10.0.2.15/24", "fec0::5054:ff:fe12:3456/64"},
		"[2001:db8::1]":          {"::1/128", "2001:db8::1/64"},
		"[192.0.2.1 192.0.2.65]": {"192.0.2.1/26", "192.0.2.65/26"},
	} {
		if got := fmt.Sprint(reachable(network(list...))); got != want {
			t.Errorf("%v: %s, want %s", list, got, want)
		}
	}
}

package guest_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

func TestParseHostNetworks(t *testing.T) {
	for name, tt := range map[string]struct {
		list []string
		want string // "" is a refusal
	}{
		"nothing":              {nil, "[]"},
		"both families":        {[]string{"203.0.113.7/32", "2001:db8:1:2::/64", "192.168.1.0/24"}, "[192.168.1.0/24 203.0.113.7/32 2001:db8:1:2::/64]"},
		"one lies in another":  {[]string{"203.0.113.7/32", "203.0.113.0/24", "203.0.114.0/24"}, "[203.0.113.0/24 203.0.114.0/24]"},
		"twice":                {[]string{"10.0.0.0/8", "10.0.0.0/8"}, "[10.0.0.0/8]"},
		"router's names, one":  {[]string{"198.18.0.1/32"}, "[198.18.0.1/32]"},
		"router's names, all":  {[]string{"198.18.0.0/16"}, ""},
		"everything":           {[]string{"0.0.0.0/0"}, ""},
		"half of everything":   {[]string{"128.0.0.0/1"}, ""},
		"all of the internet":  {[]string{"2000::/3"}, ""},
		"everything in IPv6":   {[]string{"::/0"}, ""},
		"an address":           {[]string{"203.0.113.7"}, ""},
		"bits behind the mask": {[]string{"203.0.113.7/24"}, ""},
		"a zone":               {[]string{"fe80::1%eth0/64"}, ""},
		"IPv4 in IPv6":         {[]string{"::ffff:203.0.113.7/128"}, ""},
		"another spelling":     {[]string{"2001:DB8::/64"}, ""},
		"a command":            {[]string{"1.2.3.4/32 }; flush ruleset; {"}, ""},
		"a line":               {[]string{"1.2.3.4/32\n5.6.7.8/32"}, ""},
		"empty":                {[]string{""}, ""},
		"too many":             {slices.Repeat([]string{"10.0.0.0/8"}, guest.MaxHostNetworks+1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := guest.ParseHostNetworks(tt.list)
			if (err == nil) != (tt.want != "") || err == nil && fmt.Sprint(got) != tt.want {
				t.Errorf("%v, %v, want %s", got, err, tt.want)
			}
			c := guest.Config{HostNetworks: tt.list}
			c.FillDefaults()
			if err := c.Validate(); (err == nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), "hostNetworks") {
				t.Errorf("as part of the configuration: %v", err)
			}
		})
	}
}

func FuzzParseHostNetworks(f *testing.F) {
	f.Add("203.0.113.0/24", "203.0.113.7/32")
	f.Add("2001:db8::/64", "198.18.0.1/32")
	f.Fuzz(func(t *testing.T, a, b string) {
		got, err := guest.ParseHostNetworks([]string{a, b})
		if err != nil {
			return
		}
		for i, p := range got {
			if i > 0 && got[i-1].Overlaps(p) {
				t.Errorf("%s overlaps %s", got[i-1], p)
			}
		}
		for _, s := range []string{a, b} {
			if p := netip.MustParsePrefix(s); !slices.ContainsFunc(got, p.Overlaps) {
				t.Errorf("%s is in none of %v", p, got)
			}
		}
	})
}

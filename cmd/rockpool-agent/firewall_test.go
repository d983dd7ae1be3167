package main

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rockpool/rootvm/guest"
)

// TestPacketFilter: a configuration that cannot be read is no configuration
// without networks.
func TestPacketFilter(t *testing.T) {
	config := strings.TrimPrefix(guest.SetupRunDir, "/") + "/" + guest.ConfigFile
	for name, tt := range map[string]struct {
		root  fstest.MapFS
		boot  []string
		fault bool
	}{
		"none":       {fstest.MapFS{}, nil, false},
		"networks":   {fstest.MapFS{config: {Data: []byte(`{"version":1,"hostNetworks":["203.0.113.0/24"]}`)}}, []string{"203.0.113.0/24"}, false},
		"not valid":  {fstest.MapFS{config: {Data: []byte("{")}}, nil, true},
		"unreadable": {fstest.MapFS{config + "/x": {}}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			var log buffer
			f := packetFilter(tt.root, textLog(streams{out: &log}))
			if !slices.Equal(f.Boot, tt.boot) || (f.BootFault != nil) != tt.fault || strings.Contains(log.String(), "not known") != tt.fault {
				t.Errorf("networks %q, fault %v, said %q", f.Boot, f.BootFault, log.String())
			}
		})
	}
}

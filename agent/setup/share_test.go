package setup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestShare_Mount(t *testing.T) {
	gone := errors.New("invalid argument")
	for name, tt := range map[string]struct {
		kinds []string
		fail  []string
		calls []string
		did   string
		err   string
	}{
		"none":     {nil, nil, nil, "the host shares no directory", ""},
		"virtiofs": {[]string{virtioFS}, nil, []string{"mount src /mnt/rockpool virtiofs"}, "mounted by virtiofs", ""},
		"9p":       {[]string{virtio9P}, nil, []string{"mount src /mnt/rockpool 9p"}, "mounted by 9p", ""},
		"tart": {
			[]string{virtioFS}, []string{"mount src "},
			[]string{"mount src /mnt/rockpool virtiofs", "mount com.apple.virtio-fs.automount /run/rockpool-shares virtiofs", "mount /run/rockpool-shares/src /mnt/rockpool "},
			"mounted by Tart's automount", "",
		},
		"broken": {[]string{virtio9P}, []string{"mount"}, []string{"mount src /mnt/rockpool 9p"}, "", "mount 9p src: invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			for i, k := range tt.kinds {
				g.write("sys/bus/virtio/devices/virtio"+string(rune('0'+i))+"/device", k+"\n")
			}
			for _, f := range tt.fail {
				g.fail[f] = gone
			}
			s := &Share{Root: g.root, Kernel: g, Tag: "src", Timeout: time.Millisecond}
			did, err := s.Mount(context.Background())
			if did != tt.did || tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("did %q, error %v", did, err)
			}
			if !slices.Equal(g.calls, tt.calls) {
				t.Errorf("calls:\n%q\nwant\n%q", g.calls, tt.calls)
			}
			if err != nil || len(tt.kinds) == 0 {
				return
			}
			if did, err := s.Mount(context.Background()); did != "mounted already" || err != nil {
				t.Errorf("second time: %q, %v", did, err)
			}
		})
	}
}

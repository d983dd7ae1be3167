package userns

import (
	"strings"
	"testing"
)

func TestProbe_Faults(t *testing.T) {
	fine := probe{user: "ann", uid: 1000, unshare: "/usr/bin/unshare", mapAuto: true, newuidmap: true,
		subuid: idRanges{mine: 65536, next: 165536}, subgid: idRanges{mine: 65536, next: 165536}, maxUser: "9000"}
	for name, tc := range map[string]struct {
		change func(*probe)
		want   []string
	}{
		"Fine":         {func(*probe) {}, nil},
		"NoNewuidmap":  {func(p *probe) { p.newuidmap = false }, []string{"apt-get install uidmap"}},
		"NoUnshare":    {func(p *probe) { p.unshare = "" }, []string{"apt-get install util-linux"}},
		"OldUnshare":   {func(p *probe) { p.mapAuto = false }, []string{"--map-auto", "2.38"}},
		"NoSubuids":    {func(p *probe) { p.subuid.mine, p.subgid = 0, idRanges{next: 100000} }, []string{"`sudo usermod --add-subuids 165536-231071 --add-subgids 100000-165535 ann`"}},
		"OnlyNoSubgid": {func(p *probe) { p.subgid.mine = 0 }, []string{"`sudo usermod --add-subgids 165536-231071 ann`"}},
		"FewSubuids":   {func(p *probe) { p.subuid.mine = 1000 }, []string{"/etc/subuid", "1000"}},
		"NoName":       {func(p *probe) { p.user, p.subuid.mine = "", 0 }, []string{"--add-subuids 165536-231071 1000`"}},
		"SwitchedOff":  {func(p *probe) { p.maxUser = "0" }, []string{"sysctl -w user.max_user_namespaces=15000"}},
		"Debian10":     {func(p *probe) { p.cloneKnob = "0" }, []string{"sysctl -w kernel.unprivileged_userns_clone=1"}},
		"Several":      {func(p *probe) { p.newuidmap, p.maxUser = false, "0" }, []string{"uidmap", "max_user_namespaces"}},
		"RootNeedsNoIDs": {func(p *probe) {
			*p = probe{root: true, unshare: "/usr/bin/unshare"}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := fine
			tc.change(&p)
			checkError(t, p.faults(), tc.want)
		})
	}
}

func TestProbe_Refused(t *testing.T) {
	for name, tc := range map[string]struct {
		p    probe
		want []string
	}{
		"AppArmor":  {probe{maxUser: "9000", restricted: "1"}, []string{"AppArmor", "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"}},
		"Container": {probe{maxUser: "9000", restricted: "0"}, []string{"boom", "container"}},
		"Root":      {probe{root: true, restricted: "1"}, []string{"boom", "CAP_SYS_ADMIN"}},
	} {
		t.Run(name, func(t *testing.T) { checkError(t, tc.p.refused("boom"), tc.want) })
	}
}

func checkError(t *testing.T, err error, want []string) {
	t.Helper()
	if (err != nil) != (len(want) > 0) {
		t.Fatalf("got %v, want %q", err, want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\ndoes not say %q", err, w)
		}
	}
}

func TestParseRanges(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		want idRanges
	}{
		"Empty":       {"", idRanges{0, 100000}},
		"ByName":      {"bob:100000:65536\nann:165536:65536\n", idRanges{65536, 231072}},
		"ByUID":       {"1000:500000:70000\n", idRanges{70000, 570000}},
		"FirstCounts": {"ann:100000:10\nann:200000:65536\n", idRanges{10, 265536}},
		"Foreign":     {"# note\nann:x:5\nann:1\nann:-5:65536\n", idRanges{0, 100000}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseRanges(strings.NewReader(tc.file), "ann", 1000); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

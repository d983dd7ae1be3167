package userns

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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
		"NoGetsubids":  {func(p *probe) { p.source, p.subuid, p.subgid = "sss", idRanges{}, idRanges{} }, []string{"sss", "getsubids(1)", "apt-get install uidmap"}},
		"NoneBySSS":    {func(p *probe) { p.source, p.getsubids, p.subgid = "sss", true, idRanges{} }, []string{"user ann has 65536 subordinate user IDs and 0 group IDs from sss"}},
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
		"Empty":       {"", idRanges{0, 0, 100000}},
		"ByName":      {"bob:100000:65536\nann:165536:65536\n", idRanges{65536, 165536, 231072}},
		"ByUID":       {"1000:500000:70000\n", idRanges{70000, 500000, 570000}},
		"FirstCounts": {"ann:100000:10\nann:200000:65536\n", idRanges{10, 100000, 265536}},
		"Foreign":     {"# note\nann:x:5\nann:1\nann:-5:65536\n", idRanges{0, 0, 100000}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseRanges(strings.NewReader(tc.file), "ann", 1000); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestProbe_FindRanges: IDs are looked for where newuidmap(1) does.
func TestProbe_FindRanges(t *testing.T) {
	const sss = "passwd: files sss\nsubid:  sss # by the directory\n"
	missing := func(...string) ([]byte, error) { return nil, &exec.Error{Name: "getsubids", Err: exec.ErrNotFound} }
	none := func(...string) ([]byte, error) { return nil, errors.New("exit status 1") }
	directory := func(args ...string) ([]byte, error) {
		switch strings.Join(args, " ") {
		case "ann":
			return []byte("0: ann 2147483648 65536\n1: ann 1 2\n"), nil
		case "-g ann":
			return []byte("0: ann 2147549184 65537\n"), nil
		}
		return nil, errors.New("asked for somebody else")
	}
	for name, tc := range map[string]struct {
		nsswitch, file string
		getsubids      func(...string) ([]byte, error)
		maps           string // empty: a fault
	}{
		"Files":           {"subid: files\n", "ann:100000:65536\n", missing, "--map-auto"},
		"NoNsswitch":      {"", "ann:100000:65536\n", missing, "--map-auto"},
		"Comment":         {"#subid: sss\n", "ann:100000:65536\n", missing, "--map-auto"},
		"SSS":             {sss, "", directory, "--map-users=2147483648,0,65536 --map-groups=2147549184,0,65537"},
		"SSSNotTheFiles":  {sss, "ann:100000:65536\n", none, ""},
		"SSSNoGetsubids":  {sss, "ann:100000:65536\n", missing, ""},
		"NothingAnywhere": {"", "", directory, ""},
	} {
		t.Run(name, func(t *testing.T) {
			etc := t.TempDir()
			for file, content := range map[string]string{"nsswitch.conf": tc.nsswitch, "subuid": tc.file, "subgid": tc.file} {
				if content == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(etc, file), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			p := probe{user: "ann", uid: 1000, unshare: "/usr/bin/unshare", mapAuto: true, newuidmap: true}
			if err := p.findRanges(host{etc: etc, getsubids: tc.getsubids}); err != nil {
				t.Fatal(err)
			}
			fault := p.faults()
			if tc.maps == "" {
				if fault == nil {
					t.Errorf("no fault: %+v", p)
				}
				return
			}
			if got := strings.Join(p.maps(), " "); fault != nil || got != tc.maps {
				t.Errorf("%v, maps %q, want %q", fault, got, tc.maps)
			}
		})
	}
}

// TestNamespace_Flags_sameMaps: unshare(1) makes the same of a range that it is
// told as of one that it finds, so that files of either build are the other's.
func TestNamespace_Flags_sameMaps(t *testing.T) {
	files := &Namespace{maps: probe{}.maps()}
	if got := strings.Join(files.flags(), " "); !strings.HasPrefix(got, "--user --map-root-user --map-auto --mount ") {
		t.Errorf("flags %q", got)
	}
	n, err := New()
	if err != nil || n.root {
		t.Skipf("needs a user with subordinate IDs: %v", err)
	}
	p, err := look()
	if err != nil {
		t.Fatal(err)
	}
	uidMap := func(n *Namespace) string {
		t.Helper()
		out, err := n.Command(t.Context(), "cat", "/proc/self/uid_map", "/proc/self/gid_map").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	told := p
	told.source = "sss"
	if got, want := uidMap(&Namespace{unshare: n.unshare, maps: told.maps()}), uidMap(n); got != want {
		t.Errorf("told: %s\nfound: %s", got, want)
	}
}

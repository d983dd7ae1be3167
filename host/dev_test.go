package host

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
)

func TestParseForwards(t *testing.T) {
	got, err := ParseForwards([]string{"9080-9082", "api=3000", "web=8000:5173"})
	want := []guest.Forward{{Name: "dev", Host: 9080, Guest: 9080}, {Name: "dev", Host: 9081, Guest: 9081}, {Name: "dev", Host: 9082, Guest: 9082}, {Name: "api", Host: 3000, Guest: 3000}, {Name: "web", Host: 8000, Guest: 5173}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := ParseForwards(nil); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, word := range []string{"", "0", "65536", "-1", "a", "=1", "1:", ":1", "1:2:3", "3-2", "1-200", "1-2-3", "1-2:3", "x=y=1"} {
		if got, err := ParseForwards([]string{word}); err == nil || !strings.Contains(err.Error(), "FIRST-LAST") {
			t.Errorf("%q: %v, %v", word, got, err)
		}
	}
	if _, err := ParseForwards([]string{"3000", "x=3000:4000"}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("got %v", err)
	}
}

func FuzzParseForwards(f *testing.F) {
	for _, word := range []string{"9080-9082", "api=3000", "web=8000:5173"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		list, err := ParseForwards([]string{word})
		for _, p := range list {
			if p.Host < 1 || p.Host > 65535 || p.Guest < 1 || p.Guest > 65535 || p.Name == "" || err != nil {
				t.Errorf("%q is %+v, %v", word, p, err)
			}
		}
	})
}

func TestInProject(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"", ""},
		{"ecosystem.config.js", "ecosystem.config.js"},
		{"/home/me/project/sub/.env", "sub/.env"},
		{"/home/me/other/.env", "!"},
		{"/home/me/project-2/.env", "!"},
	} {
		got, err := inProject(tt.name, "/home/me/project")
		if err != nil {
			got = "!"
		}
		if got != tt.want {
			t.Errorf("%q is %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDevStartArgs(t *testing.T) {
	if got := devStartArgs(guest.Ecosystem{}); !slices.Equal(got, []string{"start"}) {
		t.Errorf("got %q", got)
	}
	all := guest.Ecosystem{File: "a.config.js", EnvFile: ".env", TakePorts: true, Restore: true}
	if got := devStartArgs(all); !slices.Equal(got, []string{"start", "--ecosystem=a.config.js", "--env-file=.env", "--take-ports", "--restore"}) {
		t.Errorf("got %q", got)
	}
}

func TestDevReport_Table(t *testing.T) {
	now := time.UnixMilli(1_700_000_060_000)
	r := DevReport{
		EcosystemStatus: guest.EcosystemStatus{Status: "active", Processes: []guest.EcosystemProcess{
			{Name: "api", Status: "online", PID: 7, Restarts: 2, Since: 1_700_000_000_000, CPU: 1.6, Memory: 64 << 20},
			{Name: "bad\x1b[2J", Status: "errored", Restarts: 15},
		}},
		Ports: []guest.Forward{{Name: "web", Host: 9080, Guest: 5173}},
	}
	want := "PROCESS  STATE    RESTARTS  SINCE  CPU  MEMORY\n" +
		"api      online   2         1m0s   2 %  64M\n" +
		"bad?[2J  errored  15        -      -    -\n" +
		"http://127.0.0.1:9080  web, port 5173 in the VM\n"
	if got := r.Table(now); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (DevReport{EcosystemStatus: guest.EcosystemStatus{Status: "failed"}}).Table(now); got != "nothing runs (failed)\n" {
		t.Errorf("got %q", got)
	}
}

package main

import (
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// TestSettle: a setting that is not valid is named in one line, and what was
// valid last, or the default, is taken.
func TestSettle(t *testing.T) {
	for name, tt := range map[string]struct {
		set, last, want validSettings
		said            []string
	}{
		"nothing":             {nil, nil, validSettings{}, nil},
		"valid":               {validSettings{"LOG_LEVEL": "debug"}, nil, validSettings{"LOG_LEVEL": "debug"}, nil},
		"removed":             {nil, validSettings{"LOG_LEVEL": "debug"}, validSettings{}, nil},
		"level, default":      {validSettings{"LOG_LEVEL": "loud"}, nil, validSettings{}, []string{`setting LOG_LEVEL: log level "loud" is none of debug, info, warn, error: the default is taken`}},
		"level, last":         {validSettings{"LOG_LEVEL": "loud"}, validSettings{"LOG_LEVEL": "debug"}, validSettings{"LOG_LEVEL": "debug"}, []string{`"debug" is taken, which was valid last`}},
		"level, last is bad":  {validSettings{"LOG_LEVEL": "loud"}, validSettings{"LOG_LEVEL": "louder"}, validSettings{}, []string{"the default is taken"}},
		"concurrency":         {validSettings{"ROCKPOOL_CONCURRENCY": "many"}, nil, validSettings{}, []string{"ROCKPOOL_CONCURRENCY"}},
		"runtime":             {validSettings{"RUNTIME": "docker"}, nil, validSettings{}, []string{"RUNTIME"}},
		"GitHub":              {validSettings{"GITHUB_API_URL": "nowhere"}, nil, validSettings{}, []string{"GITHUB_API_URL"}},
		"git":                 {validSettings{"GIT_BASE_URL": "git.example"}, nil, validSettings{}, []string{"GIT_BASE_URL"}},
		"no application":      {validSettings{"SPA_ROOT": "/nonexistent"}, nil, validSettings{}, []string{"SPA_ROOT"}},
		"odd proxy":           {validSettings{"SPA_PROXY_URL": "localhost"}, nil, validSettings{}, []string{"SPA_PROXY_URL"}},
		"two faults, one not": {validSettings{"LOG_LEVEL": "loud", "RUNTIME": "x", "GIT_BASE_URL": "http://git.example"}, nil, validSettings{"GIT_BASE_URL": "http://git.example"}, []string{"LOG_LEVEL", "RUNTIME"}},
	} {
		t.Run(name, func(t *testing.T) {
			var log buffer
			env, remembered := settle(func(v string) string { return tt.set[v] }, tt.last, &log)
			remember := maps.Clone(tt.want)
			for variable := range tt.set { // of what was refused, what was valid last
				if last := tt.last[variable]; tt.want[variable] == "" && last != "" {
					remember[variable] = last
				}
			}
			if !maps.Equal(remembered, remember) {
				t.Errorf("remembered %v, want %v", remembered, remember)
			}
			for _, variable := range settings {
				if env(variable) != tt.want[variable] {
					t.Errorf("%s is %q, want %q", variable, env(variable), tt.want[variable])
				}
			}
			lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if log.String() == "" {
				lines = nil
			}
			if len(lines) != len(tt.said) {
				t.Fatalf("said %q", lines)
			}
			for i, want := range tt.said {
				if !strings.Contains(lines[i], want) {
					t.Errorf("said %q, want %q", lines[i], want)
				}
			}
		})
	}
}

// TestSettle_notMounted: an application on a share that comes late is remembered
// for the start at which the variable is wrong.
func TestSettle_notMounted(t *testing.T) {
	share := filepath.Join(t.TempDir(), "share")
	env := func(root string) func(string) string {
		return func(v string) string { return validSettings{"SPA_ROOT": root}[v] }
	}
	mount := func() {
		if err := os.MkdirAll(share, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(share, "index.html"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	mount()
	var log buffer
	_, last := settle(env(share), nil, &log)
	if err := os.RemoveAll(share); err != nil {
		t.Fatal(err)
	}
	settled, last := settle(env(share), last, &log)
	if settled("SPA_ROOT") != "" {
		t.Errorf("without the share: %q", settled("SPA_ROOT"))
	}
	mount()
	if settled, _ = settle(env(share+"/typo"), last, &log); settled("SPA_ROOT") != share {
		t.Errorf("with a wrong one: %q, want %q; said %s", settled("SPA_ROOT"), share, log.String())
	}
}

// TestCheckSetting_closes: what a check opens is closed, valid or not.
func TestCheckSetting_closes(t *testing.T) {
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	empty, whole := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(whole, "index.html"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes files, too
	before := open()
	for range 10 {
		if checkSetting("SPA_ROOT", empty) == nil || checkSetting("SPA_ROOT", whole) != nil {
			t.Fatal("the wrong one is valid")
		}
	}
	if after := open(); after > before+5 {
		t.Errorf("%d files are open, %d before", after, before)
	}
}

// TestRun_setting starts the daemon with a setting that is not valid, after one
// that was.
func TestRun_setting(t *testing.T) {
	p := newPlace(t)
	serve := func(level string) string {
		var log, stderr buffer
		stop := p.startWith(t, &log, &stderr, func(name string) string {
			if name == "LOG_LEVEL" {
				return level
			}
			return p.env(name)
		})
		if code := stop(); code != exitOK {
			t.Errorf("exit code %d: %s", code, &stderr)
		}
		return stderr.String()
	}
	if said := serve("warn"); said != "" {
		t.Errorf("a valid one: %s", said)
	}
	if said := serve("loud"); strings.Count(said, "\n") != 1 || !strings.Contains(said, `"warn" is taken, which was valid last`) {
		t.Errorf("one that is not: %s", said)
	}
}

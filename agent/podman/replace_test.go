//go:build remote

package podman

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// TestReplaceScript: a file is replaced while it is what was looked at, and what
// lay beside it is gone in any case.
func TestReplaceScript(t *testing.T) {
	for name, tt := range map[string]struct {
		there, old agent.File
		replaced   bool
	}{
		"as it was":       {agent.FileOf("old"), agent.FileOf("old"), true},
		"empty as it was": {agent.FileOf(""), agent.FileOf(""), true},
		"not there still": {agent.File{}, agent.File{}, true},
		"edited":          {agent.FileOf("edit"), agent.FileOf("old"), false},
		"emptied":         {agent.FileOf(""), agent.FileOf("old"), false},
		"deleted":         {agent.File{}, agent.FileOf("old"), false},
		"made":            {agent.FileOf("edit"), agent.File{}, false},
		"made, and empty": {agent.FileOf(""), agent.File{}, false},
		"more at its end": {agent.FileOf("old\n"), agent.FileOf("old"), false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, beside := filepath.Join(dir, "-a ü'\""), filepath.Join(dir, ".new")
			if tt.there.Exists {
				if err := os.WriteFile(file, []byte(tt.there.Content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(beside, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}

			code := 0
			out, err := exec.Command("sh", "-c", replaceScript, "replace", file, beside, digestOf(tt.old)).CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}

			want, wantCode := tt.there, exitChanged
			if tt.replaced {
				want, wantCode = agent.FileOf("new"), 0
			}
			got := agent.File{}
			if b, err := os.ReadFile(file); err == nil {
				got = agent.FileOf(string(b))
			}
			if got != want || code != wantCode {
				t.Errorf("the file is %+v, exit code %d, want %+v and %d: %s", got, code, want, wantCode, out)
			}
			if _, err := os.Stat(beside); err == nil {
				t.Error("what lay beside it is there still")
			}
		})
	}

	t.Run("a directory has come", func(t *testing.T) {
		dir := t.TempDir()
		file, beside := filepath.Join(dir, "file"), filepath.Join(dir, ".new")
		if err := errors.Join(os.Mkdir(file, 0o755), os.WriteFile(beside, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		for _, old := range []agent.File{{}, agent.FileOf("old")} {
			if out, err := exec.Command("sh", "-c", replaceScript, "replace", file, beside, digestOf(old)).CombinedOutput(); err == nil {
				t.Errorf("it was replaced: %s", out)
			}
		}
		if left, err := os.ReadDir(file); err != nil || len(left) > 0 {
			t.Errorf("in the directory is %v, %v", left, err)
		}
	})
}

// TestReplaceScript_missing: without a program that it needs the script says so,
// changes nothing and leaves nothing beside the file; a fault does neither.
func TestReplaceScript_missing(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no sh: ", err)
	}
	for name, tt := range map[string]struct {
		without string
		old     agent.File
		code    int
	}{
		"no digests": {"sha256sum", agent.FileOf("old"), exitMissing},
		"no links":   {"ln", agent.File{}, exitMissing},
		"no renames": {"mv", agent.FileOf("old"), exitMissing},
		"a fault":    {"", agent.FileOf("old"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir, bin := t.TempDir(), t.TempDir()
			for _, program := range []string{"sha256sum", "ln", "mv", "rm"} {
				at, err := exec.LookPath(program)
				if err == nil && program != tt.without {
					err = os.Symlink(at, filepath.Join(bin, program))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if tt.without == "" { // a rename that fails
				script := filepath.Join(bin, "mv")
				if err := errors.Join(os.Remove(script), os.WriteFile(script, []byte("#!"+sh+"\nexit 1\n"), 0o755)); err != nil {
					t.Fatal(err)
				}
			}
			file, beside := filepath.Join(dir, "file"), filepath.Join(dir, ".new")
			if tt.old.Exists {
				if err := os.WriteFile(file, []byte(tt.old.Content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(beside, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}

			cmd := exec.Command(sh, "-c", replaceScript, "replace", file, beside, digestOf(tt.old))
			cmd.Env = []string{"PATH=" + bin}
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("exit code %d, want %d: %s", got, tt.code, out)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) > 1 || (len(left) == 1) != tt.old.Exists {
				t.Errorf("there are %v, %v", left, err)
			}
			if b, err := os.ReadFile(file); tt.old.Exists && (err != nil || string(b) != "old") {
				t.Errorf("the file has %q, %v", b, err)
			}
		})
	}
}

// TestEngine_ReplaceFile/outside: in an image whose programs cannot do it a file is
// replaced from outside, while it is what was looked at, and nothing is left beside
// it.
func TestEngine_ReplaceFile_outside(t *testing.T) {
	const name, beside = agent.Home + "/file", agent.Home + "/.file.rockpool-new"
	for image, code := range map[string]int{"no shell": 0, "no digests": exitMissing, "not to be run": exitNotRun} {
		for is, tt := range map[string]struct {
			there    *entry
			old      agent.File
			replaced bool
		}{
			"as it was":       {&entry{mode: 0o600, content: "old"}, agent.FileOf("old"), true},
			"not there still": {nil, agent.File{}, true},
			"edited":          {&entry{mode: 0o600, content: "edit"}, agent.FileOf("old"), false},
			"deleted":         {nil, agent.FileOf("old"), false},
			"made":            {&entry{mode: 0o600}, agent.File{}, false},
			"grown":           {&entry{mode: 0o600, size: 1 << 30}, agent.FileOf("old"), false},
		} {
			t.Run(image+", "+is, func(t *testing.T) {
				s := &service{files: map[string]*entry{agent.Home: {mode: fs.ModeDir | 0o755}}}
				if tt.there != nil {
					copied := *tt.there
					s.files[name] = &copied
				}
				if code != 0 {
					s.files[shell] = &entry{mode: 0o755}
				}
				s.exec = func() int {
					if s.files[beside] == nil {
						t.Error("nothing lies beside the file")
					}
					delete(s.files, beside) // as the script does
					return code
				}
				replaced, err := engineOf(t, s).ReplaceFile(t.Context(), id, name, tt.old, []byte("new"))
				if err != nil || replaced != tt.replaced {
					t.Fatalf("%t, %v", replaced, err)
				}
				got := s.files[name]
				switch {
				case replaced && (got == nil || got.content != "new" || tt.there != nil && got.mode != 0o600):
					t.Errorf("it is %+v", got)
				case !replaced && tt.there != nil && (got == nil || got.content != tt.there.content):
					t.Errorf("it is %+v, and was %+v", got, tt.there)
				}
				if s.files[beside] != nil {
					t.Error("something lies beside the file")
				}
			})
		}
	}
}

// TestReplaceScript_Shellcheck lints the script where shellcheck is installed.
func TestReplaceScript_Shellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed: apt install shellcheck")
	}
	if out, err := exec.Command(shellcheck, "-s", "sh", "replace.sh").CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

//go:build remote

package podman

import (
	"errors"
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

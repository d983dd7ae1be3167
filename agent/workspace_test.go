package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
)

func TestNewID(t *testing.T) {
	for _, tt := range []struct {
		random []byte
		want   string
	}{
		{make([]byte, 16), "0000000000000000000000000"},
		{append(make([]byte, 15), 36), "0000000000000000000000010"},
		{bytes.Repeat([]byte{0xff}, 16), "f5lxx1zz5pnorynqglhzmsp33"}, // 2^128-1
	} {
		got, err := agent.NewID(bytes.NewReader(tt.random))
		if err != nil || got != tt.want || !agent.ValidID(got) {
			t.Errorf("%x: %q, %v, want %q", tt.random, got, err, tt.want)
		}
	}
	if _, err := agent.NewID(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("error: %v", err)
	}
	for _, s := range []string{"", "short", strings.Repeat("A", 25), strings.Repeat("-", 25)} {
		if agent.ValidID(s) {
			t.Errorf("%q is no id", s)
		}
	}
}

func TestCursor(t *testing.T) {
	id := strings.Repeat("0", 24) + "z"
	want := agent.Cursor{CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), ID: id}
	got, err := agent.DecodeCursor(want.Encode())
	if err != nil || !got.CreatedAt.Equal(want.CreatedAt) || got.ID != id {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := agent.DecodeCursor(agent.Cursor{}.Encode()); err != nil || got != (agent.Cursor{}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []string{"x", "!!", want.Encode() + "=", want.Encode()[2:]} {
		if _, err := agent.DecodeCursor(s); agent.ErrorCode(err) != agent.CodeValidation {
			t.Errorf("%q: %v", s, err)
		}
	}
	for asked, want := range map[int]int{-1: 1, 0: 1, 25: 25, 101: 100} {
		if got := agent.PageSize(asked); got != want {
			t.Errorf("page of %d: %d, want %d", asked, got, want)
		}
	}
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add(agent.Cursor{CreatedAt: time.Unix(0, 1), ID: strings.Repeat("a", 25)}.Encode())
	f.Add("MjAyNi0wMS0wMlQwMzowNDowNVogYQ")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := agent.DecodeCursor(s)
		if err == nil && c.Encode() != s {
			t.Errorf("%q decodes to what encodes as %q", s, c.Encode())
		}
	})
}

func TestTransition(t *testing.T) {
	all := agent.Statuses()
	allowed := map[string]bool{
		"creating running": true, "creating error": true, "running stopping": true, "running error": true,
		"stopping stopped": true, "stopping error": true, "stopped creating": true, "error creating": true,
		"creating stopping": true, "error stopping": true,
	}
	for _, from := range all {
		for _, to := range all {
			err := agent.Transition(from, to)
			if allowed[fmt.Sprintf("%s %s", from, to)] != (err == nil) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			if err != nil && (agent.ErrorCode(err) != agent.CodeConflict || err.Error() != fmt.Sprintf("Cannot transition from %q to %q", string(from), string(to))) {
				t.Errorf("error: %v", err)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	for status, want := range map[agent.Status][2]string{
		agent.StatusCreating: {"", `Ports can only be managed when workspace is running (current: "creating")`},
		agent.StatusRunning:  {`Cannot delete workspace in "running" state. Stop it first.`, ""},
		agent.StatusStopping: {"", `Ports can only be managed when workspace is running (current: "stopping")`},
		agent.StatusStopped:  {"", `Ports can only be managed when workspace is running (current: "stopped")`},
		agent.StatusError:    {"", `Ports can only be managed when workspace is running (current: "error")`},
	} {
		for i, err := range []error{status.Deletable(), status.ManagesPorts()} {
			if want[i] == "" && err != nil || want[i] != "" && (err == nil || err.Error() != want[i]) {
				t.Errorf("%s: %v, want %q", status, err, want[i])
			}
		}
	}
}

func TestNewWorkspace_Validate(t *testing.T) {
	for name, tt := range map[string]struct {
		n     agent.NewWorkspace
		paths string // of the faults
	}{
		"least":        {agent.NewWorkspace{Name: "abc"}, ""},
		"full":         {agent.NewWorkspace{Name: "my-1", Image: "localhost/a/b:c", Description: "ö\n", RepositoryID: "owner/repo.js", AutoSyncPrefs: true}, ""},
		"url":          {agent.NewWorkspace{Name: "abc", RepositoryID: "https://git.example:8443/a/b.git"}, ""},
		"short":        {agent.NewWorkspace{Name: "ab"}, "name"},
		"long":         {agent.NewWorkspace{Name: strings.Repeat("a", 64)}, "name"},
		"capitals":     {agent.NewWorkspace{Name: "Abc"}, "name"},
		"line end":     {agent.NewWorkspace{Name: "abc\n"}, "name"},
		"all wrong":    {agent.NewWorkspace{Name: "", Image: "-v", Description: "\x00", RepositoryID: "x"}, "name image description repositoryId"},
		"credentials":  {agent.NewWorkspace{Name: "abc", RepositoryID: "https://me:token@git.example/a"}, "repositoryId"},
		"file":         {agent.NewWorkspace{Name: "abc", RepositoryID: "file:///etc/passwd"}, "repositoryId"},
		"ssh":          {agent.NewWorkspace{Name: "abc", RepositoryID: "git@github.com:a/b"}, "repositoryId"},
		"option":       {agent.NewWorkspace{Name: "abc", RepositoryID: "--upload-pack=x/y"}, "repositoryId"},
		"up":           {agent.NewWorkspace{Name: "abc", RepositoryID: "owner/.."}, "repositoryId"},
		"host alone":   {agent.NewWorkspace{Name: "abc", RepositoryID: "https://git.example/"}, "repositoryId"},
		"long text":    {agent.NewWorkspace{Name: "abc", Description: strings.Repeat("ö", 1001)}, "description"},
		"not UTF-8":    {agent.NewWorkspace{Name: "abc", Description: "\xff"}, "description"},
		"option image": {agent.NewWorkspace{Name: "abc", Image: "--privileged"}, "image"},
	} {
		t.Run(name, func(t *testing.T) { checkFaults(t, tt.n.Validate(), tt.paths) })
	}
}

func TestNewPort_Validate(t *testing.T) {
	for _, tt := range []struct {
		n     agent.NewPort
		paths string
	}{
		{agent.NewPort{Port: 1024}, ""},
		{agent.NewPort{Port: 65535, Label: "web"}, ""},
		{agent.NewPort{Port: 1023}, "port"},
		{agent.NewPort{Port: agent.IDEPort}, "port"},
		{agent.NewPort{Port: 65536, Label: strings.Repeat("x", 101)}, "port label"},
	} {
		checkFaults(t, tt.n.Validate(), tt.paths)
	}
}

func checkFaults(t *testing.T, err error, paths string) {
	t.Helper()
	if paths == "" {
		if err != nil {
			t.Errorf("error: %v", err)
		}
		return
	}
	e, ok := errors.AsType[*agent.Error](err)
	if !ok || e.Code != agent.CodeValidation {
		t.Fatalf("error: %v", err)
	}
	var got []string
	for _, f := range e.Fields {
		got = append(got, f.Path)
	}
	if strings.Join(got, " ") != paths {
		t.Errorf("faults in %q, want %q", got, paths)
	}
}

func ExampleTransition() {
	fmt.Println(agent.Transition(agent.StatusStopped, agent.StatusRunning))
	// Output: Cannot transition from "stopped" to "running"
}

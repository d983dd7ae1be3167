//go:build remote

package podman

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/rockpool/rootvm/agent"
)

func groupFile(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }

// TestEngine_SharedMemory: what is used is without caches, and only shortages of
// the slice's own limit count, not those of workspaces in it.
func TestEngine_SharedMemory(t *testing.T) {
	e := &Engine{Memory: 3 << 30, Cgroups: fstest.MapFS{}}
	if got, err := e.SharedMemory(t.Context()); err != nil || got != (agent.SharedMemory{Limit: 3 << 30}) {
		t.Errorf("before the first workspace: %+v, %v", got, err)
	}

	const slice = "user.slice/user-990.slice/user@990.service/workspaces.slice/"
	files := fstest.MapFS{
		slice + "memory.current":      groupFile("1000\n"),
		slice + "memory.stat":         groupFile("anon 500\ninactive_file 300\n"),
		slice + "memory.events":       groupFile("low 0\nhigh 0\nmax 9\noom 7\noom_kill 5\n"),
		slice + "memory.events.local": groupFile("low 0\nhigh 0\nmax 4\noom 2\noom_kill 0\n"),
	}
	e.Cgroups = files
	if got, err := e.SharedMemory(t.Context()); err != nil || got != (agent.SharedMemory{Limit: 3 << 30, Used: 700, Shortages: 2}) {
		t.Errorf("%+v, %v", got, err)
	}
	files[slice+"memory.events.local"] = groupFile("low 0\n")
	if got, err := e.SharedMemory(t.Context()); err == nil {
		t.Errorf("without a counter: %+v", got)
	}
}

// TestEngine_MemoryKills: what is known of a life is read from its group, without
// Podman, which is not there in this test.
func TestEngine_MemoryKills(t *testing.T) {
	began := time.Unix(1000, 0)
	files := fstest.MapFS{"a/libpod-1.scope/memory.events": groupFile("low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 0\n")}
	e := &Engine{Socket: t.TempDir() + "/none", Cgroups: files, lives: map[string]life{id: {began, "a/libpod-1.scope"}}}
	got, err := e.MemoryKills(t.Context(), id)
	if want := (agent.MemoryKills{Since: began, Processes: 3, Own: 2}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}

	delete(files, "a/libpod-1.scope/memory.events") // the life is over: only Podman knows
	if _, err := e.MemoryKills(t.Context(), id); agent.ErrorCode(err) != agent.CodeUnavailable {
		t.Errorf("without Podman: %v", err)
	}
	if len(e.lives) != 0 {
		t.Errorf("a life that is over is remembered: %+v", e.lives)
	}
}

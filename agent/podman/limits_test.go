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
	if got, err := e.SharedMemory(t.Context()); err != nil || got != (agent.SharedMemory{Limit: 3 << 30, Used: 700, Shortages: 2, Kills: 5}) {
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

// TestEngine_MemoryKills/ended: of a container whose first process has just ended
// Podman is asked why once it knows of that, which it learns a moment later.
func TestEngine_MemoryKills_ended(t *testing.T) {
	for name, tt := range map[string]struct {
		oom  bool
		code int
		want agent.MemoryKills
	}{
		"seen":               {true, 137, agent.MemoryKills{Whole: true, Killed: true}},
		"not by its monitor": {false, 137, agent.MemoryKills{Killed: true}},
		"by itself":          {false, 1, agent.MemoryKills{}},
		"after a process":    {true, 0, agent.MemoryKills{}},
	} {
		t.Run(name, func(t *testing.T) {
			e, o, end := orphan(t)
			e.Cgroups = fstest.MapFS{}
			o.monitor = &monitor{oom: tt.oom, code: tt.code}
			end()
			tt.want.Since, tt.want.Ended = began, began.Add(time.Minute)
			got, err := e.MemoryKills(t.Context(), id)
			if err != nil || !got.Since.Equal(tt.want.Since) || !got.Ended.Equal(tt.want.Ended) || got.Whole != tt.want.Whole || got.Killed != tt.want.Killed {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

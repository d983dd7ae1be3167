package controlplane_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/stub"
)

// files are those of a workspace as they are on the disk; the zero value when
// there are none.
func (p *plane) files(id string) agent.FilesUsage {
	p.t.Helper()
	u, err := p.rt.Storage().Usage(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	if i := slices.IndexFunc(u.Files, func(f agent.FilesUsage) bool { return f.ID == id }); i >= 0 {
		return u.Files[i]
	}
	return agent.FilesUsage{}
}

func (p *plane) quota(id string) int64 {
	p.t.Helper()
	return p.files(id).Quota
}

// TestQuota_stopped: a quota holds at once for a workspace that is stopped, and
// the default follows the disk with the next start.
func TestQuota_stopped(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("one")
		if got := p.quota(ws.ID); got != stub.DiskSize/4 {
			t.Errorf("by default its quota is %d", got)
		}
		w.rt.ResizeDisk(60e9)
		time.Sleep(time.Minute)
		p.restart(ws.ID)
		if got := p.quota(ws.ID); got != 15e9 {
			t.Errorf("on a larger disk its quota is %d", got)
		}

		_, err := p.StopWorkspace(t.Context(), ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusStopped)
		_, err = p.SetLimits(t.Context(), ws.ID, agent.Limits{Disk: 2e9})
		must(t, err)
		if f := p.files(ws.ID); f.Quota != 2e9 || f.Open {
			t.Errorf("stopped: %+v", f)
		}
	})
}

// TestQuota_below: a quota below what is used is allowed, holds, and is told with
// what it means, until there is room again.
func TestQuota_below(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("one")
		w.rt.Fill(ws.ID, 5<<30)
		state, err := p.SetLimits(t.Context(), ws.ID, agent.Limits{Disk: 2 << 30})
		if err != nil || state.DiskUsed == nil || *state.DiskUsed < 5<<30 || state.DiskFill() != agent.DiskOver || !strings.Contains(state.DiskWarning(), "nothing can be written") {
			t.Fatalf("%+v, %q, %v", state, state.DiskWarning(), err)
		}
		if p.quota(ws.ID) != 2<<30 {
			t.Errorf("its quota is %d", p.quota(ws.ID))
		}
		if err := p.rt.WriteFile(t.Context(), ws.ID, "x", []byte("much")); agent.ErrorCode(err) != agent.CodeNoSpace {
			t.Errorf("written: %v", err)
		}
		state, err = p.SetLimits(t.Context(), ws.ID, agent.Limits{Disk: 8 << 30})
		if err != nil || state.DiskFill() != agent.DiskRoomy || state.DiskWarning() != "" {
			t.Errorf("raised: %+v, %v", state, err)
		}
		must(t, p.rt.WriteFile(t.Context(), ws.ID, "x", []byte("much")))
	})
}

// TestQuota_refused: a workspace without files has no quota yet; any other fault
// of the disk is told, and holds with the next start.
func TestQuota_refused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		w.hooks.set(fail(stub.OpCreate, agent.Errorf(agent.CodeValidation, "There is no such image.")))
		ws := p.wait(p.create(agent.NewWorkspace{Name: "one"}).ID, agent.StatusError)
		state, err := p.SetLimits(t.Context(), ws.ID, agent.Limits{Disk: 2e9})
		if err != nil || state.DiskUsed != nil {
			t.Errorf("without files: %+v, %v", state, err)
		}

		w.hooks.set(fail(stub.OpSetQuota, agent.Errorf(agent.CodeUnavailable, "The disk for workspaces is not mounted.")))
		if _, err := p.StartWorkspace(t.Context(), ws.ID); err != nil {
			t.Fatal(err)
		}
		p.wait(ws.ID, agent.StatusRunning)
		if _, err := p.SetLimits(t.Context(), ws.ID, agent.Limits{Disk: 3e9}); agent.ErrorCode(err) != agent.CodeUnavailable {
			t.Errorf("without a disk: %v", err)
		}
		w.hooks.set(nil)
		p.restart(ws.ID)
		if p.quota(ws.ID) != 3e9 {
			t.Errorf("after the next start its quota is %d", p.quota(ws.ID))
		}
	})
}

// TestDisk: who takes what is told, the most first, with files without a
// workspace, images and the rest; all parts together are the disk.
func TestDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		p := w.live(t)
		small, large := p.created("small"), p.created("large")
		w.rt.Fill(large.ID, 7e9)
		must(t, w.rt.Storage().AddImage(ctx, "sha256:one", strings.NewReader("12345")))
		_, err := w.rt.Storage().Open(ctx, agent.Files{ID: "nobody", Slot: 9, Image: stub.Digest, Quota: 1e9}, nil)
		must(t, err)
		time.Sleep(time.Minute)

		d, err := p.Disk(ctx)
		must(t, err)
		if d.Size != stub.DiskSize || len(d.Workspaces) != 2 || len(d.Orphans) != 1 || len(d.Images) != 1 || d.At.IsZero() {
			t.Fatalf("%+v", d)
		}
		if first, second := d.Workspaces[0], d.Workspaces[1]; first.ID != large.ID || first.Name != "large" || first.Used < 7e9 || first.Limit != 10e9 || second.ID != small.ID {
			t.Errorf("workspaces: %+v", d.Workspaces)
		}
		if d.Orphans[0] != (agent.DiskShare{ID: "nobody", Limit: 1e9}) || d.Images[0] != (agent.ImageUsage{Digest: "sha256:one", Size: 5}) {
			t.Errorf("orphans %+v, images %+v", d.Orphans, d.Images)
		}
		if sum := d.FilesSize() + d.ImagesSize() + d.Rest + d.Free; sum != d.Size {
			t.Errorf("the parts are %d of %d bytes", sum, d.Size)
		}
	})
}

// TestDisk_away: a disk that does not answer, or hangs, keeps no page from being
// shown, with what was seen last; it is not asked at each look.
func TestDisk_away(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		var looks atomic.Int32
		var fault atomic.Pointer[agent.Error]
		var hangs atomic.Bool
		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op != stub.OpDiskUsage || c.After {
				return nil
			}
			looks.Add(1)
			if hangs.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			if err := fault.Load(); err != nil {
				return err
			}
			return nil
		})
		fault.Store(agent.Errorf(agent.CodeUnavailable, "It is not mounted."))
		p := w.live(t, func(c *controlplane.Config) { c.ReconcileEvery = 24 * time.Hour })
		time.Sleep(time.Second)
		if _, err := p.Disk(ctx); agent.ErrorCode(err) != agent.CodeUnavailable {
			t.Errorf("before the first look: %v", err)
		}
		fault.Store(nil)
		ws := p.created("one") // nothing waits for the disk's size
		time.Sleep(time.Minute)

		looks.Store(0)
		for range 100 {
			_, err := p.Disk(ctx)
			must(t, err)
			_, err = p.Limits(ctx, ws.ID)
			must(t, err)
		}
		if n := looks.Load(); n != 1 {
			t.Errorf("%d looks", n)
		}

		before, err := p.Disk(ctx)
		must(t, err)
		for what, away := range map[string]func(){
			"fails": func() { fault.Store(agent.Errorf(agent.CodeNoSpace, "No room.")) },
			"hangs": func() { hangs.Store(true) },
		} {
			away()
			time.Sleep(10 * time.Minute)
			began := time.Now()
			d, err := p.Disk(ctx)
			if err != nil || !d.At.Equal(before.At) || time.Since(began) > 3*time.Second {
				t.Errorf("%s: %+v, %v after %s", what, d, err, time.Since(began))
			}
			if _, err := p.StopWorkspace(ctx, ws.ID); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			p.wait(ws.ID, agent.StatusStopped)
			fault.Store(nil)
			hangs.Store(false)
			time.Sleep(time.Minute)
			_, err = p.StartWorkspace(ctx, ws.ID)
			must(t, err)
			p.wait(ws.ID, agent.StatusRunning)
			if before, err = p.Disk(ctx); err != nil || time.Since(before.At) > 10*time.Second {
				t.Errorf("%s: afterwards it was seen at %s, %v", what, before.At, err)
			}
		}
	})
}

// TestFull_others: workspaces that are full, and a disk that is, concern nobody
// but those who write there: all can be stopped, deleted and given another quota,
// and a full one says that it is its own.
func TestFull_others(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		p := w.live(t)
		full, other := p.created("full"), p.created("other")
		w.rt.Fill(full.ID, p.quota(full.ID))
		third := p.created("third") // not refused
		p.restart(other.ID)
		if got, err := p.Workspace(ctx, other.ID); err != nil || got.ErrorMessage != "" {
			t.Errorf("the other: %+v, %v", got, err)
		}
		p.restart(full.ID) // its configuration is there

		w.rt.ResizeDisk(p.quota(full.ID)) // nothing is left for anybody
		_, err := p.SetLimits(ctx, full.ID, agent.Limits{Disk: 2e9})
		must(t, err)
		_, err = p.SetLimits(ctx, full.ID, agent.Limits{Disk: 9e9})
		must(t, err)
		_, err = p.Disk(ctx)
		must(t, err)
		for _, ws := range []agent.Workspace{full, other, third} {
			_, err := p.StopWorkspace(ctx, ws.ID)
			must(t, err)
			p.wait(ws.ID, agent.StatusStopped)
			must(t, p.DeleteWorkspace(ctx, ws.ID))
			p.waitGone(ws.ID)
		}
		if d, err := p.Disk(ctx); err != nil || d.FilesSize() != 0 {
			t.Errorf("afterwards: %+v, %v", d, err)
		}
	})
}

// TestFull_start: a workspace whose files take all that they may starts without
// what cannot be written, and one that cannot says whose room is used up.
func TestFull_start(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("one")
		w.rt.Fill(ws.ID, p.quota(ws.ID))
		w.rt.DeleteFile(ws.ID, ".config/code-server/config.yaml")
		p.restart(ws.ID)
		notes, err := p.PreferenceNotes(t.Context(), ws.ID)
		if err != nil || len(notes) != 1 || notes[0].Name != agent.IDEConfiguration {
			t.Errorf("notes: %+v, %v", notes, err)
		}

		w.hooks.set(fail(stub.OpStart, agent.Errorf(agent.CodeNoSpace, "The disk of the VM is full.")))
		_, err = p.StopWorkspace(t.Context(), ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusStopped)
		_, err = p.StartWorkspace(t.Context(), ws.ID)
		must(t, err)
		if got := p.wait(ws.ID, agent.StatusError).ErrorMessage; !strings.Contains(got, "The workspace's files take all of the 9.3 GiB that they may.") {
			t.Errorf("message: %q", got)
		}
		w.rt.Fill(ws.ID, 0)
		_, err = p.StartWorkspace(t.Context(), ws.ID)
		must(t, err)
		if got := p.wait(ws.ID, agent.StatusError).ErrorMessage; !strings.Contains(got, "The disk of the VM is full.") {
			t.Errorf("message: %q", got)
		}
	})
}

// TestReconcile_files: files without a workspace are found, told once, and left
// alone; their slot is nobody's, also while the disk does not answer. The owner
// of the VM removes them as a container without a workspace.
func TestReconcile_files(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		lost := "0000000000000000000000042"
		_, err := w.rt.Storage().Open(ctx, agent.Files{ID: lost, Slot: 0, Image: stub.Digest, Quota: 1e9}, nil)
		must(t, err, w.rt.Storage().Close(ctx, lost))
		p := w.live(t)
		time.Sleep(time.Minute)
		if s := p.state(); len(s.Orphans) != 1 || s.Orphans[0].ID != lost || !s.Orphans[0].HasHome || s.Orphans[0].Slot != 0 {
			t.Fatalf("orphans: %+v", s.Orphans)
		}
		w.hooks.set(fail(stub.OpDiskUsage, agent.Errorf(agent.CodeUnavailable, "It is not mounted.")))
		time.Sleep(time.Hour)
		if n := strings.Count(p.log.String(), "belong to no workspace"); n != 1 {
			t.Errorf("told %d times", n)
		}
		if ws := p.created("one"); ws.Address != "127.0.0.1:20001" {
			t.Errorf("the next workspace is at %s: its ids are the orphan's", ws.Address)
		}
		w.hooks.set(nil)
		if p.files(lost).ID == "" {
			t.Error("the files are gone")
		}

		must(t, p.Containers().Remove(ctx, lost))
		time.Sleep(time.Hour)
		if s := p.state(); len(s.Orphans) != 0 {
			t.Errorf("orphans: %+v", s.Orphans)
		}
	})
}

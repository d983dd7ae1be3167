package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

func TestOperation_Path(t *testing.T) {
	for want, got := range map[string]string{
		"/api/ping":                      api.Ping.Path(),
		"/api/workspaces/a%2F..%20b":     api.GetWorkspace.Path("a/.. b"),
		"/api/workspaces/x/ports/3000":   api.RemovePort.Path("x", "3000"),
		"/api/runtime/y/readFile":        api.ReadFile.Path("y"),
		"/api/settings/GitConfig":        api.GetPreference.Path(agent.PreferenceGit),
		"/api/workspaces/x/ports/%3F%23": api.RemovePort.Path("x", "?#"),
	} {
		if got != want {
			t.Errorf("path %s, want %s", got, want)
		}
	}
}

// TestShapes_Domain: what goes out comes in as it was, to the millisecond.
func TestShapes_Domain(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	w := agent.Workspace{
		ID: "i", Name: "n", Status: agent.StatusError, Image: "im", Description: "<d>", RepositoryID: "r", AutoSyncPrefs: true,
		Address: "a:1", ErrorMessage: "e", CreatedAt: at, UpdatedAt: at.Add(time.Hour),
	}
	roundTrip(t, api.FromWorkspace, api.Workspace.Domain, w, agent.Workspace{})
	roundTrip(t, api.FromPort, api.Port.Domain, agent.Port{WorkspaceID: "w", Port: 3000, Label: "l", CreatedAt: at}, agent.Port{})
	roundTrip(t, api.FromPreference, api.Preference.Domain, agent.Preference{Name: "n", Blob: "b\x00ö\r\n", UpdatedAt: at}, agent.Preference{})
	roundTrip(t, api.FromStep, api.Step.Domain, agent.Step{
		WorkspaceID: "w", Job: agent.JobStop, Name: "n", Title: "t", State: agent.StepFailed, StartedAt: at, EndedAt: at, Message: "m",
	}, agent.Step{})
}

func roundTrip[D comparable, S any](t *testing.T, out func(D) S, in func(S) D, values ...D) {
	t.Helper()
	for _, v := range values {
		b, err := json.Marshal(out(v))
		if err != nil {
			t.Fatal(err)
		}
		var s S
		if err := json.Unmarshal(b, &s); err != nil || in(s) != v {
			t.Errorf("%s is %+v, %v, want %+v", b, in(s), err, v)
		}
	}
}

func TestEventFrame(t *testing.T) {
	e := agent.Event{Epoch: "of-a-life", Seq: 7, Kind: agent.EventStep, WorkspaceID: "w", Step: &agent.Step{Title: "a\nb"}, At: time.UnixMilli(1500).UTC()}
	frame, err := api.EventFrame(e)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(frame), "\n")
	if len(lines) != 5 || lines[0] != "id: of-a-life-7" || lines[1] != "event: step" {
		t.Fatalf("frame %q", frame)
	}
	got, err := api.DecodeEvent("of-a-life-7", "step", strings.TrimPrefix(lines[2], "data: "))
	if err != nil || got.Epoch != e.Epoch || got.Seq != 7 || *got.Step != *e.Step || !got.At.Equal(e.At) {
		t.Errorf("event %+v, %v", got, err)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add("life-1", "step", `{"workspaceId":null,"step":{"startedAt":null}}`)
	f.Add("-1", "", "{}")
	f.Fuzz(func(t *testing.T, id, name, data string) {
		e, err := api.DecodeEvent(id, name, data)
		if err == nil && (e.Epoch == "" || !strings.HasPrefix(id, e.Epoch+"-")) {
			t.Errorf("%q is event %d of %q", id, e.Seq, e.Epoch)
		}
	})
}

package controlplane_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// oldWorkspaces are rows as the release before the table of kinds left them
// when it was killed: work that waits, work under way, and work given up.
const oldWorkspaces = `
INSERT INTO workspace (id, name, status, image, description, repository_id, auto_sync, address, error_message, created_at, updated_at, slot, loopback_port, cloned)
VALUES ('0000000000000000000000001', 'waits', 'creating', 'rockpool-workspace', '', '', 0, '', '', 1, 2, 0, 20000, 0),
       ('0000000000000000000000002', 'stops', 'stopping', 'rockpool-workspace', '', '', 0, '127.0.0.1:20001', '', 1, 2, 1, 20001, 0),
       ('0000000000000000000000003', 'failed', 'error', 'rockpool-workspace', '', '', 0, '', 'why', 1, 2, 2, 20002, 0),
       ('0000000000000000000000004', 'goes', 'stopped', 'rockpool-workspace', '', '', 0, '', '', 1, 2, 3, 20003, 0);
INSERT INTO job (id, workspace_id, kind, state, attempts, run_at, leased_until, lease_token, step, last_error, created_at, updated_at)
VALUES ('j1', '0000000000000000000000001', 'create', 'queued', 0, 1, 0, '', '', '', 1, 1),
       ('j2', '0000000000000000000000002', 'stop', 'leased', 1, 1, 900, 'killed', 'stop', '', 1, 1),
       ('j3', '0000000000000000000000003', 'start', 'parked', 5, 1, 0, '', 'clone', 'why', 1, 1),
       ('j4', '0000000000000000000000004', 'delete', 'leased', 1, 1, 900, 'killed', 'remove', '', 1, 1);
PRAGMA application_id = 0x526b506c;
PRAGMA user_version = 2;
`

// TestUpgrade: an agent goes on with the work of the release before it.
func TestUpgrade(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		db, err := sql.Open("sqlite3", w.path)
		must(t, err)
		for _, file := range []string{"0001_instance.sql", "0002_workspaces.sql"} {
			b, err := os.ReadFile(filepath.Join("..", "sqlite", "migrations", file))
			must(t, err)
			_, err = db.Exec(string(b))
			must(t, err)
		}
		_, err = db.Exec(oldWorkspaces)
		must(t, err, db.Close())

		p := w.live(t)
		p.wait(id(1), agent.StatusRunning)
		p.wait(id(2), agent.StatusStopped)
		p.waitGone(id(4))
		if ws := p.wait(id(3), agent.StatusError); ws.ErrorMessage != "why" {
			t.Errorf("the one that was given up: %+v", ws)
		}
		if s := p.state(); len(s.Jobs) != 1 || s.Jobs[agent.JobParked] != 1 {
			t.Errorf("jobs: %v", s.Jobs)
		}
		_, err = p.StartWorkspace(t.Context(), id(3))
		must(t, err)
		p.wait(id(3), agent.StatusRunning)
	})
}

func id(n int) string { return "000000000000000000000000" + string(rune('0'+n)) }

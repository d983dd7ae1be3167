package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Update implements [agent.Store].
func (db *DB) Update(ctx context.Context, f func(agent.Tx) error) error {
	return storeError(db.inTx(ctx, func(tx *sql.Tx) error { return f(&rows{ctx: ctx, tx: tx}) }))
}

// View implements [agent.Store].
func (db *DB) View(ctx context.Context, f func(agent.Tx) error) error {
	tx, err := db.read.BeginTx(ctx, nil)
	if err != nil {
		return storeError(fmt.Errorf("begin reading: %w", err))
	}
	return storeError(errors.Join(f(&rows{ctx: ctx, tx: tx}), rollback(tx)))
}

// storeError says in front of faults that a user can end what to do about
// them. The cause stays in the chain, for the log.
func storeError(err error) error {
	switch code := passing(err); code {
	case agent.CodeUnavailable:
		return fmt.Errorf("%w (%w)", agent.Errorf(code, "The database is in use by another program. Try again in a moment."), err)
	case agent.CodeNoSpace:
		return fmt.Errorf("%w (%w)", agent.Errorf(code, "The disk of the VM is full: free some space, then try again."), err)
	}
	return err
}

// rows is a transaction as the domain sees it. It keeps the context because
// it lives exactly as long as the call that brought it.
type rows struct {
	ctx context.Context
	tx  *sql.Tx
}

var _ agent.Tx = (*rows)(nil)

func (r *rows) exec(what, query string, args ...any) (int64, error) {
	res, err := r.tx.ExecContext(r.ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return n, nil
}

// scanner is a row of a result.
type scanner interface{ Scan(dest ...any) error }

// all reads a result into a slice, which is never nil.
func all[T any](r *rows, what string, scan func(scanner) (T, error), query string, args ...any) (_ []T, err error) {
	list := []T{}
	res, err := r.tx.QueryContext(r.ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer func() { err = errors.Join(err, res.Close()) }()
	for res.Next() {
		v, err := scan(res)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		list = append(list, v)
	}
	if err := res.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return list, nil
}

// stamp is a time as it is stored: milliseconds since 1970, 0 for the zero
// time.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func unstamp(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

const workspaceColumns = "id, name, status, image, description, repository_id, auto_sync, address, error_message, created_at, updated_at, slot, loopback_port, cloned, memory_bytes, disk_bytes, shortage, shortage_at, image_digest"

// newestSQL lists a page by the index workspace_newest.
const newestSQL = "SELECT " + workspaceColumns + " FROM workspace WHERE (created_at, id) < (?, ?) ORDER BY created_at DESC, id DESC LIMIT ?"

func scanWorkspace(s scanner) (r agent.Record, err error) {
	var created, updated, shortage int64
	err = s.Scan(&r.ID, &r.Name, &r.Status, &r.Image, &r.Description, &r.RepositoryID, &r.AutoSyncPrefs, &r.Address, &r.ErrorMessage,
		&created, &updated, &r.Slot, &r.Port, &r.Cloned, &r.Limits.Memory, &r.Limits.Disk, &r.Shortage.Message, &shortage, &r.ImageDigest)
	r.CreatedAt, r.UpdatedAt, r.Shortage.At = unstamp(created), unstamp(updated), unstamp(shortage)
	return r, err
}

// InsertWorkspace implements [agent.WorkspaceRows].
func (r *rows) InsertWorkspace(w agent.Workspace, taken []int) (agent.Record, error) {
	var exists bool
	if err := r.tx.QueryRowContext(r.ctx, "SELECT EXISTS (SELECT 1 FROM workspace WHERE name = ?)", w.Name).Scan(&exists); err != nil {
		return agent.Record{}, fmt.Errorf("look for name: %w", err)
	}
	if exists {
		return agent.Record{}, agent.Errorf(agent.CodeConflict, "Workspace %q already exists", w.Name)
	}
	slot, err := r.freeSlot(taken)
	if err != nil {
		return agent.Record{}, err
	}
	rec := agent.Record{Workspace: w, Slot: slot, Port: agent.FirstLoopbackPort + slot}
	_, err = r.exec("insert workspace", "INSERT INTO workspace ("+workspaceColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		w.ID, w.Name, w.Status, w.Image, w.Description, w.RepositoryID, w.AutoSyncPrefs, w.Address, w.ErrorMessage,
		stamp(w.CreatedAt), stamp(w.UpdatedAt), rec.Slot, rec.Port, rec.Cloned, w.Limits.Memory, w.Limits.Disk, w.Shortage.Message, stamp(w.Shortage.At), w.ImageDigest)
	return rec, err
}

// freeSlot is the lowest that no row has and that is not taken otherwise.
func (r *rows) freeSlot(taken []int) (int, error) {
	slots, err := all(r, "list slots", func(s scanner) (n int, err error) { return n, s.Scan(&n) }, "SELECT slot FROM workspace")
	if err != nil {
		return 0, err
	}
	var full [agent.MaxWorkspaces]bool
	for _, slot := range slices.Concat(slots, taken) {
		if slot >= 0 && slot < len(full) {
			full[slot] = true
		}
	}
	if i := slices.Index(full[:], false); i >= 0 {
		return i, nil
	}
	return 0, agent.Errorf(agent.CodeConflict, "Maximum of %d workspaces reached: delete one first", agent.MaxWorkspaces)
}

// UpdateWorkspace implements [agent.WorkspaceRows].
func (r *rows) UpdateWorkspace(rec agent.Record) error {
	n, err := r.exec("update workspace", "UPDATE workspace SET status = ?, address = ?, error_message = ?, cloned = ?, memory_bytes = ?, disk_bytes = ?, shortage = ?, shortage_at = ?, image_digest = ?, updated_at = ? WHERE id = ?",
		rec.Status, rec.Address, rec.ErrorMessage, rec.Cloned, rec.Limits.Memory, rec.Limits.Disk, rec.Shortage.Message, stamp(rec.Shortage.At), rec.ImageDigest, stamp(rec.UpdatedAt), rec.ID)
	if err == nil && n == 0 {
		return noWorkspace(rec.ID)
	}
	return err
}

func noWorkspace(id string) error {
	return agent.Errorf(agent.CodeNotFound, "Workspace %q not found", id)
}

// DeleteWorkspace implements [agent.WorkspaceRows].
func (r *rows) DeleteWorkspace(id string) error {
	_, err := r.exec("delete workspace", "DELETE FROM workspace WHERE id = ?", id)
	return err
}

// Workspace implements [agent.WorkspaceRows].
func (r *rows) Workspace(id string) (agent.Record, error) {
	rec, err := scanWorkspace(r.tx.QueryRowContext(r.ctx, "SELECT "+workspaceColumns+" FROM workspace WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return agent.Record{}, noWorkspace(id)
	}
	if err != nil {
		return agent.Record{}, fmt.Errorf("read workspace: %w", err)
	}
	return rec, nil
}

// Workspaces implements [agent.WorkspaceRows].
func (r *rows) Workspaces(after agent.Cursor, limit int) ([]agent.Record, error) {
	at, id := int64(1)<<62, "" // before the newest
	if after.ID != "" {
		at, id = after.CreatedAt.UnixMilli(), after.ID
	}
	return all(r, "list workspaces", scanWorkspace, newestSQL, at, id, limit)
}

// Ports implements [agent.PortRows].
func (r *rows) Ports(workspaceID string) ([]agent.Port, error) {
	return all(r, "list ports", func(s scanner) (p agent.Port, err error) {
		var created int64
		err = s.Scan(&p.WorkspaceID, &p.Port, &p.Label, &created)
		p.CreatedAt = unstamp(created)
		return p, err
	}, "SELECT workspace_id, port, label, created_at FROM port WHERE ?1 = '' OR workspace_id = ?1 ORDER BY workspace_id, port", workspaceID)
}

// InsertPort implements [agent.PortRows].
func (r *rows) InsertPort(p agent.Port) error {
	_, err := r.exec("insert port", "INSERT INTO port (workspace_id, port, label, created_at) VALUES (?, ?, ?, ?)", p.WorkspaceID, p.Port, p.Label, stamp(p.CreatedAt))
	return err
}

// DeletePort implements [agent.PortRows].
func (r *rows) DeletePort(workspaceID string, port int) (bool, error) {
	n, err := r.exec("delete port", "DELETE FROM port WHERE workspace_id = ? AND port = ?", workspaceID, port)
	return n > 0, err
}

// DeletePorts implements [agent.PortRows].
func (r *rows) DeletePorts(workspaceID string) error {
	_, err := r.exec("delete ports", "DELETE FROM port WHERE workspace_id = ?", workspaceID)
	return err
}

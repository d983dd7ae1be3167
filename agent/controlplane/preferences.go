package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// ListPreferences implements [agent.Preferences].
func (c *ControlPlane) ListPreferences(ctx context.Context) (list []agent.Preference, err error) {
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		list, err = tx.Preferences()
		return err
	})
	return list, err
}

// Preference implements [agent.Preferences].
func (c *ControlPlane) Preference(ctx context.Context, name string) (agent.Preference, error) {
	if err := checkPreference(name); err != nil {
		return agent.Preference{}, err
	}
	list, err := c.ListPreferences(ctx)
	if err != nil {
		return agent.Preference{}, err
	}
	for _, p := range list {
		if p.Name == name {
			return p, nil
		}
	}
	return agent.Preference{}, agent.Errorf(agent.CodeNotFound, "Setting %q not found", name)
}

func checkPreference(name string) error {
	if agent.PreferencePath(name) != "" {
		return nil
	}
	text := "must be one of " + strings.Join(agent.PreferenceNames(), ", ")
	return &agent.Error{Code: agent.CodeValidation, Message: "name " + text, Fields: []agent.Field{{Path: "name", Message: text}}}
}

// SavePreference implements [agent.Preferences].
func (c *ControlPlane) SavePreference(ctx context.Context, name, workspaceID string) (agent.Preference, error) {
	if err := checkPreference(name); err != nil {
		return agent.Preference{}, err
	}
	rec, err := c.record(ctx, workspaceID)
	if err != nil {
		return agent.Preference{}, err
	}
	if rec.Status != agent.StatusRunning {
		return agent.Preference{}, notRunning(rec.Name, rec.Status)
	}
	path := agent.PreferencePath(name)
	b, err := c.cfg.Runtime.ReadFile(ctx, workspaceID, path)
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return agent.Preference{}, agent.Errorf(agent.CodeNotFound, "Workspace %q has no file ~/%s", rec.Name, path)
	}
	if err != nil {
		return agent.Preference{}, fmt.Errorf("read %s of %s: %w", path, workspaceID, err)
	}
	return c.storePreference(ctx, name, string(b))
}

func (c *ControlPlane) storePreference(ctx context.Context, name, blob string) (p agent.Preference, err error) {
	err = c.update(ctx, func(ch *change) error {
		p = agent.Preference{Name: name, Blob: blob, UpdatedAt: ch.now}
		ch.events = append(ch.events, agent.Event{Kind: agent.EventPreference, Name: name})
		return ch.PutPreference(p)
	})
	return p, err
}

// syncTimeout bounds how long a workspace that stops is asked for its
// preferences.
const syncTimeout = 15 * time.Second

// syncPreferences stores the preferences of a workspace that is about to
// stop, those that it has and that differ. It is a courtesy: what fails is
// logged and hinders nothing.
func (c *ControlPlane) syncPreferences(ctx context.Context, rec agent.Record, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	stored, err := c.ListPreferences(ctx)
	if err != nil {
		log.Warn("preferences are not synchronised", "err", err)
		return
	}
	for _, name := range agent.PreferenceNames() {
		b, err := c.cfg.Runtime.ReadFile(ctx, rec.ID, agent.PreferencePath(name))
		if agent.ErrorCode(err) == agent.CodeNotFound {
			continue
		}
		same := func(p agent.Preference) bool { return p.Name == name && p.Blob == string(b) }
		if err == nil && !slices.ContainsFunc(stored, same) {
			_, err = c.storePreference(ctx, name, string(b))
		}
		if err != nil {
			log.Warn("preference is not synchronised", "name", name, "err", err)
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	nethttp "net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/agent/client"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/storage"
	"github.com/rockpool/rootvm/guest"
)

// doctorOptions say where the parts are.
type doctorOptions struct {
	database string
	socket   string
	probe    string
	engine   engineOptions
	image    string // directory of the workspace image that the VM carries
	storage  string // socket of root's that keeps the files of workspaces
	json     bool
}

// lookTime bounds one look.
const lookTime = 5 * time.Second

// doctorFlags are the doctor's flags.
type doctorFlags struct {
	doctorOptions
	engine engineFlags
}

func (f *doctorFlags) add(flags envFlags) {
	flags.text(&f.database, "database", "ROCKPOOL_DATABASE", defaultDatabase, "SQLite file")
	flags.text(&f.socket, "socket", "ROCKPOOL_SOCKET", defaultSocket, "unix socket of the agent")
	flags.text(&f.probe, "probe", "ROCKPOOL_PROBE_URL", defaultProbe, "address that answers OK when the VM serves")
	f.engine.add(flags)
	flags.text(&f.image, "image", "ROCKPOOL_IMAGE_DIR", guest.WorkspaceDir, "directory of the workspace image that the VM carries")
	flags.text(&f.storage, "storage", "ROCKPOOL_STORAGE_SOCKET", guest.StorageSocket, "unix socket that keeps the files of workspaces")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

func (p *program) doctorCommand() *cobra.Command {
	var flags doctorFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "look at everything that the agent needs, and say what to do",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			o := flags.doctorOptions
			var err error
			if o.engine, err = flags.engine.options(); err != nil {
				return err
			}
			if needsAgentUser(o.database) || needsAgentUser(filepath.Dir(o.database)) {
				return asAgentUser(c.Context(), p.streams, p.args...)
			}
			return doctor(c.Context(), o, p.streams)
		},
	}
	flags.add(envFlags{c.Flags(), p.env})
	return c
}

// doctor looks at every part. It fails when one of them does.
func doctor(ctx context.Context, o doctorOptions, s streams) error {
	findings := examine(ctx, o)
	var err error
	if o.json {
		err = writeJSON(s.out, findings)
	} else {
		err = printFindings(s.out, findings)
	}
	if err != nil {
		return err
	}

	failed := 0
	for _, f := range findings {
		if f.Verdict == api.VerdictFail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d parts do not work", failed, len(findings))
	}
	return nil
}

func printFindings(w io.Writer, findings []api.Finding) error {
	for _, f := range findings {
		line := fmt.Sprintf("%-4s  %-9s  %s", f.Verdict, f.Part, oneLine(f.Text))
		if f.Do != "" {
			line += "\n                 → " + f.Do
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// examine looks at the parts one after another.
func examine(ctx context.Context, o doctorOptions) []api.Finding {
	c := client.Unix(o.socket)
	looks := []func(context.Context) api.Finding{
		func(ctx context.Context) api.Finding { return lookAtDatabase(ctx, o.database) },
		func(ctx context.Context) api.Finding { return lookAtAgent(ctx, c) },
		func(ctx context.Context) api.Finding { return lookAtCaddy(ctx, o.probe) },
		func(context.Context) api.Finding { return lookAtSpace("state", filepath.Dir(o.database)) },
	}

	if o.engine.runtime == runtimePodman {
		looks = append(looks,
			func(ctx context.Context) api.Finding { return lookAtPodman(ctx, o.engine.podman) },
			func(context.Context) api.Finding { return lookAtImage(o.image) },
			func(ctx context.Context) api.Finding { return lookAtStorage(ctx, storage.Client{Socket: o.storage}) },
			func(ctx context.Context) api.Finding { return lookForOrphans(ctx, o.engine, c) },
		)
	}

	findings := make([]api.Finding, 0, len(looks))
	for _, look := range looks {
		limited, cancel := context.WithTimeout(ctx, lookTime)
		findings = append(findings, look(limited))
		cancel()
	}

	return findings
}

// broken is a part that does not work, and what to do about it.
func broken(part, text, do string) api.Finding {
	return api.Finding{Part: part, Verdict: api.VerdictFail, Text: text, Do: do}
}

// doubtful is a part that somebody should look at, and how.
func doubtful(part, text, do string) api.Finding {
	return api.Finding{Part: part, Verdict: api.VerdictWarn, Text: text, Do: do}
}

func lookAtDatabase(ctx context.Context, path string) api.Finding {
	f := api.Finding{Part: "database", Verdict: api.VerdictOK, Text: path}
	if _, err := os.Stat(path); err != nil {
		f.Verdict, f.Text, f.Do = api.VerdictWarn, err.Error(), "the agent makes it when it starts: sudo systemctl start rockpool-agent"
		return f
	}
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		f.Verdict, f.Text, f.Do = api.VerdictFail, err.Error(), "restore a backup: rockpool-agent restore FILE"
		if passes(err) {
			f.Do = "end that; the agent then goes on by itself"
		}
		return f
	}

	jobs := map[agent.JobState]int{}
	err = db.View(ctx, func(tx agent.Tx) error {
		all, err := tx.Jobs("")
		for _, j := range all {
			jobs[j.State]++
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		f.Verdict, f.Text, f.Do = api.VerdictFail, err.Error(), "see the agent's log: sudo journalctl -u rockpool-agent"
		return f
	}
	f.Text += fmt.Sprintf(" is sound; jobs: %d waiting, %d at work, %d given up", jobs[agent.JobQueued], jobs[agent.JobLeased], jobs[agent.JobParked])
	if jobs[agent.JobParked] > 0 {
		f.Verdict, f.Do = api.VerdictWarn, "start or delete the workspaces in state error: rockpool-agent ws list"
	}
	return f
}

func lookAtAgent(ctx context.Context, c *client.Client) api.Finding {
	if err := c.Healthy(ctx); err != nil {
		return broken("agent", err.Error(), "sudo systemctl restart rockpool-agent; sudo journalctl -u rockpool-agent")
	}
	return api.Finding{Part: "agent", Verdict: api.VerdictOK, Text: "answers"}
}

func lookAtCaddy(ctx context.Context, url string) api.Finding {
	if err := (probe{url}).Ready(ctx); err != nil {
		return broken("caddy", err.Error(), "sudo systemctl restart rockpool-caddy; sudo journalctl -u rockpool-caddy")
	}
	return api.Finding{Part: "caddy", Verdict: api.VerdictOK, Text: url + " leads to the agent"}
}

// How little free space is a fault, and how little is worth a word, in bytes.
const (
	tooLittle = 256 << 20
	little    = 2 << 30
)

func lookAtSpace(part, dir string) api.Finding {
	usage, err := disk.Usage(dir)
	if err != nil {
		return broken(part, fmt.Sprintf("%s: %v", dir, err), "sudo systemctl status rockpool-setup; sudo journalctl -u rockpool-setup")
	}
	return judgeSpace(part, dir, int64(usage.Free), int64(usage.Total))
}

// lookAtStorage asks root's side who takes what of the disk for workspaces.
func lookAtStorage(ctx context.Context, s agent.Storage) api.Finding {
	usage, err := s.Usage(ctx)
	if err != nil {
		return broken("storage", err.Error(), "sudo systemctl restart rockpool-storage.socket; sudo journalctl -u rockpool-storage")
	}
	return judgeSpace("storage", "the disk for workspaces", usage.Free, usage.Size)
}

// judgeSpace says whether enough is free, in bytes.
func judgeSpace(part, where string, free, size int64) api.Finding {
	f := api.Finding{Part: part, Verdict: api.VerdictOK, Text: fmt.Sprintf("%s has %.1f of %.1f GiB free", where, gib(free), gib(size))}
	switch {
	case free < tooLittle:
		f.Verdict = api.VerdictFail
	case free < little:
		f.Verdict = api.VerdictWarn
	}
	if f.Verdict != api.VerdictOK {
		f.Do = "delete workspaces that are not needed any more (rockpool-agent ws rm NAME), or make the data disk larger"
	}
	return f
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

// lookAtPodman asks the service for a sign of life, which starts it when it
// sleeps.
func lookAtPodman(ctx context.Context, socket string) api.Finding {
	do := "sudo systemctl restart user@$(id -u rockpool); sudo -u rockpool podman info"
	h := &nethttp.Client{Transport: &nethttp.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}

	req, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodGet, "http://podman/_ping", nil)
	if err != nil {
		return broken("podman", err.Error(), do)
	}
	resp, err := h.Do(req)
	if err != nil {
		return broken("podman", err.Error(), do)
	}
	defer resp.Body.Close()
	if resp.StatusCode != nethttp.StatusOK {
		return broken("podman", "it answers "+resp.Status, do)
	}
	return api.Finding{Part: "podman", Verdict: api.VerdictOK, Text: "answers, API " + resp.Header.Get("Libpod-API-Version")}
}

func lookAtImage(dir string) api.Finding {
	do := "build the VM's image again with a workspace image (mage workspace:image, mage rootvm:build), or name an image of your own for each workspace"
	for _, name := range []string{"config.json", "digest", "rootfs"} {
		_, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return broken("image", "the VM carries no workspace image: there is no "+filepath.Join(dir, name), do)
		}
		if err != nil {
			return broken("image", err.Error(), do)
		}
	}
	digest, err := os.ReadFile(filepath.Join(dir, "digest"))
	if err != nil {
		return broken("image", err.Error(), do)
	}
	return api.Finding{Part: "image", Verdict: api.VerdictOK, Text: agent.DefaultImage + " " + strings.TrimSpace(string(digest))}
}

// lookForOrphans compares what the runtime holds with what the agent knows.
func lookForOrphans(ctx context.Context, o engineOptions, c *client.Client) api.Finding {
	unknown := func(err error) api.Finding {
		return doubtful("orphans", "cannot be looked for: "+err.Error(), "solve what is wrong with podman and the agent first")
	}
	e, closeEngine, err := openEngine(o, slog.New(slog.DiscardHandler))
	if err != nil {
		return unknown(err)
	}
	defer closeEngine()
	refs, err := e.List(ctx)
	if err != nil {
		return unknown(err)
	}

	all, err := everyWorkspace(ctx, c)
	if err != nil {
		return unknown(err)
	}

	known := map[string]bool{}
	for _, w := range all {
		known[w.ID] = true
	}

	var orphans []string
	for _, ref := range refs {
		if !known[ref.ID] {
			orphans = append(orphans, ref.ID)
		}
	}

	if orphans != nil {
		return doubtful("orphans",
			fmt.Sprintf("%d containers or files without a workspace: %s", len(orphans), strings.Join(orphans, " ")),
			"after looking into them: sudo curl --unix-socket "+defaultSocket+" -X POST http://agent/api/runtime/ID/remove")
	}
	return api.Finding{Part: "orphans", Verdict: api.VerdictOK, Text: fmt.Sprintf("none among %d containers", len(refs))}
}

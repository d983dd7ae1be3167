// Package controlplane holds the use cases on workspaces, the table of the
// kinds of jobs, and the runner of jobs. It brings the runtime, which says what
// is, into agreement with the store, which says what should be; containers that
// others change, such as callers of the runtime API, are found by
// reconciliation. It imports only the domain.
//
// In memory, beside the store, the control plane keeps the routes, the last
// events and the tokens of clones that are not done. Nobody else may write the
// store meanwhile: whoever runs a ControlPlane holds the database's lock.
package controlplane

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Config is what a control plane works with. Store, Runtime, Files, Inventory,
// Observer, Memory, Storage, Images, Terminator, Health, Review and Log must be
// set; for the others zero is the default.
type Config struct {
	Store     agent.Store
	Runtime   agent.Runtime
	Files     agent.FileReplacer
	Inventory agent.Inventory
	Observer  agent.Observer
	Memory    agent.MemoryLimiter
	Storage   agent.Storage
	Images    agent.ImageSource

	Terminator agent.Terminator

	Health   agent.IDEHealth
	Previews agent.Previews
	Review   agent.PreferenceReview
	Log      *slog.Logger

	Tidier agent.Tidier // of the runtime; nil where it keeps nothing that nobody needs

	Now    func() time.Time // the wall clock; timers do not follow it
	Random io.Reader        // of ids and of the jitter; crypto/rand.Reader

	Rebooted bool // the machine has started anew since the store was last in use: no container runs

	CloneBaseURL string // what owner/repo is relative to; https://github.com

	Concurrency    int           // provisions that run at once; 4. More wait.
	Endings        int           // stops and deletions that run at once; 8. They never wait for provisions.
	Attempts       int           // of a job before it is parked; 5
	Lease          time.Duration // a job whose runner is silent for so long may run elsewhere; 30 s
	Backoff        time.Duration // before the second attempt, doubled for each further one; 1 s
	MaxBackoff     time.Duration // 1 minute
	HealthTimeout  time.Duration // for an IDE to answer; 2 minutes
	HealthInterval time.Duration // between two questions; 250 ms
	StopGrace      time.Duration // for processes to end by themselves; 10 s
	ReconcileEvery time.Duration // 5 minutes: ends of containers are noticed at once
}

// fillDefaults sets what is zero.
func (c *Config) fillDefaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	c.CloneBaseURL = cmp.Or(c.CloneBaseURL, "https://github.com")
	c.Concurrency = cmp.Or(c.Concurrency, 4)
	c.Endings = cmp.Or(c.Endings, 8)
	c.Attempts = cmp.Or(c.Attempts, 5)
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.Backoff = cmp.Or(c.Backoff, time.Second)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, time.Minute)
	c.HealthTimeout = cmp.Or(c.HealthTimeout, 2*time.Minute)
	c.HealthInterval = cmp.Or(c.HealthInterval, 250*time.Millisecond)
	c.StopGrace = cmp.Or(c.StopGrace, 10*time.Second)
	c.ReconcileEvery = cmp.Or(c.ReconcileEvery, 5*time.Minute)
}

// ControlPlane implements [agent.ControlPlane]. Its use cases can be called
// from [New] on; their jobs are done while [ControlPlane.Run] runs.
type ControlPlane struct {
	*writer
	cfg    Config
	kinds  jobKinds
	runner *Runner

	policy  syncPolicy
	tokens  secrets
	locks   idLocks  // held by whoever changes a workspace's container
	view    observed // what reconciliation saw
	disk    diskView
	memory  memoryWatch
	recheck chan struct{} // a container has ended that nobody asked to
	untidy  chan struct{} // something may be kept that nobody needs any more
	watches sync.WaitGroup

	mu   sync.Mutex
	stop context.CancelFunc // ends Run; nil while it does not run
	done chan struct{}      // closed when Run has ended
	shut bool               // Run must not run again
}

var _ agent.ControlPlane = (*ControlPlane)(nil)

// New returns a control plane over what is stored.
func New(ctx context.Context, cfg Config) (*ControlPlane, error) {
	cfg.fillDefaults()
	life, err := agent.NewID(cfg.Random)
	if err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	c := &ControlPlane{
		writer: newWriter(cfg, life), cfg: cfg, kinds: knownKinds(), policy: threeWay{},
		view:    observed{recoveries: map[string][]time.Time{}, watched: map[string]bool{}},
		recheck: make(chan struct{}, 1),
		untidy:  make(chan struct{}, 1),
	}
	c.runner = newRunner(cfg, life, c.writer, c.newAttempt, c.kinds.provisioning())
	if cfg.Rebooted {
		err = c.update(ctx, c.restartAll)
	}
	if err := errors.Join(err, c.loadRoutes(ctx)); err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	return c, nil
}

// Run does the jobs and keeps rows, containers and jobs in agreement until
// ctx ends or [ControlPlane.Shutdown] is called. Then it interrupts the jobs,
// hands their leases back, so that the next Run goes on with them at once,
// and returns nil. Containers are left as they are: the agent may restart
// without anybody's IDE noticing. Faults of the store or the runtime do not
// end it: it waits for them to be over. The only error is that of a second
// Run, or of one after Shutdown.
func (c *ControlPlane) Run(ctx context.Context) error {
	ctx, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer c.ended()
	if !c.runner.Reclaim(ctx) {
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.reconcileLoop(ctx) })
	wg.Go(func() { c.runner.Run(ctx) })
	wg.Go(func() { c.watchMemory(ctx) })
	wg.Go(func() { c.tidyLoop(ctx) })
	wg.Wait()
	c.watches.Wait()
	return nil
}

var errRuns = errors.New("control plane runs already or was shut down")

func (c *ControlPlane) begin(ctx context.Context) (context.Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil || c.shut {
		return nil, errRuns
	}
	ctx, c.stop = context.WithCancel(ctx)
	c.done = make(chan struct{})
	return ctx, nil
}

func (c *ControlPlane) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
	c.stop = nil
	close(c.done)
}

// Shutdown is for the end of the VM: it ends Run for good, then reads the
// preferences that are to be kept and stops all containers cleanly, until ctx
// ends. Processes of all of them have their time to end at the same time. The
// rows stay as they are, so that what ran runs again after the next boot. The
// error tells what could not be stopped.
func (c *ControlPlane) Shutdown(ctx context.Context) error {
	if err := c.halt(ctx); err != nil {
		return err
	}
	var all []agent.Record
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		all, err = tx.Workspaces(agent.Cursor{}, everything)
		return err
	})
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return c.stopAll(ctx, all)
}

// halt ends Run for good.
func (c *ControlPlane) halt(ctx context.Context) error {
	c.mu.Lock()
	c.shut = true
	stop, done := c.stop, c.done
	c.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shut down: jobs did not end: %w", ctx.Err())
	}
}

// Accepting returns nil while jobs that are asked for will be done. After
// [ControlPlane.Shutdown], whose power cut may not have come, it is a
// [agent.CodeUnavailable] that says what to do; it was promised that what ran
// runs again after the next boot, so it is for good.
func (c *ControlPlane) Accepting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return agent.Errorf(agent.CodeUnavailable, "The VM was asked to shut down, so nothing new begins. If it stays on, start it again.")
	}
	return nil
}

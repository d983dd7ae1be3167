package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/store"
)

const (
	// defaultCacheSize is how much of the cache's store is kept, in bytes.
	defaultCacheSize = 10 * builders.GiB
	// cacheAge is how long a result is kept that no build used.
	cacheAge = 60 * 24 * time.Hour
)

// ListCache prints what the store of the cache has, the last used first.
func (p *Pipeline) ListCache(context.Context) error {
	list, err := p.cache(p.Out).Store().List()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		p.printLine("nothing was made yet in %s", p.CacheDir)
		return nil
	}

	var size int64
	table := tabwriter.NewWriter(p.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STEP\tRESULT\tMADE\tLAST USED\tSIZE")
	for _, e := range list {
		size += e.Size
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.1f MB\n", e.Step, e.Key[:12], localTime(e.Made), localTime(e.Used), float64(e.Size)/1e6)
	}
	fmt.Fprintf(table, "\t\t\t\t%.1f MB\n", float64(size)/1e6)
	return table.Flush()
}

func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// PruneCache removes from the store what no build used for a long time, and what
// is over its size.
func (p *Pipeline) PruneCache(ctx context.Context) error {
	cacheLock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer cacheLock.Close()
	removed, err := p.prune()
	var size int64
	for _, e := range removed {
		size += e.Size
		p.printLine("removed %s %s", e.Step, e.Key[:12])
	}
	p.printLine("%.1f MB were removed", float64(size)/1e6)
	return err
}

// prune removes what the store need not keep, and what earlier releases kept
// beside it.
func (p *Pipeline) prune() (removed []store.Entry, err error) {
	removed, err = p.cache(p.Out).Store().Prune(p.CacheSize, cacheAge)
	return removed, errors.Join(err, p.removeRetired(time.Now()))
}

// retired are the places in the cache of root file systems, layers and tools that
// earlier releases kept, as patterns.
var retired = []string{"layers", "tools", "rootfs/*.tar", "rootfs/*.tar.sha256", "workspace/rootfs"}

// removeRetired removes from the cache what an earlier release kept there, unless
// one made it in the last day: a checkout of it may be in use.
func (p *Pipeline) removeRetired(now time.Time) error {
	var faults []error
	for _, pattern := range retired {
		left, err := filepath.Glob(filepath.Join(p.CacheDir, pattern))
		if err != nil {
			return err
		}
		for _, path := range left {
			if info, err := os.Lstat(path); err != nil || now.Sub(info.ModTime()) < 24*time.Hour {
				continue
			}
			faults = append(faults, os.RemoveAll(path))
		}
	}
	return errors.Join(faults...)
}

// WhyCache prints of which inputs the last two results of a step differ.
func (p *Pipeline) WhyCache(args []string) error {
	if len(args) != 1 {
		return errors.New("cache:why wants the name of a step, as cache:list shows it")
	}
	before, now, differences, err := p.cache(p.Out).Store().Why(args[0])
	if err != nil {
		return err
	}
	p.printLine("%s was made at %s, and before at %s", args[0], localTime(now.Made), localTime(before.Made))
	for _, d := range differences {
		p.printLine("  %-24s %.12s -> %.12s", d.Input, orNone(d.Before), orNone(d.Now))
	}
	if len(differences) == 0 {
		p.printLine("  no input differs: the result was damaged or removed")
	}
	return nil
}

func orNone(digest string) string {
	if digest == "" {
		return "none"
	}
	return digest
}

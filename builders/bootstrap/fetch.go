package bootstrap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/store"
)

// Cache is a directory of files that are expensive to get, addressed by
// content or by all they were made from. Builders may share it at the same
// time.
//
//	debs/<sha256>            package files
//	store/                   tools trees, npm trees and root file systems, see package store
//	rootfs/                  where root file systems are bootstrapped
//	tmp/                     what is being made
type Cache struct {
	Dir string
	Say func(string) // tells a person what was found damaged, and what is fetched from elsewhere; nil: nobody
}

// Store keeps what builders make, below store/.
func (c Cache) Store() store.Store {
	return store.Store{Dir: filepath.Join(c.Dir, "store"), Say: c.Say}
}

func (c Cache) deb(sha string) string { return filepath.Join(c.Dir, "debs", sha) }

// Fetcher gets the packages of a lock into its Cache and makes trees of them.
type Fetcher struct {
	Cache
	Mirrors []string // bases of Debian archives, such as end in /debian; tried in order. One that ends in /archive/debian is a snapshot archive
	// FindMirrors finds Mirrors when there are none and a package is missing,
	// such as [DefaultMirrors]; nil: there are none then.
	FindMirrors func(context.Context) ([]string, error)
	// FindSnapshots finds snapshot archives when Mirrors has none and the others
	// have moved on, such as [DefaultSnapshots]; nil: there are none then.
	FindSnapshots func(context.Context) ([]string, error)
	Progress      func(done, total int64, name string)       // may be nil; bytes, and the package just done; one call at a time
	Client        *http.Client                               // nil: one that obeys the environment's proxies
	Sleep         func(context.Context, time.Duration) error // nil: the clock; waits between attempts

	find    sync.Once
	found   []string // mirrors, valid after find
	findErr error

	findSnapshots sync.Once
	snapshots     []string // valid after findSnapshots
}

// NewFetcher is the fetcher that builders use: without mirrors it takes the
// build host's own. What the cache's Say is told is also how far it is, for every
// one of parts.
func NewFetcher(cache Cache, mirrors []string, parts int64) *Fetcher {
	f := &Fetcher{Cache: cache, Mirrors: mirrors, FindMirrors: DefaultMirrors, FindSnapshots: DefaultSnapshots}
	if cache.Say != nil {
		f.Progress = Lines(parts, cache.Say)
	}
	return f
}

// Lines makes of a Fetcher's progress a line for every one of parts done.
func Lines(parts int64, print func(line string)) func(done, total int64, name string) {
	last := int64(-1)
	return func(done, total int64, _ string) {
		if total == 0 || done*parts/total == last {
			return
		}
		last = done * parts / total
		print(fmt.Sprintf("%d of %d MB", done/1e6, total/1e6))
	}
}

// mirrors returns the Mirrors that are no snapshot archives, or those that
// FindMirrors finds, once.
func (f *Fetcher) mirrors(ctx context.Context) ([]string, error) {
	given := slices.DeleteFunc(slices.Clone(f.Mirrors), isSnapshot)
	if len(given) > 0 || f.FindMirrors == nil {
		return given, nil
	}
	f.find.Do(func() { f.found, f.findErr = f.FindMirrors(ctx) })
	return f.found, f.findErr
}

// snapshot returns the mirrors of a time: those of the snapshot archives among
// Mirrors, or of those that FindSnapshots finds, once. It says so, for they are
// slow.
func (f *Fetcher) snapshot(ctx context.Context, date time.Time) []string {
	f.findSnapshots.Do(func() {
		f.snapshots = slices.DeleteFunc(slices.Clone(f.Mirrors), func(mirror string) bool { return !isSnapshot(mirror) })
		if len(f.snapshots) == 0 && f.FindSnapshots != nil {
			f.snapshots, _ = f.FindSnapshots(ctx) // without one the mirrors' own word counts
		}
		if len(f.snapshots) > 0 && f.Say != nil {
			f.Say("the mirrors have moved on since the package lock was made: what they lack is fetched from the snapshot archive of " + date.Format("2006-01-02"))
		}
	})

	var all []string
	for _, base := range f.snapshots {
		all = append(all, strings.TrimRight(base, "/")+"/"+date.UTC().Format("20060102T150405Z"))
	}
	return all
}

func isSnapshot(mirror string) bool {
	return strings.HasSuffix(strings.TrimRight(mirror, "/"), "/archive/debian")
}

const (
	parallelFetches = 6
	fetchAttempts   = 4
)

// errGone is a mirror's word that it does not have a file.
var errGone = errors.New("not on the mirror")

// Fetch makes the cache hold every package of the lock, whole and verified. A
// package that is there already is only verified: nothing is asked of the
// network when all are. An interrupted download goes on where it ended.
func (f *Fetcher) Fetch(ctx context.Context, l *PackageLock) error {
	if err := os.MkdirAll(filepath.Join(f.Dir, "debs"), 0o755); err != nil {
		return fmt.Errorf("fetch packages: %w", err)
	}

	var total, done int64
	for _, p := range l.Packages() {
		total += p.Size
	}

	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelFetches)
	for i, p := range l.Packages() {
		group.Go(func() error {
			if err := f.fetchOne(ctx, p, l.packages[i].get("Filename"), l.Date); err != nil {
				if errors.Is(err, errGone) {
					return f.gone(l, p, err)
				}
				return fmt.Errorf("fetch package %s %s: %w", p.Name, p.Version, err)
			}
			mu.Lock()
			defer mu.Unlock()
			done += p.Size
			if f.Progress != nil {
				f.Progress(done, total, p.Name)
			}
			return nil
		})
	}
	return group.Wait()
}

func (f *Fetcher) gone(l *PackageLock, p builders.Package, err error) error {
	return fmt.Errorf("fetch package %s %s: %w: the mirrors have moved on since the lock was made; build with MIRROR=<snapshot archive>/archive/debian, which has it as of %s, or make a new lock with `go tool mage rootvm:lock`",
		p.Name, p.Version, err, l.Date.Format("20060102T150405Z"))
}

// fetchOne makes the cache hold p, which mirrors had at date.
func (f *Fetcher) fetchOne(ctx context.Context, p builders.Package, file string, date time.Time) error {
	final := f.deb(p.SHA256)
	if verify(final, p) == nil {
		return nil
	}

	// The lock is held on the partial file, so that two builders do not
	// write the same one. It has a fixed name: what a killed builder got of it
	// is not got again.
	unlock, err := builders.LockFile(ctx, final+".part")
	if err != nil {
		return err
	}
	defer unlock()
	if verify(final, p) == nil {
		_ = os.Remove(final + ".part") // another builder was first
		return nil
	}
	part, err := os.OpenFile(final+".part", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer part.Close()
	mirrors, err := f.mirrors(ctx)
	if err != nil {
		return err
	}

	err = f.fetchPatiently(ctx, part, mirrors, p, file)
	if errors.Is(err, errGone) {
		if old := f.snapshot(ctx, date); len(old) > 0 {
			err = f.fetchPatiently(ctx, part, old, p, file)
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(part.Name(), final)
}

// fetchPatiently tries the mirrors several times, unless none has the file.
func (f *Fetcher) fetchPatiently(ctx context.Context, part *os.File, mirrors []string, p builders.Package, file string) (last error) {
	for attempt := range fetchAttempts {
		if attempt > 0 {
			if err := f.sleep(ctx, time.Duration(attempt*attempt)*500*time.Millisecond); err != nil {
				return errors.Join(err, last)
			}
		}
		last = f.fetchFrom(ctx, part, mirrors, p, file)
		if last == nil || errors.Is(last, errGone) || ctx.Err() != nil {
			break
		}
	}
	return last
}

// fetchFrom tries each mirror once. It reports errGone when every one that
// answered lacks the file and all answered.
func (f *Fetcher) fetchFrom(ctx context.Context, part *os.File, mirrors []string, p builders.Package, file string) error {
	urls := candidates(mirrors, file)
	if len(urls) == 0 {
		return errors.New("no mirror is known: set MIRROR to the base of a Debian archive")
	}

	var gone, failed error
	for _, url := range urls {
		err := f.download(ctx, part, url, p)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errGone):
			gone = err
		default:
			failed = err
		}
	}

	if failed != nil {
		return failed
	}
	return gone
}

// securityPool begins the files of the archive of security updates.
const securityPool = "pool/updates/"

// candidates lists where file may be. Debian keeps security updates in an
// archive of its own, whose base is that of the main one with "-security" on
// most mirrors, and whose files are below pool/updates.
func candidates(mirrors []string, file string) []string {
	security := strings.HasPrefix(file, securityPool)
	var exact, derived []string
	for _, mirror := range mirrors {
		mirror = strings.TrimRight(mirror, "/")
		switch main, rest, snapshot := strings.Cut(mirror, "/archive/debian/"); {
		case strings.Contains(mirror, "debian-security") == security:
			exact = append(exact, mirror+"/"+file)
		case security && snapshot:
			derived = append(derived, main+"/archive/debian-security/"+rest+"/"+file)
		case security:
			derived = append(derived, mirror+"-security/"+file)
		}
	}

	var all []string
	for _, url := range append(exact, derived...) {
		if !slices.Contains(all, url) {
			all = append(all, url)
		}
	}
	return all
}

// download appends to part what is missing of the file at url and verifies the
// whole. A file that does not verify is emptied, to be fetched anew.
func (f *Fetcher) download(ctx context.Context, part *os.File, url string, p builders.Package) error {
	have, err := part.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have > p.Size {
		have = 0
	}

	if have < p.Size {
		if err := f.get(ctx, part, url, have, p.Size); err != nil {
			return err
		}
	}

	if err := part.Sync(); err != nil {
		return err
	}
	if err := verify(part.Name(), p); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", url, err), part.Truncate(0))
	}
	return nil
}

// get writes bytes from have to size of the file at url to part.
func (f *Fetcher) get(ctx context.Context, part *os.File, url string, have, size int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}

	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	watchdog := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	defer watchdog.Stop()
	resp, err := f.client().Do(req)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer resp.Body.Close()

	switch resp.StatusCode {
	case http.StatusOK:
		have = 0
	case http.StatusPartialContent:
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%s: %w", url, errGone)
	default:
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}

	if err := part.Truncate(have); err != nil {
		return err
	}
	if _, err := part.Seek(have, io.SeekStart); err != nil {
		return err
	}
	// One byte more than expected is enough to know a wrong file.
	body := &fedReader{io.LimitReader(resp.Body, size-have+1), func() { watchdog.Reset(stallTimeout) }}
	n, err := io.Copy(part, body)
	if err != nil {
		return causeOf(ctx, fmt.Errorf("get %s: %w", url, err))
	}
	if have+n != size {
		return errors.Join(fmt.Errorf("get %s: the file has %d bytes, not %d", url, have+n, size), part.Truncate(0))
	}
	return nil
}

// stallTimeout is how long a mirror may send nothing.
const stallTimeout = 30 * time.Second

var errStalled = fmt.Errorf("the mirror sent nothing for %v: check the network, or set MIRROR to another", stallTimeout)

func causeOf(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w (%v)", errStalled, err)
	}
	return err
}

type fedReader struct {
	io.Reader
	fed func()
}

func (r *fedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.fed()
	return n, err
}

func (f *Fetcher) client() *http.Client {
	if f.Client != nil {
		return f.Client
	}
	return http.DefaultClient
}

func (f *Fetcher) sleep(ctx context.Context, d time.Duration) error {
	if f.Sleep != nil {
		return f.Sleep(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// verify checks size and SHA-256 of the file.
func verify(file string, p builders.Package) error {
	fd, err := os.Open(file)
	if err != nil {
		return err
	}
	defer fd.Close()

	fi, err := fd.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != p.Size {
		return fmt.Errorf("%d bytes instead of %d", fi.Size(), p.Size)
	}

	h := sha256.New()
	if _, err := io.Copy(h, fd); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("SHA-256 is %s instead of %s", got, p.SHA256)
	}
	return nil
}

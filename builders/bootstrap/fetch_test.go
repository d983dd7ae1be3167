package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const helloFile = "/debian/pool/main/h/hello/hello_2.10-3_amd64.deb"

func testLock(t *testing.T) *PackageLock {
	t.Helper()
	l, err := ParsePackageLock(strings.NewReader(header + hello))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// mirror serves one answer to every request and counts them.
func mirror(t *testing.T, answer http.HandlerFunc) (base string, count *atomic.Int32) {
	t.Helper()
	count = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		if r.URL.Path != helloFile {
			http.NotFound(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/debian", count
}

func good(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader("hello"))
}

func TestFetcher_Fetch(t *testing.T) {
	gone := func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
	for name, tc := range map[string]struct {
		mirrors []http.HandlerFunc
		want    string // of the error, empty for none
		counts  []int32
	}{
		"Good":           {[]http.HandlerFunc{good}, "", []int32{1}},
		"SecondHasIt":    {[]http.HandlerFunc{gone, good}, "", []int32{1, 1}},
		"FirstIsEnough":  {[]http.HandlerFunc{good, gone}, "", []int32{1, 0}},
		"Gone":           {[]http.HandlerFunc{gone, gone}, "MIRROR=<snapshot archive>/archive/debian, which has it as of 20260102T030405Z", []int32{1, 1}},
		"WrongContent":   {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "jello") }}, "SHA-256", []int32{4}},
		"TooLong":        {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello, world") }}, "bytes, not 5", []int32{4}},
		"TooShort":       {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hi") }}, "2 bytes, not 5", []int32{4}},
		"ServerError":    {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }}, "503", []int32{4}},
		"BrokenThenGood": {[]http.HandlerFunc{failFirst(good)}, "", []int32{2}},
		"NoMirror":       {nil, "set MIRROR", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Fetcher{Cache: Cache{Dir: t.TempDir()}, Sleep: noSleep}
			var counts []*atomic.Int32
			for _, answer := range tc.mirrors {
				base, count := mirror(t, answer)
				f.Mirrors, counts = append(f.Mirrors, base), append(counts, count)
			}

			l := testLock(t)
			err := f.Fetch(t.Context(), l)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}

			for i, count := range counts {
				if count.Load() != tc.counts[i] {
					t.Errorf("mirror %d was asked %d times, want %d", i, count.Load(), tc.counts[i])
				}
			}

			b, err := os.ReadFile(f.deb(l.packages[0].get("SHA256")))
			if (err == nil) != (tc.want == "") || err == nil && string(b) != "hello" {
				t.Errorf("the cache holds %q, %v", b, err)
			}
		})
	}
}

// TestFetcher_Fetch_Snapshot: what the mirrors have dropped comes from a snapshot
// archive of the lock's date, whose word is not taken for it.
func TestFetcher_Fetch_Snapshot(t *testing.T) {
	moved, asked := mirror(t, http.NotFound)
	content := "hello"
	archive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "/archive/debian/20260102T030405Z" + strings.TrimPrefix(helloFile, "/debian"); r.URL.Path != want {
			t.Errorf("the archive is asked for %s, want %s", r.URL.Path, want)
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}))
	t.Cleanup(archive.Close)
	found := func(context.Context) ([]string, error) { return []string{archive.URL + "/archive/debian"}, nil }

	for name, f := range map[string]*Fetcher{
		"found": {Mirrors: []string{moved}, FindSnapshots: found},
		"given": {Mirrors: []string{moved, archive.URL + "/archive/debian/"}},
	} {
		var said []string
		f.Cache, f.Sleep = Cache{Dir: t.TempDir(), Say: func(line string) { said = append(said, line) }}, noSleep
		if err := f.Fetch(t.Context(), testLock(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(said) != 1 || !strings.Contains(said[0], "snapshot archive of 2026-01-02") {
			t.Errorf("%s: said %q", name, said)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("the mirror was asked %d times, want once in each fetch", asked.Load())
	}

	content = "jello"
	f := &Fetcher{Cache: Cache{Dir: t.TempDir()}, Sleep: noSleep, Mirrors: []string{moved}, FindSnapshots: found}
	if err := f.Fetch(t.Context(), testLock(t)); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("a lying archive: %v", err)
	}
}

func TestSnapshotOf(t *testing.T) {
	for mirror, want := range map[string]string{
		"http://ftp.example.org/debian": "http://snapshot.example.org/archive/debian",
		"https://mirror.example/debian": "", "http://localhost:3142/debian": "", "::": "",
	} {
		if got, ok := snapshotOf(mirror); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", mirror, got, ok, want)
		}
	}
}

func failFirst(then http.HandlerFunc) http.HandlerFunc {
	var once sync.Once
	return func(w http.ResponseWriter, r *http.Request) {
		failed := false
		once.Do(func() { failed = true })
		if failed {
			w.Header().Set("Content-Length", "5")
			fmt.Fprint(w, "he")
			panic(http.ErrAbortHandler)
		}
		then(w, r)
	}
}

func TestFetcher_Fetch_Warm(t *testing.T) {
	base, count := mirror(t, good)
	l := testLock(t)
	f := &Fetcher{Cache: Cache{Dir: t.TempDir()}, Mirrors: []string{base}, Sleep: noSleep}
	for range 2 {
		if err := f.Fetch(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if count.Load() != 1 {
		t.Errorf("the mirror was asked %d times, want once", count.Load())
	}
	// Without mirrors at all, as without a network.
	if err := (&Fetcher{Cache: f.Cache}).Fetch(t.Context(), l); err != nil {
		t.Error(err)
	}
}

// TestFetcher_Fetch_FindsMirrors: mirrors are looked for when a package is
// missing, and not otherwise.
func TestFetcher_Fetch_FindsMirrors(t *testing.T) {
	base, _ := mirror(t, good)
	l := testLock(t)
	f := &Fetcher{Cache: Cache{Dir: t.TempDir()}, Sleep: noSleep}
	broken := errors.New("no apt here")
	f.FindMirrors = func(context.Context) ([]string, error) { return nil, broken }
	if err := f.Fetch(t.Context(), l); !errors.Is(err, broken) {
		t.Errorf("error = %v", err)
	}

	asked := 0
	f = &Fetcher{Cache: f.Cache, Sleep: noSleep}
	f.FindMirrors = func(context.Context) ([]string, error) { asked++; return []string{base}, nil }
	for range 2 {
		if err := f.Fetch(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("mirrors were looked for %d times, want once", asked)
	}
}

func TestFetcher_Fetch_Damaged(t *testing.T) {
	for name, content := range map[string]string{"Empty": "", "Half": "hel", "Other": "jello"} {
		t.Run(name, func(t *testing.T) {
			base, _ := mirror(t, good)
			l := testLock(t)
			f := &Fetcher{Cache: Cache{Dir: t.TempDir()}, Mirrors: []string{base}, Sleep: noSleep}
			deb := f.deb(l.packages[0].get("SHA256"))
			if err := os.MkdirAll(filepath.Dir(deb), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(deb, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := f.Fetch(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(deb); err != nil || string(b) != "hello" {
				t.Errorf("the cache holds %q, %v", b, err)
			}
		})
	}
}

func TestFetcher_Fetch_Resumes(t *testing.T) {
	for name, tc := range map[string]struct{ partial, asked string }{
		"Half":        {"hel", "bytes=3-"},
		"WrongHalf":   {"jel", "bytes=3-"}, // found out at the end, and fetched anew
		"WholeUnseen": {"hello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var ranges []string
			base, _ := mirror(t, func(w http.ResponseWriter, r *http.Request) {
				ranges = append(ranges, r.Header.Get("Range"))
				good(w, r)
			})

			l := testLock(t)
			f := &Fetcher{Cache: Cache{Dir: t.TempDir()}, Mirrors: []string{base}, Sleep: noSleep}
			deb := f.deb(l.packages[0].get("SHA256"))
			if err := os.MkdirAll(filepath.Dir(deb), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(deb+".part", []byte(tc.partial), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := f.Fetch(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			if tc.asked == "" && len(ranges) > 0 || tc.asked != "" && ranges[0] != tc.asked {
				t.Errorf("asked for %q, want %q first", ranges, tc.asked)
			}
			if b, err := os.ReadFile(deb); err != nil || string(b) != "hello" {
				t.Errorf("the cache holds %q, %v", b, err)
			}
		})
	}
}

func TestFetcher_Fetch_Concurrent(t *testing.T) {
	base, count := mirror(t, good)
	l := testLock(t)
	cache := Cache{Dir: t.TempDir()}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := (&Fetcher{Cache: cache, Mirrors: []string{base}, Sleep: noSleep}).Fetch(t.Context(), l); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if count.Load() != 1 {
		t.Errorf("the mirror was asked %d times by eight builders, want once", count.Load())
	}
}

func TestFetcher_Fetch_Progress(t *testing.T) {
	base, _ := mirror(t, good)
	var said []string
	f := &Fetcher{Cache: Cache{Dir: t.TempDir()}, Mirrors: []string{base},
		Progress: func(done, total int64, name string) { said = append(said, fmt.Sprint(done, total, name)) }}
	if err := f.Fetch(t.Context(), testLock(t)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"5 5hello"}; !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}

func TestCandidates(t *testing.T) {
	const main, update = "pool/main/a.deb", "pool/updates/main/a.deb"
	for name, tc := range map[string]struct {
		mirrors []string
		file    string
		want    []string
	}{
		"Main":         {[]string{"http://m/debian/", "http://m/debian-security"}, main, []string{"http://m/debian/" + main}},
		"Update":       {[]string{"http://m/debian", "http://s/debian-security"}, update, []string{"http://s/debian-security/" + update, "http://m/debian-security/" + update}},
		"OneMirror":    {[]string{"http://m/debian"}, update, []string{"http://m/debian-security/" + update}},
		"Snapshot":     {[]string{"http://s/archive/debian/20260102T030405Z"}, update, []string{"http://s/archive/debian-security/20260102T030405Z/" + update}},
		"SnapshotMain": {[]string{"http://s/archive/debian/20260102T030405Z"}, main, []string{"http://s/archive/debian/20260102T030405Z/" + main}},
		"Once":         {[]string{"http://m/debian", "http://m/debian/"}, main, []string{"http://m/debian/" + main}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := candidates(tc.mirrors, tc.file); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestHostMirrors(t *testing.T) {
	list := filepath.Join(t.TempDir(), "mirrors.list")
	if err := os.WriteFile(list, []byte("http://one/debian\tpriority:1\nhttp://two/debian\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		lines string
		want  []string
	}{
		"Debian":     {"http://m/debian/ bookworm main\nhttp://m/debian/ bookworm-updates main\nhttp://m/debian-security/ bookworm-security main\n", []string{"http://m/debian", "http://m/debian-security"}},
		"Ubuntu":     {"http://m/ubuntu/ noble main\n", nil},
		"ThirdParty": {"http://d/linux/debian/ bookworm stable\nhttp://n/node_20.x/ nodistro main\nhttp://p/packages/ trixie main\n", nil},
		"MirrorList": {"mirror+file:" + list + "/ trixie main\n", []string{"http://one/debian", "http://two/debian"}},
		"Disc":       {"cdrom:[Debian]/debian/ trixie main\n", nil},
		"None":       {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hostMirrors([]byte(tc.lines)); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestParseSources(t *testing.T) {
	got := parseSources([]byte("# none\ndeb http://m/debian trixie main\ndeb [signed-by=\"/k x.gpg\"] http://s/debian-security/ trixie-security main\nE: failed\n"))
	want := []source{{"http://m/debian", "trixie"}, {"http://s/debian-security", "trixie-security"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

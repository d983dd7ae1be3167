package watch

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestIgnored_AsGit compares what is left out with what git says, for random
// patterns and directories.
func TestIgnored_AsGit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	parts := []string{"a", "b", "dist", "*", "**", "?", "[ab]", "[!a]", "a*", "*t", "\\*", "b c", "ü"}
	names := []string{"a", "b", "dist", "ab", "*", "b c", "ü", "c"}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string, n int) string {
		var list []string
		for range 1 + r.IntN(n) {
			list = append(list, from[r.IntN(len(from))])
		}
		return strings.Join(list, "/")
	}

	for range 25 {
		dir := t.TempDir()
		var lines []string
		for range 1 + r.IntN(4) {
			line := []string{"", "", "!", "/"}[r.IntN(4)] + pick(parts, 3) + []string{"", "/", " "}[r.IntN(3)]
			lines = append(lines, line)
		}
		content := strings.Join(append(lines, "# comment", ""), "\n")
		if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		var paths []string
		for range 12 {
			p := pick(names, 3)
			paths = append(paths, p)
			if err := os.MkdirAll(filepath.Join(dir, p), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cmd := exec.Command("git", "-c", "core.quotePath=false", "-C", dir, "check-ignore", "--no-index", "-z", "--stdin")
		cmd.Stdin = strings.NewReader(strings.Join(paths, "\x00"))
		out, _ := cmd.Output() // 1: none is ignored
		ignored := map[string]bool{}
		for p := range strings.SplitSeq(string(out), "\x00") {
			ignored[p] = true
		}

		w := &Watcher{folders: map[string]*folder{".": {ignore: parseIgnore([]byte(content))}}}
		for _, p := range paths {
			if got := w.ignoredAnywhere(p); got != ignored[p] {
				t.Errorf("%q in a directory with %q: %v, git says %v", p, lines, got, ignored[p])
			}
		}
	}
}

// ignoredAnywhere reports whether a directory or one above it is left out.
func (w *Watcher) ignoredAnywhere(p string) bool {
	names := strings.Split(p, "/")
	dir := "."
	for _, name := range names {
		if w.ignored(dir, name) {
			return true
		}
		dir = strings.TrimPrefix(dir+"/"+name, "./")
	}
	return false
}

func FuzzParseIgnore(f *testing.F) {
	for _, s := range []string{"a\n!b/\n", "[z-a]\n[", "\\", "**/x/**", "[[:alpha:]]", "\ufeffa\r\n"} {
		f.Add([]byte(s), "a/b")
	}
	f.Fuzz(func(_ *testing.T, b []byte, p string) { ignoredBy(parseIgnore(b), p) })
}

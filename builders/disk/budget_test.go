package disk

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/provision"
)

// TestBudgets: every budget can be read, has the files that belong to no package,
// and names each package that an image of its suite and architecture asks for,
// and no other, once.
func TestBudgets(t *testing.T) {
	files, err := fs.Glob(budgets, "budget/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no budgets: %v", err)
	}
	for _, file := range files {
		content, err := budgets.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		groups, err := parseBudget(string(content))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		suite, arch, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".txt"), "-")
		var named []string
		for _, g := range groups {
			named = append(named, g.packages...)
		}
		slices.Sort(named)
		want := append(provision.Packages(suite, arch), "*")
		slices.Sort(want)
		if !slices.Equal(named, want) {
			t.Errorf("%s names the packages %q, the image asks for %q", file, named, want)
		}
		if !slices.ContainsFunc(groups, func(g group) bool { return g.name == generated }) {
			t.Errorf("%s has no group %s", file, generated)
		}
	}
}

func TestParseBudget_Malformed(t *testing.T) {
	for _, content := range []string{"base", "base x", "base 0", "base -1", "a 1\na 2"} {
		if groups, err := parseBudget(content); err == nil {
			t.Errorf("parseBudget(%q) = %v, want an error", content, groups)
		}
	}
}

// budgeted is a system of a few packages: editor needs libedit, which is also
// there for shell, and a virtual package that only mta provides.
func budgeted(editor int) []entry {
	status := `Package: shell
Essential: yes
Depends: libedit (>= 1)

Package: libedit
Multi-Arch: same

Package: editor
Pre-Depends: libedit
Depends: libbig:any | none, mail-transport-agent

Package: libbig

Package: mta
Provides: mail-transport-agent (= 1), other
`
	entries := []entry{
		{name: "./var/lib/dpkg/status", content: status},
		{name: "./boot/initrd", content: strings.Repeat("i", 3e5)},
		{name: "./usr/local/bin/agent", content: strings.Repeat("a", 2e5)},
		{name: "./usr/local/share/x", content: strings.Repeat("x", 1e5)},
	}
	for _, p := range []struct {
		name, file string
		size       int
	}{
		{"shell", "bin/sh", 1e6}, {"libedit:amd64", "usr/lib/libedit", 5e5}, {"editor", "usr/bin/editor", editor},
		{"libbig", "usr/lib/libbig", 2e6}, {"mta", "usr/sbin/mta", 1e5},
	} {
		entries = append(entries,
			entry{name: "./var/lib/dpkg/info/" + p.name + ".md5sums", content: "00000000000000000000000000000000  " + p.file + "\n"},
			entry{name: "./usr/" + strings.TrimPrefix(p.file, "usr/"), content: strings.Repeat("p", p.size)})
	}
	return entries
}

func TestAudit_Budget(t *testing.T) {
	const budget = "base 1.5 *\nboot 0.3 /boot\nediting 3.1 editor # with a reason\nlocal 0.1 /usr/local\nagent 0.2 /usr/local/bin/agent\ngenerated 0.01\n"
	groups, err := parseBudget(budget)
	if err != nil {
		t.Fatal(err)
	}
	compare := func(editor int, groups []group) string {
		a, err := newAudit(spec("amd64").Epoch(), archive(t, budgeted(editor)...))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.compareBudget(groups, "budget.txt"); err != nil {
			return err.Error()
		}
		return ""
	}

	if got := compare(1_000_000, groups); got != "" {
		t.Errorf("within the budget: %s", got)
	}
	if got := compare(1_150_000, groups); got != "" { // 4.8 % over
		t.Errorf("within the slack: %s", got)
	}
	want := "group editing takes 3.3 MB, 6 % over its budget of 3.1 MB (libbig 2.0, editor 1.2, mta 0.1): who adds packages raises it in budget.txt, with the reason"
	if got := compare(1_200_000, groups); got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if got := compare(1_000_000, groups[:5]); got != "group generated takes 0.0 MB and has no budget in budget.txt" {
		t.Errorf("without a budget for other files: %q", got)
	}
}

// TestVerifyRootfs_Budget: the budget of the Spec is part of the verification.
func TestVerifyRootfs_Budget(t *testing.T) {
	s := builders.Spec{Suite: "trixie", Architecture: "amd64", SourceDateEpoch: 1760000000}
	root := archive(t, append(sealed(), entry{name: "./usr/local/bin/rockpool-queue", content: strings.Repeat("q", 9e6)})...)
	err := verifyRootfs(s, root)
	if err == nil || !strings.Contains(err.Error(), "group queue takes 9.0 MB, 12 % over its budget of 8.0 MB (of no package): who adds packages raises it in builders/disk/budget/trixie-amd64.txt") {
		t.Errorf("a queue of 9 MB: %v", err)
	}
}

package disk

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/builders"
)

// budgets holds, for suites and architectures, how much each group of packages
// may take on the disk.
//
//go:embed budget
var budgets embed.FS

// budgetSlack is by how many percent a group may be over its budget.
const budgetSlack = 5

// generated is the group of files that are neither of a package nor below a
// directory that has a group, such as the initrd and dpkg's own lists.
const generated = "generated"

// group is a line of a budget: packages that are asked for together, with all
// that they need and that no group before has, or directories with all below
// them.
type group struct {
	name        string
	budget      int64 // bytes
	packages    []string
	directories []string // with a slash at the end
}

// groupUse is what a group takes on the disk.
type groupUse struct {
	bytes    int64
	packages map[string]int64
}

// parseBudget reads lines of "name megabytes package-or-directory…", in which "#"
// begins a comment. "*" stands for what every Debian has.
func parseBudget(content string) ([]group, error) {
	var groups []group
	n := 0
	for line := range strings.Lines(content) {
		n++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %d: %q is not a group with its budget", n, line)
		}
		megabytes, err := strconv.ParseFloat(fields[1], 64)
		if err != nil || megabytes <= 0 {
			return nil, fmt.Errorf("line %d: %q is no budget in MB", n, fields[1])
		}
		if slices.ContainsFunc(groups, func(g group) bool { return g.name == fields[0] }) {
			return nil, fmt.Errorf("line %d: group %s is there twice", n, fields[0])
		}
		g := group{name: fields[0], budget: int64(megabytes * 1e6)}
		for _, member := range fields[2:] {
			if strings.HasPrefix(member, "/") {
				g.directories = append(g.directories, strings.TrimSuffix(member, "/")+"/")
			} else {
				g.packages = append(g.packages, member)
			}
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// installed is a package by dpkg's status.
type installed struct {
	needs     [][]string // each a list of alternatives
	provides  []string
	essential bool // of every Debian
}

// readStatus reads which packages there are and what they need.
func (a *audit) readStatus(content []byte) {
	for paragraph := range bytes.SplitSeq(content, []byte("\n\n")) {
		fields := map[string]string{}
		for line := range strings.Lines(string(paragraph)) {
			if name, value, ok := strings.Cut(line, ": "); ok && name[0] != ' ' {
				fields[name] = strings.TrimSpace(value)
			}
		}
		if fields["Package"] == "" {
			continue
		}
		p := installed{essential: fields["Essential"] == "yes" || fields["Priority"] == "required"}
		for _, list := range []string{fields["Pre-Depends"], fields["Depends"]} {
			p.needs = append(p.needs, relations(list)...)
		}
		for _, alternatives := range relations(fields["Provides"]) {
			p.provides = append(p.provides, alternatives...)
		}
		a.installed[fields["Package"]] = p
	}
}

// relations reads names of packages, by deb-control(5): commas part what is
// needed, bars alternatives.
func relations(list string) [][]string {
	var all [][]string
	for need := range strings.SplitSeq(list, ",") {
		var names []string
		for alternative := range strings.SplitSeq(need, "|") {
			name, _, _ := strings.Cut(strings.TrimSpace(alternative), " ")
			name, _, _ = strings.Cut(name, ":")
			if name != "" {
				names = append(names, name)
			}
		}
		if names != nil {
			all = append(all, names)
		}
	}
	return all
}

// members says of each package in which group it is. Packages that no group needs
// are left out.
func (a *audit) members(groups []group) map[string]string {
	providers := map[string][]string{}
	for name, p := range a.installed {
		for _, virtual := range p.provides {
			providers[virtual] = append(providers[virtual], name)
		}
	}

	of := map[string]string{}
	var take func(name, group string)
	take = func(name, group string) {
		p, ok := a.installed[name]
		if !ok || of[name] != "" {
			return
		}
		of[name] = group
		for _, alternatives := range p.needs {
			for _, needed := range alternatives {
				take(needed, group)
				for _, provider := range providers[needed] {
					take(provider, group)
				}
			}
		}
	}
	for _, g := range groups {
		for _, name := range g.packages {
			take(name, g.name)
			for essential, p := range a.installed {
				if name == "*" && p.essential {
					take(essential, g.name)
				}
			}
		}
	}
	return of
}

// use measures what each group takes.
func (a *audit) use(groups []group) map[string]*groupUse {
	of := a.members(groups)
	owner := map[string]string{} // of a path, by its package
	for name, file := range a.packages {
		at, _ := a.find(name)
		owner[at] = file.pkg
	}

	all := map[string]*groupUse{}
	for name, size := range a.sizes {
		pkg, owned := owner[name]
		in := generated
		if owned {
			in = cmp.Or(of[pkg], generated)
		}
		if g := ofDirectory(groups, name); g != "" {
			in, pkg = g, ""
		}
		u := all[in]
		if u == nil {
			u = &groupUse{packages: map[string]int64{}}
			all[in] = u
		}
		u.bytes += size
		if pkg != "" {
			u.packages[pkg] += size
		}
	}
	return all
}

// ofDirectory is the group that has the path itself or, the nearest counts, a
// directory above it.
func ofDirectory(groups []group, name string) string {
	found, nearest := "", 0
	for _, g := range groups {
		for _, dir := range g.directories {
			if strings.HasPrefix(name+"/", dir) && len(dir) > nearest {
				found, nearest = g.name, len(dir)
			}
		}
	}
	return found
}

// budgetFile is the name of the budget of a Spec.
func budgetFile(spec builders.Spec) string {
	return path.Join("budget", spec.Suite+"-"+spec.Architecture+".txt")
}

// checkBudget compares what groups take with the Spec's budget. A Spec without
// one has none to be over.
func (a *audit) checkBudget(spec builders.Spec) error {
	file := budgetFile(spec)
	content, err := budgets.ReadFile(file)
	if err != nil {
		return nil
	}
	groups, err := parseBudget(string(content))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return a.compareBudget(groups, "builders/disk/"+file)
}

// compareBudget reports every group that is over its budget, and every group of
// files that has none.
func (a *audit) compareBudget(groups []group, file string) error {
	use := a.use(groups)
	var faults []error
	for _, g := range groups {
		u := use[g.name]
		delete(use, g.name)
		if u == nil || u.bytes <= g.budget+g.budget*budgetSlack/100 {
			continue
		}
		faults = append(faults, fmt.Errorf("group %s takes %s MB, %d %% over its budget of %s MB (%s): who adds packages raises it in %s, with the reason",
			g.name, megabytes(u.bytes), (u.bytes-g.budget)*100/g.budget, megabytes(g.budget), u.largest(), file))
	}
	for name, u := range use {
		faults = append(faults, fmt.Errorf("group %s takes %s MB and has no budget in %s", name, megabytes(u.bytes), file))
	}
	return errors.Join(faults...)
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) }

// largest names the packages that take the most.
func (u *groupUse) largest() string {
	names := make([]string, 0, len(u.packages))
	for name := range u.packages {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int {
		return cmp.Or(cmp.Compare(u.packages[y], u.packages[x]), strings.Compare(x, y))
	})
	for i, name := range names {
		names[i] = name + " " + megabytes(u.packages[name])
	}
	if len(names) == 0 {
		return "of no package"
	}
	return strings.Join(names[:min(5, len(names))], ", ")
}

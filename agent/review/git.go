package review

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-git/gcfg/v2"
)

// harmlessGit are the variables of git-config(1) that only say how git shows
// or does what it does anyway. A section of nil has harmless variables only.
// Variables of a subsection are harmless in the sections of harmlessSubsections
// alone.
var harmlessGit = map[string][]string{
	"advice":      nil,
	"author":      nil,
	"blame":       {"blankboundary", "coloring", "date", "showemail", "showroot"},
	"branch":      {"autosetupmerge", "autosetuprebase", "sort"},
	"color":       nil,
	"column":      nil,
	"commit":      {"cleanup", "gpgsign", "status", "verbose"},
	"committer":   nil,
	"core":        {"abbrev", "autocrlf", "commentchar", "eol", "filemode", "ignorecase", "precomposeunicode", "preloadindex", "quotepath", "safecrlf", "whitespace"},
	"diff":        {"algorithm", "colormoved", "colormovedws", "context", "indentheuristic", "interhunkcontext", "mnemonicprefix", "noprefix", "relative", "renamelimit", "renames", "statgraphwidth", "submodule", "wordregex", "wserrorhighlight"},
	"fetch":       {"parallel", "prune", "prunetags"},
	"format":      {"pretty"},
	"grep":        {"column", "extendedregexp", "linenumber", "patterntype"},
	"i18n":        nil,
	"init":        {"defaultbranch"},
	"log":         {"abbrevcommit", "date", "decorate", "follow"},
	"merge":       {"conflictstyle", "ff", "log", "renamelimit", "renames", "stat"},
	"pull":        {"ff", "rebase"},
	"push":        {"autosetupremote", "default", "followtags"},
	"rebase":      {"abbreviatecommands", "autosquash", "autostash", "missingcommitscheck", "stat", "updaterefs"},
	"rerere":      {"autoupdate", "enabled"},
	"stash":       {"showincludeuntracked", "showpatch", "showstat"},
	"status":      {"aheadbehind", "branch", "renames", "short", "showstash", "showuntrackedfiles"},
	"tag":         {"gpgsign", "sort"},
	"user":        nil,
	"versionsort": nil,
}

var harmlessSubsections = []string{"color", "column"}

// gitPrograms lists the variables of a Git configuration that are not known to
// be harmless.
func gitPrograms(content string) (lines []string, err error) {
	if err := plainLines(content); err != nil {
		return nil, err
	}
	read := 0
	err = gcfg.ReadWithCallback(strings.NewReader(content), func(section, subsection, key, value string, _ bool) error {
		if key == "" {
			return nil // the begin of a section
		}
		read++
		if !harmlessVariable(strings.ToLower(section), subsection, strings.ToLower(key), value) {
			name := strings.ToLower(section) + "." + strings.ToLower(key)
			if subsection != "" {
				name = fmt.Sprintf("%s.%s.%s", strings.ToLower(section), subsection, strings.ToLower(key))
			}
			lines = append(lines, fmt.Sprintf("%s = %q", name, value))
		}
		return nil
	})

	if err == nil && read < variableLines(content) {
		err = errors.New("it has lines of unclear meaning")
	}
	return lines, err
}

// plainLines refuses what Git and the library could read in two ways: lines
// that go on in the next one, and bytes that are no text.
func plainLines(content string) error {
	content = strings.ReplaceAll(content, "\r\n", "\n")
	switch {
	case !utf8.ValidString(content):
		return errors.New("it is not UTF-8")
	case strings.Contains(content, "\\\n"):
		return errors.New("it has lines that go on in the next one")
	case strings.ContainsFunc(content, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c == '\ufeff' }):
		return errors.New("it has control characters")
	}
	return nil
}

// variableLines counts the lines that Git takes for a variable of their own,
// which nobody may have read as a part of something else.
func variableLines(content string) (n int) {
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.ContainsAny(line[:1], "[#;") {
			n++
		}
	}
	return n
}

func harmlessVariable(section, subsection, key, value string) bool {
	if section == "alias" && subsection == "" {
		return harmlessAlias(value)
	}
	keys, known := harmlessGit[section]
	if !known || subsection != "" && !slices.Contains(harmlessSubsections, section) {
		return false
	}
	return keys == nil || slices.Contains(keys, key)
}

// aliasCommands and aliasOptions are what a harmless alias consists of. Git
// takes "-c core.pager=…" in front of a command and abbreviated options behind
// it, so that nothing less than a list will do.
var (
	aliasCommands = []string{"add", "blame", "branch", "checkout", "cherry-pick", "commit", "diff", "fetch", "log", "merge", "pull", "push", "rebase", "reflog", "reset", "restore", "rev-parse", "shortlog", "show", "stash", "status", "switch", "tag"}
	aliasOptions  = []string{
		"--abbrev-commit", "--abort", "--all", "--amend", "--branch", "--cached", "--continue", "--date=relative", "--date=short", "--decorate", "--ff-only",
		"--force-with-lease", "--graph", "--hard", "--name-only", "--name-status", "--no-edit", "--no-ff", "--oneline", "--patch", "--prune", "--rebase", "--short",
		"--soft", "--staged", "--stat", "--verbose", "--word-diff", "-1", "-A", "-D", "-a", "-b", "-d", "-i", "-m", "-p", "-s", "-sb", "-u", "-v", "-vv",
	}
)

// harmlessAlias reports whether an alias is a command of Git's with options
// that run nothing else. Names of branches and files begin with no dash.
func harmlessAlias(value string) bool {
	words := strings.Fields(value)
	if len(words) == 0 || !slices.Contains(aliasCommands, words[0]) {
		return false
	}
	for _, w := range words[1:] {
		strategy := w == "-s" && words[0] != "status" // of a merge: the name of a program
		if strategy || strings.HasPrefix(w, "-") && !slices.Contains(aliasOptions, w) || strings.ContainsAny(w, "\"'\\`$!;|&:") {
			return false
		}
	}
	return true
}

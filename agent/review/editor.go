package review

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/tailscale/hujson"
)

// settingsPrograms lists the settings of the editor that name a program, pass
// something to one, or let the editor run what a workspace brings. Settings
// that nobody knows are judged by the words of their names and by values that
// look like paths, for extensions bring their own.
func settingsPrograms(content string) (lines []string, err error) {
	root, err := hujson.Parse([]byte(content))
	if err != nil {
		return nil, err
	}
	if root.Value.Kind() != '{' {
		return nil, errors.New("it is no object")
	}
	eachLeaf(nil, root, func(path []string, leaf hujson.Value) {
		if !harmlessSetting(path, leaf) {
			lines = append(lines, line(strings.Join(path, "."), leaf))
		}
	})
	return lines, nil
}

// line is a setting and its value, whatever space and comments are in it.
func line(name string, v hujson.Value) string {
	v = v.Clone()
	v.Minimize()
	return fmt.Sprintf("%s = %s", name, strings.TrimSpace(v.String()))
}

// eachLeaf calls f for every value that has none below it, with the names that
// lead there. The elements of an array have the name of the array.
func eachLeaf(path []string, v hujson.Value, f func([]string, hujson.Value)) {
	switch value := v.Value.(type) {
	case *hujson.Object:
		for _, m := range value.Members {
			eachLeaf(append(slices.Clone(path), m.Name.Value.(hujson.Literal).String()), m.Value, f)
		}
	case *hujson.Array:
		for _, e := range value.Elements {
			eachLeaf(path, e, f)
		}
	default:
		f(path, v)
	}
}

// namingWords are in names of settings whose value is a program, where one is,
// or what it is started with.
var namingWords = []string{
	"arg", "args", "argument", "arguments", "automation", "bin", "binary", "browser", "cmd", "cmdline", "command", "commands", "compiler", "cwd", "env",
	"environment", "executable", "gopath", "goroot", "home", "interpreter", "jvm", "launch", "launcher", "library", "libraries", "loader", "path", "paths",
	"plugin", "plugins", "profile", "profiles", "program", "programs", "replies", "runtime", "script", "scripts", "sdk", "shell", "tool", "toolchain", "tools", "tsdk", "vmargs", "wrapper",
}

// switchingWords are in names of settings that let something run by being on
// or off.
var switchingWords = []string{"approve", "hook", "hooks", "mcp", "security", "task", "tasks", "trust", "trusted", "untrusted"}

// namingEnds are what words end in that no capital letter parts from them, as
// in "PHPPath".
var namingEnds = []string{"path", "paths", "command", "commands", "executable"}

// namedByUser are settings whose members are names of files, languages, colours
// or words, not settings.
var namedByUser = []string{
	"cSpell.userWords", "cSpell.words", "editor.tokenColorCustomizations", "emmet.includeLanguages", "explorer.fileNesting.patterns", "files.associations", "files.exclude",
	"files.readonlyInclude", "files.watcherExclude", "search.exclude", "workbench.colorCustomizations", "workbench.editorAssociations",
}

// variables of the editor that lead to paths and to the output of commands.
var pathVariables = []string{"${workspaceFolder", "${workspaceRoot", "${userHome", "${env:", "${command:", "${config:", "${input:", "${execPath", "${file"}

func harmlessSetting(path []string, leaf hujson.Value) bool {
	literal, _ := leaf.Value.(hujson.Literal)
	if slices.Contains(namedByUser, path[0]) {
		return true
	}
	for _, w := range words(path) {
		if slices.Contains(switchingWords, w) {
			return false
		}
		if literal.Kind() == '"' && namesProgram(w) {
			return false
		}
	}

	if literal.Kind() != '"' {
		return true
	}
	value := literal.String()
	for _, prefix := range []string{"/", "~", "./", "../", "\\"} {
		if strings.HasPrefix(value, prefix) {
			return false
		}
	}
	return !slices.ContainsFunc(pathVariables, func(v string) bool { return strings.Contains(value, v) })
}

// namesProgram reports whether a word of a setting's name says that its value is
// a program or goes to one.
func namesProgram(word string) bool {
	return slices.Contains(namingWords, word) || strings.HasPrefix(word, "exec") || strings.HasPrefix(word, "run") ||
		slices.ContainsFunc(namingEnds, func(end string) bool { return strings.HasSuffix(word, end) })
}

// words are the words of a setting's name, in lower case: those of
// "go.alternateTools" are go, alternate and tools. A language in brackets, as
// in "[shellscript]", is none.
func words(path []string) (list []string) {
	for _, name := range path {
		if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
			continue
		}
		word := []rune{}
		flush := func() {
			if len(word) > 0 {
				list = append(list, strings.ToLower(string(word)))
			}
			word = word[:0]
		}

		lower := false
		for _, c := range name {
			letter := unicode.IsLetter(c) || unicode.IsDigit(c)
			if !letter || unicode.IsUpper(c) && lower {
				flush()
			}
			if letter {
				word = append(word, c)
			}
			lower = unicode.IsLower(c)
		}
		flush()
	}
	return list
}

// keybindingPrograms lists the key bindings that run, send or pass something.
func keybindingPrograms(content string) (lines []string, err error) {
	root, err := hujson.Parse([]byte(content))
	if err != nil {
		return nil, err
	}
	bindings, ok := root.Value.(*hujson.Array)
	if !ok {
		return nil, errors.New("it is no array")
	}
	for _, b := range bindings.Elements {
		if !harmlessBinding(b) {
			lines = append(lines, line("binding", b))
		}
	}
	return lines, nil
}

// runningWords are in names of commands that run something or type into a
// terminal.
var runningWords = []string{"debug", "script", "send", "shell", "start", "task", "tasks", "test", "testing", "type", "install"}

// takesArgs are the begins of commands that move or edit text only, whatever
// they are given.
var takesArgs = []string{"editor.", "cursor", "list.", "-"}

// harmlessBinding reports whether a binding names one command that runs
// nothing. One whose command begins with a dash takes a binding away.
func harmlessBinding(b hujson.Value) bool {
	object, ok := b.Value.(*hujson.Object)
	if !ok {
		return false
	}
	command, args := "", false
	for _, m := range object.Members {
		literal, _ := m.Value.Value.(hujson.Literal)
		switch name := m.Name.Value.(hujson.Literal).String(); name {
		case "command":
			if command != "" || literal.Kind() != '"' {
				return false
			}
			command = literal.String()
		case "args":
			args = true
		case "key", "when", "mac", "linux", "win":
			if literal.Kind() != '"' {
				return false
			}
		default:
			return false
		}
	}

	if strings.HasPrefix(command, "-") {
		return true
	}
	for _, w := range words([]string{command}) {
		if slices.Contains(runningWords, w) || strings.HasPrefix(w, "run") || strings.HasPrefix(w, "exec") {
			return false
		}
	}
	return !args || slices.ContainsFunc(takesArgs, func(p string) bool { return strings.HasPrefix(command, p) })
}

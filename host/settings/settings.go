// Package settings reads what a user may set, from the environment and, where
// a command has flags, from the command line, into typed values. Flags win over
// the environment. Every fault is reported at once, by the name that the user
// gave the value under.
//
// A program lists its settings as a [List], one line a setting; README.md has
// the same in words. The package owns no state, has no effects and imports
// nothing of this project.
package settings

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// Setting is one thing that a user may set. A value that is not set keeps what
// the program put there before: its default.
type Setting struct {
	Env   string // environment variable; empty for none
	Flag  string // flag, without dashes; empty for none
	Usage string // what it is, for --help
	Value pflag.Value
}

// List is what one command may be given.
type List []Setting

// Bind adds the list's flags to those of a command.
func (l List) Bind(flags *pflag.FlagSet) {
	for _, s := range l {
		if s.Flag == "" {
			continue
		}
		usage := s.Usage
		if s.Env != "" {
			usage += " (" + s.Env + ")"
		}
		f := flags.VarPF(s.Value, s.Flag, "", usage)
		if s.Value.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// FromEnv sets from the environment whatever no flag has set. An empty variable
// is one that is not set. given reports whether a flag was on the command line;
// nil stands for no flags. The error names every fault.
func (l List) FromEnv(getenv func(string) string, given func(flag string) bool) error {
	var faults []error
	for _, s := range l {
		if s.Env == "" || s.Flag != "" && given != nil && given(s.Flag) {
			continue
		}
		text := getenv(s.Env)
		if text == "" {
			continue
		}
		if err := s.Value.Set(text); err != nil {
			faults = append(faults, fmt.Errorf("%s=%q: %w", s.Env, text, err))
		}
	}
	return errors.Join(faults...)
}

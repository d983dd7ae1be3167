package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/agent/github"
)

// settings are the variables that a person sets in the unit's environment.
var settings = []string{
	"LOG_LEVEL", "ROCKPOOL_CONCURRENCY", "RUNTIME", "ROCKPOOL_STUB_DELAY",
	"GITHUB_API_URL", "GIT_BASE_URL", "SPA_ROOT", "SPA_PROXY_URL",
}

// settingsFile holds, beside the database, the settings that were valid last.
const settingsFile = "settings.json"

// validSettings are settings by the names of their variables.
type validSettings map[string]string

// settle returns the environment with each setting that is not valid replaced
// by its value that was valid last, or left out if there was none, and a line
// for each in log. What is on the command line is not looked at: that fails.
// What is to be remembered holds, of a setting that is not valid, the value that
// was valid last, also while that is not valid either: what it names may be on a
// share that is not there yet.
func settle(env func(string) string, last validSettings, log io.Writer) (settledEnv func(string) string, remember validSettings) {
	settled, remember := validSettings{}, validSettings{}
	for _, variable := range settings {
		value := env(variable)
		err := checkSetting(variable, value)
		if variable == "SPA_PROXY_URL" && value != "" && err == nil && settled["SPA_ROOT"] != "" {
			err = errors.New("SPA_ROOT and SPA_PROXY_URL exclude each other: set one")
		}
		if err != nil {
			instead := "the default is taken"
			value = ""
			if before := last[variable]; before != "" && checkSetting(variable, before) == nil && (variable != "SPA_PROXY_URL" || settled["SPA_ROOT"] == "") {
				value, instead = before, fmt.Sprintf("%q is taken, which was valid last", before)
			}
			fmt.Fprintf(log, "rockpool-agent: setting %s: %v: %s\n", variable, err, instead)
			if before := last[variable]; before != "" {
				remember[variable] = before
			}
		}
		if value != "" {
			settled[variable], remember[variable] = value, value
		}
	}

	return func(variable string) string {
		for _, s := range settings {
			if s == variable {
				return settled[variable]
			}
		}
		return env(variable)
	}, remember
}

// settled are the options with the flags that were given, and the environment
// as [settle] has it for the others.
func (f *serveFlags) settled(given *pflag.FlagSet, env func(string) string, log io.Writer) (serveOptions, validSettings, error) {
	env, valid := settle(env, readSettings(f.database), log)
	var again serveFlags
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	again.add(envFlags{flags, env})
	var err error
	given.Visit(func(flag *pflag.Flag) {
		if flags.Lookup(flag.Name) != nil {
			err = errors.Join(err, flags.Set(flag.Name, flag.Value.String()))
		}
	})
	if err != nil {
		return serveOptions{}, nil, configError{err}
	}
	o, err := again.options()
	return o, valid, err
}

// checkSetting tries a setting alone.
func checkSetting(variable, value string) error {
	if value == "" {
		return nil
	}
	var f serveFlags
	f.add(envFlags{pflag.NewFlagSet("", pflag.ContinueOnError), func(v string) string {
		if v == variable {
			return value
		}
		return ""
	}})
	o, err := f.options()
	if err == nil {
		_, err = github.New(o.githubAPI, nil)
	}
	if err != nil {
		return err
	}
	_, shut, err := openApplication(o, slog.New(slog.DiscardHandler))
	if err == nil {
		shut()
	}
	return err
}

// checkGitBase accepts what owner/repository can be relative to.
func checkGitBase(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("the address of git's repositories, %q, is not an http or https address", base)
	}
	return nil
}

// readSettings returns the settings that were valid last in the directory of a
// database, none when they are not known.
func readSettings(database string) validSettings {
	var s validSettings
	b, err := os.ReadFile(filepath.Join(filepath.Dir(database), settingsFile))
	if err != nil || json.Unmarshal(b, &s) != nil {
		return nil
	}
	return s
}

// keep remembers settings beside a database.
func (s validSettings) keep(database string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("remember the settings: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(filepath.Dir(database), settingsFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("remember the settings: %w", err)
	}
	return nil
}

package builders

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// errNoExchange is that two names cannot be exchanged here in one step.
var errNoExchange = errors.New("names cannot be exchanged")

// ReplaceDirectory gives the directory or file from the name to in one step: to
// names what it named before, or the new one, whenever this is cut off. What it
// named before is removed; until it is, it is named from. Both lie on one file
// system.
func ReplaceDirectory(from, to string) error {
	r := replacement{from: from, to: to, exchange: exchange, before: func(string) error { return nil }}
	if err := r.run(); err != nil {
		return fmt.Errorf("replace %s: %w", to, err)
	}
	return nil
}

// replacement is the work of [ReplaceDirectory].
type replacement struct {
	from, to string
	exchange func(a, b string) error // of two names that exist
	before   func(step string) error // asked before each step, so that tests can cut off
}

// run renames over nothing, or exchanges and removes. A file system that cannot
// exchange, such as those of networks, leaves only a moment without the name.
func (r replacement) run() error {
	if _, err := os.Lstat(r.to); errors.Is(err, fs.ErrNotExist) {
		return r.step("rename", func() error { return os.Rename(r.from, r.to) })
	}
	err := r.step("exchange", func() error { return r.exchange(r.from, r.to) })
	if errors.Is(err, errNoExchange) {
		return errors.Join(r.step("remove", func() error { return os.RemoveAll(r.to) }),
			r.step("rename", func() error { return os.Rename(r.from, r.to) }))
	}
	if err != nil {
		return err
	}
	return r.step("remove", func() error { return os.RemoveAll(r.from) })
}

func (r replacement) step(name string, do func() error) error {
	if err := r.before(name); err != nil {
		return err
	}
	return do()
}

package tart

import (
	"errors"
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// console is a pseudo-terminal for hvc0: the guest writes on the terminal, and
// what it wrote is read from the other side, the master.
type console struct{ master, terminal *os.File }

// openConsole opens a pseudo-terminal that passes bytes on as they are, with
// link as a path of it.
func openConsole(link string) (console, error) {
	master, terminal, err := pty.Open()
	if err != nil {
		return console{}, fmt.Errorf("open a pseudo-terminal for the console: %w", err)
	}
	c := console{master, terminal}
	if _, err = term.MakeRaw(int(terminal.Fd())); err == nil {
		os.Remove(link) // of a run before
		err = os.Symlink(terminal.Name(), link)
	}
	if err != nil {
		return console{}, fmt.Errorf("open a pseudo-terminal for the console: %w", errors.Join(err, c.close()))
	}
	return c, nil
}

func (c console) close() error { return errors.Join(c.master.Close(), c.terminal.Close()) }

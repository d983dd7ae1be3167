package watch

import "errors"

// newSource makes the platform's source, or says in a sentence why there is
// none. FSEvents needs cgo or a bridge to Core Foundation, and kqueue an open
// file for every file that is watched.
func newSource() (source, error) {
	return nil, errors.New("this build does not use macOS's FSEvents")
}

// limitCure is not needed without a source.
func limitCure() string { return "" }

//go:build !linux && !darwin

package builders

// exchange exchanges nothing.
func exchange(string, string) error { return errNoExchange }

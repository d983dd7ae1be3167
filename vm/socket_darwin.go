package vm

// socketPath is a short path of the socket called name in dir, to be used until
// done is called.
func socketPath(dir, name string) (path string, done func(), err error) {
	return linkedSocketPath(dir, name)
}

package vm

// Instance returns an instance that exists; else it fails with [ErrNotFound].
func (h Host) Instance(name string) (Instance, error) {
	dir, err := h.dir(name)
	if err != nil {
		return Instance{}, err
	}
	return loadInstance(dir)
}

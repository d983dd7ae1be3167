package preflight

// Check is one finding about the host.
type Check struct {
	Name string
	Text string // what was found, when it is good
	Err  error  // what is wrong and what to do, or nil
}

// Detail is the finding in words.
func (c Check) Detail() string {
	if c.Err != nil {
		return c.Err.Error()
	}
	return c.Text
}

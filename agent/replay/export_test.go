package replay

// Touched makes a replayer tell f of every path whose event it raises.
func (r *Replayer) Touched(f func(path string)) *Replayer {
	r.touched = f
	return r
}

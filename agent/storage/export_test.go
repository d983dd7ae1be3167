package storage

// OnStep has f called after each step that a power cut may follow.
func (p *Pool) OnStep(f func()) { p.step = f }

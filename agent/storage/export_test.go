package storage

// OnStep has f called after each step that a power cut may follow.
func (p *Pool) OnStep(f func()) { p.step = f }

// UseOrdinaryQuotas has the pool be made as on a kernel before 6.7.
func (p *Pool) UseOrdinaryQuotas() { p.ordinary = true }

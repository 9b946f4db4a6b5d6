package modelcheck_test

func (w *world) checkLinear() {}

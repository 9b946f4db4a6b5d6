package relukkotest

// GoDark makes all bytes of this link vanish, in both directions: nothing
// closes, nothing fails, nothing answers. Who connects meanwhile is heard by nobody.
func (l *Link) GoDark() { l.faults.SetDark(true) }

// ComeBack ends the dark. Connections on which nothing was sent in the dark
// work again. What was sent on the others is lost for good, and they stay
// silent: their clients have to connect anew.
func (l *Link) ComeBack() { l.faults.SetDark(false) }

// Cut resets all connections of this link. In the dark the clients do not
// hear of it.
func (l *Link) Cut() { l.faults.Cut() }

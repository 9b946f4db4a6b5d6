package relukkotest

// GoDark makes all bytes on this link vanish, in both directions, until
// [Link.ComeBack]: nothing closes, nothing fails, and nothing responds. New
// connections get no response either.
func (l *Link) GoDark() { l.faults.SetDark(true) }

// ComeBack ends [Link.GoDark]. Connections on which nothing was sent meanwhile
// work again. What was sent on the others is lost, and they stay silent: their
// clients have to connect again.
func (l *Link) ComeBack() { l.faults.SetDark(false) }

// Cut resets all connections of this link. While the link is dark, the clients
// do not notice.
func (l *Link) Cut() { l.faults.Cut() }

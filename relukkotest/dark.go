package relukkotest

// GoDark drops all bytes on this link, in both directions, until [Link.ComeBack]. Nothing closes,
// fails or responds. New connections get no response either.
func (l *Link) GoDark() { l.faults.SetDark(true) }

// ComeBack ends [Link.GoDark]. Connections on which nothing was sent meanwhile work again. The
// others stay silent, since what was sent on them is lost; their clients must connect again.
func (l *Link) ComeBack() { l.faults.SetDark(false) }

// Cut resets all connections of this link. While the link is dark, clients do not notice.
func (l *Link) Cut() { l.faults.Cut() }

// Package relukkotest helps to test what uses Relukko, and tests that must not
// run at the same time.
//
// [NewServer] starts a backend within the test, which needs no installation and
// can be made to fail in every way that a network or a backend can:
//
//	s := relukkotest.NewServer(t)
//	m := relukko.NewMutex(s.Client(), "robot-arm-1")
//	ctx, err := m.Lock(t.Context())
//	…
//	s.GoDark()   // from now on nothing gets through, and nothing says so
//	<-ctx.Done() // well before somebody else can get the lock
//
// With [InMemory] it works inside a [testing/synctest] bubble, where minutes
// pass in no time.
//
// [Lock] makes a test exclusive over all machines that use the same backend,
// which for this purpose is a real one.
//
// # Faults
//
// Of the network: [Link.GoDark], [Link.ComeBack], [Link.Cut]. Each link has its
// own darkness; all clients share the server's link unless [Server.NewLink]
// made them another.
//
// Of requests: [Server.FailNext], [Server.AnswerNext], [Server.CutNext],
// [Server.Hold], [Server.HoldReplies], [Server.Latency]. All but the last take
// a [Match], which says for which requests they are. A fault concerns the
// requests that arrive after it was set; of several of a kind, the oldest that
// matches is used up first.
//
// Of WebSockets: [Server.DropWebSockets], [Server.RefuseWebSockets].
//
// Of the backend: [Server.Stop], [Server.Start], and other clients that
// meddle: [Server.Delete], [Server.Expire], [Server.ExpireIn].
//
// [Server.Heal] takes all of these back but the stop.
//
// Backends that are different, not faulty: [Server.Reconfigure], [ClockOffset],
// [Backend], [Store].
package relukkotest

// Package relukkotest is for tests of code that uses Relukko, and for tests that
// must not run at the same time.
//
// [NewServer] starts a backend in the test's process, which can be made to fail
// in every way that a network or a backend can:
//
//	s := relukkotest.NewServer(t)
//	m := relukko.NewMutex(s.Client(), "robot-arm-1")
//	ctx, err := m.Lock(t.Context())
//	…
//	s.GoDark()   // from now on nothing gets through, without any error
//	<-ctx.Done() // before another client can get the lock
//
// With [InMemory] it works inside a [testing/synctest] bubble, in which minutes
// pass immediately.
//
// [Lock] makes a test exclusive among all machines that use the same backend,
// which then is a real one.
//
// # Faults
//
// Of the network: [Link.GoDark], [Link.ComeBack], [Link.Cut]. Links fail
// independently. All clients share the server's link unless [Server.NewLink]
// made one for them.
//
// Of requests: [Server.FailNext], [Server.AnswerNext], [Server.CutNext],
// [Server.Hold], [Server.HoldReplies], [Server.Latency]. All but the last take a
// [Match], which selects requests. A fault concerns requests that arrive after
// it was set. Of several faults of a kind, the oldest that matches comes first.
//
// Of WebSockets: [Server.DropWebSockets], [Server.RefuseWebSockets].
//
// Of the backend: [Server.Stop], [Server.Start]. By other clients:
// [Server.Delete], [Server.Expire], [Server.ExpireIn].
//
// [Server.Heal] ends all of these but a stop.
//
// Other kinds of backends: [Server.Reconfigure], [ClockOffset],
// [Backend], [Store].
package relukkotest

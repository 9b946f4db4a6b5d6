// Package relukkotest supports two kinds of tests: of code that uses Relukko, and tests that must
// not run at the same time as others.
//
// # Tests of code that uses Relukko
//
// [NewServer] starts a backend in the test's process. It can be made to fail as networks and
// backends do:
//
//	s := relukkotest.NewServer(t)
//	m := relukko.NewMutex(s.Client(), "robot-arm-1")
//	ctx, err := m.Lock(t.Context())
//	…
//	s.GoDark()   // from now on nothing gets through, without any error
//	<-ctx.Done() // before another client can get the lock
//
// With [InMemory] it works inside a [testing/synctest] bubble, where minutes pass immediately. The
// race detector of Go 1.26 may crash there (https://go.dev/issue/78156): use go test -race -cpu 1.
//
// # Tests that must not run at the same time
//
// [Lock] makes a test exclusive among all machines that use the same, real backend. [LockAny] gives
// it any one of several resources that are alike.
//
// # Faults
//
// Faults of the network: [Link.GoDark], [Link.ComeBack], [Link.Cut]. All clients share the server's
// link unless [Server.NewLink] made another for them. Links fail independently.
//
// Faults of requests: [Server.FailNext], [Server.AnswerNext], [Server.CutNext], [Server.Hold],
// [Server.HoldReplies], [Server.Latency]. Most take a [Match], which selects requests. A fault
// applies to requests that arrive after the call. If several faults of one kind match, the oldest
// applies.
//
// Faults of WebSockets: [Server.DropWebSockets], [Server.RefuseWebSockets].
//
// A Mutex acquires, renews and releases over the stream, which is one WebSocket a client. A fault
// of requests other than latency ends the streams and refuses new ones until [Server.Heal], so that
// clients use plain requests, to which the fault applies. One that matches "GET /v1/stream" applies
// to the opening of a stream instead. A server made with [WithoutStream] never has any.
//
// The backend: [Server.Stop], [Server.Start].
//
// Other clients: [Server.Delete], [Server.Expire], [Server.ExpireIn].
//
// [Server.Heal] ends all of these but a stop.
//
// To test against other kinds of backends: [Server.Reconfigure], [ClockOffset], [Backend], [Store].
package relukkotest

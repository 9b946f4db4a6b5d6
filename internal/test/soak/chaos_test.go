//go:build linux

package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

const ttlMin = time.Second

// post is a place in the crew that one worker after the other fills.
type post struct {
	soak   *soak
	number int
	way    *faultnet.Proxy

	tenants int
	config  workerConfig
	proc    *process
	stdin   io.WriteCloser // the worker ends when this does
}

func newPost(s *soak, number int) *post {
	return &post{soak: s, number: number, way: s.way("tcp", "127.0.0.1:0", s.anyNode)}
}

func (p *post) log() string { return filepath.Join(p.soak.dir, p.config.Name+".log") }

// prefix is what the names of the workers of this post begin with.
func (p *post) prefix() string { return fmt.Sprintf("worker-%d.", p.number+1) }

func (p *post) ttl() time.Duration { return ttlMin * time.Duration(1+p.number/2%2) }

// start starts a worker.
func (p *post) start() error {
	s := p.soak
	p.tenants++
	name := fmt.Sprint(p.prefix(), p.tenants)
	p.config = workerConfig{
		Name:     name,
		URL:      "http://" + p.way.Addr(),
		Locks:    lockNames,
		TTL:      p.ttl(),
		Register: filepath.Join(s.dir, "registers"),
		Journal:  filepath.Join(s.dir, name+".journal"),
		Watch:    p.number%4 != 3,
		Strict:   p.number%2 == 1,
	}
	config, err := json.Marshal(p.config)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = []string{workerEnv + "=" + string(config)}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	s.mu.Lock()
	s.configs = append(s.configs, p.config)
	s.mu.Unlock()
	p.proc, err = start(cmd, p.log())
	return err
}

// kill kills the worker, with what it holds.
func (p *post) kill() {
	s := p.soak
	select {
	case <-p.proc.ended:
		s.fault("worker %s has ended by itself: %v\n%s", p.config.Name, p.proc.cmd.ProcessState,
			tail(p.log()))
	default:
	}
	s.mu.Lock()
	s.dead[p.config.Name] = true
	s.verdict.workersKilled++
	s.mu.Unlock()
	p.end()
}

// end ends the worker by force, if it runs.
func (p *post) end() {
	if p.proc != nil {
		p.proc.kill()
		p.stdin.Close()
	}
}

// waking is how long a continued process may take to run again.
const waking = 250 * time.Millisecond

// stop stops the worker until the function that it returns is called.
func (p *post) stop() (goOn func()) {
	s, name, from := p.soak, p.config.Name, now()
	p.proc.signal(syscall.SIGSTOP)
	return func() {
		p.proc.signal(syscall.SIGCONT)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.verdict.pauses++
		s.evidence.standstills[name] = append(
			s.evidence.standstills[name], span{from, now().add(waking)})
	}
}

// hauntWorker kills and stops workers.
func (s *soak) hauntWorker(ctx context.Context, p *post) error {
	for pause(ctx, between(500*time.Millisecond, 3*time.Second)) {
		s.awaitHolder(ctx, p)
		killed := rand.IntN(3) == 0
		if !killed || rand.IntN(2) == 0 {
			goOn := p.stop()
			pause(ctx, outage(p.ttl()))
			if killed {
				p.kill()
			}
			goOn()
		} else {
			p.kill()
		}
		if killed {
			pause(ctx, rand.N(time.Second))
			if err := p.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitHolder returns when a post's worker holds a lock that a heartbeat has renewed,
// which is when a fault matters most; after a while also if it has none.
func (s *soak) awaitHolder(ctx context.Context, p *post) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for pause(ctx, 20*time.Millisecond) {
		locks, err := s.client.List(ctx)
		for _, lock := range locks {
			if err == nil && strings.HasPrefix(lock.Creator, p.prefix()) && !s.isDead(lock) &&
				lock.UpdatedAt.After(lock.CreatedAt) {
				return
			}
		}
	}
}

// outage returns how long to keep a holder from renewing: mostly between the time
// that costs it the lock and the time after which another surely has it.
func outage(ttl time.Duration) time.Duration {
	if rand.IntN(4) == 0 {
		return between(ttl/10, ttl/2)
	}
	return between(ttl, 5*ttl/2)
}

// hauntNode kills, stops and restarts a server.
func (s *soak) hauntNode(ctx context.Context, n *node, grace time.Duration) error {
	for pause(ctx, between(2*time.Second, 8*time.Second)) {
		p := n.process()
		select {
		case <-p.ended:
			s.fault("%s has ended by itself: %v\n%s", n.name, p.cmd.ProcessState,
				tail(filepath.Join(s.dir, n.name+".log")))
		default:
		}
		killed := rand.IntN(2) == 0
		if !killed || rand.IntN(3) == 0 {
			p.signal(syscall.SIGSTOP)
			pause(ctx, between(ttlMin/10, 2*ttlMin))
			s.count(&s.verdict.pauses)
		}
		if !killed {
			p.signal(syscall.SIGCONT)
			continue
		}
		n.kill()
		s.count(&s.verdict.serversKilled)
		pause(ctx, rand.N(ttlMin))
		if err := n.start(grace); err != nil {
			return err
		}
	}
	return nil
}

// start starts the server, and retries while its database cannot be reached.
func (n *node) start(grace time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		err := n.up(grace)
		if !errors.Is(err, errNotUp) || time.Now().After(deadline) {
			return err
		}
		<-time.After(100 * time.Millisecond)
	}
}

// hauntWay darkens and cuts a way at the worst moments for its user.
func (s *soak) hauntWay(
	ctx context.Context, w *faultnet.Proxy, ttl time.Duration, awaitWorst func(),
) error {
	for pause(ctx, between(time.Second, 6*time.Second)) {
		awaitWorst()
		if rand.IntN(4) == 0 {
			w.Cut()
			s.count(&s.verdict.cuts)
			continue
		}
		w.SetDark(true)
		pause(ctx, outage(ttl))
		w.SetDark(false)
		s.count(&s.verdict.darkenings)
	}
	return nil
}

// deleteByHand deletes locks that workers hold, but only those that a heartbeat has
// renewed: for them it is certain when the holder must have noticed.
func (s *soak) deleteByHand(ctx context.Context) error {
	for pause(ctx, between(2*time.Second, 6*time.Second)) {
		locks, err := s.client.List(ctx)
		if err != nil {
			continue
		}
		for _, i := range rand.Perm(len(locks)) {
			lock := locks[i]
			if s.isDead(lock) || !lock.UpdatedAt.After(lock.CreatedAt) {
				continue
			}
			s.noteByHand(lock, span{now(), forever})
			from := now()
			deleting, cancel := context.WithTimeout(s.t.Context(), patience)
			_, err := s.client.Delete(deleting, lock.ID)
			cancel()
			if err == nil || errors.Is(err, api.ErrGone) {
				s.noteByHand(lock, span{from, now()})
				s.count(&s.verdict.byHand)
			}
			break
		}
	}
	return nil
}

func (s *soak) noteByHand(lock api.Lock, when span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evidence.byHand[lock.ID] = when
}

// clean deletes what killed workers have left for longer than any lease that
// a heartbeat asks for: a lock that was never renewed lives for 10 min, one
// that was granted from the queue for 1 min. It logs all locks to a file, for the
// analysis of a failure.
func (s *soak) clean(ctx context.Context) {
	seen, err := os.Create(filepath.Join(s.dir, "seen"))
	if err != nil {
		s.fault("%v", err)
		return
	}
	defer seen.Close()
	for pause(ctx, 300*time.Millisecond) {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		locks, err := s.client.List(asking)
		fmt.Fprintln(seen, int64(now()), err)
		for _, lock := range locks {
			fmt.Fprintf(seen, "\t%s %d %s %v\n", lock.Name, lock.FencingToken, lock.Creator,
				time.Until(lock.ExpiresAt))
			if err == nil && s.isDead(lock) && time.Until(lock.ExpiresAt) > 4*ttlMin {
				s.client.Delete(asking, lock.ID)
			}
		}
		cancel()
	}
}

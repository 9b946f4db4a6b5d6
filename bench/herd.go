package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// herdSize is how many goroutines of one process want the lock.
const herdSize = 100

// measureHerd lets the goroutines of one process compete for the lock.
func measureHerd(ctx context.Context, m *measurement) (figures, error) {
	c, err := m.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	lockers, err := c.lockers(ctx, m.lock, herdSize)
	if err != nil {
		return nil, err
	}
	got, err := contend(ctx, m, m.section, lockers)
	return figures{acquisitions: got.rate}, err
}

// measureHandingOn lets them hand the lock on inside the process, first alone,
// then while another process wants it too.
func measureHandingOn(ctx context.Context, m *measurement) (figures, error) {
	service, ok := m.service.(*relukkoService)
	if !ok {
		return nil, nil
	}
	c, err := m.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	lockers := c.(*relukkoClient).handingOn(m.lock, herdSize)
	alone, err := contend(ctx, m, m.section, lockers)
	if err != nil {
		return nil, err
	}
	rival, err := m.startRival(ctx, service)
	if err != nil {
		return nil, err
	}
	besides, err := contend(ctx, m, m.section, lockers)
	report, ended := rival.end()
	if err := errors.Join(err, ended); err != nil {
		return nil, err
	}
	m.section.overlaps.Add(report.Overlaps)
	return figures{
		handedOn:      alone.rate,
		handedOnRival: besides.rate,
		rivalLongest:  millis(report.Longest),
	}, nil
}

// rival is another process that wants the lock too.
type rival struct {
	cmd    *exec.Cmd
	end    func() (rivalReport, error)
	report rivalReport
}

// rivalReport is what it prints in the end.
type rivalReport struct {
	Rounds   int
	Longest  time.Duration // wait
	Overlaps int64
}

// startRival starts the process. It wants the lock for as long as contend counts.
func (m *measurement) startRival(ctx context.Context, s *relukkoService) (*rival, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, roleRival, s.url, m.lock, m.section.path,
		(warmUp + m.d).String())
	cmd.Env = append(os.Environ(), apiKeyEnv+"="+s.key)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &rival{cmd: cmd}
	r.end = func() (rivalReport, error) {
		err := json.NewDecoder(out).Decode(&r.report)
		if err := errors.Join(err, cmd.Wait()); err != nil {
			return r.report, fmt.Errorf("the other process: %w", err)
		}
		if r.report.Rounds == 0 {
			return r.report, errors.New("the other process never held the lock")
		}
		return r.report, nil
	}
	return r, nil
}

// beRival is main of that process.
func beRival(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: URL LOCK SECTION DURATION")
	}
	d, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	section, err := newSection(args[2])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d+endTimeout)
	defer cancel()
	service := &relukkoService{url: args[0], key: os.Getenv(apiKeyEnv)}
	c, err := service.connect(ctx, false)
	if err != nil {
		return err
	}
	lockers, err := c.lockers(ctx, args[1], 1)
	if err != nil {
		return err
	}
	me := int64(-os.Getpid())
	var report rivalReport
	for start := time.Now(); time.Since(start) < d; report.Rounds++ {
		waited, err := timed(func() error { return lockers[0].lock(ctx) })
		if err != nil {
			return err
		}
		report.Longest = max(report.Longest, waited)
		section.enter(me)
		section.leave(me)
		if err := lockers[0].unlock(); err != nil {
			return err
		}
	}
	report.Overlaps = section.overlaps.Load()
	return errors.Join(json.NewEncoder(os.Stdout).Encode(report), c.close())
}

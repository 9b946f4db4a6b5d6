package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// driver is one client's connection to the instrument.
type driver struct {
	conn net.Conn
	in   *bufio.Reader
}

func connect(ctx context.Context, address string) (*driver, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &driver{conn: conn, in: bufio.NewReader(conn)}, nil
}

func (d *driver) close() { d.conn.Close() }

// send sends a command that has no answer. It sends nothing once ctx is done:
// when ctx comes from a Mutex, another goroutine may have the instrument by then.
func (d *driver) send(ctx context.Context, command string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.conn.SetDeadline(time.Now().Add(2 * time.Second))
	_, err := fmt.Fprintln(d.conn, command)
	return err
}

// query sends a command and returns its answer.
func (d *driver) query(ctx context.Context, command string) (string, error) {
	if err := d.send(ctx, command); err != nil {
		return "", err
	}
	answer, err := d.in.ReadString('\n')
	return strings.TrimSpace(answer), err
}

// source sets the output to volts and the meter to the range for it, and returns
// when the output has settled.
func (d *driver) source(ctx context.Context, volts float64) error {
	if err := d.send(ctx, fmt.Sprintf("CONF:VOLT:RANG %g", rangeFor(volts))); err != nil {
		return err
	}
	if err := d.send(ctx, fmt.Sprintf("SOUR:VOLT %g", volts)); err != nil {
		return err
	}
	return pause(ctx, settleTime+20*time.Millisecond)
}

// measure returns the voltage at the output.
func (d *driver) measure(ctx context.Context) (float64, error) {
	answer, err := d.query(ctx, "MEAS:VOLT?")
	if err != nil {
		return 0, err
	}
	volts, err := strconv.ParseFloat(answer, 64)
	if err != nil {
		return 0, err
	}
	switch trouble, err := d.query(ctx, "SYST:ERR?"); {
	case err != nil:
		return 0, err
	case !strings.HasPrefix(trouble, "0,"):
		return 0, fmt.Errorf("the instrument says: %s", trouble)
	}
	return volts, nil
}

func rangeFor(volts float64) float64 {
	switch {
	case volts <= 1:
		return 1
	case volts <= 10:
		return 10
	default:
		return 100
	}
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

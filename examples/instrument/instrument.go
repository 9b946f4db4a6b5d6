package main

import (
	"bufio"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// settleTime is how long the output takes to reach a new voltage.
const settleTime = 100 * time.Millisecond

// overload is what SCPI instruments answer when the voltage exceeds the range.
const overload = 9.9e37

// instrument is a simulated bench instrument: a voltage source with a meter at
// its output. It speaks SCPI, line by line, over TCP, as real ones do on port
// 5025. Like a real one it has one state, however many clients are connected:
// what one client sets, another overwrites.
type instrument struct {
	mu       sync.Mutex
	rang     float64   // of the meter, in volts
	from, to float64   // the output moves from one voltage to the other
	since    time.Time // when it began to move
	errors   []string  // for SYST:ERR?
}

// start switches the instrument on and returns its address. It stays on until
// the process ends.
func (ins *instrument) start() (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go ins.serve(conn)
		}
	}()
	return l.Addr().String(), nil
}

// serve handles the commands of one client.
func (ins *instrument) serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if answer := ins.command(lines.Text()); answer != "" {
			fmt.Fprintln(conn, answer)
		}
	}
}

// command carries out one command. Only queries have an answer.
func (ins *instrument) command(line string) string {
	ins.mu.Lock()
	defer ins.mu.Unlock()
	header, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch strings.ToUpper(header) {
	case "*IDN?":
		return "RELUKKO,SIMULATED SOURCE-METER,0,1.0"
	case "*RST":
		ins.rang, ins.from, ins.to = 0, 0, 0
	case "CONF:VOLT:RANG":
		ins.set(argument, func(volts float64) { ins.rang = volts })
	case "SOUR:VOLT":
		ins.set(argument, func(volts float64) {
			ins.from, ins.to, ins.since = ins.output(), volts, time.Now()
		})
	case "SOUR:VOLT?":
		return fmt.Sprintf("%.4E", ins.to)
	case "MEAS:VOLT?":
		volts := ins.output()
		if math.Abs(volts) > ins.rang {
			return fmt.Sprintf("%.4E", overload)
		}
		digit := ins.rang / 10_000
		return fmt.Sprintf("%.4E", math.Round(volts/digit)*digit)
	case "SYST:ERR?":
		if len(ins.errors) == 0 {
			return `0,"No error"`
		}
		first := ins.errors[0]
		ins.errors = ins.errors[1:]
		return first
	default:
		ins.errors = append(ins.errors, `-113,"Undefined header"`)
	}
	return ""
}

func (ins *instrument) set(argument string, apply func(volts float64)) {
	volts, err := strconv.ParseFloat(argument, 64)
	if err != nil || math.Abs(volts) > 100 {
		ins.errors = append(ins.errors, `-222,"Data out of range"`)
		return
	}
	apply(volts)
}

// output returns the present voltage.
func (ins *instrument) output() float64 {
	settled := min(float64(time.Since(ins.since))/float64(settleTime), 1)
	return ins.from + (ins.to-ins.from)*settled
}

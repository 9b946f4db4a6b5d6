package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// postgres is a private PostgreSQL, on loopback and on disk, with its default
// settings except for the number of connections.
type postgres struct {
	process *process
	port    string
	version string
}

const (
	postgresUser = "bench"
	// 100 goroutines with a connection each, 50 idle waiters, and Relukko's own.
	postgresConnections = 400
	// Debian keeps PostgreSQL's programs outside of PATH.
	debianPostgres = "/usr/lib/postgresql/*/bin"
)

// database creates an empty database and returns its URL. It starts the server
// if it does not run yet.
func (s *site) database(name string) (string, error) {
	if s.postgres == nil {
		p, err := startPostgres(s)
		if err != nil {
			return "", err
		}
		s.postgres = p
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.postgres.url("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&s.postgres.version); err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name)
	return s.postgres.url(name), err
}

func (p *postgres) url(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%s/%s?sslmode=disable", postgresUser, p.port,
		database)
}

func startPostgres(s *site) (*postgres, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := s.folder("postgres")
	if err != nil {
		return nil, err
	}
	owner, err := postgresOwner(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata="+data,
		"--username="+postgresUser, "--auth=trust", "--encoding=UTF8", "--locale=C")
	initdb.Dir = dir
	if owner != nil {
		credential := &syscall.Credential{Uid: uint32(owner.uid), Gid: uint32(owner.gid)}
		initdb.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	process, _, err := start(command{
		args: []string{
			filepath.Join(bin, "postgres"), "-D", data, "-p", port,
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
			"-c", "max_connections=" + strconv.Itoa(postgresConnections),
		},
		stop:  syscall.SIGINT, // its fast shutdown
		owner: owner,
		ready: "database system is ready to accept connections",
	})
	return &postgres{process: process, port: port}, err
}

// postgresPrograms returns the folder with initdb and postgres.
func postgresPrograms() (string, error) {
	found, _ := filepath.Glob(debianPostgres)
	slices.SortFunc(found, func(a, b string) int {
		return cmp.Compare(postgresMajor(b), postgresMajor(a))
	})
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		found = append(found, strings.TrimSpace(string(out)))
	}
	for _, bin := range found {
		if _, err := os.Stat(filepath.Join(bin, "initdb")); err == nil {
			return bin, nil
		}
	}
	return "", absence("PostgreSQL is not installed")
}

func postgresMajor(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return version
}

// postgresOwner returns the user that runs PostgreSQL, which refuses to run as
// root, and gives it the folder; nil where that is the current user.
func postgresOwner(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &account{uid, gid}, os.Chown(dir, uid, gid)
	}
	return nil, absence("PostgreSQL does not run as root, and there is no other user for it")
}

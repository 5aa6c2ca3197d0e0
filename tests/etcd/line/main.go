// SPDX-License-Identifier: Apache-2.0

// line plays the same scenes of locks and elections on two servers, the reference etcd and another,
// and compares what clients were told: the services v3lockpb.Lock and v3electionpb.Election, and
// clientv3/concurrency (mutexes, elections, STM), which needs no service of its own.
//
//	line -a http://127.0.0.1:2379 -b http://127.0.0.1:3379
//
// Both must be empty. Prints `ok NAME` or `not ok NAME: why` for each scene; exit status 1 when one
// differed.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var (
	urlA    = flag.String("a", "http://127.0.0.1:2379", "the reference")
	urlB    = flag.String("b", "http://127.0.0.1:3379", "the server under test")
	verbose = flag.Bool("v", false, "print what the reference said")
	only    = flag.String("scene", "", "this one alone")
)

type server struct {
	c    *clientv3.Client
	conn *grpc.ClientConn
	base int64 // the revision when the scene began
	told []string
}

func connect(target string) (*server, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	s := &server{}
	if s.c, err = clientv3.New(clientv3.Config{Endpoints: []string{target}}); err != nil {
		return nil, err
	}
	s.conn, err = grpc.NewClient(u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return s, err
}

// One line of what this server's clients were told.
func (s *server) say(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

// A revision as it is told: since the scene began, so that both servers' are the same; 0 is none.
func (s *server) rev(r int64) int64 {
	if r == 0 {
		return 0
	}
	return r - s.base
}

type scene struct {
	name string
	play func(s *server)
}

func play(s *server, sc scene) (told []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v; told so far: %s", p, strings.Join(s.told, " | "))
		}
	}()
	s.told, s.base = nil, s.head()
	sc.play(s)
	return s.told, nil
}

func main() {
	flag.Parse()
	var servers []*server
	for _, u := range []string{*urlA, *urlB} {
		s, err := connect(u)
		if err != nil {
			fmt.Fprintln(os.Stderr, "line:", err)
			os.Exit(2)
		}
		servers = append(servers, s)
	}
	failed := false
	for _, sc := range scenes {
		if *only != "" && *only != sc.name {
			continue
		}
		a, errA := play(servers[0], sc)
		b, errB := play(servers[1], sc)
		if *verbose {
			fmt.Printf("%s:\n  %s\n", sc.name, strings.Join(a, "\n  "))
		}
		why := ""
		switch {
		case errA != nil:
			why = fmt.Sprintf("the reference: %v", errA)
		case errB != nil:
			why = errB.Error()
		case len(a) != len(b):
			why = fmt.Sprintf("%d lines, the reference %d", len(b), len(a))
		}
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				why += fmt.Sprintf("\n  a: %s\n  b: %s", a[i], b[i])
			}
		}
		if why != "" {
			failed = true
			fmt.Printf("not ok %s: %s\n", sc.name, why)
		} else {
			fmt.Printf("ok %s (%d answers alike)\n", sc.name, len(a))
		}
	}
	if failed {
		os.Exit(1)
	}
}

// SPDX-License-Identifier: Apache-2.0

// lin: clients write and read through servers that are killed, paused and started again, watchers
// follow; afterwards the whole history is checked (check.go). Each server is started by the command
// behind --, in which {port} is its client port, {n} its number and {peer} a port for its peers;
// {peer0}, {peer1} ... are the ports of all. With -together the servers start at once, as one whose
// cluster needs the others is up only then.
//
//	lin [-servers 1] [-rounds 5] [-seconds 10] [-clients 8] [-watchers 4] [-fault kill,stop,none]
//	    [-fault-cmd CMD] [-gapless] [-together] [-seed N] -- COMMAND...
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	nservers  = flag.Int("servers", 1, "servers on one datastore")
	rounds    = flag.Int("rounds", 5, "rounds; the history is checked after each")
	seconds   = flag.Int("seconds", 10, "length of a round")
	nclients  = flag.Int("clients", 8, "clients")
	nkeys     = flag.Int("keys", 12, "keys that all clients write")
	nwatchers = flag.Int("watchers", 4, "watchers of the prefix")
	faults    = flag.String("fault", "kill", "comma separated: kill, stop (SIGSTOP), none")
	faultCmd  = flag.String("fault-cmd", "", "a shell command that disturbs the datastore")
	pause     = flag.Duration("pause", time.Second, "longest pause of a stopped server")
	gapless   = flag.Bool("gapless", true, "a write of n keys takes n revisions, no revision is left out")
	seed      = flag.Int64("seed", time.Now().UnixNano(), "of everything random here")
	together  = flag.Bool("together", false, "start all servers before waiting for one")
	verbose   = flag.Bool("v", false, "what the servers print")
)

type server struct {
	n, port, peer int
	mu            sync.Mutex
	cmd           *exec.Cmd
	starts        int
	all           []*server
}

// freePort takes a port below the ephemeral ones, as tests/ports.py does and says why.
func freePort() int {
	const counter, first, last = "/tmp/kinglet-test-ports", 12000, 31999
	f, err := os.OpenFile(counter, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		f, err = os.OpenFile(counter, os.O_RDWR|os.O_CREATE, 0666)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		log.Fatal(err)
	}
	text := make([]byte, 5)
	n, _ := f.ReadAt(text, 0)
	port, _ := strconv.Atoi(string(text[:n]))
	for {
		if port < first || port >= last {
			port = first
		} else {
			port++
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			break
		}
	}
	if _, err := f.WriteAt([]byte(fmt.Sprintf("%05d", port)), 0); err != nil {
		log.Fatal(err)
	}
	return port
}

func (s *server) start() {
	args := make([]string, flag.NArg())
	for i, a := range flag.Args() {
		a = strings.ReplaceAll(a, "{port}", fmt.Sprint(s.port))
		a = strings.ReplaceAll(a, "{peer}", fmt.Sprint(s.peer))
		for k, o := range s.all {
			a = strings.ReplaceAll(a, fmt.Sprintf("{peer%d}", k), fmt.Sprint(o.peer))
		}
		args[i] = strings.ReplaceAll(a, "{n}", fmt.Sprint(s.n))
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if *verbose {
		s.cmd.Stdout, s.cmd.Stderr = os.Stderr, os.Stderr
	}
	if err := s.cmd.Start(); err != nil {
		log.Fatal(err)
	}
	s.starts++
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func (s *server) isUp() bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func (s *server) waitUp() {
	for until := time.Now().Add(180 * time.Second); !s.isUp(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			fail("server %d does not come up", s.n)
		}
	}
}

func fail(format string, args ...any) {
	fmt.Printf("seed %d: ", *seed)
	fmt.Printf(format+"\n", args...)
	os.Exit(1)
}

// Disturbs one server, or the datastore, until stopped.
func disturb(servers []*server, r *rand.Rand, stop *atomic.Bool) {
	kinds := strings.Split(*faults, ",")
	for !stop.Load() {
		time.Sleep(time.Duration(200+r.Intn(1200)) * time.Millisecond)
		s := servers[r.Intn(len(servers))]
		if *faultCmd != "" && r.Intn(3) == 0 {
			if out, err := exec.Command("sh", "-c", *faultCmd).CombinedOutput(); err != nil {
				fail("%s: %v: %s", *faultCmd, err, out)
			}
			continue
		}
		switch kinds[r.Intn(len(kinds))] {
		case "kill":
			s.kill()
			time.Sleep(time.Duration(r.Intn(300)) * time.Millisecond)
			s.start()
			s.waitUp()
		case "stop":
			s.cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(r.Int63n(int64(*pause))))
			s.cmd.Process.Signal(syscall.SIGCONT)
		}
	}
}

func main() {
	flag.Parse()
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	if flag.NArg() == 0 {
		log.Fatal("the servers' command is missing")
	}
	r := rand.New(rand.NewSource(*seed))
	servers := make([]*server, *nservers)
	for i := range servers {
		servers[i] = &server{n: i, port: freePort(), peer: freePort(), all: servers}
	}
	for _, s := range servers {
		s.start()
		if !*together {
			s.waitUp()
		}
	}
	for _, s := range servers {
		s.waitUp()
	}
	h := newHistory()
	var watchers []*watcher
	for i := 0; i < *nwatchers; i++ {
		watchers = append(watchers, startWatcher(servers, rand.New(rand.NewSource(r.Int63()))))
	}
	acked, unknown := 0, 0
	// On a machine that stands still a few more rounds, until there is something to check.
	for round := 0; round < *rounds || (acked < 100 && round < *rounds+10); round++ {
		var stop, calm atomic.Bool
		var clients, chaos sync.WaitGroup
		for i := 0; i < *nclients; i++ {
			clients.Add(1)
			c := &client{id: i, r: rand.New(rand.NewSource(r.Int63())), h: h, servers: servers}
			go func() { defer clients.Done(); c.run(&stop) }()
		}
		if *faults != "none" || *faultCmd != "" {
			chaos.Add(1)
			d := rand.New(rand.NewSource(r.Int63()))
			go func() { defer chaos.Done(); disturb(servers, d, &calm) }()
		}
		time.Sleep(time.Duration(*seconds) * time.Second)
		calm.Store(true)
		chaos.Wait()
		stop.Store(true)
		clients.Wait()
		for _, s := range servers {
			s.waitUp()
		}
		h.check(servers, watchers)
		acked, unknown = h.counts()
	}
	starts := 0
	for _, s := range servers {
		starts += s.starts
		s.kill()
	}
	events := 0
	for _, w := range watchers {
		events += w.stop()
	}
	fmt.Printf("ok: seed %d: %d operations answered, %d without an answer, %d events to %d watchers, %d starts of %d servers, revision %d\n",
		*seed, acked, unknown, events, len(watchers), starts, len(servers), h.last)
	if acked < 100 {
		fail("only %d operations were answered: this shows nothing", acked)
	}
}

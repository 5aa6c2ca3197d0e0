// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	lockService     = "/v3lockpb.Lock/"
	electionService = "/v3electionpb.Election/"
	patience        = 240 * time.Second
)

var scenes = []scene{
	{"lock", lockScene}, {"lock waits", lockWaits}, {"lock is given up", lockGivenUp}, {"lock errors", lockErrors},
	{"lock of a lost lease", lockLost}, {"campaign", campaignScene}, {"campaign waits", campaignWaits},
	{"election errors", electionErrors}, {"observe", observeScene}, {"observe from nothing", observeEmpty},
	{"mutex", mutexScene}, {"many in line", manyInLine}, {"election client", electionClient}, {"stm", stmScene},
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (s *server) head() int64 {
	ctx, cancel := within()
	defer cancel()
	return must(s.c.Get(ctx, "\x00")).Header.Revision
}

func (s *server) grant(id int64) int64 {
	ctx, cancel := within()
	defer cancel()
	_, err := clientv3.RetryLeaseClient(s.c).LeaseGrant(ctx, grantRequest(id, 600))
	if err != nil {
		panic(err)
	}
	return id
}

func (s *server) revoke(id int64) {
	ctx, cancel := within()
	defer cancel()
	must(s.c.Revoke(ctx, clientv3.LeaseID(id)))
}

// The keys under a prefix, with what can be seen of them.
func (s *server) keys(prefix string) string {
	ctx, cancel := within()
	defer cancel()
	var all []string
	for _, kv := range must(s.c.Get(ctx, prefix, clientv3.WithPrefix())).Kvs {
		all = append(all, fmt.Sprintf("%s=%s lease %x created %d changed %d version %d", kv.Key, kv.Value, kv.Lease,
			s.rev(kv.CreateRevision), s.rev(kv.ModRevision), kv.Version))
	}
	return strings.Join(all, "; ")
}

// Waits until so many keys are under the prefix.
func (s *server) until(prefix string, n int64) {
	ctx, cancel := within()
	defer cancel()
	for {
		r := must(s.c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()))
		if r.Count == n {
			return
		}
		w := s.c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(r.Header.Revision+1))
		if _, ok := <-w; !ok {
			panic(fmt.Sprintf("%d keys under %s, not %d", r.Count, prefix, n))
		}
	}
}

func (s *server) lock(ctx context.Context, name string, lease int64) (string, string) {
	f, err := s.call(ctx, lockService+"Lock", message{}.bytes(1, name).int(2, lease))
	return f.bytes[2], fmt.Sprintf("lock %s %x: %s %s at %d", name, lease, errText(err), f.bytes[2], s.rev(f.revision()))
}

func (s *server) unlock(key string) {
	ctx, cancel := within()
	defer cancel()
	f, err := s.call(ctx, lockService+"Unlock", message{}.bytes(1, key))
	s.say("unlock %s: %s at %d", key, errText(err), s.rev(f.revision()))
}

func lockScene(s *server) {
	ctx, cancel := within()
	defer cancel()
	l := s.grant(0x71)
	key, text := s.lock(ctx, "lock/a", l)
	s.say("%s", text)
	s.say("%s", s.keys("lock/a"))
	_, text = s.lock(ctx, "lock/a", l) // again by the same
	s.say("%s", text)
	_, text = s.lock(ctx, "lock/b", l)
	s.say("%s", text)
	s.unlock(key)
	s.unlock(key)
	s.say("%s", s.keys("lock/"))
	key, _ = s.lock(ctx, "own lease", 0)
	ttl := must(s.c.TimeToLive(ctx, clientv3.LeaseID(leaseOf(key)), clientv3.WithAttachedKeys()))
	s.say("own lease: %d, %d keys", ttl.GrantedTTL, len(ttl.Keys))
	s.revoke(leaseOf(key))
	s.say("%s", s.keys("own lease"))
	_, text = s.lock(ctx, "", l) // a name that is empty
	s.say("%s", text)
	s.revoke(l)
	s.say("%s", s.keys("lock/"))
}

func lockWaits(s *server) {
	ctx, cancel := within()
	defer cancel()
	first, second, third := s.grant(0x81), s.grant(0x82), s.grant(0x83)
	key, text := s.lock(ctx, "w", first)
	s.say("%s", text)
	got := make(chan string, 2)
	var keys [2]string
	for i, l := range []int64{second, third} {
		go func() {
			key, text := s.lock(ctx, "w", l)
			keys[i] = key
			got <- text
		}()
		s.until("w/", int64(i)+2)
	}
	s.say("%s", s.keys("w/"))
	must(s.c.Put(ctx, key, "changed")) // which lets nobody in
	s.unlock(key)
	s.say("%s", <-got)
	s.say("%s", s.keys("w/"))
	s.revoke(second)
	s.say("%s", <-got)
	s.say("%s", s.keys("w/"))
	s.unlock(keys[1])
	s.revoke(first)
	s.revoke(third)
}

// Of who does not wait any longer nothing is left.
func lockGivenUp(s *server) {
	ctx, cancel := within()
	defer cancel()
	first, second, third := s.grant(0x91), s.grant(0x92), s.grant(0x93)
	key, text := s.lock(ctx, "g", first)
	s.say("%s", text)
	tired, giveUp := context.WithCancel(ctx)
	over := make(chan string)
	go func() {
		_, text := s.lock(tired, "g", second)
		over <- text
	}()
	s.until("g/", 2)
	got := make(chan string)
	go func() {
		_, text := s.lock(ctx, "g", third)
		got <- text
	}()
	s.until("g/", 3)
	giveUp()
	s.say("%s", <-over)
	s.until("g/", 2)
	s.say("%s", s.keys("g/"))
	s.unlock(key)
	s.say("%s", <-got)
	for _, l := range []int64{first, second, third} {
		s.revoke(l)
	}
}

func lockErrors(s *server) {
	ctx, cancel := within()
	defer cancel()
	for _, lease := range []int64{0x999, -5} {
		_, text := s.lock(ctx, "e", lease)
		s.say("%s", text)
	}
	s.unlock("")
	s.unlock("no such key")
	l := s.grant(0x9a)
	_, text := s.lock(ctx, strings.Repeat("k", 1600000), l)
	s.say("%s", text[len(text)-60:])
	s.revoke(l)
}

// The lease ends while its lock waits.
func lockLost(s *server) {
	ctx, cancel := within()
	defer cancel()
	first, second := s.grant(0xa1), s.grant(0xa2)
	key, _ := s.lock(ctx, "lost", first)
	got := make(chan string)
	go func() {
		_, text := s.lock(ctx, "lost", second)
		got <- text
	}()
	s.until("lost/", 2)
	s.revoke(second)
	s.unlock(key)
	s.say("%s", <-got)
	s.revoke(first)
}

type leader struct {
	name, key  string
	rev, lease int64
}

func (l leader) message() string {
	return string(message{}.bytes(1, l.name).bytes(2, l.key).int(3, l.rev).int(4, l.lease))
}

func (s *server) campaign(ctx context.Context, name string, lease int64, value string) (leader, string) {
	f, err := s.call(ctx, electionService+"Campaign", message{}.bytes(1, name).int(2, lease).bytes(3, value))
	k := f.message(2)
	l := leader{k.bytes[1], k.bytes[2], k.ints[3], k.ints[4]}
	return l, fmt.Sprintf("campaign %s %x %s: %s at %d: %s %s created %d lease %x", name, lease, value, errText(err),
		s.rev(f.revision()), l.name, l.key, s.rev(l.rev), l.lease)
}

func (s *server) proclaim(l leader, value string) {
	ctx, cancel := within()
	defer cancel()
	f, err := s.call(ctx, electionService+"Proclaim", message{}.bytes(1, l.message()).bytes(2, value))
	s.say("proclaim %s: %s at %d", value, errText(err), s.rev(f.revision()))
}

func (s *server) resign(l leader) {
	ctx, cancel := within()
	defer cancel()
	f, err := s.call(ctx, electionService+"Resign", message{}.bytes(1, l.message()))
	s.say("resign: %s at %d", errText(err), s.rev(f.revision()))
}

func (s *server) leaderText(f fields, err error) string {
	kv := f.message(2)
	return fmt.Sprintf("leader: %s at %d: %s=%s lease %x created %d changed %d", errText(err), s.rev(f.revision()),
		kv.bytes[1], kv.bytes[5], kv.ints[6], s.rev(kv.ints[2]), s.rev(kv.ints[3]))
}

func (s *server) leader(name string) {
	ctx, cancel := within()
	defer cancel()
	f, err := s.call(ctx, electionService+"Leader", message{}.bytes(1, name))
	s.say("%s", s.leaderText(f, err))
}

func campaignScene(s *server) {
	ctx, cancel := within()
	defer cancel()
	l := s.grant(0xb1)
	s.leader("e")
	who, text := s.campaign(ctx, "e", l, "one")
	s.say("%s", text)
	s.leader("e")
	_, text = s.campaign(ctx, "e", l, "one") // again
	s.say("%s", text)
	_, text = s.campaign(ctx, "e", l, "another value")
	s.say("%s", text)
	s.leader("e")
	s.proclaim(who, "two")
	s.leader("e")
	s.resign(who)
	s.leader("e")
	s.proclaim(who, "three")
	s.resign(who)
	who, _ = s.campaign(ctx, "own", 0, "")
	s.say("own lease: %d", must(s.c.TimeToLive(ctx, clientv3.LeaseID(who.lease))).GrantedTTL)
	s.leader("ow")
	s.resign(who)
	s.revoke(who.lease)
	s.revoke(l)
}

func campaignWaits(s *server) {
	ctx, cancel := within()
	defer cancel()
	a, b, c := s.grant(0xc1), s.grant(0xc2), s.grant(0xc3)
	first, text := s.campaign(ctx, "cw", a, "first")
	s.say("%s", text)
	got := make(chan string)
	var second leader
	tired, giveUp := context.WithCancel(ctx)
	go func() {
		_, text := s.campaign(tired, "cw", c, "tired")
		got <- text
	}()
	s.until("cw/", 2)
	won := make(chan string)
	go func() {
		l, text := s.campaign(ctx, "cw", b, "second")
		second = l
		won <- text
	}()
	s.until("cw/", 3)
	giveUp()
	s.say("%s", <-got)
	s.until("cw/", 2)
	s.leader("cw")
	s.resign(first)
	s.say("%s", <-won)
	s.leader("cw")
	s.revoke(b)
	s.leader("cw")
	s.proclaim(second, "too late")
	s.revoke(a)
	s.revoke(c)
}

func electionErrors(s *server) {
	ctx, cancel := within()
	defer cancel()
	_, text := s.campaign(ctx, "ee", 0x998, "nobody")
	s.say("%s", text)
	for _, method := range []string{"Proclaim", "Resign"} {
		_, err := s.call(ctx, electionService+method, message{}.bytes(2, "v"))
		s.say("%s of nobody: %s", method, errText(err))
		_, err = s.call(ctx, electionService+method, message{}.empty(1))
		s.say("%s of an empty one: %s", method, errText(err))
	}
	l := s.grant(0xd1)
	who, _ := s.campaign(ctx, "ee", l, "v")
	wrong := who
	wrong.rev--
	s.proclaim(wrong, "x")
	s.resign(wrong)
	s.leader("ee")
	wrong = who
	wrong.lease = 0x997
	s.proclaim(wrong, "x")
	s.resign(who)
	s.leader("")
	s.revoke(l)
}

func observeScene(s *server) {
	ctx, cancel := within()
	defer cancel()
	a, b := s.grant(0xe1), s.grant(0xe2)
	first, _ := s.campaign(ctx, "o", a, "one")
	stream, cancelStream := context.WithCancel(ctx)
	next := must(s.observe(stream, "o"))
	tell := func() {
		f, err := next()
		s.say("observed %s", s.leaderText(f, err))
	}
	tell()
	s.proclaim(first, "two")
	tell()
	won := make(chan leader)
	go func() {
		l, _ := s.campaign(ctx, "o", b, "other")
		won <- l
	}()
	s.until("o/", 2)
	s.resign(first)
	second := <-won
	tell()
	s.proclaim(second, "other two")
	tell()
	s.revoke(b)
	_, text := s.campaign(ctx, "o", a, "back")
	s.say("%s", text)
	tell()
	cancelStream()
	_, err := next()
	s.say("cancelled: %s", errText(err))
	s.revoke(a)
}

func observeEmpty(s *server) {
	ctx, cancel := within()
	defer cancel()
	next := must(s.observe(ctx, "none"))
	l := s.grant(0xf1)
	who, _ := s.campaign(ctx, "none", l, "v")
	f, err := next()
	kv := f.message(2)
	s.say("observed %s: %s=%s at %d", errText(err), kv.bytes[1], kv.bytes[5], s.rev(f.revision()))
	s.resign(who)
	who, _ = s.campaign(ctx, "none", l, "w")
	f, err = next()
	s.say("observed %s", s.leaderText(f, err))
	s.revoke(l)
}

// ---- clientv3/concurrency

func (s *server) session(lease int64) *concurrency.Session {
	return must(concurrency.NewSession(s.c, concurrency.WithLease(clientv3.LeaseID(s.grant(lease)))))
}

func mutexScene(s *server) {
	ctx, cancel := within()
	defer cancel()
	one, two := s.session(0x101), s.session(0x102)
	a, b := concurrency.NewMutex(one, "m"), concurrency.NewMutex(two, "m")
	s.say("lock: %v %s at %d", a.Lock(ctx), a.Key(), s.rev(a.Header().Revision))
	s.say("try: %v", b.TryLock(ctx))
	s.say("%s", s.keys("m/"))
	// What holds by the library waits for what holds by the service, and the other way.
	got := make(chan string)
	go func() {
		_, text := s.lock(ctx, "m", int64(two.Lease()))
		got <- text
	}()
	s.until("m/", 2)
	s.say("unlock: %v", a.Unlock(ctx))
	s.say("%s", <-got)
	done := make(chan error)
	go func() { done <- a.Lock(ctx) }()
	s.until("m/", 2)
	s.unlock(fmt.Sprintf("m/%x", two.Lease()))
	s.say("lock: %v at %d", <-done, s.rev(a.Header().Revision))
	r := must(s.c.Txn(ctx).If(a.IsOwner()).Then(clientv3.OpPut("owned", "yes")).Commit())
	s.say("owner: %v", r.Succeeded)
	s.say("unlock: %v, again: %v", a.Unlock(ctx), a.Unlock(ctx))
	s.say("close: %v %v", one.Close(), two.Close())
	must(s.c.Delete(ctx, "owned"))
}

// Each of many adds one to a counter under the lock, without a transaction.
func manyInLine(s *server) {
	ctx, cancel := within()
	defer cancel()
	const many = 20
	must(s.c.Put(ctx, "counter", ""))
	var all sync.WaitGroup
	errs := make(chan error, many)
	for i := range many {
		l := s.grant(0x200 + int64(i))
		all.Add(1)
		go func() {
			defer all.Done()
			key, text := s.lock(ctx, "many", l)
			if key == "" {
				errs <- errors.New(text)
				return
			}
			r, err := s.c.Get(ctx, "counter")
			if err == nil {
				_, err = s.c.Put(ctx, "counter", string(r.Kvs[0].Value)+"+")
			}
			if err == nil {
				_, err = s.call(ctx, lockService+"Unlock", message{}.bytes(1, key))
			}
			if err != nil {
				errs <- err
			}
		}()
	}
	all.Wait()
	close(errs)
	for err := range errs {
		s.say("%v", err)
	}
	s.say("counted %d", len(must(s.c.Get(ctx, "counter")).Kvs[0].Value))
	for i := range many {
		s.revoke(0x200 + int64(i))
	}
	must(s.c.Delete(ctx, "counter"))
}

func electionClient(s *server) {
	ctx, cancel := within()
	defer cancel()
	one, two := s.session(0x111), s.session(0x112)
	a, b := concurrency.NewElection(one, "ec"), concurrency.NewElection(two, "ec")
	s.say("campaign: %v %s at %d", a.Campaign(ctx, "x"), a.Key(), s.rev(a.Rev()))
	done := make(chan error)
	go func() { done <- b.Campaign(ctx, "y") }()
	s.until("ec/", 2)
	s.leader("ec")
	s.say("proclaim: %v at %d", a.Proclaim(ctx, "z"), s.rev(a.Header().Revision))
	s.leader("ec")
	s.say("resign: %v", a.Resign(ctx))
	s.say("campaign: %v %s at %d", <-done, b.Key(), s.rev(b.Rev()))
	for r := range b.Observe(ctx) {
		s.say("observed %s=%s at %d", r.Kvs[0].Key, r.Kvs[0].Value, s.rev(r.Header.Revision))
		break
	}
	s.say("close: %v %v", one.Close(), two.Close())
}

// Money moves between accounts by many transactions at once; none is made and none is lost.
func stmScene(s *server) {
	ctx, cancel := within()
	defer cancel()
	const accounts = 6
	for i := range accounts {
		must(s.c.Put(ctx, fmt.Sprintf("stm/%d", i), strings.Repeat("x", 100)))
	}
	levels := []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable,
		concurrency.RepeatableReads, concurrency.ReadCommitted}
	var all sync.WaitGroup
	errs := make(chan error, 100)
	for _, level := range levels[:3] {
		for w := range 3 {
			all.Add(1)
			go func() {
				defer all.Done()
				for i := range 8 {
					from, to := fmt.Sprintf("stm/%d", (w+i)%accounts), fmt.Sprintf("stm/%d", (w*2+i+1)%accounts)
					_, err := concurrency.NewSTM(s.c, func(stm concurrency.STM) error {
						a, b := stm.Get(from), stm.Get(to)
						if from != to && len(a) > i {
							stm.Put(from, a[i:])
							stm.Put(to, b+strings.Repeat("x", i))
						}
						return nil
					}, concurrency.WithIsolation(level), concurrency.WithAbortContext(ctx))
					if err != nil {
						errs <- err
					}
				}
			}()
		}
	}
	all.Wait()
	close(errs)
	for err := range errs {
		s.say("%v", err)
	}
	total := 0
	for _, kv := range must(s.c.Get(ctx, "stm/", clientv3.WithPrefix())).Kvs {
		total += len(kv.Value)
	}
	s.say("total %d", total)
	_, err := concurrency.NewSTM(s.c, func(stm concurrency.STM) error {
		stm.Del("stm/0")
		s.say("deleted reads as %q, revision %v", stm.Get("stm/0"), stm.Rev("stm/1") > 0)
		stm.Put("stm/new", "n")
		return nil
	}, concurrency.WithIsolation(levels[3]))
	s.say("%v", err)
	s.say("left %d", must(s.c.Delete(ctx, "stm/", clientv3.WithPrefix())).Deleted)
}

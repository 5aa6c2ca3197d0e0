// SPDX-License-Identifier: Apache-2.0

// Records what upstream answers: values sealed by its providers, hands dealt by its shuffle
// sharding, allocations of seats, verdicts of audit policies, and what its queues let run in random
// histories. go run . DIRECTORY; needs -ldflags=-checklinkname=0 for functions it does not export.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"encoding/base64"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
	_ "unsafe"

	"k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/storage/value"
	aestransformer "k8s.io/apiserver/pkg/storage/value/encrypt/aes"
	"k8s.io/apiserver/pkg/storage/value/encrypt/secretbox"
	_ "k8s.io/apiserver/pkg/util/flowcontrol"
	fq "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	"k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/eventclock"
	"k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	fcrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
	"k8s.io/apiserver/pkg/util/shufflesharding"
	"k8s.io/utils/clock"
)

//go:linkname hashFlowID k8s.io/apiserver/pkg/util/flowcontrol.hashFlowID
func hashFlowID(fsName, fDistinguisher string) uint64

type allocProblemItem struct{ target, lowerBound, upperBound float64 }

//go:linkname computeConcurrencyAllocation k8s.io/apiserver/pkg/util/flowcontrol.computeConcurrencyAllocation
func computeConcurrencyAllocation(requiredSum int, classes []allocProblemItem) ([]float64, float64, error)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func write(name string, f func(w *bufio.Writer)) {
	out, err := os.Create(filepath.Join(os.Args[1], name))
	must(err)
	w := bufio.NewWriter(out)
	f(w)
	must(w.Flush())
	must(out.Close())
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func encryption(w *bufio.Writer) {
	r := rand.New(rand.NewSource(1))
	random := func(n int) []byte {
		b := make([]byte, n)
		r.Read(b)
		return b
	}
	ctx := context.Background()
	for i := 0; i < 60; i++ {
		plain := random([]int{0, 1, 15, 16, 17, 63, 64, 65, 200, 1000}[i%10])
		where := value.DefaultContext(fmt.Sprintf("/registry/secrets/ns%d/name%d", i%3, i))
		key := random([]int{16, 24, 32}[i%3])
		block, err := aes.NewCipher(key)
		must(err)
		gcm, err := aestransformer.NewGCMTransformer(block)
		must(err)
		long := random(32)
		seed, err := aestransformer.NewHKDFExtendedNonceGCMTransformer(long)
		must(err)
		var box [32]byte
		copy(box[:], long)
		for _, t := range []struct {
			name string
			key  []byte
			tr   value.Transformer
		}{{"aesgcm", key, gcm}, {"aescbc", key, aestransformer.NewCBCTransformer(block)},
			{"secretbox", long, secretbox.NewSecretboxTransformer(box)}, {"seed", long, seed}} {
			out, err := t.tr.TransformToStorage(ctx, plain, where)
			must(err)
			fmt.Fprintf(w, "%s %s %s %s. %s\n", t.name, b64(t.key), where.AuthenticatedData(), b64(plain), b64(out))
		}
	}
}

func shuffle(w *bufio.Writer) {
	r := rand.New(rand.NewSource(2))
	for _, c := range [][2]int{{64, 6}, {128, 6}, {16, 4}, {1, 1}, {7, 7}, {1000, 5}} {
		d, err := shufflesharding.NewDealer(c[0], c[1])
		must(err)
		for i := 0; i < 40; i++ {
			hash := r.Uint64()
			fmt.Fprintf(w, "deal %d %d %d", c[0], c[1], hash)
			for _, card := range d.DealIntoHand(hash, nil) {
				fmt.Fprintf(w, " %d", card)
			}
			fmt.Fprintln(w)
		}
	}
	for i := 0; i < 40; i++ {
		fs, by := fmt.Sprintf("schema-%d", i%5), strings.Repeat("u", i)
		fmt.Fprintf(w, "flow %s .%s %d\n", fs, by, hashFlowID(fs, by))
	}
	for i := 0; i < 400; i++ {
		n := 1 + r.Intn(8)
		items := make([]allocProblemItem, n)
		low, high := 0.0, 0.0
		for k := range items {
			l := float64(r.Intn(50))
			u := l + float64(r.Intn(200))
			items[k] = allocProblemItem{target: l + r.Float64()*200, lowerBound: l, upperBound: u}
			low += l
			high += u
		}
		sum := int(low) + r.Intn(int(high-low)+1)
		got, fair, err := computeConcurrencyAllocation(sum, items)
		fmt.Fprintf(w, "alloc %d %d", sum, n)
		for _, it := range items {
			fmt.Fprintf(w, " %.17g %g %g", it.target, it.lowerBound, it.upperBound)
		}
		if err != nil {
			fmt.Fprintln(w, " error")
			continue
		}
		fmt.Fprintf(w, " %.12g", fair)
		for _, x := range got {
			fmt.Fprintf(w, " %.12g", x)
		}
		fmt.Fprintln(w)
	}
}

const policyText = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch], resources: [{group: "", resources: [endpoints, services]}]}
- {level: None, userGroups: ["system:authenticated"], nonResourceURLs: ["/api*", "/version"]}
- {level: Request, omitManagedFields: true, namespaces: [kube-system], resources: [{group: "", resources: [configmaps]}]}
- {level: RequestResponse, resources: [{group: "", resources: ["pods/*", "*/scale"], resourceNames: [controller, x]}]}
- {level: Metadata, omitStages: [ResponseStarted], resources: [{group: "apps"}, {group: "*", resources: ["secrets"]}]}
- {level: Request, namespaces: [""], verbs: [create, delete]}
- {level: Metadata, users: [jane, bob]}
- {level: None, nonResourceURLs: ["*"]}
`

func audits(w *bufio.Writer) {
	p, err := policy.LoadPolicyFromBytes([]byte(policyText))
	must(err)
	eval := policy.NewPolicyRuleEvaluator(p)
	r := rand.New(rand.NewSource(3))
	pick := func(s ...string) string { return s[r.Intn(len(s))] }
	for i := 0; i < 600; i++ {
		u := &user.DefaultInfo{Name: pick("system:kube-proxy", "jane", "eve")}
		if r.Intn(2) == 0 {
			u.Groups = []string{"system:authenticated"}
		}
		a := authorizer.AttributesRecord{User: u, Verb: pick("get", "watch", "create", "delete", "list")}
		if r.Intn(4) > 0 {
			a.ResourceRequest = true
			a.APIGroup = pick("", "apps", "batch")
			a.Resource = pick("pods", "configmaps", "secrets", "endpoints", "services", "deployments")
			a.Subresource = pick("", "", "log", "scale", "status")
			a.Namespace = pick("", "kube-system", "default")
			a.Name = pick("", "controller", "x", "other")
			a.Path = "/x"
		} else {
			a.Path = pick("/api", "/apis", "/version", "/healthz", "/versions")
		}
		got := eval.EvaluatePolicyRule(a)
		stages := []string{}
		for _, s := range got.OmitStages {
			stages = append(stages, string(s))
		}
		sort.Strings(stages)
		fmt.Fprintf(w, "%s;%s;%s;%v;%s;%s;%s;%s;%s;%s %s %v %s\n", u.Name, strings.Join(u.Groups, ","), a.Verb,
			a.ResourceRequest, a.APIGroup, a.Resource, a.Subresource, a.Namespace, a.Name, a.Path,
			got.Level, got.OmitManagedFields, strings.Join(stages, ","))
	}
	_ = audit.LevelNone
}

// A clock that is set; what is to happen later happens when it is set past it.
type fakeClock struct {
	clock.PassiveClock
	mu     sync.Mutex
	now    time.Time
	events []event
}
type event struct {
	at time.Time
	f  eventclock.EventFunc
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}
func (c *fakeClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c *fakeClock) Sleep(time.Duration)             {}
func (c *fakeClock) EventAfterDuration(f eventclock.EventFunc, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event{c.now.Add(d), f})
}
func (c *fakeClock) set(t time.Time) {
	for {
		c.mu.Lock()
		next := -1
		for i, e := range c.events {
			if !e.at.After(t) && (next < 0 || e.at.Before(c.events[next].at)) {
				next = i
			}
		}
		if next < 0 {
			c.now = t
			c.mu.Unlock()
			return
		}
		e := c.events[next]
		c.events = append(c.events[:next], c.events[next+1:]...)
		c.now = e.at
		c.mu.Unlock()
		e.f(e.at)
	}
}

func (c *fakeClock) EventAfterTime(f eventclock.EventFunc, t time.Time) {
	c.EventAfterDuration(f, t.Sub(c.Now()))
}

type none struct{}

func (none) Add(float64)            {}
func (none) Inc()                   {}
func (none) Dec()                   {}
func (none) Set(float64)            {}
func (none) SetToCurrentTime()      {}
func (none) SetDenominator(float64) {}

func history(w *bufio.Writer, seed int64) {
	r := rand.New(rand.NewSource(seed))
	clk := &fakeClock{now: time.Unix(1000, 0)}
	queues, hand, length, limit := 1+r.Intn(12), 1, 1+r.Intn(4), 1+r.Intn(6)
	if queues > 2 {
		hand += r.Intn(2)
	}
	cfg := fq.QueuingConfig{Name: "x", DesiredNumQueues: queues, HandSize: hand, QueueLengthLimit: length}
	c, err := queueset.NewQueueSetFactory(clk).BeginConstruction(cfg,
		metrics.RatioedGaugePair{RequestsWaiting: none{}, RequestsExecuting: none{}}, none{}, none{})
	must(err)
	qs := c.Complete(fq.DispatchingConfig{ConcurrencyLimit: limit, ConcurrencyDenominator: limit})
	fmt.Fprintf(w, "history %d %d %d %d\n", queues, hand, length, limit)
	var mu sync.Mutex
	running, release := map[int]bool{}, map[int]chan struct{}{}
	ended := make(chan int, 1000)
	shown := func() []int {
		for {
			mu.Lock()
			out := []int{}
			for id := range running {
				out = append(out, id)
			}
			mu.Unlock()
			if len(out) == qs.Dump(false).Executing {
				sort.Ints(out)
				return out
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	next := 0
	for i := 0; i < 120; i++ {
		now := shown()
		switch op := r.Intn(10); {
		case op < 5:
			id, hash := next, uint64(r.Intn(4))*7919
			next++
			est := fcrequest.WorkEstimate{InitialSeats: uint64(1 + r.Intn(3))}
			if r.Intn(5) == 0 {
				est.FinalSeats = uint64(1 + r.Intn(4))
				est.AdditionalLatency = time.Duration(1+r.Intn(8)) * time.Millisecond
			}
			fmt.Fprintf(w, "start %d %d %d %d %d", id, hash, est.InitialSeats, est.FinalSeats, est.AdditionalLatency)
			req, _ := qs.StartRequest(context.Background(), &est, hash, "", "fs", nil, nil, nil)
			if req == nil {
				fmt.Fprint(w, " refused")
				break
			}
			fmt.Fprint(w, " taken")
			release[id] = make(chan struct{})
			go func() {
				req.Finish(func() {
					mu.Lock()
					running[id] = true
					mu.Unlock()
					<-release[id]
					mu.Lock()
					delete(running, id)
					mu.Unlock()
				})
				ended <- id
			}()
		case op < 8 && len(now) > 0:
			id := now[r.Intn(len(now))]
			fmt.Fprintf(w, "finish %d", id)
			close(release[id])
			<-ended
		default:
			d := time.Duration(r.Intn(12)) * 500 * time.Microsecond
			clk.set(clk.Now().Add(d))
			fmt.Fprintf(w, "pass %d", d)
		}
		fmt.Fprint(w, " :")
		for _, id := range shown() {
			fmt.Fprintf(w, " %d", id)
		}
		fmt.Fprintln(w)
	}
}

func main() {
	write("encryption.txt", encryption)
	write("shuffle.txt", shuffle)
	write("audit.txt", audits)
	must(os.WriteFile(filepath.Join(os.Args[1], "audit_policy.yaml"), []byte(policyText), 0o644))
	write("queues.txt", func(w *bufio.Writer) {
		for seed := int64(0); seed < 40; seed++ {
			history(w, seed)
		}
	})
	_ = bytes.MinRead
}

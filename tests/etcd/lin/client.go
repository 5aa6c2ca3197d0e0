// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

const prefix, prefixEnd = "/lin/", "/lin0"

func dial(s *server) *grpc.ClientConn {
	c, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", s.port),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second, Backoff: backoff.Config{
			BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}}))
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// One call of one client.
type op struct {
	start, end time.Duration
	ok         bool // answered; otherwise it may have happened, once, or not
	write      bool // asked to write; it did if ok and wrote
	wrote      bool
	rev        int64
	keys       []string // written: their new values, "" for a deletion
	values     []string
	guard      int64 // mod_revision that keys[0] must have had; -1: none
	read       []*mvccpb.KeyValue
	from, to   string // what was read; to "": one key
	isRead     bool
}

type client struct {
	id      int
	n       int
	r       *rand.Rand
	h       *history
	servers []*server
	conns   []*grpc.ClientConn
}

func (c *client) key() string { return fmt.Sprintf("%s%02d", prefix, c.r.Intn(*nkeys)) }

func (c *client) value() string {
	c.n++
	return fmt.Sprintf("%d-%d-%d", c.id, c.n, c.r.Int63())
}

func putOp(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func delOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}}
}

func getOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func modIs(key string, rev int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: rev}}
}

func (c *client) run(stop *atomic.Bool) {
	for _, s := range c.servers {
		c.conns = append(c.conns, dial(s))
	}
	known := map[string]int64{} // mod_revision last seen
	for !stop.Load() {
		kv := pb.NewKVClient(c.conns[c.r.Intn(len(c.conns))])
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		o := &op{guard: -1, start: c.h.now()}
		var err error
		switch n := c.r.Intn(100); {
		case n < 25: // a write as the API server's: guarded, reads what is there when it loses
			key, value := c.key(), c.value()
			o.write, o.keys, o.values, o.guard = true, []string{key}, []string{value}, known[key]
			ops := putOp(key, value)
			if c.r.Intn(5) == 0 && known[key] != 0 {
				o.values[0] = ""
				ops = delOp(key)
			}
			err = c.txn(ctx, kv, o, &pb.TxnRequest{Compare: []*pb.Compare{modIs(key, known[key])},
				Success: []*pb.RequestOp{ops}, Failure: []*pb.RequestOp{getOp(key)}})
		case n < 40:
			o.write, o.keys, o.values = true, []string{c.key()}, []string{c.value()}
			var resp *pb.PutResponse
			resp, err = kv.Put(ctx, &pb.PutRequest{Key: []byte(o.keys[0]), Value: []byte(o.values[0])})
			if err == nil {
				o.rev, o.wrote = resp.Header.Revision, true
			}
		case n < 48: // several keys at once
			o.write = true
			var req pb.TxnRequest
			for _, k := range c.r.Perm(*nkeys)[:2+c.r.Intn(2)] {
				o.keys = append(o.keys, fmt.Sprintf("%s%02d", prefix, k))
				o.values = append(o.values, c.value())
				req.Success = append(req.Success, putOp(o.keys[len(o.keys)-1], o.values[len(o.values)-1]))
			}
			err = c.txn(ctx, kv, o, &req)
		case n < 52:
			o.write, o.keys, o.values = true, []string{c.key()}, []string{""}
			var resp *pb.DeleteRangeResponse
			resp, err = kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(o.keys[0])})
			if err == nil {
				o.rev, o.wrote = resp.Header.Revision, resp.Deleted > 0
			}
		default:
			req := &pb.RangeRequest{Key: []byte(c.key())}
			if n >= 85 {
				req = &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(prefixEnd)}
			}
			var resp *pb.RangeResponse
			resp, err = kv.Range(ctx, req)
			if err == nil {
				o.rev = resp.Header.Revision
				o.isRead, o.read, o.from, o.to = true, resp.Kvs, string(req.Key), string(req.RangeEnd)
			}
		}
		cancel()
		o.end, o.ok = c.h.now(), err == nil
		for _, kv := range o.read {
			known[string(kv.Key)] = kv.ModRevision
		}
		for _, k := range o.keys {
			if o.wrote {
				known[k] = o.rev
			}
		}
		if o.isRead && o.to == "" && len(o.read) == 0 {
			known[o.from] = 0
		}
		c.h.add(o)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
		}
	}
	for _, conn := range c.conns {
		conn.Close()
	}
}

func (c *client) txn(ctx context.Context, kv pb.KVClient, o *op, req *pb.TxnRequest) error {
	resp, err := kv.Txn(ctx, req)
	if err != nil {
		return err
	}
	o.rev, o.wrote = resp.Header.Revision, resp.Succeeded
	if !resp.Succeeded {
		o.isRead, o.from = true, o.keys[0]
		o.read = resp.Responses[0].GetResponseRange().Kvs
	} else if o.values[0] == "" && resp.Responses[0].GetResponseDeleteRange().Deleted == 0 {
		o.wrote = false // a guard of 0 held, and there was nothing to delete
	}
	return nil
}

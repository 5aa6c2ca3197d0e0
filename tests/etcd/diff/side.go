// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/url"
	"sort"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const callTimeout = 180 * time.Second

// One of the two servers.
type side struct {
	name        string
	kv          pb.KVClient
	lease       pb.LeaseClient
	watch       pb.WatchClient
	maintenance pb.MaintenanceClient
	stream      *watchStream
	// revs[i] is what this side calls the revision that the other calls its revs[i].
	revs []int64
}

func dial(name, target string) (*side, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	addr := u.Host
	if u.Scheme == "unix" {
		addr = "unix://" + u.Path
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		return nil, err
	}
	return &side{name: name, kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn), watch: pb.NewWatchClient(conn),
		maintenance: pb.NewMaintenanceClient(conn)}, nil
}

func (s *side) head() int64 { return s.revs[len(s.revs)-1] }

// What `to` calls the revision that `from` calls rev. Revisions in the future keep their distance.
func translate(from, to *side, rev int64) (int64, bool) {
	if rev <= 0 {
		return rev, true
	}
	if rev > from.head() {
		return to.head() + rev - from.head(), true
	}
	i := sort.Search(len(from.revs), func(i int) bool { return from.revs[i] >= rev })
	if from.revs[i] != rev {
		return 0, false
	}
	return to.revs[i], true
}

var revisionFields = map[protoreflect.Name]bool{"revision": true, "create_revision": true, "mod_revision": true,
	"min_mod_revision": true, "max_mod_revision": true, "min_create_revision": true, "max_create_revision": true,
	"start_revision": true, "compact_revision": true}

// Rewrites the revisions, lease ids and header ids in m. A revision that the other side does not
// know becomes its negative, so that it shows as a difference.
func rewrite(m protoreflect.Message, rev func(int64) (int64, bool), lease func(int64) int64) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.MessageKind && f.IsList():
			for i := 0; i < v.List().Len(); i++ {
				rewrite(v.List().Get(i).Message(), rev, lease)
			}
		case f.Kind() == protoreflect.MessageKind && !f.IsMap():
			rewrite(v.Message(), rev, lease)
		case revisionFields[f.Name()]:
			r, ok := rev(v.Int())
			if !ok {
				r = -v.Int()
			}
			m.Set(f, protoreflect.ValueOfInt64(r))
		case f.Name() == "lease" || f.Name() == "ID" && f.Kind() == protoreflect.Int64Kind:
			m.Set(f, protoreflect.ValueOfInt64(lease(v.Int())))
		case f.Name() == "cluster_id" || f.Name() == "member_id" || f.Name() == "raft_term":
			m.Clear(f)
		}
		return true
	})
}

func (d *diff) toB(m proto.Message) proto.Message {
	c := proto.Clone(m)
	rewrite(c.ProtoReflect(), func(r int64) (int64, bool) { return translate(d.a, d.b, r) }, func(id int64) int64 {
		for b, a := range d.leases {
			if a == id {
				return b
			}
		}
		return id
	})
	return c
}

func (d *diff) fromB(m proto.Message) proto.Message {
	c := proto.Clone(m)
	rewrite(c.ProtoReflect(), func(r int64) (int64, bool) { return translate(d.b, d.a, r) }, func(id int64) int64 {
		if a, ok := d.leases[id]; ok {
			return a
		}
		return id
	})
	return c
}

func fromA(m proto.Message) proto.Message {
	c := proto.Clone(m)
	rewrite(c.ProtoReflect(), func(r int64) (int64, bool) { return r, true }, func(id int64) int64 { return id })
	return c
}

type header interface{ GetHeader() *pb.ResponseHeader }

// Notes that both answers carry the newest revision of their side. Says false when only one side
// has moved.
func (d *diff) note(ra, rb proto.Message) bool {
	ha, hb := ra.(header).GetHeader(), rb.(header).GetHeader()
	if ha == nil || hb == nil {
		return ha == hb
	}
	if ha.Revision > d.a.head() && hb.Revision > d.b.head() {
		d.a.revs, d.b.revs = append(d.a.revs, ha.Revision), append(d.b.revs, hb.Revision)
	}
	return ha.Revision <= d.a.head() && hb.Revision <= d.b.head()
}

func errText(err error) string {
	if err == nil {
		return "no error"
	}
	s := status.Convert(err)
	return fmt.Sprintf("%s: %s", s.Code(), s.Message())
}

func withTimeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}
